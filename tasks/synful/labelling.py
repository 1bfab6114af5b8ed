"""Connected components of the voxels above a threshold, as runs along x: what lies below costs one comparison per voxel and no memory.

A run is a stretch of foreground in one row; runs of neighbouring rows that share an x are joined by union-find. Two voxels are
connected where they share a face (6-connectivity). Components stand in the raster order of their first voxels, as `scipy.ndimage.label`
numbers them.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from blockwise.errors import InputError
from tasks.synful.union_find import root_of

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int32]


class Runs(NamedTuple):
    """Foreground in raster order: run i covers x in [begin[i], end[i]) of its row; row z * y_size + y owns the runs from first[row] on."""

    shape: tuple[int, int, int]
    first: Ints
    begin: Indices
    end: Indices


class Components(NamedTuple):
    """Runs sorted by component, within one in raster order: component c owns the runs offsets[c]:offsets[c + 1]."""

    shape: tuple[int, int, int]
    offsets: Ints
    row: Indices
    begin: Indices
    end: Indices

    @property
    def number(self) -> int:
        """How many components there are."""
        return len(self.offsets) - 1


def components_above(volume: npt.NDArray[Any], threshold: float) -> Components:
    """Components of volume > threshold.

    Parameters
    ----------
    volume : (z, y, x) of float32, float64 or integers; it is not copied. NaN is background.
    threshold : in the units of `volume`, strict; see `in_units`.
    """
    return connected(runs_above(volume, threshold))


def runs_above(volume: npt.NDArray[Any], threshold: float) -> Runs:
    """Runs of volume > threshold, parameters as for `components_above`."""
    first, begin, end = _runs(frozen(volume), in_units(volume, threshold))
    return Runs(_shape(volume), first, begin, end)


def connected(runs: Runs) -> Components:
    """Components of given runs."""
    return Components(runs.shape, *_by_component(runs, *_labels(runs)))


def extents(components: Components) -> tuple[Ints, Ints, Ints, Ints]:
    """Box and size of every component: begin, end (n, 3) half-open, first voxel in raster order (n, 3), number of voxels (n,)."""
    return _extents(components)


def mass_sums(components: Components) -> Floats:
    """Sums of z, y and x over the voxels of each component, (n, 3), whole numbers: the centre of mass times the number of voxels."""
    return _mass_sums(components)


def voxels_within(components: Components, index: int) -> Ints:
    """All voxels of one component, (n, 3), in raster order."""
    runs = slice(components.offsets[index], components.offsets[index + 1])
    row, begin, end = (values[runs].astype(np.int64) for values in (components.row, components.begin, components.end))
    lengths = end - begin
    x = np.arange(lengths.sum()) + np.repeat(begin - (np.cumsum(lengths) - lengths), lengths)
    z, y = np.divmod(np.repeat(row, lengths), components.shape[1])
    return np.stack([z, y, x], axis=1)


def in_units(volume: npt.NDArray[Any], threshold: float) -> Any:
    """The threshold as NumPy compares it: rounded to the type of a floating volume, an integer bound of an integer volume."""
    if not np.isfinite(threshold):
        raise InputError(f"threshold {threshold}: a finite number in the units of the mask is wanted")
    return volume.dtype.type(threshold) if volume.dtype.kind == "f" else int(np.floor(threshold))


def require_volume(volume: npt.NDArray[Any], what: str) -> None:
    """Refuse what the kernels cannot read.

    Raises
    ------
    InputError : another rank than three, or a type other than float32, float64, bool and integers in native byte order.
    """
    if volume.ndim != 3:
        raise InputError(f"{what} of shape {volume.shape}: three axes (z, y, x) are wanted; take one channel, {what}[0]")
    if not (volume.dtype.kind in "iub" or volume.dtype in (np.float32, np.float64)) or not volume.dtype.isnative:
        fix = f"use {what}.astype('float32')"
        raise InputError(f"{what} of type {volume.dtype}: float32, float64 or integers in native byte order are wanted; {fix}")


def frozen(volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A read-only view, so that kernels are compiled once for volumes that may and may not be written."""
    view = volume.view(np.uint8) if volume.dtype == np.bool_ else volume.view()
    view.flags.writeable = False
    return view


def _shape(volume: npt.NDArray[Any]) -> tuple[int, int, int]:
    z, y, x = volume.shape
    return z, y, x


@numba.njit(cache=True, nogil=True)
def _runs(volume: npt.NDArray[Any], threshold: Any) -> tuple[Ints, Indices, Indices]:
    depth, height, width = volume.shape
    first = np.zeros(depth * height + 1, np.int64)
    begin, end = np.empty(width + 1024, np.int32), np.empty(width + 1024, np.int32)
    n = 0
    for z in range(depth):
        for y in range(height):
            if n + width > len(begin):
                begin, end = grown(begin), grown(end)
            n = _scan(volume[z, y], threshold, begin, end, n)
            first[z * height + y + 1] = n
    return first, begin[:n].copy(), end[:n].copy()


@numba.njit(cache=True, nogil=True)
def _scan(row: npt.NDArray[Any], threshold: Any, begin: Indices, end: Indices, n: int) -> int:
    """Append the runs of one row to those found so far; their number."""
    x, width = 0, len(row)
    while x < width:
        if row[x] > threshold:
            begin[n] = x
            while x < width and row[x] > threshold:
                x += 1
            end[n] = x
            n += 1
        x += 1
    return n


@numba.njit(cache=True, nogil=True)
def grown(values: Indices) -> Indices:
    """A copy with room for as many again."""
    larger = np.empty(2 * len(values), values.dtype)
    larger[: len(values)] = values
    return larger


@numba.njit(cache=True, nogil=True)
def _labels(runs: Runs) -> tuple[Indices, int]:
    """Component of every run and their number. The root of a tree is its lowest run, so roots come in raster order."""
    first, height = runs.first, runs.shape[1]
    parent = np.arange(len(runs.begin)).astype(np.int32)
    for row in range(len(first) - 1):
        if first[row] < first[row + 1]:
            if row % height > 0:
                _join(parent, runs, row, row - 1)
            if row >= height:
                _join(parent, runs, row, row - height)
    labels = np.empty(len(parent), np.int32)
    n = 0
    for run in range(len(parent)):
        root = root_of(parent, run)
        if root == run:
            labels[run] = n
            n += 1
        else:
            labels[run] = labels[root]
    return labels, n


@numba.njit(cache=True, nogil=True)
def _join(parent: Indices, runs: Runs, row: int, other: int) -> None:
    """Unite the runs of two rows that overlap."""
    first, begin, end = runs.first, runs.begin, runs.end
    a, b = first[row], first[other]
    while a < first[row + 1] and b < first[other + 1]:
        if begin[a] < end[b] and begin[b] < end[a]:
            i, j = root_of(parent, a), root_of(parent, b)
            parent[max(i, j)] = min(i, j)
        if end[a] < end[b]:
            a += 1
        else:
            b += 1


@numba.njit(cache=True, nogil=True)
def _by_component(runs: Runs, labels: Indices, n: int) -> tuple[Ints, Indices, Indices, Indices]:
    """Runs sorted by label, stable."""
    offsets = np.zeros(n + 1, np.int64)
    for label in labels:
        offsets[label + 1] += 1
    offsets = np.cumsum(offsets)
    place = offsets[:-1].copy()
    rows, begins, ends = np.empty_like(labels), np.empty_like(labels), np.empty_like(labels)
    for row in range(len(runs.first) - 1):
        for run in range(runs.first[row], runs.first[row + 1]):
            i = place[labels[run]]
            rows[i], begins[i], ends[i] = row, runs.begin[run], runs.end[run]
            place[labels[run]] += 1
    return offsets, rows, begins, ends


@numba.njit(cache=True, nogil=True)
def _extents(components: Components) -> tuple[Ints, Ints, Ints, Ints]:
    _, offsets, row, begin, end = components
    height = components.shape[1]
    n = len(offsets) - 1
    low, high, first = np.empty((n, 3), np.int64), np.zeros((n, 3), np.int64), np.empty((n, 3), np.int64)
    voxels = np.zeros(n, np.int64)
    for c in range(n):
        for run in range(offsets[c], offsets[c + 1]):
            corner = row[run] // height, row[run] % height, np.int64(begin[run])
            limit = corner[0] + 1, corner[1] + 1, np.int64(end[run])
            for axis in range(3):
                if run == offsets[c]:
                    first[c, axis] = low[c, axis] = corner[axis]
                low[c, axis] = min(low[c, axis], corner[axis])
                high[c, axis] = max(high[c, axis], limit[axis])
            voxels[c] += end[run] - begin[run]
    return low, high, first, voxels


@numba.njit(cache=True, nogil=True)
def _mass_sums(components: Components) -> Floats:
    _, offsets, row, begin, end = components
    height = components.shape[1]
    sums = np.zeros((len(offsets) - 1, 3))
    for c in range(len(sums)):
        for run in range(offsets[c], offsets[c + 1]):
            first, last = np.int64(begin[run]), np.int64(end[run]) - 1
            n = last - first + 1
            sums[c, 0] += n * (row[run] // height)
            sums[c, 1] += n * (row[run] % height)
            sums[c, 2] += n * (first + last) // 2
    return sums
