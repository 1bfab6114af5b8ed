"""Arrays in many small files, local or on a server: zarr v2 and v3, N5, neuroglancer precomputed, read through tensorstore.

N5 and precomputed list their axes x first; they are shown here z first, like everything else, and their metadata with them.
A group without a named array stands for the finest level of its OME-NGFF image, for its `s0`, or for the one array below it.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blockwise.errors import InputError, MissingError, StorageError
from blockwise.storage.context import context, kvstore, local_path
from blockwise.storage.placement import Placement, from_attributes, from_ngff, multiscales
from blockwise.storage.source import ArraySource, choose, nearest

N5_KEYS = ("dimensions", "blockSize", "dataType", "compression", "n5")
NGFF_DEPTH: int = 3
"""How far above an array its OME-NGFF group may stand."""


@dataclass(frozen=True, slots=True)
class Node:
    """An array or group inside a container.

    kind : tensorstore's name of the format, or "group".
    location : path or URL of its folder. attributes : the user's. document : the format's own metadata.
    """

    kind: str
    location: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    document: Mapping[str, Any] = field(default_factory=dict)

    @property
    def metadata_key(self) -> str:
        """The file that makes this folder an array."""
        return {"zarr3": "zarr.json", "zarr": ".zarray", "n5": "attributes.json"}.get(self.kind, "info")


def node_at(location: str) -> Node | None:
    """What the folder at a path or URL is; None where it holds no metadata of a known format.

    Raises
    ------
    InputError : metadata that is not JSON.  StorageError : a server that does not answer.
    """
    local = local_path(location)
    if local and not local.is_dir():
        return None
    if (v3 := read_json(location, "zarr.json")) is not None:
        return Node("zarr3" if v3.get("node_type") == "array" else "group", location, v3.get("attributes", {}), v3)
    if (v2 := read_json(location, ".zarray")) is not None:
        return Node("zarr", location, read_json(location, ".zattrs") or {}, v2)
    if read_json(location, ".zgroup") is not None:
        return Node("group", location, read_json(location, ".zattrs") or {}, read_json(location, ".zmetadata") or {})
    if (n5 := read_json(location, "attributes.json")) is not None:
        kind = "n5" if "dimensions" in n5 and "dataType" in n5 else "group"
        return Node(kind, location, {k: v for k, v in n5.items() if k not in N5_KEYS}, n5)
    if (info := read_json(location, "info")) is not None and "scales" in info:
        return Node("neuroglancer_precomputed", location, info, info)
    return None


def read_json(location: str, key: str) -> dict[str, Any] | None:
    """A JSON object in a folder; None where the file is missing or the server hides it."""
    text = read_key(location, key)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(f"{location}/{key} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{location}/{key} is not a JSON object")
    return value


def read_key(location: str, key: str) -> bytes | None:
    """The bytes of one small file in a folder; None where it is missing. 403 counts as missing: many servers say so."""
    if local := local_path(location):
        file = local / key
        return file.read_bytes() if file.is_file() else None
    store = kvstore(location)
    try:
        found = store.read(key).result()
    except (ValueError, OSError) as error:
        if "PERMISSION_DENIED" in str(error):
            return None
        raise StorageError(f"cannot read {location}/{key}: {error}") from error
    return bytes(found.value) if found.state == "value" else None


def join(location: str, inner: str) -> str:
    """A place inside a folder or URL."""
    return f"{location.rstrip('/')}/{inner.strip('/')}" if inner.strip("/") else location


def find_array(location: str, variable: str | None, defaults: Sequence[str] = ()) -> tuple[Node, str | None]:
    """The array that is meant in a container, and its name there (None: the container is the array).

    Raises
    ------
    MissingError : no or several arrays fit; lists them, nearest name first.  InputError : no container of a known format.
    """
    root = node_at(location)
    if root and root.kind == "neuroglancer_precomputed":
        return root, _scale(root, variable)
    name = (variable or "").strip("/")
    node = node_at(join(location, name)) if name else root
    if node and node.kind != "group":
        return node, name or None
    if node is None and root is None and not _is_n5_folder(location):
        raise InputError(
            f"{location} holds no zarr, N5 or precomputed metadata (zarr.json, .zarray, .zgroup, attributes.json, info) and no images"
        )
    found = [n for n in _consolidated(root) if not name or n.startswith(f"{name}/")] if node is not root else []
    found = found or [join(name, n) if name else n for n in arrays_below(join(location, name), node)]
    if not found and name:
        known = list(arrays_below(location, root))
        raise MissingError(
            f"{location} has no array {name!r}" + (f": it holds {', '.join(map(repr, nearest(name, known)[:12]))}" if known else "")
        )
    chosen = choose(location, None, found, defaults)
    return _array_at(join(location, chosen)), chosen


def _array_at(location: str) -> Node:
    node = node_at(location)
    if node is None or node.kind == "group":
        raise MissingError(f"no array at {location}, though its group's metadata names it")
    return node


def _is_n5_folder(location: str) -> bool:
    """N5 groups need no metadata of their own."""
    local = local_path(location)
    return bool(local and local.is_dir() and any(arrays_below(location, None)))


def _scale(root: Node, variable: str | None) -> str:
    """The key of a precomputed scale, by its key or its number; the first is the finest."""
    keys = [str(s["key"]) for s in root.document["scales"]]
    if variable is not None and variable.isdigit() and int(variable) < len(keys):
        return keys[int(variable)]
    return choose(root.location, variable, keys, keys[:1])


def arrays_below(location: str, node: Node | None) -> Iterator[str]:
    """Names of the arrays in a group, an image of several levels as its finest. Nothing for a server's group that lists nothing."""
    if node and (image := multiscales(node.attributes)):
        yield str(image["datasets"][0]["path"])
        return
    if listed := _consolidated(node):
        yield from listed
        return
    local = local_path(location)
    names = sorted(e.name for e in os.scandir(local) if e.is_dir()) if local and local.is_dir() else []
    if "s0" in names and node_at(join(location, "s0")):
        yield "s0"
        return
    for name in names:
        child = node_at(join(location, name))
        if child and child.kind not in ("group", "neuroglancer_precomputed"):
            yield name
        elif child or not _has_files(local, name):
            yield from (f"{name}/{below}" for below in arrays_below(join(location, name), child))


def _has_files(folder: Path | None, name: str) -> bool:
    """A folder with files of its own and no metadata is no group."""
    return folder is None or any(e.is_file() for e in os.scandir(folder / name))


def _consolidated(node: Node | None) -> list[str]:
    """Array names from a zarr group's consolidated metadata, an image of several levels as its finest; empty where there is none."""
    document = node.document if node else {}
    if v3 := document.get("consolidated_metadata"):
        arrays = [n for n, d in v3["metadata"].items() if d.get("node_type") == "array"]
        groups = {n: d.get("attributes", {}) for n, d in v3["metadata"].items() if d.get("node_type") == "group"}
    else:
        v2 = document.get("metadata", {})
        arrays = [n.removesuffix("/.zarray") for n in v2 if n.endswith("/.zarray")]
        groups = {n.removesuffix("/.zattrs"): d for n, d in v2.items() if n.endswith("/.zattrs")}
    for group, image in ((n, multiscales(a)) for n, a in groups.items()):
        if image:
            finest = join(group, str(image["datasets"][0]["path"]))
            arrays = [n for n in arrays if n == finest or not n.startswith(f"{group}/")]
    return sorted(arrays)


def open_chunked(path: str, variable: str | None, defaults: Sequence[str] = ()) -> ArraySource:
    """One array of a zarr, N5 or precomputed container.

    Raises
    ------
    MissingError, InputError : as `find_array`; InputError also for a codec or dtype that cannot be read.
    """
    node, name = find_array(path, variable, defaults)
    store = open_store(node, name)
    if node.kind == "neuroglancer_precomputed":
        store, placement = _first_channel(store), _precomputed_placement(node, str(name))
    elif node.kind == "n5":
        store, placement = store.T, _n5_placement(store.rank, node)
    else:
        placement = _zarr_placement(store.rank, node)
    chunks = tuple(store.chunk_layout.read_chunk.shape or ()) or None
    dtype = store.dtype.numpy_dtype
    return ArraySource(path, name, tuple(store.shape), dtype, placement, lambda s: store[s].read().result(), chunks, node.attributes)


def open_store(node: Node, name: str | None) -> Any:
    """The tensorstore of an array node, read-only, its metadata taken as it is now."""
    import tensorstore as ts

    spec: dict[str, Any] = {
        "driver": node.kind,
        "kvstore": kvstore(node.location).spec().to_json(),
        "recheck_cached_metadata": "open",
        "recheck_cached_data": "open",
    }
    if node.kind == "neuroglancer_precomputed":
        spec["scale_metadata"] = {"key": name}
    try:
        return ts.open(spec, open=True, read=True, context=context()).result()
    except (ValueError, OSError) as error:
        raise InputError(f"cannot open the {node.kind} array at {node.location}: {error}") from error


def _first_channel(store: Any) -> Any:
    """(x, y, z, channel) from `voxel_offset` on -> (z, y, x) from 0 on; (c, z, y, x) where there are several channels."""
    import tensorstore as ts

    store = store[ts.d[:].translate_to[0]]
    return store[..., 0].T if store.shape[3] == 1 else store.T


def _precomputed_placement(node: Node, key: str) -> Placement:
    scale = next(s for s in node.document["scales"] if s["key"] == key)
    size = [float(r) for r in scale["resolution"]][::-1]
    offset = [v * s for v, s in zip(scale.get("voxel_offset", [0, 0, 0])[::-1], size, strict=True)]
    if int(node.document.get("num_channels", 1)) == 1:
        return Placement(("z", "y", "x"), tuple(size), tuple(offset), ("nm",) * 3)
    return Placement(("c", "z", "y", "x"), (1.0, *size), (0.0, *offset), ("", "nm", "nm", "nm"))


def _n5_placement(rank: int, node: Node) -> Placement:
    """N5 lists everything x first."""
    pixel = node.attributes.get("pixelResolution")
    named = {"axis_names": node.attributes.get("axes")}
    if isinstance(pixel, Mapping):
        named |= {"resolution": pixel.get("dimensions"), "units": pixel.get("unit", "nm")}
    merged = {k: v for k, v in (named | dict(node.attributes)).items() if v is not None}
    return from_attributes(rank, {k: v[::-1] if isinstance(v, list) else v for k, v in merged.items()})


def _zarr_placement(rank: int, node: Node) -> Placement:
    """OME-NGFF of a group above wins over the array's own attributes."""
    for group, dataset in _ancestors(node.location):
        attributes = (read_json(group, "zarr.json") or {}).get("attributes", {}) if node.kind == "zarr3" else read_json(group, ".zattrs")
        image = multiscales(attributes or {})
        placement = from_ngff(rank, image, dataset) if image else None
        if placement:
            return placement
    return from_attributes(rank, node.attributes, node.document.get("dimension_names") or ())


def _ancestors(location: str) -> Iterator[tuple[str, str]]:
    """(folder above, name of the array seen from there), nearest first."""
    local = local_path(location)
    *above, name = (str(local.absolute()) if local else location.rstrip("/")).split("/")
    for depth in range(min(NGFF_DEPTH, len(above) - (1 if local else 3))):
        yield "/".join(above[: len(above) - depth]) or "/", "/".join([*above[len(above) - depth :], name])
