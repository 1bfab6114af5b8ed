"""Ground truth brought to one frame rate and one noise level, as Cascade trains on it (spec 6.1).

Each trial is resampled by FFT, its spikes are counted per frame, and copies of it get Gaussian noise, scaled with the square root of
the signal as photon noise is, until their noise level is the one asked for. A trial noisier than that drops out.

Two faults of the original are mended unless `legacy=True` asks for its numbers: the time axis of a resampled trial follows the mean
interval, not the first one (with irregular timestamps spikes drift up to 0.7 s against the trace), and the last frame counts spikes
over its whole width. Randomness comes from numpy's legacy generator in the original's order: per trial 20 calibration draws, then copies.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blockwise.errors import ConfigError
from tasks.spikes.ground_truth import Neuron, Trial

Floats = npt.NDArray[np.float64]

RATE_TOLERANCE: float = 0.05
"""A trial whose frame rate lies within this share of the target is left as it is."""

MOST_COPIES: int = 500
CALIBRATION_STEPS: int = 20
"""Steps of 1 % dF/F s^1/2 that calibration tries, more for higher levels."""


@dataclass(frozen=True, slots=True)
class CleanTrial:
    """A trial at the target rate, before noise.

    dff, time_s, counts : (frames,) float64; counts are spikes per frame. noise_std : (frames,) float64, dF/F, what a noisy copy adds.
    copies : how many noisy copies the original would make. frame_rate : Hz, after resampling.
    """

    dff: Floats
    time_s: Floats
    counts: Floats
    noise_std: Floats
    copies: int
    frame_rate: float


@dataclass(frozen=True, slots=True)
class ResampledNeuron:
    """All noisy copies of a neuron as columns.

    traces, counts : (frames, columns) float64; columns of shorter trials end in NaN. frame_rate : Hz, of the last trial.
    """

    dataset: str
    name: str
    traces: Floats
    counts: Floats
    frame_rate: float
    spike_times_s: tuple[Floats, ...]


def resample_ground_truth(
    neurons: Sequence[Neuron],
    *,
    noise_level: float,
    frame_rate: float,
    replicas: bool = True,
    seed: int | np.random.RandomState = 0,
    legacy: bool = False,
) -> list[ResampledNeuron | None]:
    """Noisy copies of every neuron at one rate and noise level; None where all of a neuron's trials are too noisy.

    Parameters
    ----------
    replicas : make as many copies as the original trains on (up to 500 per trial), else one.
    seed : a number, or a generator that goes on where it stands.
    legacy : the original's time axis and last bin (Cascade spec 6.1); parity with it, not for training.
    """
    random = seed if isinstance(seed, np.random.RandomState) else np.random.RandomState(seed)
    return [_resample_neuron(n, noise_level, frame_rate, replicas, random, legacy=legacy) for n in neurons]


def _resample_neuron(
    neuron: Neuron, noise_level: float, frame_rate: float, replicas: bool, random: np.random.RandomState, *, legacy: bool
) -> ResampledNeuron | None:
    traces: list[Floats] = []
    counts: list[Floats] = []
    for trial in neuron.trials:
        clean = resample_trial(trial, noise_level=noise_level, frame_rate=frame_rate, random=random, legacy=legacy)
        if clean is not None:
            copies = clean.copies if replicas else 1
            traces.append(noisy_copies(clean, copies, random))
            counts.append(np.repeat(clean.counts[:, None], copies, axis=1))
            rate = clean.frame_rate
    if not traces:
        return None
    spikes = tuple(t.spike_times_s for t in neuron.trials)
    return ResampledNeuron(neuron.dataset, neuron.name, _stack(traces), _stack(counts), rate, spikes)


def _stack(parts: Sequence[Floats]) -> Floats:
    """Columns of several trials side by side, the shorter ones padded with NaN at the end."""
    out = np.full((max(len(p) for p in parts), sum(p.shape[1] for p in parts)), np.nan)
    column = 0
    for part in parts:
        out[: len(part), column : column + part.shape[1]] = part
        column += part.shape[1]
    return out


def resample_trial(
    trial: Trial, *, noise_level: float, frame_rate: float, random: np.random.RandomState, legacy: bool = False
) -> CleanTrial | None:
    """One trial at `frame_rate` (Hz), with the noise that brings it to `noise_level`; None where it is noisier already.

    Raises
    ------
    ConfigError : `legacy`, and the level is beyond what the original's calibration reaches (about 18).
    """
    steps = CALIBRATION_STEPS if legacy else max(CALIBRATION_STEPS, int(1.2 * noise_level) + 2)
    calibrated = _calibrate(trial, noise_level, steps, random)
    if calibrated is None:
        return None
    noise_std, copies = calibrated
    dff, time_s = trial.dff, trial.time_s
    if abs(frame_rate - trial.frame_rate) / trial.frame_rate > RATE_TOLERANCE:
        dff, time_s = _resample(trial, frame_rate, legacy=legacy)
        noise_std *= np.sqrt(frame_rate / trial.frame_rate)
    rate = float(1 / np.nanmean(np.diff(time_s)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        brightness = np.sqrt(np.abs(dff + 1))
    counts = np.histogram(trial.spike_times_s, _edges(time_s, rate, legacy=legacy))[0].astype(np.float64)
    return CleanTrial(dff, time_s, counts, noise_std * (brightness / np.median(brightness)), copies, rate)


def noisy_copies(clean: CleanTrial, copies: int, random: np.random.RandomState) -> Floats:
    """(frames, copies) float64: the trial with independent noise in every column."""
    out = np.empty((clean.dff.size, copies))
    for column in range(copies):
        out[:, column] = clean.dff + random.normal(0, clean.noise_std, clean.dff.size)
    return out


def _calibrate(trial: Trial, noise_level: float, count: int, random: np.random.RandomState) -> tuple[float, int] | None:
    """Standard deviation of the noise to add (dF/F) and number of copies, found by adding 0, 1, ... `count` - 1 steps of noise."""
    steps = np.arange(count)
    root = np.sqrt(trial.frame_rate)
    levels = np.array([_level(trial.dff + random.normal(0, k / 100 * root, trial.dff.size), trial.frame_rate) for k in steps])
    if noise_level < levels[0]:
        return None
    if noise_level > levels.max():
        raise ConfigError(
            f"noise level {noise_level:g} is beyond {levels.max():.3g}, the most that calibration reaches for {trial.neuron} "
            f"trial {trial.trial}: train lower levels"
        )
    order = np.argsort(levels, kind="mergesort")
    step = _interpolate(noise_level, levels[order], steps[order].astype(np.float64))
    copies = min(MOST_COPIES, int(np.ceil(1.2 * (noise_level / levels[0]) ** 2)))
    return step / 100 * root, copies


def _interpolate(at: float, x: Floats, y: Floats) -> float:
    """Linear, in the arithmetic of scipy's interp1d (slope times distance from the lower knot)."""
    high = int(np.clip(np.searchsorted(x, at), 1, x.size - 1))
    slope = (y[high] - y[high - 1]) / (x[high] - x[high - 1])
    return float(slope * (at - x[high - 1]) + y[high - 1])


def _level(dff: Floats, frame_rate: float) -> float:
    return float(100 * np.nanmedian(np.abs(np.diff(dff))) / np.sqrt(frame_rate))


def _resample(trial: Trial, frame_rate: float, *, legacy: bool) -> tuple[Floats, Floats]:
    from scipy.signal import resample

    frames = round(trial.dff.size * frame_rate / trial.frame_rate)
    interval = trial.time_s[1] - trial.time_s[0] if legacy else 1 / trial.frame_rate
    time_s = np.arange(frames) * interval * trial.dff.size / float(frames) + trial.time_s[0]
    return resample(trial.dff, frames), time_s


def _edges(time_s: Floats, rate: float, *, legacy: bool) -> Floats:
    """Borders of the bins, centred on frames; the original's last bin ends half a frame early."""
    half = 1 / rate / 2
    last = time_s[-1] + (half if legacy else 2 * half)
    return np.append(time_s, last) - half
