"""The table of partners and its ids."""

import math

import numpy as np
import pytest

from blockwise.errors import InputError
from tasks.synful.partners import cantor_ids, ordered, points, require, schema, table


def exact(z, y, x):
    return math.comb(z + y + x + 2, 3) + math.comb(z + y + 1, 2) + z


@pytest.mark.parametrize("voxel", [(0, 0, 0), (1, 2, 3), (7000, 130_000, 250_000), (0, 0, 4_799_999), (1_600_000, 1_600_000, 1_599_999)])
def test_ids_are_exact(voxel):
    assert int(cantor_ids([voxel])[0]) == exact(*voxel)


def test_ids_of_a_cube_are_distinct():
    voxels = np.stack(np.meshgrid(*[np.arange(12)] * 3, indexing="ij"), -1).reshape(-1, 3)
    ids = cantor_ids(voxels)
    assert len(np.unique(ids)) == len(voxels)
    assert ids.tolist() == [exact(*v) for v in voxels.tolist()]


@pytest.mark.parametrize("voxel", [(-1, 0, 0), (0, 0, 4_800_000)])
def test_what_has_no_id_is_refused(voxel):
    with pytest.raises(InputError, match="Cantor"):
        cantor_ids([(5, 5, 5), voxel])


def test_a_table_has_the_columns_and_keeps_points():
    made = table([[1, 2, 3]], [[40, 8, 4]], [2.5], [7], more={"area": [3]})
    assert made.schema.names == [*schema().names, "area"]
    assert points(made, "pre").tolist() == [[1, 2, 3]]
    assert points(made, "post").tolist() == [[40, 8, 4]]
    assert table([], [], [], []).num_rows == 0


def test_rows_are_ordered_by_post_site():
    made = ordered(table([[0, 0, 0]] * 3, [[40, 8, 4], [0, 8, 8], [0, 8, 4]], [1, 2, 3], [1, 2, 3]))
    assert made["id"].to_pylist() == [3, 2, 1]


def test_missing_columns_are_named():
    with pytest.raises(InputError, match="pre_segment"):
        require(table([], [], [], []), ["pre_segment"], "edge_list")
