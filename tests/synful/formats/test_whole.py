"""Files and folders appear whole or not at all, whatever was there before."""

import os
import socket
import subprocess
from contextlib import suppress

import pytest

from blockwise.errors import StorageError
from tasks.synful.formats.whole import digest, whole_file, whole_folder


def test_a_file_appears_when_it_is_whole(tmp_path):
    place = tmp_path / "deep" / "a.txt"
    with whole_file(place) as partial:
        partial.write_text("new")
        assert not place.exists()
    assert place.read_text() == "new"
    assert list(place.parent.iterdir()) == [place]


def test_an_error_leaves_the_older_file(tmp_path):
    (tmp_path / "a").write_text("old")
    with suppress(KeyError), whole_file(tmp_path / "a") as partial:
        partial.write_text("half")
        raise KeyError
    assert [f.read_text() for f in tmp_path.iterdir()] == ["old"]


def test_a_folder_replaces_an_older_one(tmp_path):
    for text in ("old", "new"):
        with whole_folder(tmp_path / "f") as partial:
            (partial / text).write_text(text)
    assert [f.name for f in tmp_path.rglob("*")] == ["f", "new"]


def test_two_writers_of_one_folder_leave_a_whole_one(tmp_path):
    with whole_folder(tmp_path / "f") as one:
        with whole_folder(tmp_path / "f") as two:
            (two / "a").write_text("two")
        (one / "a").write_text("one")
    assert (tmp_path / "f" / "a").read_text() == "one"


def test_what_a_dead_process_left_is_removed(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = [tmp_path / f".a.{socket.gethostname()}-{pid}-00.partial" for pid in (gone.pid, os.getpid())]
    for file in left:
        file.write_text("")
    with whole_file(tmp_path / "a") as partial:
        partial.write_text("")
    assert [file.exists() for file in left] == [False, True]


def test_a_place_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        with whole_file(tmp_path / "file" / "a") as partial:
            partial.write_text("")


def test_digests_tell_contents_and_names(tmp_path):
    for name, inner in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / name).mkdir()
        (tmp_path / name / inner).write_text("1")
    found = [digest(tmp_path / n) for n in "abc"]
    assert found[0] == found[1] != found[2]
    assert digest(tmp_path / "a" / "x") == digest(tmp_path / "b" / "x")
