"""Which blocks of an earlier stage lie under what the blocks of a later one read: arithmetic for a page of blocks at once.

Read regions become boxes of block positions in the grid of the earlier stage, whatever its voxel size, offset, block shape or further
axes. Whether any block in a box is still to be done is asked of a window of bits around all boxes, by sums over its corners: 16,384
blocks cost some milliseconds, and no object per block exists. Nothing here is kept, so nothing can be lost.
"""

from collections.abc import Callable, Sequence
from itertools import product
from math import prod

import numpy as np
import numpy.typing as npt

from blockwise.errors import ConfigError
from blockwise.geometry import Domain
from blockwise.grid import Grid, Ids
from blockwise.task import Dependency, Task

Bools = npt.NDArray[np.bool_]

Lookup = Callable[[Ids], Bools]
"""Ids of blocks, counted from their domain's first, in any shape -> a bit for each."""

WINDOW: int = 1 << 20
"""Most blocks of a window of bits: 12 MB while it is looked at. Boxes that span more are looked at in parts."""
SLACK: float = 1e-6
"""Voxels by which a border in world units may miss one by rounding."""


class Graph:
    """The stages of a run and what each needs of earlier ones; where one does not say, all of each.

    Raises
    ------
    ConfigError : two stages of one name, or one that reads a stage which does not come before it.
    """

    def __init__(self, stages: Sequence[Task]) -> None:
        self.stages = tuple(stages)
        self.dependencies: dict[str, tuple[Dependency, ...]] = {}
        for stage in self.stages:
            if stage.name in self.dependencies:
                raise ConfigError(f"two stages of the run are called {stage.name!r}: give one of them another name")
            self.dependencies[stage.name] = self._checked(stage)
        grids = {stage.name: Grid(stage.domains(), stage.spec()) for stage in self.stages}
        self.under = {
            (name, d.stage): Under(grids[name], grids[d.stage], d.reach)
            for name, wanted in self.dependencies.items()
            for d in wanted
            if d.reads != "stage"
        }
        """Who lies under whom, by names of stage and earlier stage, where it is not needed whole."""

    def _checked(self, stage: Task) -> tuple[Dependency, ...]:
        before, wanted = tuple(self.dependencies), stage.upstream()
        if wanted is None:
            return tuple(Dependency(name, "stage") for name in before)
        for dependency in wanted:
            if dependency.stage not in before:
                known = ", ".join(before) or "none"
                raise ConfigError(f"stage {stage.name!r} reads {dependency.stage!r}, which does not come before it; before it: {known}")
        return tuple(wanted)

    def together(self) -> list[list[int]]:
        """For each stage those that may be at work at the same time, itself included, by their places."""
        after: dict[str, set[str]] = {}
        for stage in self.stages:  # stages that have ended before it begins
            whole = [d.stage for d in self.dependencies[stage.name] if d.reads == "stage"]
            after[stage.name] = {name for other in whole for name in (other, *self._upstream(other))}
        names = [stage.name for stage in self.stages]
        return [[j for j, b in enumerate(names) if b not in after[a] and a not in after[b]] for a in names]

    def _upstream(self, name: str) -> set[str]:
        """All that a stage reads, and what they read: they end before it."""
        found = {d.stage for d in self.dependencies[name]}
        return found.union(*(self._upstream(other) for other in found))


class Under:
    """The blocks of one grid under what the blocks of another read.

    Parameters
    ----------
    below, above : grids of the stage that reads, and of the one that it reads; domains belong together by name, axes by name.
    reach : voxels of `below` that are read beyond the context, per axis.

    Raises
    ------
    ConfigError : a domain has no counterpart, an axis another unit, or `reach` another rank.
    """

    def __init__(self, below: Grid, above: Grid, reach: Sequence[int] = ()) -> None:
        self.below, self.above = below, above
        self._reach = np.array(reach or (0,) * len(below.spec.shape), np.int64)
        if len(self._reach) != len(below.spec.shape):
            raise ConfigError(f"reach {list(reach)} has {len(reach)} axes, blocks have {len(below.spec.shape)}")
        places = {domain.name: i for i, domain in enumerate(above.domains)}
        for domain in below.domains:
            if domain.name not in places:
                raise ConfigError(f"domain {domain.name!r} reads one of the same name, which is not among {sorted(places)[:5]}")
        self.counterparts = [places[domain.name] for domain in below.domains]
        """Index of the domain that each domain reads."""
        self._maps = [_map(d, above.domains[i]) for d, i in zip(below.domains, self.counterparts, strict=True)]

    def boxes(self, domain: int, ids: Ids) -> tuple[Ids, Ids]:
        """First and end position of the blocks that blocks of one domain need.

        Returns
        -------
        begin, end : (n, rank of the upper grid) int64, half-open; of one length per axis 0 where nothing is needed.
        """
        axes, scale, shift = self._maps[domain]
        reads = self.below.reads(domain, ids)
        low, high = ((edge + way * self._reach)[:, axes] * scale + shift for edge, way in zip(reads, (-1, 1), strict=True))
        everywhere = np.array([a < 0 for a in axes])
        shape, side = np.array(self.above.domains[self.counterparts[domain]].shape), np.array(self.above.spec.shape)
        begin = np.where(everywhere, 0, np.floor(low + SLACK)).astype(np.int64)
        end = np.where(everywhere, shape, np.ceil(high - SLACK)).astype(np.int64)
        begin, end = np.clip(begin, 0, shape), np.clip(end, 0, shape)
        first, last = begin // side, -(-end // side)
        return first, np.where(np.all(begin < end, axis=1, keepdims=True), last, first)

    def any_under(self, domain: int, ids: Ids, bits: Lookup) -> Bools:
        """Whether any block that each block of one domain needs has its bit set, (n,)."""
        begin, end = self.boxes(domain, ids)
        return any_in(bits, self.above.counts[self.counterparts[domain]], begin, end)

    def span(self, domain: int, ids: Ids) -> tuple[int, int]:
        """The least and one more than the greatest id, counted from the domain's first, that any of these blocks needs."""
        begin, end = self.boxes(domain, ids)
        some = (begin < end).all(axis=1)
        if not some.any():
            return 0, 0
        counts = self.above.counts[self.counterparts[domain]]
        return int(_flat(begin[some], counts).min()), int(_flat(end[some] - 1, counts).max()) + 1


def _map(below: Domain, above: Domain) -> tuple[list[int], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Per axis of the upper domain: the axis of the lower one (-1: none), and position there = scale x position here + shift."""
    axes, scale, shift = [], np.ones(len(above.axes)), np.zeros(len(above.axes))
    for i, name in enumerate(above.axes):
        axes.append(below.axes.index(name) if name in below.axes else -1)
        if axes[i] < 0:
            continue
        if below.units[axes[i]] != above.units[i]:
            units = [unit or "voxels" for unit in (below.units[axes[i]], above.units[i])]
            raise ConfigError(
                f"domain {below.name!r}, axis {name!r}: one stage counts in {units[0]!r}, the stage that it reads in {units[1]!r}: give "
                "both the same unit"
            )
        scale[i] = below.voxel_size[axes[i]] / above.voxel_size[i]
        shift[i] = (below.offset[axes[i]] - above.offset[i]) / above.voxel_size[i]
    return axes, scale, shift


def _flat(index: Ids, counts: tuple[int, ...]) -> Ids:
    return np.asarray(np.ravel_multi_index(tuple(index.T), counts), np.int64)


def any_in(bits: Lookup, counts: tuple[int, ...], begin: Ids, end: Ids) -> Bools:
    """Whether any bit is set in each box of positions of a grid with `counts` blocks per axis.

    Parameters
    ----------
    begin, end : (n, rank), half-open; a box may be empty.
    """
    found = np.zeros(len(begin), np.bool_)
    some = np.flatnonzero((begin < end).all(axis=1))
    if some.size:
        found[some] = _any_in(bits, counts, begin[some], end[some])
    return found


def _any_in(bits: Lookup, counts: tuple[int, ...], begin: Ids, end: Ids) -> Bools:
    low, high = begin.min(axis=0), end.max(axis=0)
    sides = high - low
    if prod(sides.tolist()) <= WINDOW:
        return _in_window(bits(_window(low, high, counts)), begin - low, end - low)
    axis = int(np.argmax(sides))
    if len(begin) == 1:
        middle = int(low[axis] + high[axis]) // 2
        left, right = end.copy(), begin.copy()
        left[0, axis] = right[0, axis] = middle
        return _any_in(bits, counts, begin, left) | _any_in(bits, counts, right, end)
    order = np.argsort(begin[:, axis], kind="stable")
    found = np.empty(len(begin), np.bool_)
    for half in np.array_split(order, 2):
        found[half] = _any_in(bits, counts, begin[half], end[half])
    return found


def _window(low: Ids, high: Ids, counts: tuple[int, ...]) -> Ids:
    """Ids of all blocks of a box of positions, in its shape."""
    strides = np.cumprod((1, *counts[:0:-1]))[::-1]
    axes = [np.arange(b, e) * s for b, e, s in zip(low.tolist(), high.tolist(), strides.tolist(), strict=True)]
    return np.asarray(sum(np.ix_(*axes)), np.int64)


def _in_window(window: Bools, begin: Ids, end: Ids) -> Bools:
    """Whether any bit is set in each box: sums of boxes from sums up to their corners."""
    sums = np.zeros([n + 1 for n in window.shape], np.int32)
    inner = sums[(slice(1, None),) * window.ndim]
    inner[...] = window
    for axis in range(window.ndim):
        np.cumsum(inner, axis=axis, out=inner)
    total = np.zeros(len(begin), np.int32)
    for corner in product((0, 1), repeat=window.ndim):
        at = tuple(np.where(c, end[:, i], begin[:, i]) for i, c in enumerate(corner))
        total += (-1) ** (window.ndim - sum(corner)) * sums[at]
    return np.asarray(total > 0, np.bool_)
