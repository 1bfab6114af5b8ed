"""Files and folders that survive the death of the process and of the machine.

`write_atomic` puts the bytes beside the file, fsyncs, renames over it and fsyncs the folder: a reader sees the old or the new
content, never a part. `make_folders` fsyncs every folder it had to make into its parent.

A crash leaves `*.partial` (ours, zarr's) and `*.__lock` (tensorstore's) behind; both are harmless, ignored by every reader here,
and removed by `sweep_locks`.
"""

import os
import shutil
import time
import uuid
from pathlib import Path

from blockwise.errors import StorageError

LEFTOVERS = (".__lock", ".partial")
"""Endings of files that a killed writer leaves behind."""


def sync_folder(path: str | Path) -> None:
    """fsync a folder, so that names made or renamed in it are durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folders(path: str | Path) -> None:
    """Make a folder and its missing parents, each fsynced into its parent."""
    folder = Path(path)
    if folder.is_dir():
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def write_atomic(path: str | Path, data: bytes) -> None:
    """Replace a file's content durably and in one step.

    Raises
    ------
    StorageError : the folder is missing, full or not writable; the old content stays.
    """
    file = Path(path)
    partial = file.with_name(f".{file.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        partial.replace(file)
        sync_folder(file.parent)
    except OSError as error:
        raise StorageError(error.errno, f"cannot write {file}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def sweep_locks(path: str | Path, older_s: float = 60.0) -> int:
    """Remove what killed writers left below a folder.

    Parameters
    ----------
    older_s : leave files younger than this many seconds; a living writer may still hold them.

    Returns
    -------
    How many files were removed.
    """
    limit, removed = time.time() - older_s, 0
    for folder, _, names in os.walk(path):
        for name in names:
            removed += name.endswith(LEFTOVERS) and _remove_old(Path(folder, name), limit)
    return removed


def _remove_old(file: Path, limit: float) -> bool:
    """Whether it was old and is gone by us; a living writer may be faster."""
    try:
        if old := file.stat().st_mtime <= limit:
            file.unlink()
    except FileNotFoundError:
        return False
    return old


def free_bytes(path: str | Path) -> int:
    """Bytes that this user may still write where `path` is or will be."""
    return shutil.disk_usage(_nearest(Path(path))).free


def check_writable(path: str | Path) -> None:
    """Refuse a place where a file or folder could not be made, before anything is made.

    Raises
    ------
    StorageError : says whether the parent is missing, is no folder, is on a read-only file system or may not be written by this user.
    """
    place = Path(path)
    parent = place if os.path.exists(place) else place.absolute().parent
    if not os.path.exists(parent):
        _check_reachable(place, _nearest(parent))
        raise StorageError(f"cannot write {place}: its folder {parent} does not exist; nearest that does: {_nearest(parent)}")
    if place != parent and not os.path.isdir(parent):
        raise StorageError(f"cannot write {place}: {parent} is a file, not a folder")
    if os.statvfs(parent).f_flag & os.ST_RDONLY:
        raise StorageError(f"cannot write {place}: {parent} is on a file system mounted read-only")
    if not os.access(parent, os.W_OK | (os.X_OK if os.path.isdir(parent) else 0), effective_ids=True):
        raise StorageError(
            f"cannot write {place}: user {os.geteuid()} may not write in {parent} (mode {os.stat(parent).st_mode & 0o777:o})"
        )


def check_makeable(path: str | Path) -> None:
    """Like `check_writable`, for a place whose missing folders are made with it.

    Raises
    ------
    StorageError
    """
    topmost = Path(path).absolute()
    while not topmost.parent.exists():
        topmost = topmost.parent
    check_writable(topmost)


def _check_reachable(place: Path, nearest: Path) -> None:
    """What looks missing may only be hidden from this user."""
    if not os.access(nearest, os.X_OK, effective_ids=True):
        raise StorageError(f"cannot write {place}: user {os.geteuid()} may not enter {nearest} (mode {os.stat(nearest).st_mode & 0o777:o})")


def _nearest(path: Path) -> Path:
    """The path itself or its closest parent that exists."""
    path = path.absolute()
    while not os.path.exists(path):
        path = path.parent
    return path
