"""Compiled: paths in trees given by parents."""

import numba
import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@numba.njit(cache=True, nogil=True)
def to_roots(parents: Ints, steps: Floats) -> tuple[Ints, Floats]:
    """Number of nodes and length between every node and its root; -1 nodes where parents run in a circle.

    Parameters
    ----------
    parents : (n,) rows, -1 at a root.  steps : (n,) lengths to them.
    """
    n = len(parents)
    depths, lengths, trail = np.full(n, -2), np.zeros(n), np.empty(n, np.int64)
    for start in range(n):
        count, i = 0, start
        while i >= 0 and depths[i] == -2 and count < n:
            trail[count] = i
            count += 1
            i = parents[i]
        circle = i >= 0 and depths[i] < 0
        for k in range(count - 1, -1, -1):
            j = trail[k]
            up = parents[j]
            depths[j] = -1 if circle else (0 if up < 0 else depths[up] + 1)
            lengths[j] = 0.0 if circle or up < 0 else lengths[up] + steps[j]
    return depths, lengths


@numba.njit(cache=True, nogil=True)
def path_lengths(a: Ints, b: Ints, parents: Ints, depths: Ints, lengths: Floats) -> Floats:
    """Length of the path between nodes a and b, both (m,); infinite where they share no root or either is -1."""
    found = np.full(len(a), np.inf)
    for k in range(len(a)):
        i, j = a[k], b[k]
        if i < 0 or j < 0:
            continue
        while i != j and i >= 0 and j >= 0:
            if depths[i] >= depths[j]:
                i = parents[i]
            else:
                j = parents[j]
        if i == j:
            found[k] = lengths[a[k]] + lengths[b[k]] - 2 * lengths[i]
    return found
