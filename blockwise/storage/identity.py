"""What an input is, as a digest: changes when its content does, not when it moves; cheap on terabytes.

A file counts by size, mtime and the first and last MiB. A zarr, N5 or precomputed array counts by its metadata and by name, size
and mtime of each of its files. What lies on a server counts by its metadata and by what the server says of it.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from blockwise.errors import StorageError
from blockwise.storage.chunked import Node, find_array, join, read_key
from blockwise.storage.context import kvstore, local_path
from blockwise.storage.durable import LEFTOVERS
from blockwise.storage.opening import missing_file

END_BYTES: int = 2**20
"""How much of a file's beginning and end is read."""


def identity(location: str | Path, variable: str | None = None) -> str:
    """Hex digest of an input.

    Parameters
    ----------
    variable : which array of a zarr, N5 or precomputed container; a single file counts as a whole.

    Raises
    ------
    MissingError, InputError, StorageError : as `open_source`.
    """
    path = str(location)
    local = local_path(path)
    if local is not None and not local.exists():
        raise missing_file(path, local)
    if local is not None and local.is_file():
        return _digest(file_parts(local))
    node, name = find_array(path, variable)
    return _digest(_remote_parts(node) if local is None else _folder_parts(node, name))


def file_parts(file: Path) -> Iterator[bytes]:
    """What a digest of one file covers: size, mtime_ns, first and last MiB."""
    with file.open("rb") as handle:
        stat = os.fstat(handle.fileno())
        yield f"{stat.st_size} {stat.st_mtime_ns}".encode()
        yield handle.read(END_BYTES)
        handle.seek(max(END_BYTES, stat.st_size - END_BYTES))
        yield handle.read(END_BYTES)


def _folder_parts(node: Node, name: str | None) -> Iterator[bytes]:
    """Metadata, then name, size and mtime of every file of the array."""
    yield json.dumps([node.document, node.attributes], sort_keys=True).encode()
    folder = join(node.location, name or "") if node.kind == "neuroglancer_precomputed" else node.location
    for file, size, mtime_ns in sorted(_files(str(local_path(folder)))):
        yield f"{file} {size} {mtime_ns}\n".encode()


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


def _digest(parts: Iterator[bytes]) -> str:
    """Each part with its length, so that no two sequences of parts look alike."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()
