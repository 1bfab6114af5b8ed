"""The original's folders of npz: every partner in the block of its post site, blocks without any too, read by box and score."""

import json

import numpy as np
import pytest

from blockwise.errors import InputError, MissingError
from tasks.synful.formats.npz_blocks import read_npz, write_npz
from tasks.synful.partners import ordered
from tests.synful.formats.examples import BOX, OFFSET, SHAPE, SITES, SIZE, assert_same, in_box

REGION = (OFFSET, OFFSET + SHAPE * SIZE)
CHUNK = (800, 400, 400)


@pytest.mark.parametrize("layer_rows", [1, 200, 10**6])
@pytest.mark.parametrize("chunk", [CHUNK, (240, 200, 360)])
def test_what_is_written_is_read(tmp_path, rows, data_set, chunk, layer_rows):
    assert write_npz(data_set, tmp_path / "a", chunk, region_nm=REGION, layer_rows=layer_rows) == rows.num_rows
    found = ordered(read_npz(tmp_path / "a"))
    assert_same(found, rows, ["id", *SITES])
    np.testing.assert_array_equal(found["score"].to_numpy(), rows["score"].to_numpy().astype(np.float32))
    counts = -(-(SHAPE * SIZE) // chunk)
    assert len(list((tmp_path / "a").glob("*/*/*.npz"))) == counts.prod()


def test_the_layout_of_a_file(tmp_path, rows):
    write_npz(rows, tmp_path / "a", CHUNK, region_nm=REGION)
    assert json.loads((tmp_path / "a" / "synfulattrs.json").read_text()) == {"chunk_size": list(CHUNK)}
    with np.load(tmp_path / "a" / "4800" / "800" / "1600.npz") as file:
        assert {n: (file[n].dtype, file[n].shape[1:]) for n in file.files} == {
            "ids": (np.uint64, ()),
            "positions": (np.int32, (2, 3)),
            "scores": (np.float32, ()),
        }
        post = file["positions"][:, 1]
        assert len(post)
        assert ((post >= (4800, 800, 1600)) & (post < (5600, 1200, 2000))).all()


@pytest.mark.parametrize("attributes", [True, False])
def test_a_box_opens_the_files_that_meet_it(tmp_path, rows, attributes):
    write_npz(rows, tmp_path / "a", CHUNK, region_nm=REGION)
    if not attributes:
        (tmp_path / "a" / "synfulattrs.json").unlink()
    (tmp_path / "a" / "5600" / "1200" / "1600.npz").write_bytes(b"never opened")
    (tmp_path / "a" / "4800" / "800" / "1200.npz").unlink()
    wanted = in_box(rows)
    found = ordered(read_npz(tmp_path / "a", region_nm=BOX, score_above=50))
    lost = [r for r in wanted.to_pylist() if r["score"] > 50 and not (r["post_z"] >= 4800 and r["post_y"] < 1200 and r["post_x"] < 1600)]
    assert found["id"].to_pylist() == [r["id"] for r in lost]


def test_sites_outside_and_blocks_of_fractions_are_refused(tmp_path, rows):
    with pytest.raises(InputError, match="outside the volume"):
        write_npz(rows, tmp_path / "a", CHUNK, region_nm=(OFFSET, OFFSET + SHAPE * SIZE // 2))
    with pytest.raises(InputError, match="outside the volume"):
        write_npz(rows, tmp_path / "a", CHUNK, region_nm=(OFFSET, OFFSET + SHAPE * SIZE * (1, 1, 0.5)))
    with pytest.raises(InputError, match="fractions"):
        write_npz(rows, tmp_path / "a", (800, 400, 4.6), region_nm=REGION)
    assert not list(tmp_path.iterdir())


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(MissingError):
        read_npz(tmp_path / "none")
    with pytest.raises(InputError, match="no files"):
        read_npz(tmp_path)
