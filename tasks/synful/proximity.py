"""Compiled: which points of a group lie within a distance of one another, directly or over others of the group."""

from collections.abc import Sequence

import numba
import numpy as np
import numpy.typing as npt

from blockwise.errors import InputError
from tasks.synful.union_find import root_of

Ints = npt.NDArray[np.int64]

FEW: int = 24
"""Groups up to this size compare all their pairs; larger ones go through cells."""
BITS: int = 20
"""Of a cell's number per axis."""
ROW, SLICE = 1 << (BITS + 1), 1 << (2 * BITS + 2)
"""Steps of a cell's key from one y, one z to the next; a bit per axis stays free, so that neighbours never wrap around."""


def components(axes: Sequence[Ints], rows: Ints, groups: Ints, distance: float, *, link_coincident: bool = True) -> Ints:
    """Label points so that those of one group within `distance` (inclusive, Euclid), and chains of them, share a label.

    Parameters
    ----------
    axes : z, y and x of all points.  rows : (n,) those that take part.  groups : (n,) theirs.
    link_coincident : whether points at distance 0 are linked directly.

    Returns
    -------
    (n,) int64: the least position in `rows` of the component.
    """
    if not len(rows):
        return np.zeros(0, np.int64)
    low = [int(a.min()) for a in axes]
    widest = max(int(a.max()) - b for a, b in zip(axes, low, strict=True))
    if widest >= 2**31:
        raise InputError(f"sites span {widest} nm: more than {2**31} nm along an axis cannot be compared")
    keys = _cell_keys(axes, rows, low, max(float(distance), 1.0, widest / ((1 << BITS) - 4)))
    order = np.lexsort((keys, groups))
    keys = keys[order]
    grouped = groups[order]
    starts = np.flatnonzero(np.r_[True, grouped[1:] != grouped[:-1], True])
    del grouped
    points = np.empty((len(rows), 3), np.int32)
    for i, axis in enumerate(axes):
        points[:, i] = axis[rows[order]] - low[i]
    roots = _link(points, keys, starts, float(distance) ** 2, link_coincident)
    del points, keys
    return _least(roots, order)


def _least(roots: Ints, order: Ints) -> Ints:
    """Per position the least position of its component."""
    least = np.full(len(order), len(order), np.int64)
    np.minimum.at(least, roots, order)
    labels = np.empty(len(order), np.int64)
    labels[order] = least[roots]
    return labels


def _cell_keys(axes: Sequence[Ints], rows: Ints, low: Sequence[int], distance: float) -> Ints:
    """One number per point that counts cells a trifle larger than `distance`, x fastest."""
    keys = np.zeros(len(rows), np.int64)
    for axis, least, step in zip(axes, low, (SLICE, ROW, 1), strict=True):
        keys += (((axis[rows] - least) / (1.000001 * distance)).astype(np.int64) + 1) * step
    return keys


@numba.njit(cache=True, nogil=True)
def _join(points: npt.NDArray[np.int32], parents: Ints, pair: tuple[int, int], limit: float, link_coincident: bool) -> None:
    """Join two points if they are near enough."""
    i, j = pair
    dz, dy, dx = (np.int64(points[i, 0]) - points[j, 0], np.int64(points[i, 1]) - points[j, 1], np.int64(points[i, 2]) - points[j, 2])
    square = dz * dz + dy * dy + dx * dx
    if square > limit or (square == 0 and not link_coincident):
        return
    a, b = root_of(parents, i), root_of(parents, j)
    if a < b:
        parents[b] = a
    else:
        parents[a] = b


@numba.njit(cache=True, nogil=True)
def _link(points: npt.NDArray[np.int32], keys: Ints, starts: Ints, limit: float, link_coincident: bool) -> Ints:
    """Roots of points sorted by group and cell; each pair of neighbouring cells is looked at once."""
    parents = np.arange(len(points))
    ahead = np.array((ROW, SLICE - ROW, SLICE, SLICE + ROW))
    for g in range(len(starts) - 1):
        begin, end = starts[g], starts[g + 1]
        few = end - begin <= FEW
        for i in range(begin, end):
            for j in range(i + 1, end):
                if not few and keys[j] > keys[i] + 1:
                    break
                _join(points, parents, (i, j), limit, link_coincident)
            if not few:
                for step in ahead:
                    first = begin + np.searchsorted(keys[begin:end], keys[i] + step - 1)
                    for j in range(first, end):
                        if keys[j] > keys[i] + step + 1:
                            break
                        _join(points, parents, (i, j), limit, link_coincident)
    for i in range(len(parents)):
        parents[i] = root_of(parents, i)
    return parents
