import contextlib
import os
import subprocess
import sys
import tempfile

import pytest

from blockwise.errors import StorageError
from blockwise.storage import check_writable, free_bytes, make_folders, sweep_locks, sync_folder, write_atomic


def test_write_atomic_replaces_and_leaves_nothing_beside(tmp_path):
    for content in (b"old", b"new"):
        write_atomic(tmp_path / "a.json", content)
        assert (tmp_path / "a.json").read_bytes() == content
    assert [f.name for f in tmp_path.iterdir()] == ["a.json"]


def test_a_reader_never_sees_a_part(tmp_path):
    code = f"""
from blockwise.storage import write_atomic
for i in range(100): write_atomic({str(tmp_path / "a")!r}, bytes([i]) * 100_000)
"""
    write_atomic(tmp_path / "a", b"\0" * 100_000)
    with subprocess.Popen([sys.executable, "-c", code]) as writer:
        while writer.poll() is None:
            content = (tmp_path / "a").read_bytes()
            assert len(content) == 100_000
            assert len(set(content)) == 1
    assert writer.returncode == 0
    assert content[0] <= 99


def test_a_failed_write_keeps_the_old_content(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(StorageError, match="cannot write") as caught:
        write_atomic(tmp_path / "a", b"content")
    assert caught.value.errno
    assert [f.name for f in tmp_path.iterdir()] == ["a"]


def test_make_folders_syncs_every_folder_it_makes(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.readlink(f"/proc/self/fd/{handle}")))
    make_folders(tmp_path / "a/b/c")
    assert (tmp_path / "a/b/c").is_dir()
    assert synced == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a/b")]
    sync_folder(tmp_path)
    assert synced[3:] == [str(tmp_path)]


def test_sweep_removes_old_leftovers_only(tmp_path):
    (tmp_path / "v").mkdir()
    names = ["v/c.0.0.__lock", "v/c.0.1.__lock", "zarr.json.123.partial", "v/c.0.0", "zarr.json"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (0, 0))
    os.utime(tmp_path / names[1])
    assert sweep_locks(tmp_path, older_s=60) == 2
    assert {str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*") if f.is_file()} == set(names) - {names[0], names[2]}
    assert sweep_locks(tmp_path, older_s=0) == 1


def test_free_bytes_of_what_is_not_yet_there(tmp_path):
    assert 0 < free_bytes(tmp_path / "not/yet/there") <= os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize


@contextlib.contextmanager
def ordinary_user():
    """root may write everywhere: become nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_place_is_refused_before_anything_is_made(tmp_path):
    check_writable(tmp_path / "out.zarr")
    check_writable(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=f"does not exist; nearest that does: {tmp_path}$"):
        check_writable(tmp_path / "a/b/out.zarr")
    with pytest.raises(StorageError, match="is a file, not a folder"):
        check_writable(tmp_path / "file/out.zarr")
    assert [f.name for f in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("mode", "message"), [(0o555, r"may not write in .* \(mode 555\)"), (0o000, r"may not enter .* \(mode 0\)")])
def test_a_folder_of_someone_else_is_refused(mode, message):
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/inner")
        os.chmod(folder, mode)
        place = f"{folder}/out.zarr" if mode else f"{folder}/inner/out.zarr"
        with ordinary_user(), pytest.raises(StorageError, match=message):
            check_writable(place)
        os.chmod(folder, 0o755)


def test_a_read_only_file_system_is_told(tmp_path):
    with open("/proc/mounts") as mounts:
        places = [m.split()[1] for m in mounts if "ro" in m.split()[3].split(",")]
    place = next((p for p in places if os.path.isdir(p) and os.statvfs(p).f_flag & os.ST_RDONLY), None)
    if place is None:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", tmp_path], capture_output=True, check=False).returncode == 0
        if not mounted:
            pytest.skip("no file system here is mounted read-only, and this user may not mount one")
        place = str(tmp_path)
    try:
        with pytest.raises(StorageError, match="mounted read-only"):
            check_writable(f"{place}/out.zarr")
    finally:
        if place == str(tmp_path):
            subprocess.run(["umount", tmp_path], check=True)
