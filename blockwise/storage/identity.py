"""What an input is, as a short text: changes when its content does, not when it moves; cheap on terabytes.

    size=72128 mtime=2026-11-20T10:00:00.123456789Z ends=0a1b2c3d4e5f6789      a file: bytes, and a digest of the first and last MiB
    files=14 size=72128 mtime=2026-11-20T10:00:00Z listing=0a1b2c3d4e5f6789    an array of many files, a stack of images: the newest mtime,
                                                     and a digest of its metadata and of name, size and mtime of each of its files
    0a1b2c3d...                                      on a server: a digest of metadata and of what the server says of it; a sub-volume JSON:
                                                     a digest of its box and of the identity of its container

The parts say, in `difference`, what it is that changed.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from blockwise.errors import StorageError
from blockwise.storage.chunked import Node, find_array, join, read_key
from blockwise.storage.context import kvstore, local_path
from blockwise.storage.durable import LEFTOVERS
from blockwise.storage.images import image_files
from blockwise.storage.opening import is_stack, missing_file
from blockwise.storage.subvolume import read_sub_volume
from blockwise.storage.volumes import nrrd_data_file

END_BYTES: int = 2**20
"""How much of a file's beginning and end is read."""

DIGITS: int = 16
"""Hex digits of a digest that stands beside a size and a time."""

WORDS = {
    "size": "bytes",
    "mtime": "modified",
    "files": "files",
    "ends": "content (digest of the first and last MiB)",
    "listing": "metadata, or names, sizes and times of its files (digest)",
}


def identity(location: str | Path, variable: str | None = None) -> str:
    """The text that identifies an input, at most 80 characters up to terabytes and millions of files.

    Parameters
    ----------
    variable : which array of a zarr, N5 or precomputed container; a single file counts as a whole.

    Raises
    ------
    MissingError, InputError, StorageError : as `open_source`.
    """
    path = str(location)
    local = local_path(path)
    if local is not None and is_stack(local):
        return _of_files(b"", [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in image_files(local)])
    if local is not None and not local.exists():
        raise missing_file(path, local)
    if local is not None and local.is_file():
        return _of_one_file(local, variable)
    node, name = find_array(path, variable)
    return _digest(_remote_parts(node)) if local is None else _of_folder(node, name)


def difference(then: str, now: str) -> str:
    """What two identities of one input differ in and what they share, as far as they tell; both texts where they tell nothing."""
    before, after = _parts(then), _parts(now)
    if not before or before.keys() != after.keys():
        return f"was {then}, now {now}"
    changed = [f"{WORDS[k]} was {before[k]}, now {after[k]}" for k in after if before[k] != after[k]]
    same = [WORDS[k].partition(" (")[0] for k in after if before[k] == after[k]]
    return "; ".join([*changed, *([f"the same: {', '.join(same)}"] if same else [])])


def _parts(text: str) -> dict[str, str]:
    words = [word.partition("=") for word in text.split()]
    return {key: value for key, _, value in words} if all(key in WORDS and value for key, _, value in words) else {}


def _of_file(file: Path) -> str:
    with file.open("rb") as handle:
        stat = os.fstat(handle.fileno())
        first = handle.read(END_BYTES)
        handle.seek(max(END_BYTES, stat.st_size - END_BYTES))
        ends = _digest((first, handle.read(END_BYTES)))[:DIGITS]
    seconds, ns = divmod(stat.st_mtime_ns, 10**9)
    return f"size={stat.st_size} mtime={_time(seconds)}.{ns:09}Z ends={ends}"


def _of_one_file(file: Path, variable: str | None) -> str:
    """With the voxels that lie elsewhere: in the container of a sub-volume, beside the header of an NRRD."""
    match file.suffix.lower():
        case ".json":
            return _of_sub_volume(file, variable)
        case ".nhdr" if data := nrrd_data_file(file):
            return _digest((_of_file(file).encode(), _of_file(data).encode()))
        case _:
            return _of_file(file)


def _of_sub_volume(file: Path, variable: str | None) -> str:
    """Where the container lies does not count, what it is and which box is meant do."""
    part = read_sub_volume(file)
    return _digest((identity(part.container, variable).encode(), f"{part.offset} {part.size}".encode()))


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _of_folder(node: Node, name: str | None) -> str:
    metadata = json.dumps([node.document, node.attributes], sort_keys=True).encode()
    folder = join(node.location, name or "") if node.kind == "neuroglancer_precomputed" else node.location
    return _of_files(metadata, sorted(_files(str(local_path(folder)))))


def _of_files(metadata: bytes, files: Sequence[tuple[str, int, int]]) -> str:
    """Of (name, bytes, mtime in ns) in an order that follows from the names."""
    listing = _digest((metadata, *(f"{file} {size} {mtime_ns}\n".encode() for file, size, mtime_ns in files)))[:DIGITS]
    size, newest = sum(f[1] for f in files), max((f[2] for f in files), default=0)
    return f"files={len(files)} size={size} mtime={_time(newest // 10**9)}Z listing={listing}"


def _files(folder: str, below: str = "") -> Iterator[tuple[str, int, int]]:
    if not os.path.isdir(folder):
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files(entry.path, f"{below}{entry.name}/")
            elif not entry.name.endswith(LEFTOVERS):
                stat = entry.stat()
                yield f"{below}{entry.name}", stat.st_size, stat.st_mtime_ns


def _remote_parts(node: Node) -> Iterator[bytes]:
    yield node.kind.encode()
    yield read_key(node.location, node.metadata_key) or b""
    yield json.dumps(node.attributes, sort_keys=True).encode()
    yield _stamp(node).encode()


def _stamp(node: Node) -> str:
    """How the server marks this version of the metadata: validators of http, the generation of an object store."""
    import urllib.error  # with urllib.request a tenth of a second of imports
    import urllib.request

    if not node.location.startswith("http"):
        return str(kvstore(node.location).read(node.metadata_key).result().stamp.generation)
    request = urllib.request.Request(join(node.location, node.metadata_key), method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return " ".join(f"{k}={answer.headers.get(k, '')}" for k in ("ETag", "Last-Modified", "Content-Length"))
    except urllib.error.HTTPError:
        return ""
    except OSError as error:
        raise StorageError(f"cannot ask for {request.full_url}: {error}") from error


def _digest(parts: Iterable[bytes]) -> str:
    """Each part with its length, so that no two sequences of parts look alike."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()
