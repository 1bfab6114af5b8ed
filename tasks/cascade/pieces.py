"""Training data as pieces of trace, cut from noisy copies as they are drawn, so that memory follows the number of windows.

A piece of 191 frames holds 128 windows of 64; every target of a copy falls into exactly one piece, whose start is drawn anew for every
copy. Missing targets (before the first and after the last window of a trial) are NaN and count nothing in the loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blockwise.errors import ConfigError, InputError
from tasks.cascade.resampling import CleanTrial, Floats, noisy_copies, resample_trial
from tasks.cascade.targets import smooth_counts
from tasks.spikes.ground_truth import Neuron

Singles = npt.NDArray[np.float32]

DATASET_QUOTA: float = 15e6
"""Windows shared equally by the datasets; one that has more is thinned to its share (Cascade spec 6.2)."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """inputs : (pieces, frames) float32 dF/F. targets : (pieces, windows) float32, NaN where there is none."""

    inputs: Singles
    targets: Singles

    @property
    def windows(self) -> int:
        """Windows with a target."""
        return int(np.count_nonzero(~np.isnan(self.targets)))


@dataclass(frozen=True, slots=True)
class CleanSet:
    """The trials of one dataset before noise, each with its smoothed spikes, and the share of the original's copies to make."""

    trials: tuple[CleanTrial, ...]
    targets: tuple[Floats, ...]

    @property
    def windows(self) -> float:
        """Windows the original would make of it."""
        return float(sum(t.dff.size * t.copies for t in self.trials))


def clean_sets(
    neurons: Sequence[Neuron],
    *,
    noise_level: float,
    frame_rate: float,
    smoothing: float,
    causal: bool,
    window: int,
    seed: int = 0,
    legacy: bool = False,
) -> list[CleanSet]:
    """Resampled trials and targets, one set per dataset; trials noisier than the level or shorter than a window drop out.

    Raises
    ------
    InputError : no trial is left.
    """
    random = np.random.RandomState(seed)
    sets: list[CleanSet] = []
    for name in dict.fromkeys(n.dataset for n in neurons):
        trials = [t for n in neurons if n.dataset == name for t in n.trials]
        clean = [resample_trial(t, noise_level=noise_level, frame_rate=frame_rate, random=random, legacy=legacy) for t in trials]
        kept = tuple(c for c in clean if c is not None and c.dff.size >= window)
        if kept:
            sets.append(CleanSet(kept, tuple(smooth_counts(c.counts, smoothing, frame_rate, causal=causal) for c in kept)))
    if not sets:
        raise InputError(f"all trials are noisier than level {noise_level:g} or shorter than {window} frames: train a higher level")
    return sets


def draw_pieces(
    sets: Sequence[CleanSet], *, window: int, before: int, windows_per_piece: int, most_windows: int, random: np.random.RandomState
) -> Pieces:
    """Noisy copies of all trials cut into pieces, about `most_windows` windows at the most.

    Parameters
    ----------
    before : frames of a window before the frame it answers for.
    """
    if windows_per_piece < 1:
        raise ConfigError(f"windows_per_piece {windows_per_piece}: at least 1")
    shares = [min(1.0, DATASET_QUOTA / len(sets) / s.windows) for s in sets]
    total = sum(s.windows * share for s, share in zip(sets, shares, strict=True))
    inputs: list[Singles] = []
    targets: list[Singles] = []
    for clean, share in zip(sets, shares, strict=True):
        part = min(1.0, share * min(1.0, most_windows / total))
        for trial, target in zip(clean.trials, clean.targets, strict=True):
            copies = int(trial.copies * part + random.uniform())
            for _ in range(copies):
                trace = noisy_copies(trial, 1, random)[:, 0]
                cut = _cut(trace, target, window, before, windows_per_piece, int(random.randint(windows_per_piece)))
                inputs.append(cut[0])
                targets.append(cut[1])
    if not inputs:
        raise ConfigError(f"epoch_windows {most_windows} came to no copy of any trial out of {total:.0f} windows: raise it")
    return Pieces(np.concatenate(inputs), np.concatenate(targets))


def _cut(trace: Floats, target: Floats, window: int, before: int, hop: int, shift: int) -> tuple[Singles, Singles]:
    """One noisy copy as pieces; the first begins `shift` frames before the trace, which is padded with zeros without targets."""
    answers = target[before : before + trace.size - window + 1]
    count = -(-(answers.size + shift) // hop)
    padded = np.zeros(count * hop + window - 1, np.float32)
    padded[shift : shift + trace.size] = trace
    answered = np.full(count * hop, np.nan, np.float32)
    answered[shift : shift + answers.size] = answers
    return np.lib.stride_tricks.sliding_window_view(padded, hop + window - 1)[::hop], answered.reshape(count, hop)
