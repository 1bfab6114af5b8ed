import os
import re
import shutil

import numpy as np
import pytest
import zarr

from blockwise.errors import MissingError
from blockwise.storage import identity
from blockwise.storage.identity import END_BYTES, difference
from tests.storage.formats import FORMATS, write_zarr2

METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", "attributes.json", "info")


@pytest.mark.parametrize(("write", "name"), FORMATS.values(), ids=FORMATS)
def test_identity_follows_the_content_not_the_place(tmp_path, volume, write, name):
    write(tmp_path / name, volume)
    before = identity(tmp_path / name)
    assert before == identity(tmp_path / name)
    (tmp_path / name).rename(tmp_path / f"moved_{name}")
    assert identity(tmp_path / f"moved_{name}") == before


@pytest.mark.parametrize(("write", "name"), FORMATS.values(), ids=FORMATS)
def test_identity_changes_with_one_file(tmp_path, volume, write, name):
    write(tmp_path / name, volume)
    before, path = identity(tmp_path / name), tmp_path / name
    file = path if path.is_file() else next(f for f in path.rglob("*") if f.is_file() and f.name not in METADATA)
    stat = file.stat()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert identity(path) != before


TOLD = {
    "time": (lambda file: os.utime(file, (2e9, 2e9)), "modified was 2001-09-09T01:46:40.000000000Z, now 2033-05-18T03:33:20.000000000Z"),
    "length": (lambda file: append(file), "bytes was 928, now 936"),
    "content": (lambda file: flip(file), "content (digest of the first and last MiB) was "),
}
"""What is done to a file, and a part of what is told of it."""


def append(file):
    np.save(file, np.zeros(101))
    os.utime(file, (1e9, 1e9))


def flip(file):
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    os.utime(file, (1e9, 1e9))


@pytest.mark.parametrize("deed", TOLD)
def test_a_changed_file_tells_what_changed_and_what_did_not(tmp_path, deed):
    file = tmp_path / "a.npy"
    np.save(file, np.zeros(100))
    os.utime(file, (1e9, 1e9))
    before = identity(file)
    do, words = TOLD[deed]
    do(file)
    told = difference(before, identity(file))
    assert words in told
    assert ("modified" in told.partition("the same: ")[2]) == (deed != "time")


def test_a_changed_array_of_files_tells_how_many_and_when(tmp_path, volume):
    write_zarr2(tmp_path / "a.zarr", volume)
    before = identity(tmp_path / "a.zarr")
    (tmp_path / "a.zarr/raw/0.0.0").unlink()
    assert re.search(
        r"files was \d+, now \d+; bytes was \d+, now \d+; .*metadata, or names", difference(before, identity(tmp_path / "a.zarr"))
    )


def test_identities_that_tell_nothing_are_both_shown():
    assert difference("abc123", "size=1 mtime=x ends=y") == "was abc123, now size=1 mtime=x ends=y"


def test_an_identity_stays_short(tmp_path):
    file = tmp_path / "large.npy"
    with file.open("wb") as sparse:
        sparse.truncate(10**12)
    assert len(identity(file)) <= 80


@pytest.mark.parametrize("position", [0, END_BYTES + 5, -1])
def test_both_ends_of_a_file_are_read(tmp_path, position):
    file = tmp_path / "a.npy"
    np.save(file, np.zeros(3 * END_BYTES, np.uint8))
    before, stat = identity(file), file.stat()
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (identity(file) != before) == (position in (0, -1))


def test_what_a_writer_left_behind_does_not_count(tmp_path, volume):
    write_zarr2(tmp_path / "a.zarr", volume)
    before = identity(tmp_path / "a.zarr")
    (tmp_path / "a.zarr/raw/0.0.0.__lock").write_bytes(b"")
    assert identity(tmp_path / "a.zarr") == before
    (tmp_path / "a.zarr/raw/0.0.0").unlink()
    assert identity(tmp_path / "a.zarr") != before


def test_other_arrays_of_a_container_do_not_count(tmp_path, volume):
    write_zarr2(tmp_path / "a.zarr", volume)
    before = identity(tmp_path / "a.zarr", "raw")
    zarr.open_group(tmp_path / "a.zarr").create_array("other", data=volume)
    assert identity(tmp_path / "a.zarr", "raw") == before != identity(tmp_path / "a.zarr", "other")


def test_a_url_counts_by_metadata_and_the_servers_stamp(tmp_path, server, volume):
    write_zarr2(tmp_path / "a.zarr", volume)
    before = identity(f"{server}/a.zarr", "raw")
    shutil.copytree(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert identity(f"{server}/b.zarr", "raw") == before
    os.utime(tmp_path / "b.zarr/raw/.zarray", (1e9, 1e9))
    assert identity(f"{server}/b.zarr", "raw") != before


def test_a_missing_input_is_told(tmp_path):
    with pytest.raises(MissingError, match="no file or folder"):
        identity(tmp_path / "a.npy")
