"""CSV and TSV files hold all columns, in nm or voxels, under whatever names."""

import gzip

import pytest

from blockwise.errors import ConfigError, InputError, MissingError
from tasks.synful.formats.csv_files import read_csv, write_csv
from tests.synful.formats.examples import BOX, OFFSET, SIZE, assert_same, in_box


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz", "a.tsv.gz"])
def test_what_is_written_is_read(tmp_path, rows, data_set, name):
    assert write_csv(data_set, tmp_path / name) == rows.num_rows
    assert_same(read_csv(tmp_path / name), rows)
    assert_same(read_csv(tmp_path / name, region_nm=BOX), in_box(rows))
    data = (tmp_path / name).read_bytes()
    assert (b"\t" in (gzip.decompress(data) if name.endswith("gz") else data)) == (".tsv" in name)


def test_voxels_under_other_names(tmp_path, rows, data_set):
    how = {"units": "voxel", "voxel_size": SIZE, "offset": OFFSET, "names": {"post_x": "X", "score": "weight"}}
    write_csv(data_set, tmp_path / "a.csv", **how)
    assert_same(read_csv(tmp_path / "a.csv", **how), rows)
    assert '"X","weight"' in (tmp_path / "a.csv").read_text().splitlines()[0]


def test_a_table_without_rows(tmp_path, rows):
    assert write_csv(rows.slice(0, 0), tmp_path / "a.csv") == 0
    assert read_csv(tmp_path / "a.csv").num_rows == 0


def test_a_file_of_others(tmp_path):
    (tmp_path / "a.csv").write_text("pre_x,pre_y,pre_z,post_x,post_y,post_z,scores,segmentid_pre\n1,2,3,4,5,6,.5,18446744073709551615\n")
    found = read_csv(tmp_path / "a.csv").to_pylist()
    assert found == [
        {"id": 0, "pre_z": 3, "pre_y": 2, "pre_x": 1, "post_z": 6, "post_y": 5, "post_x": 4, "score": 0.5, "segment_pre": 2**64 - 1}
    ]


def test_the_same_rows_give_the_same_bytes(tmp_path, data_set):
    for name in ("a.csv.gz", "b.csv.gz"):
        write_csv(data_set, tmp_path / name)
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ({"units": "um"}, ConfigError, "'nm' or 'voxel'"),
        ({"units": "voxel"}, ConfigError, "needs voxel_size"),
        ({"names": {"score": "weight"}}, InputError, "no column weight"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, rows, how, error, words):
    write_csv(rows, tmp_path / "a.csv")
    with pytest.raises(error, match=words):
        read_csv(tmp_path / "a.csv", **how)


def test_files_that_are_no_tables(tmp_path):
    with pytest.raises(MissingError):
        read_csv(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_text("a,b\n1\n1,2\n")
    with pytest.raises(InputError, match="cannot be read"):
        read_csv(tmp_path / "a.csv")
