"""`blockwise train parameter.json` from files to a checkpoint."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from blockwise.cli import app
from tasks.synful import load_network
from tasks.synful.partners import points
from tasks.synful.simulate import simulate_volume
from tasks.synful.training.points import Pairs
from tests.synful.training.data import SIZE, TINY, write_cremi


@pytest.fixture
def folder(tmp_path):
    made = simulate_volume((14, 110, 110), seed=3, synapses_per_um3=12)
    pairs = Pairs(*(points(made.partners, end).astype(np.float64) for end in ("pre", "post")))
    write_cremi(tmp_path / "a.hdf", made.raw, made.segmentation, pairs)
    return tmp_path


def write(folder, **changes):
    values = {**TINY, "voxel_size": list(SIZE), "cubes": [{"raw": "a.hdf"}], "folder": "run", **changes}
    (folder / "parameter.json").write_text(json.dumps(values))
    return folder / "parameter.json"


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=True)


def test_train_and_go_on(folder):
    first = invoke("train", write(folder), "--set", "max_iteration=2", "--json")
    assert first.exit_code == 0, first.stderr
    told = json.loads(first.stdout)
    assert (told["iteration"], told["folder"]) == (2, str(folder / "run"))
    assert "mask_loss" in first.stderr
    again = invoke("train", folder / "run", "--set", "max_iteration=3", "--quiet")
    assert (again.exit_code, again.stderr) == (0, f"3 iterations done: {folder}/run/train_net_checkpoint_3.pt\n")
    assert load_network(folder / "run").config.fmap_num == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"blob_radus": 1}, "did you mean 'blob_radius'"),
        ({"cubes": [{"raw": "b.hdf"}]}, "b.hdf"),
        ({"input_size": [6, 520, 520], "pad": False}, "[6, 520, 520] voxels of raw data"),
        ({"voxel_size": [40, 4, 4]}, "the network is trained at [40.0, 4.0, 4.0]"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(folder, changes, words):
    done = invoke("train", write(folder, **changes))
    assert done.exit_code != 0
    assert words in str(done.exception)
    assert not (folder / "run").exists()
