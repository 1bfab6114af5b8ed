import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from blockwise.errors import BlockwiseWarning, ConfigError, InputError
from tasks import cascade
from tasks.cascade.inference import Ensembles, Inference, predict
from tasks.cascade.model import load_model
from tasks.cascade.network import windowed_rates
from tests.cascade.random_model import write_model

NAN = float("nan")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "m", levels=(2, 3, 4))


def make_traces(neurons=5, frames=400, noise=0.15, seed=0):
    return np.random.default_rng(seed).normal(0, noise, (neurons, frames)).astype(np.float32)


def windowed(traces, weights, window=64, position=32):
    """Raw rates of one row, window by window: the definition."""
    rates = np.full(len(traces), np.nan)
    windows = torch.from_numpy(traces).unfold(0, window, 1)
    rates[position : position + len(windows)] = np.mean([windowed_rates(windows, w).numpy() for w in weights], axis=0)
    return rates


@pytest.mark.parametrize("alignment", [None, 32, 31, 0, 63])
def test_a_rate_is_the_mean_over_the_members_of_its_window(folder, alignment):
    traces, model = make_traces(1), load_model(folder)
    wanted = windowed(traces[0], model.members(2), position=32 if alignment is None else alignment)
    before, after = Inference(model, False, alignment=alignment).ends
    wanted[:before] = wanted[len(wanted) - after :] = np.nan
    got = predict(traces, model, threshold=False, alignment=alignment, noise=[2.0])
    np.testing.assert_allclose(got[0], wanted, atol=2e-6)


def test_rows_take_the_ensemble_of_their_noise_level(folder):
    traces, model = make_traces(6, noise=0.1) * np.array([[1], [2], [1.2], [1.7], [9], [1.5]], np.float32), load_model(folder)
    levels = model.levels_for(cascade.noise_levels(traces, 30))
    assert set(levels) == {2, 3, 4}
    got = predict(traces, model, threshold=False)
    for row, level, trace in zip(got, levels, traces, strict=True):
        np.testing.assert_allclose(row[32:-32], windowed(trace, model.members(level))[32:-32], atol=2e-5)


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i2", ">f4"])
def test_any_real_dtype_is_taken(folder, dtype):
    traces = np.round(make_traces() * 8).astype(dtype)
    got = predict(traces, folder, check=False)
    assert (got.dtype, got.shape) == (np.float32, traces.shape)
    np.testing.assert_allclose(got, predict(traces.astype("f8"), folder, check=False), atol=1e-6)


def test_one_row_in_one_row_out(folder):
    traces = make_traces(1)
    rates, std = predict(traces[0], folder, return_std=True)
    assert rates.shape == std.shape == traces[0].shape
    np.testing.assert_array_equal(rates, predict(traces, folder)[0])


def test_lists_memory_maps_and_views_are_taken(folder, tmp_path):
    traces = make_traces()
    np.save(tmp_path / "t.npy", traces)
    wanted = predict(traces, folder)
    for form in (traces.tolist(), np.load(tmp_path / "t.npy", mmap_mode="r"), np.asfortranarray(traces)):
        np.testing.assert_allclose(predict(form, folder), wanted, atol=1e-6)


@pytest.mark.parametrize(("frames", "padding"), [(0, NAN), (1, 0), (63, 0), (64, NAN), (64, -1)])
def test_a_recording_as_short_as_a_window_is_all_padding(folder, frames, padding):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BlockwiseWarning)
        got = predict(make_traces(2, frames), folder, padding=padding, noise=[2, 3])
    np.testing.assert_array_equal(got, np.full((2, frames), padding, np.float32))


def test_no_rows_give_no_rates(folder):
    assert predict(np.empty((0, 300), np.float32), folder).shape == (0, 300)


@pytest.mark.parametrize("value", [NAN, np.inf])
def test_a_frame_whose_window_lacks_a_frame_has_no_rate(folder, value):
    traces = make_traces(3)
    traces[1, 200] = value
    got, whole = predict(traces, folder, threshold=False), predict(make_traces(3), folder, threshold=False)
    missing = np.isnan(got) & ~np.isnan(whole)
    assert np.argwhere(missing)[[0, -1]].tolist() == [[1, 169], [1, 232]]
    assert missing.sum() == 64
    np.testing.assert_allclose(got[~missing], whole[~missing], atol=1e-6)


def test_std_is_that_of_the_members(folder):
    traces, model = make_traces(1), load_model(folder)
    _, std = predict(traces, model, return_std=True, noise=[3])
    each = [windowed(traces[0], [w])[32:-32] for w in model.members(3)]
    np.testing.assert_allclose(std[0, 32:-32], np.std(each, axis=0), atol=2e-6)
    assert np.isnan(std[0, :32]).all()
    assert np.isnan(std[0, -32:]).all()


@pytest.mark.parametrize("window", [64, 76])
@pytest.mark.parametrize("smoothing", [0.02, 0.05, 0.2], ids=lambda s: f"{s} s")
@pytest.mark.parametrize("threshold", [False, 0, 1])
@pytest.mark.parametrize("shape", [(2, 64), (3, 101), (5, 7), (1, 1000)])
def test_blocks_equal_the_whole(tmp_path, window, smoothing, threshold, shape):
    model = load_model(write_model(tmp_path / "m", levels=(2, 3, 4), window=window, smoothing=smoothing))
    traces = make_traces(5, 500)
    traces[3, 240] = NAN
    noise = cascade.noise_levels(traces, 30)
    inference, ensembles = Inference(model, threshold, padding=-3), Ensembles(model, "cpu")
    before, after = (500, 500) if inference.whole_rows else inference.context
    blocks = np.empty_like(traces)
    for row in range(0, 5, shape[0]):
        for begin in range(0, 500, shape[1]):
            first, last = max(0, begin - before), min(500, begin + shape[1] + after)
            rows = slice(row, row + shape[0])
            part = inference.rates(traces[rows, first:last], noise[rows], ensembles, begin=first, frames=500)
            blocks[rows, begin : begin + shape[1]] = part[:, begin - first :][:, : shape[1]]
    np.testing.assert_allclose(blocks, predict(traces, model, threshold=threshold, padding=-3), atol=1e-6)


@pytest.mark.parametrize(
    ("threshold", "smoothing", "context", "whole"),
    [
        (0, 0.05, (32, 31), False),
        (False, 0.2, (32, 31), False),
        (1, 0.05, (33, 32), False),
        (1, 0.2, (38, 37), False),
        (1, 0.02, (32, 31), True),
    ],
)
def test_context_says_what_a_block_reads(tmp_path, threshold, smoothing, context, whole):
    inference = Inference(load_model(write_model(tmp_path / "m", smoothing=smoothing)), threshold)
    assert (inference.context, inference.whole_rows) == (context, whole)


# what differs from the original, each with one warning


def test_a_row_without_noise_level_is_nan_with_one_warning(folder):
    traces = make_traces(4)
    traces[1], traces[2] = NAN, NAN
    with pytest.warns(BlockwiseWarning, match="2 of 4 rows have no finite noise level") as caught:
        got = predict(traces, folder, threshold=1, padding=0)
    assert len(caught) == 1
    assert np.isnan(got[1:3, 32:-32]).all()
    assert (got[1:3, :32] == 0).all()
    assert np.isfinite(got[[0, 3]]).all()


def test_a_single_level_serves_every_row_with_one_warning(tmp_path):
    folder = write_model(tmp_path / "m", levels=(2,))
    with pytest.warns(BlockwiseWarning, match=r"noise level 2 only: it serves every row, also those up to 9\.0") as caught:
        got = predict(make_traces(2), folder, threshold=False, noise=[1.0, 9.0])
    assert len(caught) == 1
    assert (got[1, 32:-32] != 0).all()


def test_a_gap_takes_the_nearest_level_with_one_warning(tmp_path):
    folder, traces = write_model(tmp_path / "m", levels=(2, 5)), make_traces(3)
    with pytest.warns(BlockwiseWarning, match=r"2 rows lie between the noise levels of m \(\[2, 5\]\)") as caught:
        got = predict(traces, folder, noise=[3.0, 4.0, 9.0])
    assert len(caught) == 1
    np.testing.assert_array_equal(got, predict(traces, folder, noise=[2, 5, 5]))


# bad input


@pytest.mark.parametrize(
    ("traces", "options", "error", "message"),
    [
        (make_traces(), {"frame_rate": 20.0}, InputError, "20 Hz, but m was trained for 30 Hz"),
        (make_traces() * 100, {}, InputError, "look like dF/F in percent"),
        (make_traces()[None], {}, InputError, r"shape \(1, 5, 400\)"),
        (make_traces().astype(complex), {}, InputError, "dtype complex"),
        (np.array(["a"]), {}, InputError, "real numbers"),
        (make_traces(), {"noise": [2, 3]}, InputError, "2 values for 5 rows"),
        (make_traces(), {"threshold": 2}, ConfigError, "threshold 2"),
        (make_traces(), {"alignment": 64}, ConfigError, "alignment 64: a place in a window of 64"),
        (make_traces(), {"engine": "jax"}, ConfigError, "engine 'jax': use torch or tensorflow"),
    ],
)
def test_bad_input_is_refused(folder, traces, options, error, message):
    with pytest.raises(error, match=message):
        predict(traces, folder, **options)


def test_percent_can_be_insisted_on(folder):
    assert predict(make_traces() * 100, folder, check=False).shape == (5, 400)


def test_naming_the_package_imports_no_torch():
    code = "import sys; from tasks import cascade; cascade.noise_levels, cascade.single_spike; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
    with pytest.raises(AttributeError, match="no attribute 'preduct'"):
        cascade.preduct  # noqa: B018


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory of a process is read from /proc")
def test_memory_does_not_grow_with_the_traces(folder):
    code = f"""
import numpy as np
from tasks.cascade import predict
def peak(): return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
traces = np.random.default_rng(0).normal(0, .1, (300, 10000)).astype("f4")
predict(traces[:10], {str(folder)!r}, device="cpu")
output = np.ones_like(traces)
before = peak()
del output
predict(traces, {str(folder)!r}, device="cpu")
print(peak() - before)
"""
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert float(run.stdout) < 20  # ten times the rows of a tile, whose windows would take 700 MB
