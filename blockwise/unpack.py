"""Unpacks an archive of unknown origin: nothing is written outside its folder, no link is made, and its size is bounded.

Names are checked before the first byte is written, sizes are counted while writing, because what the archive says of them is a claim.
The folder appears under its name only when everything is in it.
"""

import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from blockwise.errors import ModelError
from blockwise.storage.durable import make_folders

LIMIT_BYTES = 4_000_000_000
LIMIT_FILES = 10_000


def unpack(
    archive: str | Path, folder: str | Path, *, check: Callable[[Path], object] | None = None, limit_bytes: int = LIMIT_BYTES
) -> Path:
    """Unpack a zip into a new folder; a single folder at its top is left out of the path.

    Parameters
    ----------
    check : called with the unpacked folder before it gets its name; what it raises ends the matter.

    Raises
    ------
    ModelError : not a zip, damaged, larger than `limit_bytes`, or with a member that is a link, encrypted or leads outside.
    """
    target = Path(folder)
    make_folders(target.parent)
    place = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        with zipfile.ZipFile(archive) as z:
            _extract(z, place, limit_bytes)
        inner = _without_top(place)
        if check:
            check(inner)
        _put(inner, target)
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, FileExistsError, NotADirectoryError) as error:
        raise ModelError(f"{Path(archive).name} is not a zip that can be unpacked: {error}") from None
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return target


def _extract(z: zipfile.ZipFile, place: Path, limit_bytes: int) -> None:
    members = z.infolist()
    if len(members) > LIMIT_FILES:
        raise ModelError(f"{z.filename}: {len(members)} members, more than {LIMIT_FILES}: this is no model")
    for member in members:
        _refuse_unsafe(member)
    room = limit_bytes
    for member in members:
        path = place / member.filename
        if member.is_dir():
            path.mkdir(parents=True, exist_ok=True)
        else:
            room = _copy(z, member, path, room)


def _refuse_unsafe(member: zipfile.ZipInfo) -> None:
    name, kind = member.filename, stat.S_IFMT(member.external_attr >> 16)
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.orig_filename or ":" in name or not path.parts:
        raise ModelError(f"the archive names a file outside its folder: {member.orig_filename!r}; it was not unpacked")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ModelError(f"the archive holds a link or device: {name!r}; it was not unpacked")
    if member.flag_bits & 1:
        raise ModelError(f"the archive is encrypted: {name!r}; it was not unpacked")


def _copy(z: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, room: int) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    with z.open(member) as source, path.open("xb") as out:
        while chunk := source.read(1 << 20):
            room -= len(chunk)
            if room < 0:
                raise ModelError("the archive unpacks to more than its limit: this is no model; it was not unpacked")
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    return room


def _without_top(place: Path) -> Path:
    inside = list(place.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else place


def _put(inner: Path, target: Path) -> None:
    inner.chmod(0o755)
    try:
        os.rename(inner, target)
    except OSError:
        if not target.is_dir():
            raise
        # another process was faster: its folder is complete, for it came here the same way
