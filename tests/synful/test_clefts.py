import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockwise.errors import ConfigError, InputError
from blockwise.storage import open_source
from tasks.synful.cleft_lines import labels_on_lines, line_voxels
from tasks.synful.clefts import assign_clefts
from tests.synful.mapped import mapped

SIZE = (10, 1, 1)


def volume():
    """Two clefts on row (2, 3): voxels 4..6 of score 200, 9..13 of score 150; one along z at (y, x) = (8, 8)."""
    values = np.zeros((6, 10, 20), np.uint8)
    values[2, 3, 4:7] = 200
    values[2, 3, 9:14] = 150
    values[1:5, 8, 8] = 255
    return values


def rows(*pairs):
    """Partners between pairs of voxels."""
    pre, post = (np.array([p[i] for p in pairs]) * SIZE for i in (0, 1))
    return mapped(pre, post, np.arange(len(pairs)) + 1.0)


@pytest.mark.parametrize(
    ("pre", "post", "cleft", "score", "area"),
    [
        ((2, 3, 0), (2, 3, 7), 2, 200, 3),
        ((2, 3, 0), (2, 3, 19), 3, 200, 5),  # most of the line
        ((2, 3, 19), (2, 3, 0), 3, 200, 5),
        ((0, 8, 8), (5, 8, 8), 1, 255, 4),  # along z
        ((0, 0, 0), (0, 0, 9), 0, 0, 0),
        ((2, 3, 5), (2, 3, 5), 2, 200, 3),  # one voxel
    ],
)
def test_the_cleft_of_a_line(pre, post, cleft, score, area):
    (row,) = assign_clefts(rows((pre, post)), volume(), SIZE).partners.to_pylist()
    assert (row["cleft_id"], row["cleft_score"], row["cleft_area"]) == (cleft, score, area)
    assert [row[f"connector_{a}"] for a in "zyx"] == list(np.multiply(pre, SIZE))


def test_partners_of_a_cleft_share_the_pre_site_nearest_to_its_centre():
    partners, clefts = assign_clefts(rows(((2, 3, 0), (2, 3, 7)), ((2, 2, 4), (2, 4, 4)), ((0, 0, 0), (0, 0, 1))), volume(), SIZE)
    assert [(r["connector_z"], r["connector_y"], r["connector_x"]) for r in partners.to_pylist()] == [(20, 2, 4), (20, 2, 4), (0, 0, 0)]
    assert clefts.to_pylist() == [{"cleft_id": 2, "z": 20, "y": 2, "x": 4, "area": 3, "partners": 2, "score": 3.0}]


def test_partners_outside_take_no_part():
    partners = rows(((2, 3, 0), (2, 3, 7)), ((2, 3, 0), (2, 3, 99)), ((-1, 3, 4), (2, 3, 4)))
    assert assign_clefts(partners, volume(), SIZE).partners["cleft_id"].to_pylist() == [2, None, None]
    part = assign_clefts(partners, volume(), SIZE, roi=((0, 0, 0), (60, 10, 7)))
    assert part.partners["cleft_score"].to_pylist() == [None] * 3
    assert part.clefts.num_rows == 0


def test_offset_and_source(tmp_path):
    import zarr

    partners = rows(((2, 3, 0), (2, 3, 7)))
    moved = partners.set_column(1, "pre_z", [[120]]).set_column(4, "post_z", [[120]])
    array = zarr.create_array(tmp_path / "c.zarr", shape=volume().shape, dtype="u1")
    array[:] = volume()
    got = assign_clefts(moved, open_source(tmp_path / "c.zarr"), SIZE, offset=(100, 0, 0))
    assert got.partners["cleft_id"].to_pylist() == [2]
    assert got.partners["connector_z"].to_pylist() == [120]


def test_partners_of_a_large_cleft_are_parted():
    one = [((1, 6, x), (4, 9, x)) for x in (7, 8, 9)]
    two = [((4, 9, x), (1, 6, x)) for x in (7, 8, 9)]
    partners = rows(*((p, (3, 8, 8)) for p, _ in one + two))
    got = assign_clefts(partners, volume(), SIZE, split_above=3).partners.to_pylist()
    assert [(r["connector_z"], r["connector_y"], r["connector_x"]) for r in got] == [(10, 6, 8)] * 3 + [(40, 9, 8)] * 3
    whole = assign_clefts(partners, volume(), SIZE, split_above=4).clefts.to_pylist()
    assert [c["partners"] for c in whole] == [6]


def test_an_empty_table():
    got = assign_clefts(rows(((0, 0, 0), (0, 0, 0))).slice(0, 0), volume(), SIZE, split_above=0)
    assert (got.partners.num_rows, got.clefts.num_rows) == (0, 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-30, 30), min_size=6, max_size=6))
def test_lines(ends):
    """Each step moves one voxel along the longest axis and stays within half a voxel of the line."""
    begin, end = np.array(ends[:3]), np.array(ends[3:])
    line = line_voxels(begin, end)
    steps = np.abs(end - begin).max()
    assert (line[0] == begin).all()
    assert (line[-1] == end).all()
    assert len(line) == steps + 1
    ideal = begin + np.arange(steps + 1)[:, None] / max(1, steps) * (end - begin)
    assert np.abs(line - ideal).max() <= 0.5 + 1e-9


def test_most_frequent_label_of_a_line():
    labels = np.array([[[3, 3, 1, 0, 0, 0, 1, 2]]], np.uint32)
    label, value = labels_on_lines(np.zeros((1, 3), int), np.array([[0, 0, 7]]), labels, labels.astype("f4"))
    assert (label.tolist(), value.tolist()) == ([1], [3])


def test_refusals():
    partners = rows(((0, 0, 0), (0, 0, 0)))
    with pytest.raises(InputError, match="a \\(z, y, x\\) volume of scores"):
        assign_clefts(partners, volume()[0], SIZE)
    with pytest.raises(ConfigError, match="above 0 nm"):
        assign_clefts(partners, volume(), (0, 1, 1))
