import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from blockwise.errors import InputError
from tasks.cascade.discrete import Search, active_stretches, discrete_row, infer_discrete_spikes
from tests.cascade.random_model import write_model

NAN = float("nan")


def smooth(spikes, frames, sigma):
    return gaussian_filter(np.bincount(spikes, minlength=frames).astype(float), sigma)


def simulated(frames=300, spikes=20, sigma=1.5, seed=0):
    random = np.random.default_rng(seed)
    places = random.integers(5, frames - 5, spikes)
    return places, smooth(places, frames, sigma) + random.normal(0, 0.005, frames).clip(0)


@pytest.mark.parametrize("sigma", [0.1, 0.25, 1.0, 1.5, 3.1])
@pytest.mark.parametrize("frames", [1, 2, 5, 13, 14, 25, 26, 60])
def test_one_spike_anywhere_is_the_reflected_gaussian(frames, sigma):
    for place in range(frames):
        search = Search(np.ones(frames), sigma, np.random.RandomState(0))
        search._add(place)
        np.testing.assert_array_equal(search.smoothed, smooth([place], frames, sigma))


def test_a_spike_moves_to_the_place_of_least_error():
    _, rates = simulated(60, 6)
    search = Search(rates, 1.5, np.random.RandomState(0))
    search.spikes = [10, 20, 50]
    search.rebuild()
    for place in search.spikes:
        others = search.smoothed - smooth([place], 60, 1.5)
        errors = [np.abs(rates - others - smooth([to], 60, 1.5)).sum() for to in range(60)]
        assert errors[search._best_place(place)] == pytest.approx(min(errors), abs=1e-12)


def test_simulated_spikes_are_found():
    places, rates = simulated()
    approximation, found = discrete_row(rates, 1.5, np.random.RandomState(0))
    assert abs(len(found) - len(places)) <= 2
    assert np.abs(approximation - rates).sum() < 0.3 * rates.sum()
    np.testing.assert_allclose(approximation.sum(), len(found), atol=1e-9)
    assert np.mean([np.abs(found + 1 - p).min() <= 1 for p in places]) > 0.9


def test_frames_count_from_the_first_rate_less_one_and_nan_stays():
    _, rates = simulated()
    padded = np.concatenate([np.full(32, NAN), rates, np.full(32, NAN)])
    approximation, frames = discrete_row(rates, 1.5, np.random.RandomState(0))
    shifted, later = discrete_row(padded, 1.5, np.random.RandomState(0))
    np.testing.assert_array_equal(later, frames + 32)
    np.testing.assert_array_equal(shifted, np.concatenate([np.full(32, NAN), approximation, np.full(32, NAN)]))


@pytest.mark.parametrize("rates", [np.zeros(50), np.full(50, NAN), np.full(50, 0.01), np.empty(0)])
def test_no_rate_no_spikes(rates):
    approximation, frames = discrete_row(rates, 1.5, np.random.RandomState(0))
    assert frames.dtype == np.int64
    assert frames.size == 0
    np.testing.assert_array_equal(np.isnan(approximation), np.isnan(rates))


def test_an_even_dilation_reaches_one_further_to_the_left():
    rates = np.zeros(20)
    rates[10] = 1
    assert list(active_stretches(rates, 1.5)) == [(7, 13)]


def test_one_stream_runs_through_all_rows(tmp_path):
    folder, rates = write_model(tmp_path / "m"), np.stack([simulated(seed=s)[1] for s in range(3)])
    approximation, spikes = infer_discrete_spikes(rates, folder, seed=4)
    random = np.random.RandomState(4)
    for row, got, frames in zip(rates, approximation, spikes, strict=True):
        alone, wanted = discrete_row(row, 1.5, random)
        np.testing.assert_array_equal(got, alone)
        np.testing.assert_array_equal(frames, wanted)


@pytest.mark.parametrize(("shape", "result"), [((300,), (300,)), ((2, 300), (2, 300)), ((0, 300), (0, 300))])
def test_shapes(tmp_path, shape, result):
    approximation, spikes = infer_discrete_spikes(np.zeros(shape), write_model(tmp_path / "m"), seed=0)
    assert approximation.shape == result
    assert len(spikes) == (shape[0] if len(shape) == 2 else 1)


def test_other_shapes_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"shape \(1, 2, 3\)"):
        infer_discrete_spikes(np.zeros((1, 2, 3)), write_model(tmp_path / "m"))
