import dataclasses
import re

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from blockwise.config import InputConfig
from blockwise.errors import InputError
from tasks.spikes.quality import assess, check_recording, format_table, quality_table
from tasks.spikes.recordings import find_recordings, open_recording
from tests.shared import shared

LEVELS = tuple(range(2, 9))


class InMemory:
    """Traces that count what is read of them."""

    def __init__(self, data):
        self.data, self.shape, self.samples = data, data.shape, 0

    def read(self, rows, frames):
        piece = self.data[rows, frames]
        self.samples += piece.size
        return piece

    def identity(self):
        return {}

    def close(self): ...


def white(level=3.0, frame_rate=30.0, shape=(40, 6000), seed=0):
    """White noise of a noise level, % s^1/2: the median of |difference| is 0.6745 sqrt(2) standard deviations."""
    std = level * np.sqrt(frame_rate) / 100 / (0.6745 * np.sqrt(2))
    return np.random.default_rng(seed).normal(0, std, shape).astype(np.float32)


def found(data, frame_rate=30.0, levels=LEVELS):
    return assess(InMemory(data), name="m1", frame_rate=frame_rate, levels=levels)


@pytest.mark.parametrize(
    ("level", "frame_rate", "verdict"), [(1.0, 30.0, "below"), (3.0, 7.5, "within"), (8.3, 30.0, "within"), (9.0, 30.0, "above")]
)
def test_noise_is_measured_and_judged(level, frame_rate, verdict):
    quality = found(white(level, frame_rate), frame_rate)
    assert quality.noise_median == pytest.approx(level, rel=0.02)
    assert quality.noise_low < quality.noise_median < quality.noise_high
    assert quality.verdict == verdict
    assert quality.correlation == pytest.approx(-0.5, abs=0.02)


def test_clean_traces_have_no_warnings():
    assert found(white()).warnings == ()


def smoothed(data):
    return gaussian_filter1d(data, 1.5, axis=1)


def with_nans(data):
    data[3, 100:200] = np.nan
    return data


def with_flat_rows(data):
    data[1], data[2] = 0.5, np.nan
    return data


def drifting(data):
    return data + np.linspace(0, 20 * data.std(), data.shape[1])


DEFECTS = [
    (lambda x: x, 9.5, "100% of 40 rows sampled are noisier than the model's highest level 8"),
    (smoothed, 3.0, "denoised or smoothed"),
    (lambda x: x, 0.1, "denoised or smoothed"),
    (lambda x: x * 100, 3.0, "looks like percent"),
    (drifting, 3.0, "the baseline changes by 1[789].. standard deviations"),
    (with_nans, 3.0, "0.0% of the values sampled are NaN"),
    (with_flat_rows, 3.0, "1 of 40 rows sampled are constant"),
    (with_flat_rows, 3.0, "1 of 40 rows sampled have no value at all"),
]


@pytest.mark.parametrize(("spoil", "level", "sentence"), DEFECTS)
def test_defects_are_told_in_sentences(spoil, level, sentence):
    warnings = found(spoil(white(level))).warnings
    assert any(re.search(sentence, w) for w in warnings), warnings
    assert all(w.startswith("m1: ") for w in warnings)


def test_drift_is_in_units_of_the_noise_of_a_frame():
    data = white(shape=(20, 16000))
    quality = found(data + np.linspace(0, 10 * data.std(), 16000))
    assert quality.drift == pytest.approx(10 * (1 - 1024 / 16000), rel=0.05)


@pytest.mark.parametrize(("shape", "at_most"), [((10, 5000), 50_000), ((2000, 50_000), 2_100_000), ((256, 3), 768), ((1, 70), 70)])
def test_the_sample_is_bounded(shape, at_most):
    traces = InMemory(np.broadcast_to(np.float32(0.1), shape))
    quality = assess(traces, name="m1", frame_rate=30.0)
    assert traces.samples <= at_most
    assert (quality.neurons, quality.frames) == shape
    assert quality.constant_rows == quality.sampled_rows <= 256
    assert not quality.denoised


def test_without_a_model_or_noise_there_is_no_verdict():
    assert found(white(), levels=()).verdict == "unknown"
    assert found(np.full((4, 100), np.nan)).verdict == "unknown"


@pytest.mark.parametrize(
    ("spoil", "text"), [(lambda x: x * 100, "divide traces in percent by 100"), (lambda x: x * np.nan, "no finite value in 40 rows")]
)
def test_worthless_recordings_are_refused(tmp_path, spoil, text):
    np.save(tmp_path / "a.npy", spoil(white()))
    (recording,) = find_recordings(InputConfig(path=str(tmp_path / "a.npy"), frame_rate=30.0))
    with pytest.raises(InputError, match=text):
        check_recording(recording, open_recording(recording))


def test_published_example_passes_and_fails_in_percent(tmp_path):
    path = shared("data/spikes/cascade/Example_datasets/Multiplane-OGB1-zf-pDp-Rupprecht-7.5Hz/Calcium_traces_04.mat")
    (recording,) = find_recordings(InputConfig(path=str(path), frame_rate=7.5))
    traces = open_recording(recording)
    quality = check_recording(recording, traces, LEVELS)
    assert (quality.verdict, quality.denoised, quality.percent) == ("within", False, False)
    assert "1005 neurons of 260 frames" in quality.warnings[0]
    percent = InMemory(100 * traces.read(slice(None), slice(None)))
    with pytest.raises(InputError, match="as a fraction"):
        check_recording(recording, percent, LEVELS)


def test_noise_levels_agree_with_the_original():
    golden = np.load(shared("golden/cascade/predict_30Hz_causal_allen.npz"))
    quality = found(golden["traces"])
    assert quality.noise_median == pytest.approx(np.median(golden["noise_levels"]), rel=0.02)
    assert quality.verdict == "below"


def test_table_has_a_row_per_session_and_aligned_columns():
    qualities = [found(white()), dataclasses.replace(found(white(9.0)), session="a much longer name")]
    rows = quality_table(qualities)
    assert [len(row) for row in rows] == [11] * 3
    assert [row[5] for row in rows] == ["verdict", "within", "above"]
    lines = format_table(rows).splitlines()
    assert lines[0].index("neurons") == lines[1].index("40") == lines[2].index("40")
