"""Files and folders of any size that appear whole: written under another name, synced, renamed into place.

A reader sees what was there before, or all of the new. A crash leaves a hidden `*.partial` beside the place, which no reader looks at:
the next write to the same place removes it, `blockwise clean` too where it is a file.
"""

import hashlib
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blockwise.errors import BlockwiseError, StorageError
from blockwise.storage import make_folders
from blockwise.storage.durable import sync_folder

CHUNK = 1 << 22


@contextmanager
def whole_file(target: str | Path) -> Iterator[Path]:
    """Where to write a file; it is put in place when the block ends without an error.

    Raises
    ------
    StorageError : it cannot be written.
    """
    file = Path(target).absolute()
    with _partial(file) as partial:
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(file)
        sync_folder(file.parent)


@contextmanager
def whole_folder(target: str | Path) -> Iterator[Path]:
    """Where to write the files of a folder, which is there; it replaces an older folder when the block ends without an error.

    Raises
    ------
    StorageError : it cannot be written.
    """
    folder = Path(target).absolute()
    with _partial(folder) as partial:
        partial.mkdir()
        yield partial
        os.sync()
        _replace_folder(partial, folder)
        sync_folder(folder.parent)


@contextmanager
def _partial(place: Path) -> Iterator[Path]:
    try:
        make_folders(place.parent)
        _remove_abandoned(place)
        partial = place.with_name(f".{place.name}.{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.partial")
        try:
            yield partial
        finally:
            _remove(partial)
    except BlockwiseError:
        raise
    except OSError as error:
        raise StorageError(error.errno, f"cannot write {place}: {error.strerror or error}") from error


def _remove_abandoned(place: Path) -> None:
    """What processes of this machine that are gone left of earlier writes."""
    prefix = f".{place.name}.{socket.gethostname()}-"
    for left in place.parent.glob(f"{prefix}*.partial"):
        process = left.name.removeprefix(prefix).split("-")[0]
        if process.isdigit() and not Path(f"/proc/{process}").exists():
            _remove(left)


def _remove(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)


def _replace_folder(partial: Path, folder: Path) -> None:
    """A folder cannot replace one that holds files, so the older steps aside first; the last of several writers stays."""
    older = partial.with_name(partial.name.replace(".partial", ".old.partial"))
    for _ in range(100):
        try:
            partial.rename(folder)
            break
        except OSError:
            if not folder.exists():
                raise
            folder.rename(older)
            _remove(older)
    else:
        raise StorageError(f"cannot replace {folder}: it comes back whenever it is moved away; is another export writing there?")


def digest(place: Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files of a folder."""
    found = hashlib.sha256()
    for file in [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file()):
        found.update(str(file.relative_to(place)).encode() + b"\0")
        with file.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                found.update(chunk)
    return found.hexdigest()
