"""Discrete spikes from spike rates, by drawing, moving and pruning spikes until their smoothed sum explains the rate (Cascade spec 7).

The search is the original's, step for step and draw for draw, so that the same stream of random numbers gives the same spikes; exact
ties are common and fall by the last bit of a sum, so every sum that decides keeps the original's order of operations. What is faster
here: a spike touches only the frames around it, so the errors of all its possible places follow from local differences, and only
places within rounding of the best are summed in full.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blockwise.errors import InputError
from tasks.cascade.model import Model, load_model

Vector = npt.NDArray[np.float64]
Frames = npt.NDArray[np.int64]

SUPPORT = 0.03
"""Rates above this over sigma may hold spikes; stretches between are left out."""

REFILLS = 5
TIE = 1e-9
"""Errors closer than this are summed in full: far above rounding, far below what a spike changes."""


def infer_discrete_spikes(
    rates: npt.ArrayLike, model: str | Path | Model, *, seed: int | None = None
) -> tuple[npt.NDArray[np.float64], list[Frames]]:
    """Spikes whose Gaussian-smoothed sum approximates the rates of each neuron.

    One stream of random numbers runs through all rows, as in the original; `discrete_row` takes a stream of its own per row.

    Parameters
    ----------
    rates : (neurons, frames) or (frames,), expected spikes per frame without negative values, NaN where there is none (`predict`).
    model : the model that inferred them: a folder, a registry name or a loaded model. Only its smoothing in frames is used.
    seed : of the stream; None draws afresh.

    Returns
    -------
    approximation : (neurons, frames) float64, the smoothed spikes, NaN where the rate is; (frames,) for one row.
    spikes : one int64 array per row, in the order found, a frame named as often as it holds spikes. As the original counts, a spike
        stands one frame before the peak of its kernel, and frames missing inside a row are not counted.

    Raises
    ------
    InputError : `rates` has not one or two axes.
    """
    values = np.asarray(rates, np.float64)
    if values.ndim not in (1, 2):
        raise InputError(f"rates of shape {values.shape}: (neurons, frames) or (frames,) is wanted")
    sigma, random = load_model(model).sigma, np.random.RandomState(seed)
    results = [discrete_row(row, sigma, random) for row in np.atleast_2d(values)]
    approximation = np.stack([a for a, _ in results]) if results else np.empty(values.shape)
    return approximation.reshape(values.shape), [frames for _, frames in results]


def discrete_row(rates: npt.NDArray[Any], sigma: float, random: np.random.RandomState) -> tuple[Vector, Frames]:
    """Spikes of one row.

    Parameters
    ----------
    rates : (frames,).
    sigma : smoothing in frames.
    random : legacy stream of uniform numbers; it is advanced.

    Returns
    -------
    (frames,) float64 and (spikes,) int64, as `infer_discrete_spikes` has them.
    """
    there = ~np.isnan(rates)
    present = np.asarray(rates[there], np.float64)
    smoothed, frames = np.zeros(len(present)), []
    for begin, stop in active_stretches(present, sigma):
        search = Search(present[begin:stop], sigma, random)
        smoothed[begin:stop] = search.run()
        frames += [begin + place for place in search.spikes]
    approximation = np.full(len(rates), np.nan)
    approximation[there] = smoothed
    first = int(np.argmax(there)) if there.any() else 0
    return approximation, np.array(frames, np.int64) + first - 1


def active_stretches(rates: Vector, sigma: float) -> Iterator[tuple[int, int]]:
    """Begin and end of the runs of frames around rates that may hold spikes; they are searched one by one."""
    from scipy.ndimage import binary_dilation

    around = np.ones(max(1, round(4 * sigma)), bool)
    support = np.concatenate([[False], binary_dilation(rates > SUPPORT / sigma, around), [False]])
    edges = np.flatnonzero(support[1:] != support[:-1]).tolist()
    yield from zip(edges[::2], edges[1::2], strict=True)


class Search:
    """The search in one stretch of a row.

    Parameters
    ----------
    target : (frames,) the rate to explain.
    spikes : places of the spikes found so far, in the order found.
    smoothed : (frames,) their sum, each a Gaussian that is reflected at the ends.
    """

    def __init__(self, target: Vector, sigma: float, random: np.random.RandomState) -> None:
        self.target, self.sigma, self.random = target, sigma, random
        self.spikes: list[int] = []
        self.smoothed = np.zeros(len(target))
        self._shape_bumps()

    def run(self) -> Vector:
        """Fill, explore, prune and refill, explore; returns the smoothed spikes."""
        self.fill(self.target.sum())
        self.explore()
        for _ in range(REFILLS):
            self.prune()
            self.fill(self.target.sum() - self.smoothed.sum())
        self.explore()
        return self.smoothed

    def fill(self, count: float) -> int:
        """Draw places where the rate exceeds its approximation until the spikes sum to `count`; keep those that do no harm.

        After pruning `count` is what is missing, although the sum is of all spikes: so the original has it. Returns the draws made.
        """
        self.rebuild()
        draws, redraw = 0, int(np.ceil(count / 10))
        error = np.sum(np.abs(self.target - self.smoothed))
        while self.smoothed.sum() < count and draws < 20 * count:
            if draws % redraw == 0:
                likely = np.cumsum(np.exp(self.target - self.smoothed) - 1)
                likely /= np.max(likely)
            place = int(np.argmin(np.abs(likely - self.random.uniform())))
            self._add(place)
            changed = np.sum(np.abs(self.target - self.smoothed))
            if changed - error <= 0:
                self.spikes.append(place)
                error = changed
            else:
                self._remove(place)
                error = np.sum(np.abs(self.target - self.smoothed))
            draws += 1
        return draws

    def explore(self) -> None:
        """Move each spike to the place in the stretch where it serves best, the first of equals."""
        for n, place in enumerate(self.spikes):
            best = self._best_place(place)
            self.spikes[n] = best
            if n == 0 or best != place:
                self.rebuild()

    def prune(self) -> None:
        """Remove each spike whose removal makes the approximation better."""
        kept = []
        for place in self.spikes:
            error = np.sum(np.abs(self.target - self.smoothed))
            self._remove(place)
            if np.sum(np.abs(self.target - self.smoothed)) >= error:
                self._add(place)
                kept.append(place)
        self.spikes = kept

    def rebuild(self) -> None:
        """Smooth all spikes anew."""
        from scipy.ndimage import gaussian_filter1d

        impulses = np.bincount(self.spikes, minlength=len(self.target)).astype(np.float64) if self.spikes else np.zeros(len(self.target))
        self.smoothed = gaussian_filter1d(impulses, self.sigma)

    def _best_place(self, place: int) -> int:
        without = self.target - self.smoothed
        without[self._window(place)] += self.bumps[place]
        around = np.lib.stride_tricks.sliding_window_view(without, self.bumps.shape[1])[self.starts]
        gains = np.abs(around).sum(axis=1) - np.abs(around - self.bumps).sum(axis=1)
        near = np.flatnonzero(gains >= gains.max() - TIE)
        if len(near) == 1:
            return int(near[0])
        return int(near[np.argmin([self._error_moved(place, int(to)) for to in near])])

    def _error_moved(self, place: int, to: int) -> float:
        moved = self.smoothed.copy()
        moved[self._window(to)] += self.bumps[to]
        moved[self._window(place)] -= self.bumps[place]
        return float(np.sum(np.abs(self.target - moved)))

    def _add(self, place: int) -> None:
        self.smoothed[self._window(place)] += self.bumps[place]

    def _remove(self, place: int) -> None:
        self.smoothed[self._window(place)] -= self.bumps[place]

    def _window(self, place: int) -> slice:
        start = int(self.starts[place])
        return slice(start, start + self.bumps.shape[1])

    def _shape_bumps(self) -> None:
        """One spike's Gaussian at every place: row `place` of `bumps` stands at frame `starts[place]`; only near the ends they differ."""
        from scipy.ndimage import gaussian_filter1d

        length, radius = len(self.target), int(4 * self.sigma + 0.5)
        short, width = min(length, 4 * radius + 1), min(length, 2 * radius + 1)
        places = np.arange(length)
        alike = np.where(places < length - 2 * radius, np.minimum(places, 2 * radius), places - length + short)
        begin = np.clip(np.arange(short) - radius, 0, short - width)
        shapes = np.take_along_axis(gaussian_filter1d(np.eye(short), self.sigma), begin[:, None] + np.arange(width), axis=1)
        self.starts, self.bumps = np.clip(places - radius, 0, length - width), shapes[alike]
