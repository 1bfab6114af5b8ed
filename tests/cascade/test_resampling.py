import numpy as np
import pytest

from blockwise.errors import ConfigError
from tasks.cascade.resampling import noisy_copies, resample_ground_truth, resample_trial
from tasks.spikes.ground_truth import Trial
from tests.spikes.ground_truth_files import neuron


def level(dff, frame_rate):
    return 100 * np.nanmedian(np.abs(np.diff(dff))) / np.sqrt(frame_rate)


@pytest.mark.parametrize("noise_level", [2, 5, 12, 40])
def test_copies_have_the_noise_level_asked_for(noise_level):
    (trial,) = neuron(seconds=200, noise_level=1.0).trials
    random = np.random.RandomState(0)
    clean = resample_trial(trial, noise_level=noise_level, frame_rate=30.0, random=random)
    copies = noisy_copies(clean, 3, random)
    assert copies.shape == (trial.dff.size, 3)
    assert level(copies.T.ravel(), 30.0) == pytest.approx(noise_level, rel=0.05)


def test_copies_follow_the_square_of_the_noise_ratio_up_to_500():
    (trial,) = neuron(seconds=200, noise_level=1.0).trials
    own = level(trial.dff, 30.0)
    for noise_level in (2, 8, 40):
        clean = resample_trial(trial, noise_level=noise_level, frame_rate=30.0, random=np.random.RandomState(0))
        assert clean.copies == min(500, np.ceil(1.2 * (noise_level / own) ** 2))


def test_a_trial_noisier_than_the_level_drops_out():
    loud, quiet = neuron(noise_level=4.0), neuron(noise_level=1.0, trials=2)
    found = resample_ground_truth([loud, quiet], noise_level=2, frame_rate=30.0, replicas=False)
    assert found[0] is None
    assert found[1].traces.shape == (1200, 2)


def test_columns_of_shorter_trials_end_in_nan():
    trials = (*neuron(seconds=20).trials, *neuron(seconds=30).trials)
    whole = neuron()
    (found,) = resample_ground_truth([type(whole)("DS90", "a", trials)], noise_level=3, frame_rate=30.0, replicas=False)
    assert np.isnan(found.traces).sum(0).tolist() == np.isnan(found.counts).sum(0).tolist() == [300, 0]


def irregular_trial() -> Trial:
    """Frames every 34 ms after a first interval of 30 ms; one spike in every 50th frame."""
    time_s = np.concatenate([[0.0, 0.03], 0.03 + 0.034 * np.arange(1, 2999)])
    spikes = time_s[49:2990:50]
    return Trial("DS90", "a", 0, np.random.default_rng(0).normal(0, 0.01, 3000), time_s, spikes, float(1 / np.diff(time_s).mean()))


@pytest.mark.parametrize(("legacy", "drift_s", "lost"), [(False, 0.0, False), (True, 12.0, True)])
def test_spikes_stay_with_the_trace_under_irregular_timestamps(legacy, drift_s, lost):
    """The original stretches the first interval over the whole trial, so its clock runs away from the spikes' (its issue 64)."""
    trial = irregular_trial()
    clean = resample_trial(trial, noise_level=3, frame_rate=10.0, random=np.random.RandomState(0), legacy=legacy)
    assert abs(clean.time_s[-1] - trial.time_s[-1]) == pytest.approx(drift_s, abs=0.15)
    assert bool(clean.counts.sum() < trial.spike_times_s.size) == lost


def test_the_last_frame_counts_over_its_whole_width_unless_legacy():
    time_s = np.arange(100) / 30
    trial = Trial("DS90", "a", 0, np.random.default_rng(0).normal(0, 0.01, 100), time_s, np.array([time_s[-1] + 0.01]), 30.0)
    counts = {
        legacy: resample_trial(trial, noise_level=3, frame_rate=30.0, random=np.random.RandomState(0), legacy=legacy).counts.sum()
        for legacy in (False, True)
    }
    assert counts == {False: 1, True: 0}


def test_a_level_beyond_the_calibration_is_refused_in_legacy():
    with pytest.raises(ConfigError, match="noise level 40 is beyond"):
        resample_ground_truth([neuron(seconds=100)], noise_level=40, frame_rate=30.0, legacy=True)
