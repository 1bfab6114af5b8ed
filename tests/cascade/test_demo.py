"""The demo on the shipped model, with everything it prints and leaves; then once more, which computes nothing."""

import re

import numpy as np
import pytest

from tasks.cascade.demo import MODEL, SESSIONS, median_correlation
from tasks.cascade.model import load_model
from tasks.cascade.targets import smooth_counts
from tests.runs import blockwise


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A folder in which the demo ran, and what it said."""
    folder = tmp_path_factory.mktemp("demo") / "here"
    return folder, blockwise("demo", "cascade", folder, "--workers", 1)


def test_the_shipped_model_is_there_in_full():
    model = load_model(MODEL)
    assert list(model.levels) == [2, 3, 4, 5, 6, 7, 8]
    assert (model.frame_rate, model.smoothing, model.causal) == (30.0, 0.05, True)


def test_it_finds_the_spikes_of_every_session(demo):
    _, told = demo
    assert told.code == 0, told.err
    found = [float(r) for r in re.findall(r"median correlation with the true spikes ([\d.]+)", told.out)]
    assert len(found) == len(SESSIONS)
    assert min(found) > 0.3
    assert re.search(r"14\.\d neuron-hours in [\d.]+ s, [\d.]+ neuron-hours/s", told.out)
    assert re.search(r"Dask dashboard .*http://127.0.0.1:\d+/status", told.out)


def test_it_leaves_a_run_folder_a_report_a_picture_and_rates(demo):
    folder, told = demo
    for name in ("run.toml", "run.run/status.json", "run.run/report.html", "demo.png", "run.zarr/zarr.json", "predictions_monday.npy"):
        assert (folder / name).exists(), name
        if name.startswith(("run.run/r", "demo")):
            assert str(folder / name) in told.out
    assert (folder / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert np.load(folder / "predictions_tuesday.npy", mmap_mode="r").shape == (90, 6000)


def test_again_it_computes_nothing_and_says_the_same(demo):
    folder, told = demo
    before = (folder / "run.zarr" / "monday" / "spike_rates" / "c.0.0").stat().st_mtime_ns
    again = blockwise("demo", "cascade", folder, "--workers", 1)
    assert again.code == 0
    assert again.out.splitlines()[:3] == told.out.splitlines()[:3]
    assert (folder / "run.zarr" / "monday" / "spike_rates" / "c.0.0").stat().st_mtime_ns == before


def test_the_correlation_is_with_spikes_as_the_model_was_trained_to_see_them():
    spikes = (np.random.default_rng(0).random((3, 900)) < 0.05).astype(np.uint8)
    seen = np.array([smooth_counts(row.astype(float), 0.05, 30.0, causal=True) for row in spikes], np.float32)
    seen[:, :32] = seen[:, -32:] = np.nan
    assert median_correlation(spikes, seen, 30.0) > 0.999
    assert median_correlation(spikes, spikes.astype(np.float32), 30.0) < 0.9
