"""The implicit tiling of one or many domains: block id <-> regions by arithmetic, no object per block at rest.

A block's `core` is the region it alone writes: cores cover every domain exactly once. Its `read` region is the core with
context, always inside the domain; `pad` is what the edge mode `overhang` asks the task to add around it.

    overhang   every input has the full size, the part outside the domain is padding
               |--core--|--core--|--co|··      ·· = pad
    shrink     the last core and all context at the border are cut
               |--core--|--core--|--co|
    snap       every input has the full size, shifted inward at the border; the last core is the remainder only
               |--core--|--core--|--co|
                            |<- read ->|

Ids run over the domains in order, in row-major order within a domain (the last axis fastest).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import repeat
from math import prod
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from blockwise.errors import ConfigError
from blockwise.geometry import Domain, Region

EdgeMode = Literal["overhang", "shrink", "snap"]
Ids = npt.NDArray[np.int64]

PAGE_BLOCKS: int = 16_384
"""Blocks per ledger page, in both keepers; also the most that one lease may hold."""


@dataclass(frozen=True, slots=True)
class GridSpec:
    """How to tile: core shape in voxels, context (before, after) per axis, edge mode."""

    shape: tuple[int, ...]
    context: tuple[tuple[int, int], ...] = ()
    edge: EdgeMode = "shrink"

    def __post_init__(self) -> None:
        if not self.context:
            object.__setattr__(self, "context", ((0, 0),) * len(self.shape))
        if min(self.shape) < 1:
            raise ConfigError(f"[blocks] shape {list(self.shape)}: every side must be at least 1")
        if len(self.context) != len(self.shape) or min(min(c) for c in self.context) < 0:
            raise ConfigError(
                f"[blocks] context {list(self.context)} does not fit shape {list(self.shape)}: one (before, after) >= 0 per axis"
            )

    @property
    def before(self) -> tuple[int, ...]:
        return tuple(b for b, _ in self.context)

    @property
    def after(self) -> tuple[int, ...]:
        return tuple(a for _, a in self.context)


class Block(NamedTuple):
    """One unit of work: where it stands and what it reads and writes, in voxels of its domain."""

    id: int
    domain: int
    position: tuple[int, ...]
    core: Region
    read: Region
    pad: tuple[tuple[int, int], ...]

    @property
    def inner(self) -> tuple[slice, ...]:
        """Where the core lies in the padded input."""
        starts = [c - r + p for c, r, (p, _) in zip(self.core.begin, self.read.begin, self.pad, strict=True)]
        return tuple(slice(s, s + n) for s, n in zip(starts, self.core.shape, strict=True))

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(n + before + after for n, (before, after) in zip(self.read.shape, self.pad, strict=True))


_REGION: Callable[[tuple[object, ...]], Region] = partial(tuple.__new__, Region)
_BLOCK: Callable[[tuple[object, ...]], Block] = partial(tuple.__new__, Block)
"""Made of a tuple of their fields without a call of Python's: half the cost of an empty block was this."""


class Grid:
    """The tiling of a ragged set of domains of one rank; all arithmetic, nothing stored per block."""

    def __init__(self, domains: Domain | Sequence[Domain], spec: GridSpec) -> None:
        self.domains = (domains,) if isinstance(domains, Domain) else tuple(domains)
        self.spec = spec
        for d in self.domains:
            if len(d.shape) != len(spec.shape):
                raise ConfigError(
                    f"[blocks] shape {list(spec.shape)} has {len(spec.shape)} axes, domain {d.name!r} has {len(d.shape)}: {d.axes}"
                )
            if min(d.shape) < 1:
                raise ConfigError(f"domain {d.name!r} is empty: shape {d.shape}")

    @cached_property
    def counts(self) -> tuple[tuple[int, ...], ...]:
        """Blocks per axis of every domain."""
        return tuple(tuple(-(-n // s) for n, s in zip(d.shape, self.spec.shape, strict=True)) for d in self.domains)

    @cached_property
    def starts(self) -> Ids:
        """First block id of every domain, and the total as the last entry."""
        return np.concatenate([[0], np.cumsum([prod(c) for c in self.counts], dtype=np.int64)]).astype(np.int64)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def block(self, id: int) -> Block:
        """The block of one id.

        Raises
        ------
        IndexError : `id` is not in 0 .. len(grid) - 1.
        """
        return next(self.blocks(np.array([id], np.int64)))

    def blocks(self, ids: Ids) -> Iterator[Block]:
        """Blocks of many ids, in the order given; the arithmetic is done for all at once."""
        if ids.size and (int(ids.min()) < 0 or int(ids.max()) >= len(self)):
            raise IndexError(f"block {int(ids.min())}..{int(ids.max())} is not in 0..{len(self) - 1}")
        owner = np.searchsorted(self.starts, ids, side="right") - 1
        borders = np.flatnonzero(np.diff(owner)) + 1
        for part, first in zip(np.split(ids, borders), np.concatenate([[0], borders]), strict=True):
            if part.size:
                yield from self._blocks_of(int(owner[first]), part)

    def _blocks_of(self, domain: int, ids: Ids) -> Iterator[Block]:
        index, core, stop, low, high = self._spans(domain, ids)
        extent = np.array(self.domains[domain].shape)
        begin, end = np.maximum(low, 0), np.minimum(high, extent)
        if self.spec.edge == "shrink":
            low, high = begin, end
        pads = _tuples(np.stack([begin - low, high - end], axis=2).reshape(-1, 2))
        pads = zip(*[pads] * len(extent), strict=True)  # rank pairs at a time
        cores, reads = (map(_REGION, zip(_tuples(a), _tuples(b), strict=True)) for a, b in ((core, stop), (begin, end)))
        yield from map(_BLOCK, zip(ids.tolist(), repeat(domain), _tuples(index), cores, reads, pads))

    def _spans(self, domain: int, ids: Ids) -> tuple[Ids, Ids, Ids, Ids, Ids]:
        """(n, rank) each: positions, begin and end of cores, begin and end of inputs, which may lie outside the domain."""
        extent = np.array(self.domains[domain].shape)
        size, before, after = (np.array(v) for v in (self.spec.shape, self.spec.before, self.spec.after))
        index = np.stack(np.unravel_index(ids - self.starts[domain], self.counts[domain]), axis=1)
        core = index * size
        stop = np.minimum(core + size, extent)
        low, high = (core - before, core + size + after) if self.spec.edge != "shrink" else (core - before, stop + after)
        if self.spec.edge == "snap":
            low = np.clip(low, 0, np.maximum(extent - (size + before + after), 0))
            high = low + size + before + after
        return index, core, stop, low, high

    def reads(self, domain: int, ids: Ids) -> tuple[Ids, Ids]:
        """Begin and end of what blocks of one domain read, (n, rank) each, inside the domain: `Block.read` without an object per block."""
        *_, low, high = self._spans(domain, ids)
        return np.maximum(low, 0), np.minimum(high, np.array(self.domains[domain].shape))

    def ids_meeting(self, domain: int, region: Region) -> Ids:
        """Ids of the blocks of one domain whose core meets `region`; none where it is empty."""
        region = region.intersect(self.domains[domain].region)
        if not region.size:
            return np.empty(0, np.int64)
        counts, shape = self.counts[domain], self.spec.shape
        ranges = [np.arange(max(0, b // s), min(n, -(-e // s))) for b, e, s, n in zip(region.begin, region.end, shape, counts, strict=True)]
        local = np.ravel_multi_index(tuple(np.meshgrid(*ranges, indexing="ij")), counts).ravel()
        return np.asarray(local + self.starts[domain], np.int64)

    def owner(self, domain: int, points: npt.NDArray[np.int64]) -> Ids:
        """Id of the block whose core holds each point.

        Parameters
        ----------
        points : (n, rank) int64, voxels of the domain.
        """
        index = points // np.array(self.spec.shape)
        local = np.ravel_multi_index(tuple(index.T), self.counts[domain])
        return np.asarray(local + self.starts[domain], np.int64)

    def pages(self, domain: int) -> int:
        """Ledger pages of one domain."""
        return -(-int(self.starts[domain + 1] - self.starts[domain]) // PAGE_BLOCKS)


def _tuples(rows: Ids) -> Iterator[tuple[int, ...]]:
    """Rows of an (n, rank) array as tuples, by columns: a zip is faster than a tuple() per row."""
    return zip(*rows.T.tolist(), strict=True)
