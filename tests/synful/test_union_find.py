"""Union-find: the root of a tree, whatever its depth."""

import numpy as np

from tasks.synful.union_find import root_of


def test_the_root_is_found_and_the_way_to_it_shortened():
    parents = np.array([0, 0, 1, 2, 3, 5])
    assert [root_of(parents, i) for i in (4, 5, 0)] == [0, 5, 0]
    assert parents.tolist() == [0, 0, 0, 2, 2, 5]
    assert [root_of(parents, i) for i in range(6)] == [0, 0, 0, 0, 0, 5]
