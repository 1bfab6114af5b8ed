"""`blockwise train` and `blockwise benchmark` from configuration to result."""

import json

import pytest
from typer.testing import CliRunner

from blockwise.cli import app
from tasks.cascade.model import load_model
from tests.cascade.ground_truth_folder import QUICK, make_ground_truth
from tests.cascade.test_model_folder import write_model

TOML = """
task = "cascade-training"
[input]
path = "gt"
[output]
path = "models/quick"
[options]
noise_levels = [2]
ensemble_size = 1
{options}
[cluster]
workers = 1
[run]
folder = "run"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_ground_truth(tmp_path / "gt", 2, 1)
    (tmp_path / "train.toml").write_text(TOML.format(options="\n".join(f"{k} = {json.dumps(v)}" for k, v in QUICK.items())))
    return tmp_path


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def test_train_makes_a_model_and_a_second_call_leaves_it(folder):
    first = invoke("train", folder / "train.toml", "--json", "--quiet")
    assert first.exit_code == 0, first.stderr
    assert json.loads(first.stdout)["blocks"]["done"] == 1
    model = load_model(folder / "models" / "quick")
    assert (list(model.levels), model.config["training_finished"]) == ([2], "Yes")
    again = invoke("train", folder / "train.toml", "--json", "--quiet")
    assert (again.exit_code, json.loads(again.stdout)["blocks"]["executed"]) == (0, 1)


def test_benchmark_trains_with_the_models_settings_and_prints_the_scores(tmp_path):
    make_ground_truth(tmp_path / "gt", 2, 1)
    write_model(tmp_path / "m", filter_numbers=(4, 5, 6), dense_expansion=7)
    arguments = ("--ground-truth", tmp_path / "gt", "--out", tmp_path / "out", "--members", 1, "--epochs", 1, "--workers", 1)
    done = invoke("benchmark", "--model", tmp_path / "m", *arguments)
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["dataset", "scored", "neurons", "correlation", "error", "bias", "joined"]
    assert [line.split()[:2] for line in lines[1:]] == [[f"DS9{d}-simulated", s] for d in range(2) for s in ("trained", "model")]


def test_init_lists_the_ground_truth(folder):
    done = invoke("init", "cascade-training", folder / "gt")
    assert done.exit_code == 0, done.stderr
    assert 'task = "cascade-training"' in done.stdout
    assert "DS91-simulated" in done.stdout


def test_help_names_what_is_needed():
    done = invoke("benchmark", "--help")
    assert done.exit_code == 0
    assert "--ground-truth" in done.stdout
