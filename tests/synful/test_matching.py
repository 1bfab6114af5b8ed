"""Assignments of least cost, against all assignments there are."""

from itertools import permutations

import numpy as np
import pytest

from tasks.synful import matching
from tasks.synful.matching import NO_GROUP, Sites, match


def sites(random, size, groups=3, extent=300):
    pre = random.uniform(0, extent, (size, 3))
    return Sites(pre, pre + random.uniform(-80, 80, (size, 3)), random.integers(NO_GROUP, groups, size))


def costs(a, b, on, limit):
    """The full matrix: mean distance where it can be matched, twice the limit elsewhere."""
    ends = [np.linalg.norm(getattr(a, e)[:, None] - getattr(b, e)[None], axis=2) for e in ("pre", "post") if on in (e, "both")]
    fits = (np.max(ends, axis=0) <= limit) & (a.groups[:, None] == b.groups[None]) & (a.groups[:, None] != NO_GROUP)
    return np.where(fits, np.mean(ends, axis=0), 2 * limit)


def least(matrix):
    """Cost of the best assignment of the shorter side, by trying all."""
    matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    rows = np.arange(len(matrix))
    return min(matrix[rows, list(columns)].sum() for columns in permutations(range(matrix.shape[1]), len(rows)))


@pytest.mark.parametrize("on", ["both", "pre", "post"])
@pytest.mark.parametrize("limit", [60, 150, 1000])
@pytest.mark.parametrize("seed", range(6))
def test_no_assignment_costs_less(on, limit, seed):
    random = np.random.default_rng(seed)
    a, b = sites(random, int(random.integers(1, 7))), sites(random, int(random.integers(1, 7)))
    found, matrix = match(a, b, on=on, distance_nm=limit), costs(a, b, on, limit)
    taken = matrix[found[:, 0], found[:, 1]]
    assert all(len(np.unique(side)) == len(found) for side in found.T)
    assert (taken <= limit).all()
    unmatched = min(matrix.shape) - len(found)
    assert taken.sum() + 2 * limit * unmatched == pytest.approx(least(matrix))


@pytest.mark.parametrize("cells", [0, matching.DENSE_CELLS])
@pytest.mark.parametrize("limit", [30, 100, 400])
def test_many_rows_cost_what_one_matrix_costs(limit, cells, monkeypatch):
    from scipy.optimize import linear_sum_assignment

    monkeypatch.setattr(matching, "DENSE_CELLS", cells)
    random = np.random.default_rng(1)
    a, b = sites(random, 300, 20, 500), sites(random, 250, 20, 500)
    found, matrix = match(a, b, distance_nm=limit), costs(a, b, "both", limit)
    best = linear_sum_assignment(matrix)
    assert len(found) == (matrix[best] <= limit).sum()
    assert matrix[tuple(found.T)].sum() == pytest.approx(matrix[best][matrix[best] <= limit].sum())


def test_the_nearest_is_not_always_taken():
    a, b = ([Sites(p, p, np.zeros(2, np.int64))] for p in (np.array([[0, 0, 50.0], [0, 0, -100]]), np.array([[0, 0, 0.0], [0, 0, 200]])))
    assert match(*a, *b, distance_nm=200).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(("distance", "matches"), [(99.999, 0), (100, 1)])
def test_the_limit_itself_matches(distance, matches):
    a, b = (Sites(np.array([[z, 0.0, 0.0]]), np.zeros((1, 3)), np.zeros(1, np.int64)) for z in (0, 100))
    assert len(match(a, b, on="pre", distance_nm=distance)) == matches


@pytest.mark.parametrize("sizes", [(0, 0), (3, 0), (0, 3)])
def test_nothing_matches_nothing(sizes):
    random = np.random.default_rng(0)
    assert match(*(sites(random, n) for n in sizes), distance_nm=100).shape == (0, 2)


def test_sites_at_one_place_match_at_distance_zero():
    place = Sites(np.full((4, 3), 1e6), np.full((4, 3), 1e6), np.array([0, 0, 1, NO_GROUP]))
    assert match(place, place, distance_nm=0).tolist() == [[0, 0], [1, 1], [2, 2]]
