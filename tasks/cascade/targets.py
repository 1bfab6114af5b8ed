"""What the network is trained to answer: spikes per frame, smoothed (Cascade spec 6.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.cascade.resampling import Floats, ResampledNeuron

KERNEL_TAPS: int = 199
"""Length of the causal kernel in frames; its centre is tap 99."""

LEGACY_QUOTA: float = 15e6
LEGACY_MOST_WINDOWS: int = 5_000_000


def causal_kernel(smoothing: float, frame_rate: float) -> Floats:
    """(199,) float64 with sum 1: an inverse Gaussian of mean 2 `smoothing` (s) that starts about the centre and peaks two frames after."""
    from scipy.stats import invgauss

    time_s = np.arange(KERNEL_TAPS) / frame_rate
    kernel = invgauss.pdf(time_s, 2 * smoothing, 101 / frame_rate, 1)
    kernel = np.roll(kernel, int((99 - int(np.argmax(kernel))) / 1.5))
    return np.asarray(kernel / kernel.sum(), np.float64)


def smooth_counts(counts: Floats, smoothing: float, frame_rate: float, *, causal: bool) -> Floats:
    """Expected spikes per frame of one trial.

    Parameters
    ----------
    counts : (frames,) spikes per frame. smoothing : standard deviation in s. causal : spread each spike over later frames only.
    """
    from scipy.ndimage import gaussian_filter

    if not causal:
        return np.asarray(gaussian_filter(counts.astype(np.float64), smoothing * frame_rate), np.float64)
    full = np.convolve(counts, causal_kernel(smoothing, frame_rate))
    return full[KERNEL_TAPS // 2 : KERNEL_TAPS // 2 + counts.size]


@dataclass(frozen=True, slots=True)
class Windows:
    """The original's training rows, by index instead of 64 copies of every sample.

    traces, targets : (samples,) float64, all columns one after the other. starts : (rows,) int64, where each row's window begins.
    """

    traces: Floats
    targets: Floats
    starts: npt.NDArray[np.int64]
    window: int
    before: int

    def inputs(self, rows: npt.NDArray[np.int64] | slice) -> Floats:
        """(n, window) float64 of the chosen rows."""
        return self.traces[self.starts[rows][:, None] + np.arange(self.window)]

    def answers(self, rows: npt.NDArray[np.int64] | slice) -> Floats:
        """(n,) float64, the target of the frame `before` frames into each window."""
        return self.targets[self.starts[rows] + self.before]


def legacy_windows(
    datasets: Sequence[Sequence[ResampledNeuron | None]],
    *,
    smoothing: float,
    frame_rate: float,
    causal: bool,
    shuffle: bool = True,
    random: np.random.RandomState,
    window: int = 64,
    before_frac: float = 0.5,
) -> Windows:
    """The rows the original trains on, in its order and with its losses of data (Cascade spec 6.2); for parity, not for training.

    `random` must be the generator that resampled the datasets, for the original draws everything from one stream.
    """
    factors = [sum(n.traces.size for n in d if n is not None) / (LEGACY_QUOTA / len(datasets)) for d in datasets]
    before = int(before_frac * window)
    columns = [
        (trace, count, max(factor, 1.0))
        for dataset, factor in zip(datasets, factors, strict=True)
        for neuron in dataset
        if neuron is not None
        for trace, count in zip(neuron.traces.T, neuron.counts.T, strict=True)
    ]
    thinned = max(factors) > 1
    starts: list[npt.NDArray[np.int64]] = []
    offset = 0
    for trace, _, factor in columns:
        points = np.arange(max(0, min(trace.size, int(np.sum(~np.isnan(trace)))) - window))
        if thinned:
            points = random.permutation(points.size)[: int(points.size / factor)]
        starts.append(points + offset)
        offset += trace.size
    rows = np.concatenate(starts)
    if shuffle:
        rows = rows[random.permutation(rows.size)]
    rows = rows[:LEGACY_MOST_WINDOWS]
    targets = np.concatenate([_legacy_target(count, smoothing, frame_rate, causal=causal) for _, count, _ in columns])
    return Windows(np.concatenate([c[0] for c in columns]), targets, rows[~np.isnan(targets[rows + before])], window, before)


def _legacy_target(counts: Floats, smoothing: float, frame_rate: float, *, causal: bool) -> Floats:
    """As the original: NaN padding spreads, all over a short trace, where scipy convolves by FFT."""
    from scipy.ndimage import gaussian_filter
    from scipy.signal import convolve

    if causal:
        return np.asarray(convolve(counts, causal_kernel(smoothing, frame_rate), mode="same"), np.float64)
    return np.asarray(gaussian_filter(counts, smoothing * frame_rate), np.float64)
