import numpy as np
import pytest

from tasks.spikes.simulate import simulate_session


@pytest.mark.parametrize(("frame_rate", "noise_level"), [(7.5, 2.0), (30.0, 2.0), (30.0, 6.0)])
def test_noise_level_is_the_one_asked_for(frame_rate, noise_level):
    dff, _ = simulate_session(20, 3000, frame_rate, noise_level=noise_level)
    levels = 100 * np.median(np.abs(np.diff(dff, axis=1)), axis=1) / np.sqrt(frame_rate)
    assert np.median(levels) == pytest.approx(noise_level, rel=0.15)


def test_shapes_dtypes_and_seed():
    dff, spikes = simulate_session(3, 500, 30.0, seed=4)
    assert (dff.shape, dff.dtype, spikes.shape, spikes.dtype) == ((3, 500), np.float32, (3, 500), np.uint8)
    again, other = simulate_session(3, 500, 30.0, seed=4), simulate_session(3, 500, 30.0, seed=5)
    assert np.array_equal(dff, again[0])
    assert np.array_equal(spikes, again[1])
    assert not np.array_equal(spikes, other[1])


def test_rates_differ_between_neurons_and_spikes_come_in_bursts():
    _, spikes = simulate_session(200, 9000, 30.0)
    rates = spikes.mean(1) * 30
    assert 0.3 < np.median(rates) < 0.8
    assert np.percentile(rates, 90) > 3 * np.percentile(rates, 10)
    per_second = spikes.reshape(200, -1, 30).sum(2)
    assert np.median(per_second.var(1) / per_second.mean(1)) > 1.5


def test_a_spike_raises_the_signal():
    dff, spikes = simulate_session(50, 6000, 30.0, noise_level=0.5)
    after = np.concatenate([dff[row, 3:][spikes[row, :-3] > 0] for row in range(50)])
    assert after.mean() > dff.mean() + 0.1
