"""One Parquet file of all rows, and Parquet files of others."""

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.synful.formats.parquet import read_foreign_parquet, write_parquet
from tests.synful.formats.examples import BOX, assert_same, in_box


def test_what_is_written_is_read(tmp_path, rows, data_set):
    assert write_parquet(data_set, tmp_path / "a.parquet") == rows.num_rows
    assert pq.read_table(tmp_path / "a.parquet").schema.equals(rows.schema)
    assert_same(read_foreign_parquet(tmp_path / "a.parquet"), rows)
    assert_same(read_foreign_parquet(tmp_path / "a.parquet", region_nm=BOX), in_box(rows))


def test_a_file_of_others_in_voxels(tmp_path):
    theirs = pa.table({f"{end}_{a}": [2.0] for end in ("pre", "post") for a in "xyz"} | {"confidence": [0.5]})
    pq.write_table(theirs, tmp_path / "a.parquet")
    found = read_foreign_parquet(tmp_path / "a.parquet", names={"score": "confidence"}, voxel_size=(40, 4, 4)).to_pylist()
    assert found == [{"id": 0, "pre_z": 80, "pre_y": 8, "pre_x": 8, "post_z": 80, "post_y": 8, "post_x": 8, "score": 0.5}]
