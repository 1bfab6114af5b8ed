"""Rows come whole and in order from whatever holds them, a few at a time; foreign tables become ours."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blockwise.errors import InputError, MissingError
from tasks.synful.formats.stream import as_partners, batches, count_rows, integers, unsigned, voxels
from tests.synful.formats.examples import BOX, assert_same, in_box


@pytest.mark.parametrize("most", [7, 100, 10**6])
def test_a_data_set_streams_in_order(rows, data_set, most):
    found = list(batches(data_set, rows=most))
    assert max(b.num_rows for b in found) <= most
    assert_same(pa.concat_tables(found), rows)
    assert_same(pa.concat_tables(batches(rows, rows=most)), rows)


def test_small_files_are_gathered(tmp_path, rows):
    for n in range(30):
        pq.write_table(rows.slice(n, 1), tmp_path / f"{n}_0_0.parquet")
    assert [b.num_rows for b in batches(tmp_path)] == [30]
    assert_same(next(batches(tmp_path)), rows.slice(0, 30))  # 10_0_0 after 9_0_0


def test_a_box_is_half_open(rows, data_set):
    assert 0 < in_box(rows).num_rows < rows.num_rows
    assert_same(pa.concat_tables(batches(data_set, region_nm=BOX)), in_box(rows))


def test_rows_are_counted_from_footers(rows, data_set):
    assert count_rows(data_set) == rows.num_rows


def test_what_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(MissingError, match="no data set"):
        next(batches(tmp_path / "none"))
    with pytest.raises(InputError, match="is the run done"):
        next(batches(tmp_path))
    with pytest.raises(InputError, match="needs the columns id"):
        next(batches(pa.table({"a": [1]})))


FOREIGN = {f"{end}_{a}": [1.0, 2.5] for end in ("pre", "post") for a in "zyx"}


def test_foreign_columns_become_ours():
    found = as_partners(pa.table(FOREIGN | {"scores": [3, 4], "segmentid_pre": [7, None], "pre_skel_id": [-2, 5], "note": ["a", "b"]}), "x")
    assert found["id"].to_pylist() == [0, 1]
    assert found["post_z"].to_pylist() == [1, 2]
    assert found["score"].to_pylist() == [3.0, 4.0]
    assert found["segment_pre"].to_pylist() == [7, None]
    assert found["skeleton_pre"].to_pylist() == [-2, 5]
    assert found["note"].to_pylist() == ["a", "b"]


@pytest.mark.parametrize("size", [4.0, 4.6, 9.3])
def test_voxels_and_nm_are_inverse(size):
    wanted = np.random.default_rng(0).integers(0, 10**5, (1000, 3))
    table = pa.table({f"{end}_{a}": wanted[:, i] for end in ("pre", "post") for i, a in enumerate("zyx")})
    found = as_partners(table, "x", voxel_size=(size,) * 3, offset=(100.0,) * 3)
    post = np.stack([found[f"post_{a}"].to_numpy() for a in "zyx"], axis=1)
    assert np.array_equal(voxels(post, (size,) * 3, (100.0,) * 3), wanted)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"post_z": [1.0, None]}, "1 empty fields of 2"),
        ({"post_z": ["a", "b"]}, "holds no double"),
        ({"segment_pre": [-1, 2]}, "holds no uint64"),
    ],
)
def test_columns_that_hold_no_numbers_are_refused(change, words):
    with pytest.raises(InputError, match=words):
        as_partners(pa.table(FOREIGN | change), "x")


def test_a_mapped_column_must_be_there():
    with pytest.raises(InputError, match="no column weight"):
        as_partners(pa.table(FOREIGN), "x", names={"score": "weight"})


def test_unsigned_integers_survive_stores_without_them():
    column = pa.chunked_array([pa.array([0, 2**63, 2**64 - 1, None], pa.uint64())[1:]])
    assert integers(column).to_pylist() == [-(2**63), -1, None]
    assert unsigned(integers(column)).to_pylist() == column.to_pylist()
