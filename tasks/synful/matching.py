"""Which predicted pair of sites is which true one: the assignment of least cost, group by group (spec 9.1).

Two pairs can match when they are of one group and lie within a distance of each other; matching costs the mean distance, leaving one of
them out costs twice the limit. So what can match at all is a sparse graph, and the assignment of each of its connected parts is that of
the whole. Most parts are one pair or a star, whose answer is the nearest; the others are solved exactly.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
On = Literal["both", "pre", "post"]

NO_GROUP: int = -1
"""Sites of no group match nothing, not even each other."""

DENSE_CELLS: int = 1_000_000
"""Parts of more rows times columns are solved without their matrix: places without ids may link a whole volume to one part."""


@dataclass(frozen=True, slots=True)
class Sites:
    """Pairs of sites: pre and post (n, 3) nm, and the group (n,) >= 0 of each, or NO_GROUP."""

    pre: Points
    post: Points
    groups: Integers


def match(predicted: Sites, truth: Sites, *, on: On = "both", distance_nm: float) -> Integers:
    """Rows of predicted and true pairs that are the same synapse, each at most once.

    Parameters
    ----------
    on : which ends must lie within the distance, and whose mean distance is the cost.
    distance_nm : the limit, itself included.

    Returns
    -------
    (m, 2) int64, ordered by predicted row; of least total cost, and so of as many pairs as can be.
    """
    end = "pre" if on == "pre" else "post"
    rows = near(getattr(predicted, end), predicted.groups, getattr(truth, end), truth.groups, distance_nm)
    distances = [np.linalg.norm(getattr(predicted, e)[rows[:, 0]] - getattr(truth, e)[rows[:, 1]], axis=1) for e in _ends(on)]
    fits = np.max(distances, axis=0) <= distance_nm
    rows, costs = rows[fits], np.mean(distances, axis=0)[fits]
    found = rows[np.concatenate([part for part in _assigned(rows, costs, 2 * distance_nm)] or [np.empty(0, np.int64)])]
    return found[np.argsort(found[:, 0])]


def _ends(on: On) -> tuple[str, ...]:
    return ("pre", "post") if on == "both" else (on,)


def near(a: Points, groups_a: Integers, b: Points, groups_b: Integers, distance_nm: float) -> Integers:
    """Rows of `a` and `b`, (k, 2), that are of one group and within the distance or a rounding error beyond it."""
    from scipy.spatial import KDTree

    rows_a, rows_b = np.flatnonzero(groups_a != NO_GROUP), np.flatnonzero(groups_b != NO_GROUP)
    if not len(rows_a) or not len(rows_b):
        return np.empty((0, 2), np.int64)
    reach = distance_nm * (1 + 1e-9)
    trees = [KDTree(apart(p[r], g[r], reach)) for p, g, r in ((a, groups_a, rows_a), (b, groups_b, rows_b))]
    found = trees[0].sparse_distance_matrix(trees[1], reach, output_type="ndarray")
    return np.stack([rows_a[found["i"]], rows_b[found["j"]]], axis=1)


def apart(points: Points, groups: Integers, reach: float) -> Points:
    """Points with a fourth axis that puts groups further apart than `reach`, so that one tree serves all of them."""
    return np.column_stack([points, groups * (3 * reach + 1)])


def _assigned(rows: Integers, costs: Floats, unmatched: float) -> Iterator[Integers]:
    """Indices of the candidates that are taken, part by part of the graph."""
    parts = _parts(rows)
    order = np.lexsort((rows[:, 1], rows[:, 0], costs, parts))
    starts = np.flatnonzero(np.diff(parts[order], prepend=-1))
    sizes = np.diff(starts, append=len(order))
    star = np.maximum.reduceat(_degrees(rows)[order], starts) == sizes if len(order) else np.empty(0, np.bool_)
    yield order[starts[star]]
    for start, size in zip(starts[~star], sizes[~star], strict=True):
        part = order[start : start + size]
        yield part[_least(rows[part], costs[part], unmatched)]


def _parts(rows: Integers) -> Integers:
    """The connected part of the graph that each candidate belongs to."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(rows):
        return np.empty(0, np.int64)
    left, right = rows.max(axis=0) + 1
    graph = coo_array((np.ones(len(rows), np.bool_), (rows[:, 0], rows[:, 1] + left)), shape=(left + right,) * 2)
    return connected_components(graph, directed=False)[1][rows[:, 0]].astype(np.int64)


def _degrees(rows: Integers) -> Integers:
    """How many candidates share a candidate's predicted row, or its true row, whichever are more."""
    return np.maximum(*(np.bincount(side)[side] if len(side) else side for side in rows.T))


def _least(rows: Integers, costs: Floats, unmatched: float) -> npt.NDArray[Any]:
    """Indices of the candidates of one part that an assignment of least cost takes."""
    (left, i), (right, j) = (np.unique(side, return_inverse=True) for side in rows.T)
    solve = _dense if len(left) * len(right) <= DENSE_CELLS else _sparse
    first, second = solve(i, j, costs, unmatched)
    return np.flatnonzero(np.isin(i * len(right) + j, (first * len(right) + second)[second < len(right)]))


def _dense(i: Integers, j: Integers, costs: Floats, unmatched: float) -> tuple[Integers, Integers]:
    """Rows and columns of an assignment in a full matrix; it may hold pairs that are no candidates."""
    from scipy.optimize import linear_sum_assignment

    matrix = np.full((i.max() + 1, j.max() + 1), unmatched)
    matrix[i, j] = costs
    return linear_sum_assignment(matrix)


def _sparse(i: Integers, j: Integers, costs: Floats, unmatched: float) -> tuple[Integers, Integers]:
    """Likewise with candidates alone; each row has a further column of its own, which it takes where it is left out."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    own, right = np.arange(i.max() + 1), j.max() + 1
    values = np.concatenate([costs, np.full(len(own), unmatched)]) + 1  # the solver takes an entry of 0 for none; 1 for all changes nothing
    places = np.concatenate([i, own]), np.concatenate([j, right + own])
    return min_weight_full_bipartite_matching(coo_array((values, places), shape=(len(own), right + len(own))).tocsr())
