import numpy as np
import pytest

from tasks.cascade.targets import causal_kernel, smooth_counts


def impulse(frames=400, at=200):
    counts = np.zeros(frames)
    counts[at] = 1
    return counts


@pytest.mark.parametrize("causal", [False, True])
def test_targets_keep_the_number_of_spikes(causal):
    counts = np.random.default_rng(0).poisson(0.05, 2000).astype(float)
    counts[-100:] = 0
    assert smooth_counts(counts, 0.05, 30.0, causal=causal).sum() == pytest.approx(counts.sum(), rel=1e-6)


def test_gaussian_target_is_symmetric_with_the_known_peak():
    target = smooth_counts(impulse(), 0.05, 30.0, causal=False)
    np.testing.assert_allclose(target[1:200][::-1], target[201:], atol=1e-12)
    assert target.max() == pytest.approx(0.266, abs=1e-3)


def test_causal_target_peaks_two_frames_after_the_spike_and_hardly_precedes_it():
    target = smooth_counts(impulse(), 0.05, 30.0, causal=True)
    assert int(np.argmax(target)) == 202
    assert target[:199].sum() == 0
    assert causal_kernel(0.05, 30.0).sum() == pytest.approx(1)


def test_causal_target_of_a_trial_shorter_than_the_kernel():
    target = smooth_counts(impulse(90, 40), 0.05, 30.0, causal=True)
    assert target.shape == (90,)
    np.testing.assert_allclose(target[30:], smooth_counts(impulse(), 0.05, 30.0, causal=True)[190:250], atol=1e-12)
