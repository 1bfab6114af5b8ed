"""A volume shown at another voxel size, computed when it is read.

The corner of the first voxel keeps its place in the world. An output voxel is the mean of the input over a window around its centre as
wide as the larger of the two voxels: linear interpolation to smaller voxels, an average over the area (which keeps fine structure from
aliasing) to larger ones, the identity at equal size; axis by axis. Its weights follow from its place in the whole volume, so any two
blocks agree to the last bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import numpy as np
import numpy.typing as npt

from blockwise.errors import InputError
from blockwise.geometry import Region
from blockwise.storage import ArraySource, Placement, Source

SAME: float = 1e-6
"""Relative difference up to which two voxel sizes are one."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: `length` input voxels, `ratio` of them to an output voxel."""

    length: int
    ratio: float

    @property
    def output(self) -> int:
        """Output voxels: those whose centre lies in the volume, at least one."""
        return self.length if self.is_same else max(1, floor(self.length / self.ratio + 0.5))

    @property
    def is_same(self) -> bool:
        return abs(self.ratio - 1) <= SAME

    def needed(self, begin: int, end: int) -> tuple[int, int]:
        """The input voxels, half-open, that output voxels begin..end are made of."""
        if self.is_same:
            return begin, end
        low, high = self._windows(np.array([begin, end - 1]))
        return max(0, floor(low[0])), min(self.length, ceil(high[1]))

    def weights(self, begin: int, end: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Input voxels and weights of every output voxel, (taps, end - begin) each; weights sum to 1 over the taps."""
        low, high = self._windows(np.arange(begin, end))
        taps = ceil(max(1.0, self.ratio)) + 1
        voxels = np.floor(low).astype(np.int64) + np.arange(taps)[:, None]
        weights = np.clip(np.minimum(voxels + 1, high) - np.maximum(voxels, low), 0, None)
        return np.clip(voxels, 0, self.length - 1), weights / weights.sum(axis=0)

    def _windows(self, outputs: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Begin and end of the windows in input voxels, cut at the border."""
        centre, half = (outputs + 0.5) * self.ratio, max(1.0, self.ratio) / 2
        low = np.clip(centre - half, 0, self.length - 1)
        return low, np.clip(centre + half, low + SAME, self.length)


def resampled(source: Source, voxel_size: Sequence[float]) -> Source:
    """A source as if it had been taken with other voxels; reads only what a region is made of.

    Parameters
    ----------
    source : of any axes. Closing the result closes it.
    voxel_size : one per axis, in the source's units.

    Returns
    -------
    A source of the same dtype (integers rounded to nearest), its extent in the world the same within half a voxel.

    Raises
    ------
    InputError : a voxel size that is not positive, or not one per axis.
    """
    if len(voxel_size) != len(source.shape) or min(voxel_size) <= 0:
        raise InputError(f"voxel size {tuple(voxel_size)} for {source.path} with axes {source.axes}: one number above 0 per axis")
    axes = [Axis(n, t / s) for n, s, t in zip(source.shape, source.voxel_size, voxel_size, strict=True)]
    if all(a.is_same for a in axes):
        return source
    placement = Placement(source.axes, tuple(map(float, voxel_size)), source.offset, source.units)

    def fetch(box: tuple[slice, ...]) -> Array:
        return _resample(source, axes, box)

    shape = tuple(a.output for a in axes)
    return ArraySource(source.path, source.variable, shape, source.dtype, placement, fetch, None, source.attributes, source.close)


def _resample(source: Source, axes: Sequence[Axis], box: Sequence[slice]) -> Array:
    if any(b.stop <= b.start for b in box):
        return np.zeros([max(0, b.stop - b.start) for b in box], source.dtype)
    ranges = [a.needed(b.start, b.stop) for a, b in zip(axes, box, strict=True)]
    data = source.read(Region(tuple(r[0] for r in ranges), tuple(r[1] for r in ranges)))
    values = data.astype(np.result_type(source.dtype, np.float32))
    for i, (axis, part, (first, _)) in enumerate(zip(axes, box, ranges, strict=True)):
        if not axis.is_same:
            values = _along(values, i, axis, (part.start, part.stop), first)
    return values.astype(source.dtype) if source.dtype.kind == "f" else np.rint(values).astype(source.dtype)


def _along(values: Array, i: int, axis: Axis, outputs: tuple[int, int], first: int) -> Array:
    """One axis, tap by tap: each output voxel is the same sum of products whatever the block."""
    voxels, weights = axis.weights(*outputs)
    shape = [-1 if k == i else 1 for k in range(values.ndim)]
    out: Array | None = None
    for places, weight in zip(voxels, weights.astype(values.dtype), strict=True):
        inside = np.clip(places - first, 0, values.shape[i] - 1)  # beyond it the weight is 0
        term = values.take(inside, axis=i)
        term *= weight.reshape(shape)
        out = term if out is None else np.add(out, term, out=out)
    assert out is not None
    return out
