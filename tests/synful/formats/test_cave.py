"""CSV files for CAVE: points x first in voxels, scores as whole numbers."""

import csv

import numpy as np
import pyarrow as pa
import pytest

from blockwise.errors import InputError
from tasks.synful.formats.cave import read_cave, write_cave
from tasks.synful.partners import table
from tests.synful.formats.examples import BOX, SITES, SIZE, assert_same, in_box


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_what_is_written_is_read(tmp_path, rows, data_set, name):
    assert write_cave(data_set, tmp_path / name, SIZE) == rows.num_rows
    found = read_cave(tmp_path / name, SIZE)
    assert_same(found, rows, ["id", *SITES])
    assert found["score"].to_pylist() == np.rint(rows["score"].to_numpy()).tolist()
    assert_same(read_cave(tmp_path / name, SIZE, region_nm=BOX), in_box(rows), ["id", *SITES])


def test_points_are_texts_with_x_first(tmp_path):
    write_cave(table([[40, 8, 12]], [[80, 16, -20]], [2.6], [5]), tmp_path / "a.csv", (40, 4, 4))
    with open(tmp_path / "a.csv", newline="") as stream:
        assert list(csv.DictReader(stream)) == [
            {
                "id": "5",
                "valid": "t",
                "pre_pt_position": "[3, 2, 1]",
                "post_pt_position": "[-5, 4, 2]",
                "ctr_pt_position": "[-1, 3, 1]",
                "size": "3",
            }
        ]


def test_rows_that_are_not_valid_are_left_out(tmp_path):
    lines = ["id,pre_pt_position,post_pt_position,valid", '1,"[1, 2, 3]","[4 5 6]",t', '2,"[1, 2, 3]","[4, 5, 6]",f']
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    found = read_cave(tmp_path / "a.csv", (40, 4, 4)).to_pylist()
    assert found == [{"id": 1, "pre_z": 120, "pre_y": 8, "pre_x": 4, "post_z": 240, "post_y": 20, "post_x": 16, "score": 1.0}]


def test_ids_beyond_its_database_are_refused(tmp_path, rows):
    with pytest.raises(InputError, match="below 2\\^63"):
        write_cave(rows.set_column(0, "id", pa.array(rows["id"].to_numpy() + np.uint64(2**63))), tmp_path / "a.csv", SIZE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "words"), [("id\n1\n", "no column pre_pt_position"), ("pre_pt_position,post_pt_position\n1,2\n", "not of the form")]
)
def test_other_files_are_refused(tmp_path, text, words):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        read_cave(tmp_path / "a.csv", SIZE)
