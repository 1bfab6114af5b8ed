import csv
import json

import numpy as np
import pytest

from blockwise.config import RunConfig
from blockwise.errors import BlockwiseError
from blockwise.testing import run_in, run_serially
from tasks.cascade.benchmark import HeldOutTrace, Score, held_out_traces, model_rates, score_neurons, summarise
from tasks.cascade.benchmark_task import CascadeBenchmark
from tasks.cascade.commands import benchmark_options, table
from tasks.cascade.training import TrainingConfig
from tests.cascade.ground_truth_folder import QUICK, make_ground_truth
from tests.cascade.test_model_folder import write_model
from tests.spikes.ground_truth_files import neuron

CONFIG = TrainingConfig(smoothing=0.1)


@pytest.fixture(scope="module")
def ground_truth(tmp_path_factory):
    return make_ground_truth(tmp_path_factory.mktemp("ground_truth"), neurons=1)


def configured(folder, output, model=None, **options) -> RunConfig:
    values = {**QUICK, "ensemble_size": 1, **options}
    return RunConfig(
        task="cascade-benchmark", input={"path": str(folder)}, output={"path": str(output)}, model={"path": model}, options=values
    )


def test_held_out_traces_are_noisy_trials_with_their_truth():
    traces = held_out_traces([neuron(trials=2), neuron("DS91-loud", noise_level=5.0)], CONFIG, noise_level=3)
    assert [(t.dataset, t.dff.dtype, t.dff.shape) for t in traces] == [("DS90-test", np.float32, (1200,))] * 2
    for trace in traces:
        assert 100 * np.median(np.abs(np.diff(trace.dff))) / np.sqrt(30) == pytest.approx(3, rel=0.15)


def test_scores_are_per_neuron_over_its_trials_then_per_dataset():
    random = np.random.default_rng(0)
    truths = [random.random(500) for _ in range(3)]
    traces = [HeldOutTrace("DS90", name, np.zeros(500, np.float32), y) for name, y in zip("aab", truths, strict=True)]
    rates = [truths[0], truths[1] * 2, random.random(500)]
    scores = score_neurons(traces, rates, 1.0)
    assert [(s.dataset, s.neuron) for s in scores] == [("DS90", "a"), ("DS90", "b"), ("DS90", "")]
    a, b, _ = scores
    assert a.correlation == pytest.approx(np.corrcoef(np.concatenate(truths[:2]), np.concatenate(rates[:2]))[0, 1])
    assert a.bias == pytest.approx(truths[1].sum() / (truths[0].sum() + truths[1].sum()), rel=1e-6)
    (row,) = summarise(scores)
    assert row.neurons == 2
    assert row.correlation == pytest.approx((a.correlation + b.correlation) / 2)


def test_neurons_without_a_value_do_not_count_in_the_median():
    scores = [Score("D", "a", 0.5, 1.0, 0.0), Score("D", "b", float("nan"), float("nan"), float("nan")), Score("D", "", 0.4, 1.0, 0.0)]
    (row,) = summarise(scores)
    assert (row.neurons, row.correlation, row.joined) == (2, 0.5, 0.4)


def test_each_fold_leaves_a_dataset_out_and_writes_its_scores(ground_truth, tmp_path):
    task = CascadeBenchmark.from_config(configured(ground_truth, tmp_path / "out"))
    assert task.folds == (("DS90-simulated",), ("DS91-simulated",), ("DS92-simulated",))
    run_serially(task)
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert [(r["dataset"], r["scored"], r["neurons"]) for r in scores["datasets"]] == [
        (f"DS9{d}-simulated", "trained", 1) for d in range(3)
    ]
    rows = list(csv.DictReader((tmp_path / "out" / "scores.csv").open()))
    assert [r["neuron"] for r in rows] == ["cell0"] * 3
    assert "DS91-simulated" in table(scores["datasets"])


def test_datasets_held_out_together_and_a_model_scored_beside(ground_truth, tmp_path):
    write_model(tmp_path / "m")
    options = {"held_out": [["DS90", "DS92"]], "sampling_rate": 7.5}
    task = CascadeBenchmark.from_config(configured(ground_truth, tmp_path / "out", str(tmp_path / "m"), **options))
    outcome = run_in(tmp_path / "run", task, workers=1)
    assert (outcome.exit_code, outcome.status.blocks.total) == (0, 1)
    rows = json.loads((tmp_path / "out" / "DS90+DS92.json").read_text())["scores"]
    assert list(rows) == ["trained", "model"]
    assert {(r["dataset"], r["neuron"]) for r in rows["model"] if r["neuron"]} == {("DS90-simulated", "cell0"), ("DS92-simulated", "cell0")}


def test_a_model_is_scored_by_predict(tmp_path):
    write_model(tmp_path / "m")
    config = TrainingConfig(sampling_rate=7.5)
    (trace,) = held_out_traces([neuron(seconds=60)], config, noise_level=2)
    rates = model_rates(str(tmp_path / "m"))(trace)
    assert rates.shape == trace.dff.shape
    assert np.isnan(rates[:32]).all()
    assert not np.isnan(rates[32:-32]).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"held_out": [["DS90", "DS91", "DS92"]]}, "leaves none of 3 datasets to train on"),
        ({"held_out": [["DS77"]]}, "no dataset DS77"),
        ({"noise_level": 0}, "noise_level"),
    ],
)
def test_bad_folds_fail_before_anything_is_written(ground_truth, tmp_path, options, message):
    with pytest.raises(BlockwiseError, match=message):
        CascadeBenchmark.from_config(configured(ground_truth, tmp_path / "out", **options))
    assert not (tmp_path / "out").exists()


def test_options_of_the_command_take_the_models_settings(tmp_path):
    write_model(tmp_path / "m")
    options = benchmark_options(str(tmp_path / "m"), level=3, datasets="DS1,DS2", held_out=["DS1", "DS2,DS3"], members=2, epochs=4)
    expected = {"sampling_rate": 7.5, "causal_kernel": True, "nr_of_epochs": 4, "noise_level": 3, "ensemble_size": 2}
    assert {k: options[k] for k in expected} == expected
    assert (options["datasets"], options["held_out"]) == (["DS1", "DS2"], [["DS1"], ["DS2", "DS3"]])
