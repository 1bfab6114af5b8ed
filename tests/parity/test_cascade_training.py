"""Ground truth as the original resamples, smooths and cuts it (issue 3, section 5: traces <= 1e-12, event counts identical)."""

import numpy as np
import pytest

from tasks.cascade.resampling import resample_ground_truth
from tasks.cascade.targets import causal_kernel, legacy_windows
from tasks.spikes.ground_truth import load_ground_truth
from tests.shared import shared


def neurons(*datasets: str):
    return [load_ground_truth(shared("data/spikes/ground_truth"), [d], legacy=True) for d in datasets]


@pytest.mark.parametrize(("dataset", "noise_level", "frame_rate"), [("DS02", 2, 7.5), ("DS16", 3, 30.0)])
@pytest.mark.parametrize("replicas", [False, True])
def test_resampled_traces_and_counts(dataset, noise_level, frame_rate, replicas):
    golden = np.load(shared("golden/cascade/gt_resampling.npz"))
    prefix = f"{dataset}_nl{noise_level}_fs{frame_rate:g}_rep{int(replicas)}_"
    (given,) = neurons(dataset)
    found = resample_ground_truth(given, noise_level=noise_level, frame_rate=frame_rate, replicas=replicas, legacy=True)
    assert [(0, 0) if n is None else n.traces.shape for n in found] == [tuple(s) for s in golden[f"{prefix}shapes"]]
    for i, neuron in enumerate(found):
        assert np.nansum(neuron.counts) == golden[f"{prefix}sum_events"][i]
        assert np.nansum(neuron.traces) == pytest.approx(golden[f"{prefix}sum_traces"][i], rel=1e-12)
        assert neuron.frame_rate == pytest.approx(golden[f"{prefix}frame_rates"][i], rel=1e-12)
        parts = {"_first2cols": slice(2), "_lastcol": -1} if replicas else {"": slice(None)}
        for suffix, columns in parts.items():
            if f"{prefix}traces_{i}{suffix}" in golden:
                np.testing.assert_allclose(neuron.traces[:, columns], golden[f"{prefix}traces_{i}{suffix}"], rtol=0, atol=1e-12)
            if f"{prefix}events_{i}{suffix}" in golden:
                assert np.array_equal(neuron.counts[:, columns], golden[f"{prefix}events_{i}{suffix}"], equal_nan=True)


@pytest.mark.parametrize(("smoothing", "frame_rate"), [(0.05, 30), (0.2, 7.5), (0.1, 15), (0.05, 25), (0.1, 30)])
def test_causal_kernel(smoothing, frame_rate):
    golden = np.load(shared("golden/cascade/causal_kernels.npz"))[f"s{smoothing:g}_fs{frame_rate:g}"]
    np.testing.assert_allclose(causal_kernel(smoothing, frame_rate), golden, rtol=0, atol=1e-15)


WINDOWS = {
    "A_gauss_rep0_noperm": (("DS02", "DS16"), 2, 7.5, 0.2, False, False),
    "B_causal30_rep0_noperm": (("DS16", "DS18"), 3, 30.0, 0.05, True, False),
    "C_gauss_rep1_perm": (("DS02", "DS16"), 2, 7.5, 0.2, False, True),
}


@pytest.mark.parametrize("case", WINDOWS)
def test_training_windows(case):
    datasets, noise_level, frame_rate, smoothing, causal, whole = WINDOWS[case]
    golden = np.load(shared("golden/cascade/gt_windows.npz"))
    random = np.random.RandomState(0)
    resampled = [
        resample_ground_truth(n, noise_level=noise_level, frame_rate=frame_rate, replicas=whole, seed=random, legacy=True)
        for n in neurons(*datasets)
    ]
    windows = legacy_windows(resampled, smoothing=smoothing, frame_rate=frame_rate, causal=causal, shuffle=whole, random=random)
    assert windows.starts.size == golden[f"{case}_shape"][0]
    np.testing.assert_allclose(windows.answers(slice(20_000)), golden[f"{case}_Y_first20000"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(windows.inputs(slice(64)), golden[f"{case}_X_first64"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(windows.inputs(slice(None, None, 500)), golden[f"{case}_X_every500_f32"], rtol=1e-6, atol=1e-6)
    assert windows.answers(slice(None)).sum() == pytest.approx(float(golden[f"{case}_Ysum"]), rel=1e-12)
