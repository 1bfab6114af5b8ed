"""CREMI's annotations in CREMI's types, without rows too; its ground truth as partners with segments."""

import h5py
import numpy as np
import pytest

from blockwise.errors import InputError, MissingError
from tasks.synful.formats.cremi import open_volume, read_cremi, write_cremi
from tasks.synful.partners import points
from tests.synful.formats.examples import BOX, OFFSET, SHAPE, SITES, SIZE, assert_same, in_box


def test_what_is_written_is_read(tmp_path, rows, data_set):
    assert write_cremi(data_set, tmp_path / "a.hdf", offset=OFFSET) == rows.num_rows
    found = read_cremi(tmp_path / "a.hdf")
    assert_same(found, rows, ["id", *SITES, "score"])
    assert found["annotation_post"].to_pylist() == list(range(1, 2 * rows.num_rows, 2))
    assert_same(read_cremi(tmp_path / "a.hdf", region_nm=BOX), in_box(rows), ["id", *SITES])


def test_types_are_those_of_cremi(tmp_path, rows):
    write_cremi(rows, tmp_path / "a.hdf", offset=OFFSET)
    with h5py.File(tmp_path / "a.hdf") as file:
        notes = file["annotations"]
        assert file.attrs["file_format"] == "0.2"
        assert notes.attrs["offset"].tolist() == OFFSET.tolist()
        assert (notes["ids"].dtype, notes["locations"].dtype, notes["presynaptic_site/partners"].dtype) == (
            np.uint64,
            np.float64,
            np.uint64,
        )
        assert notes["types"].asstr()[:4].tolist() == ["presynaptic_site", "postsynaptic_site"] * 2
        assert notes["locations"][0].tolist() == (points(rows, "pre")[0] - OFFSET).tolist()
        assert len(notes["comments/comments"]) == 0


def test_a_table_without_rows_and_without_offset(tmp_path, rows):
    assert write_cremi(rows.slice(0, 0), tmp_path / "a.hdf") == 0
    assert read_cremi(tmp_path / "a.hdf").num_rows == 0
    with h5py.File(tmp_path / "a.hdf") as file:
        assert "offset" not in file["annotations"].attrs


def test_the_same_rows_give_the_same_bytes(tmp_path, rows):
    for name in "ab":
        write_cremi(rows, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_ground_truth_with_segments(tmp_path, rows):
    labels = np.random.default_rng(0).integers(1, 2**63, SHAPE, np.uint64)
    write_cremi(rows, tmp_path / "a.hdf")
    with h5py.File(tmp_path / "a.hdf", "a") as file:
        placed = file.create_dataset("volumes/labels/neuron_ids", data=labels)
        placed.attrs["resolution"], placed.attrs["offset"] = SIZE.astype(float), OFFSET.astype(float)
    found = read_cremi(tmp_path / "a.hdf", segments=True)
    voxel = (points(rows, "post") - OFFSET) // SIZE
    assert found["segment_post"].to_pylist() == labels[tuple(voxel.T)].tolist()
    assert found["segment_pre"].null_count == int(
        (((points(rows, "pre") - OFFSET) // SIZE < 0) | ((points(rows, "pre") - OFFSET) // SIZE >= SHAPE)).any(axis=1).sum()
    )
    source = open_volume(tmp_path / "a.hdf", "neuron_ids")
    assert (source.shape, source.voxel_size) == (tuple(SHAPE), tuple(SIZE))
    source.close()


def test_annotations_in_any_order(tmp_path):
    with h5py.File(tmp_path / "a.hdf", "w") as file:
        file["annotations/ids"] = [9, 4, 7]
        file["annotations/locations"] = [[1, 2, 3], [4, 5, 6.6], [7, 8, 9]]
        file["annotations/presynaptic_site/partners"] = [[7, 4], [7, 9]]
    found = read_cremi(tmp_path / "a.hdf")
    assert points(found, "pre").tolist() == [[7, 8, 9]] * 2
    assert points(found, "post").tolist() == [[4, 5, 7], [1, 2, 3]]
    assert (found["score"].to_pylist(), found["id"].to_pylist()) == ([1, 1], [0, 1])


def test_other_files_are_refused(tmp_path):
    with pytest.raises(MissingError):
        read_cremi(tmp_path / "none.hdf")
    h5py.File(tmp_path / "a.hdf", "w").close()
    with pytest.raises(InputError, match="holds no annotations/ids"):
        read_cremi(tmp_path / "a.hdf")
    with h5py.File(tmp_path / "a.hdf", "w") as file:
        file["annotations/ids"], file["annotations/locations"] = [1], [[1, 2, 3]]
        file["annotations/presynaptic_site/partners"] = [[1, 5]]
    with pytest.raises(InputError, match="1 partners name annotations that are not there, the first 5"):
        read_cremi(tmp_path / "a.hdf")
