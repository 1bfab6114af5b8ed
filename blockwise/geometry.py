"""Regions of voxels and the domains they lie in.

All intervals are half-open, all positions are in voxels of the domain, whatever the axes are (z, y, x or neuron, time).
World units appear only in `Domain.voxel_size` and `Domain.offset`.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import NamedTuple


class Region(NamedTuple):
    """A half-open box of voxels: `begin` included, `end` not. A named tuple, for millions are made in a run."""

    begin: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(e - b for b, e in zip(self.begin, self.end, strict=True))

    @property
    def size(self) -> int:
        """Number of voxels; 0 where any axis is empty or reversed."""
        return prod(max(0, n) for n in self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        return tuple(slice(b, e) for b, e in zip(self.begin, self.end, strict=True))

    def intersect(self, other: "Region") -> "Region":
        """The common part; empty (`size` 0) where there is none."""
        begin = tuple(map(max, self.begin, other.begin))
        return Region(begin, tuple(max(b, e) for b, e in zip(begin, map(min, self.end, other.end), strict=True)))

    def grow(self, before: Sequence[int], after: Sequence[int]) -> "Region":
        begin = tuple(b - n for b, n in zip(self.begin, before, strict=True))
        return Region(begin, tuple(e + n for e, n in zip(self.end, after, strict=True)))

    def shift(self, by: Sequence[int]) -> "Region":
        return self.grow([-n for n in by], by)

    def contains(self, other: "Region") -> bool:
        return all(b <= ob and oe <= e for b, e, ob, oe in zip(self.begin, self.end, other.begin, other.end, strict=True))


@dataclass(frozen=True, slots=True)
class Domain:
    """What is tiled: named axes and their extent in voxels, with the size of a voxel and the place of the first in world units.

    Parameters
    ----------
    name : unique within a run ("volume", a session's name).
    axes : one name per axis, e.g. ("z", "y", "x") or ("neuron", "time").
    shape : voxels per axis.
    voxel_size, offset : world units per axis (nm for volumes, s for time, 1 for counted axes).
    units : unit per axis, "" for counted axes.
    """

    name: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    voxel_size: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    units: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rank = len(self.axes)
        for field, default in (("voxel_size", 1.0), ("offset", 0.0), ("units", "")):
            if not getattr(self, field):
                object.__setattr__(self, field, (default,) * rank)
            if len(getattr(self, field)) != rank or len(self.shape) != rank:
                raise ValueError(f"domain {self.name!r}: {rank} axes, but shape {self.shape} and {field} {getattr(self, field)}")

    @property
    def region(self) -> Region:
        return Region((0,) * len(self.shape), self.shape)

    @property
    def digest(self) -> str:
        """Hex key of this domain in the ledger: its name and geometry, 16 characters."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]
