import numpy as np
import pyarrow as pa
import pytest

from blockwise.errors import InputError
from tasks.synful.duplicates import duplicate_mask
from tasks.synful.geodesic import along_skeletons
from tests.synful.mapped import mapped


def tree(neuron, rows):
    """Nodes (id, parent, y, x)."""
    ids, parents, y, x = zip(*rows, strict=True)
    columns = {"neuron_id": [neuron] * len(rows), "z": [0.0] * len(rows), "y": list(map(float, y)), "x": list(map(float, x))}
    return pa.table(columns | {"id": list(ids), "parent": pa.array(parents, pa.int64())})


FORK = tree(5, [(1, None, 0, 0), (2, 1, 0, 100), (3, 2, 50, 100), (4, 1, 50, 0), (5, 4, 50, 90)])
"""Two branches whose tips, 3 and 5, lie 10 nm apart and 290 nm along the tree: 50 + 100 + 50 + 90."""


def sites(*places, skeleton=5):
    at = [[0, *p] for p in places]
    return mapped(at, at, np.arange(len(at), dtype=float), skeleton_pre=1, skeleton_post=skeleton)


def test_the_path_runs_along_the_tree():
    distance = along_skeletons(sites((50, 100), (50, 90), (51, 99)), FORK)
    a, b = np.array([0, 0, 1, 0]), np.array([1, 2, 2, 0])
    assert distance(a, b).tolist() == [290, 0, 290, 0]


def test_duplicates_on_two_branches_stay_two():
    partners = sites((50, 100), (50, 90), (51, 99))
    assert duplicate_mask(partners, 20, by="skeleton").tolist() == [False, False, True]
    kept = duplicate_mask(partners, 20, by="skeleton", distance=along_skeletons(partners, FORK))
    assert kept.tolist() == [False, True, True]


def test_no_way_between_trees():
    forest = pa.concat_tables([FORK, tree(6, [(1, None, 0, 0), (9, None, 0, 500)])])
    distance = along_skeletons(sites((0, 0), (0, 500), (0, 0), (0, 0), skeleton=[6, 6, 5, None]), forest)
    zero = np.zeros(4, int)
    assert distance(zero, np.array([0, 1, 2, 3])).tolist() == [0, np.inf, np.inf, np.inf]


def test_random_trees_against_shortest_paths():
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import shortest_path

    rng = np.random.default_rng(3)
    n = 60
    parents = np.array([-1, *(rng.integers(0, i) for i in range(1, n))])
    places = rng.choice(10_000, (n, 2), replace=False).astype(float)
    order = rng.permutation(n)
    forest = tree(5, [(int(i) + 10, int(parents[i]) + 10 if parents[i] >= 0 else None, *places[i]) for i in order])
    steps = np.linalg.norm(places[1:] - places[parents[1:]], axis=1)
    want = shortest_path(coo_array((steps, (np.arange(1, n), parents[1:])), shape=(n, n)), directed=False)
    distance = along_skeletons(sites(*places), forest)
    a, b = np.divmod(np.arange(n * n), n)
    np.testing.assert_allclose(distance(a, b), want.ravel(), atol=1e-9)


def test_refusals():
    with pytest.raises(InputError, match="parents in a circle"):
        along_skeletons(sites((0, 0)), tree(5, [(1, 2, 0, 0), (2, 3, 0, 1), (3, 1, 0, 2), (4, 3, 0, 3)]))
    with pytest.raises(InputError, match="node 1 of skeleton 5 has the parent 8"):
        along_skeletons(sites((0, 0)), tree(5, [(1, 8, 0, 0)]))
    with pytest.raises(InputError, match="needs the columns parent"):
        along_skeletons(sites((0, 0)), FORK.drop(["parent"]))
