"""Compiled: which points of a group lie within a distance of one another, directly or over others of the group."""

from collections.abc import Sequence

import numba
import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

FEW: int = 24
"""Groups up to this size compare all their pairs; larger ones go through cells."""
BITS: int = 20
"""Of a cell's number per axis."""
ROW, SLICE = 1 << (BITS + 1), 1 << (2 * BITS + 2)
"""Steps of a cell's key from one y, one z to the next; a bit per axis stays free, so that neighbours never wrap around."""


def components(axes: Sequence[Ints], groups: Ints, distance: float, *, link_coincident: bool = True) -> Ints:
    """Label points so that those of one group within `distance` (inclusive, Euclid), and chains of them, share a label.

    Parameters
    ----------
    axes : z, y and x of the points, each (n,) int64.  groups : (n,) int64.
    link_coincident : whether points at distance 0 are linked directly.

    Returns
    -------
    (n,) int64: the least position in the component.
    """
    if not len(groups):
        return np.zeros(0, np.int64)
    keys = _cell_keys(axes, distance)
    order = np.lexsort((keys, groups))
    grouped = groups[order]
    starts = np.flatnonzero(np.r_[True, grouped[1:] != grouped[:-1], True])
    del grouped
    roots = _link(np.stack([a[order] for a in axes], axis=1), keys[order], starts, float(distance) ** 2, link_coincident)
    least = np.full(len(order), len(order), np.int64)
    np.minimum.at(least, roots, order)
    labels = np.empty(len(order), np.int64)
    labels[order] = least[roots]
    return labels


def _cell_keys(axes: Sequence[Ints], distance: float) -> Ints:
    """One number per point that counts cells of at least `distance` edge length, x fastest."""
    widest = max(float(a.max()) - float(a.min()) for a in axes)
    edge = 1.000001 * max(float(distance), 1.0, widest / ((1 << BITS) - 4))
    keys = np.zeros(len(axes[0]), np.int64)
    for axis, step in zip(axes, (SLICE, ROW, 1), strict=True):
        keys += (((axis - axis.min()) / edge).astype(np.int64) + 1) * step
    return keys


@numba.njit(cache=True, nogil=True)
def _root(parents: Ints, i: int) -> int:
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i


@numba.njit(cache=True, nogil=True)
def _join(points: Ints, parents: Ints, pair: tuple[int, int], limit: float, link_coincident: bool) -> None:
    """Join two points if they are near enough."""
    i, j = pair
    dz, dy, dx = points[i, 0] - points[j, 0], points[i, 1] - points[j, 1], points[i, 2] - points[j, 2]
    square = dz * dz + dy * dy + dx * dx
    if square > limit or (square == 0 and not link_coincident):
        return
    a, b = _root(parents, i), _root(parents, j)
    if a < b:
        parents[b] = a
    else:
        parents[a] = b


@numba.njit(cache=True, nogil=True)
def _link(points: Ints, keys: Ints, starts: Ints, limit: float, link_coincident: bool) -> Ints:
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
        parents[i] = _root(parents, i)
    return parents
