"""Output arrays: zarr v3 that one run writes block by block, durably, from many processes at once.

Layout
------
The output is a zarr group. An array `name` lies at `<output>/<name>`; a volume (axes among c, z, y, x with two or more spatial
ones) lies at `<output>/<name>/0` below a group with OME-NGFF 0.5 metadata, so that viewers open `<output>/<name>`.
Chunk files are `c.0.1.2` in the array's own folder, which `create` makes and fsyncs; above FLAT_UNITS of them `c/0/1/2`, every
folder of which `create` makes and syncs before the metadata appears. So no block ever makes a folder, which nobody would fsync.

Guarantees
----------
* The future of `write` returns when the data survives a power cut: file, rename and folder are synced (G1).
* One writer per file: a region that covers part of a chunk (of a shard, where sharded) is refused. Writing a block twice, even at
  once, leaves the same bytes (G4). Blocks equal to the fill value are stored too, so `complete` is true of what was written (G6).
* A crash leaves whole chunks and `*.__lock` files. Metadata is replaced in one step, or not at all.

Who writes: the driver metadata and attributes, any worker chunks of its own blocks. Outputs are local (or mounted) folders.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from blockwise.errors import AlignmentError, FingerprintMismatch, InputError, MissingError, PlanRefused, StorageError
from blockwise.geometry import Region
from blockwise.storage.context import context, local_path
from blockwise.storage.durable import make_folders, sync_folder, write_atomic
from blockwise.storage.placement import Placement, to_ngff
from blockwise.storage.source import check_inside
from blockwise.storage.writes import Array, Stored, Write, failure

FLAT_UNITS: int = 200_000
"""Chunk or shard files that may lie in one folder; file systems slow down with millions."""

ZSTD_LEVEL: int = 1


def create_group(path: str | Path, attributes: Mapping[str, Any] | None = None) -> None:
    """Make a zarr v3 group, and groups for its missing parents inside an existing one; an existing group is kept.

    Raises
    ------
    PlanRefused : something else lies there.  StorageError : it cannot be made.
    """
    folder = _folder(path)
    if check_group(path):
        return
    _make(folder)
    _put(folder, {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes or {})})


def check_group(path: str | Path) -> bool:
    """Whether a zarr v3 group is at `path`; False where one can be made.

    Raises
    ------
    PlanRefused : something else lies there.
    """
    folder = _folder(path)
    if (document := _document(folder)) is not None:
        if document.get("node_type") != "group":
            raise PlanRefused(f"{folder} is a zarr array, not a group: choose another [output] path or remove it")
        return True
    if folder.exists() and (not folder.is_dir() or any(not n.name.endswith(".partial") for n in folder.iterdir())):
        raise PlanRefused(f"{folder} exists and is no zarr v3 group: choose another [output] path or remove it")
    return False


def group_attributes(path: str | Path) -> dict[str, Any]:
    """Attributes of an output's root group; empty where there is none yet."""
    return dict((_document(_folder(path)) or {}).get("attributes", {}))


def set_group_attributes(path: str | Path, mapping: Mapping[str, Any]) -> None:
    """Set attributes of a group, the others stay; durable and in one step. Nothing is written where nothing changes.

    Raises
    ------
    MissingError : no such group.
    """
    folder = _folder(path)
    document = _document(folder)
    if document is None:
        raise MissingError(f"no zarr v3 group or array at {folder}: make it with create_group")
    attributes = {**document.get("attributes", {}), **mapping}
    if attributes != document.get("attributes"):
        _put(folder, {**document, "attributes": attributes})


@dataclass(frozen=True, slots=True)
class OutputArray:
    """One array of an output, open for reading and writing.

    unit : voxels per axis that one writer must own: the shard, or the chunk where it is not sharded.
    """

    folder: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    unit: tuple[int, ...]
    axes: tuple[str, ...]
    separator: str
    store: Any

    @classmethod
    def create(
        cls,
        path: str | Path,
        name: str,
        *,
        shape: Sequence[int],
        dtype: npt.DTypeLike,
        chunks: Sequence[int],
        shards: Sequence[int] | None = None,
        axes: Sequence[str],
        voxel_size: Sequence[float] = (),
        offset: Sequence[float] = (),
        units: Sequence[str] = (),
        fill_value: float = 0,
        attributes: Mapping[str, Any] | None = None,
    ) -> Self:
        """Make array `name` in the output at `path`, or open it where it is there with the same layout.

        Parameters
        ----------
        shape, chunks, shards : voxels per axis; a shard is a multiple of its chunks.
        axes : names, e.g. ("z", "y", "x") or ("neuron", "time").
        voxel_size, offset, units : world geometry per axis; 1, 0 and "" by default.

        Raises
        ------
        FingerprintMismatch : it exists with another layout; names what differs.
        PlanRefused : the path holds something else, or shards are no multiple of chunks.  StorageError : it cannot be written.
        """
        placement = Placement(tuple(axes), tuple(map(float, voxel_size)), tuple(map(float, offset)), tuple(units))
        unit = tuple(shards or chunks)
        _check_layout(name, tuple(shape), tuple(chunks), unit, placement)
        document = _array_document(
            tuple(shape),
            np.dtype(dtype),
            chunks=tuple(chunks),
            shards=shards,
            placement=placement,
            fill_value=fill_value,
            attributes=attributes or {},
        )
        create_group(path)
        root = _folder(path)
        for parent in list(Path(name).parents)[-2::-1]:
            create_group(root / parent)
        if placement.is_volume:
            create_group(root / name, {"ome": to_ngff(placement, name)})
        folder = _array_folder(root, name, placement.is_volume)
        existing = _document(folder)
        if existing is not None:
            _check_same(folder, existing, document)
        else:
            _make_array(folder, document, _counts(tuple(shape), unit))
        return cls.open(path, name)

    @classmethod
    def open(cls, path: str | Path, name: str) -> Self:
        """Open an array that `create` made.

        Raises
        ------
        MissingError : there is none.
        """
        import tensorstore as ts

        root = _folder(path)
        folder = next((f for f in (root / name, root / name / "0") if (_document(f) or {}).get("node_type") == "array"), None)
        if folder is None:
            raise MissingError(f"no output array {name!r} in {root}: has the run been prepared?")
        spec = {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": f"{folder}/"},
            "cache_pool": "cache_pool#none",
            "store_data_equal_to_fill_value": True,
        }
        try:
            store = ts.open(spec, open=True, context=context()).result()
        except (ValueError, OSError) as error:
            raise StorageError(f"cannot open output array {folder}: {error}") from error
        document = _document(folder) or {}
        separator = document["chunk_key_encoding"]["configuration"]["separator"]
        axes = tuple(document.get("dimension_names") or ())
        unit = tuple(document["chunk_grid"]["configuration"]["chunk_shape"])
        return cls(folder, name, tuple(store.shape), store.dtype.numpy_dtype, unit, axes, separator, store)

    @property
    def attributes(self) -> dict[str, Any]:
        return dict((_document(self.folder) or {}).get("attributes", {}))

    def set_attributes(self, mapping: Mapping[str, Any]) -> None:
        """Set attributes, the others stay; durable and in one step."""
        set_group_attributes(self.folder, mapping)

    def write(self, region: Region, data: Array) -> Write:
        """Start writing whole chunks (shards); returns at once, `data` must not be changed until the future is done.

        Raises
        ------
        AlignmentError : the region covers part of a chunk or shard and does not end at the array's border.
        InputError : outside the array, or `data` has another shape or dtype.
        """
        check_inside(region, self.shape, f"output array {self.name!r}")
        self._check_aligned(region)
        if data.shape != region.shape or data.dtype != self.dtype:
            raise InputError(f"block of {data.shape} {data.dtype} for {region.shape} {self.dtype} of output array {self.name!r}")
        again = partial(self._afresh, region, data) if any(e % u for e, u in zip(region.end, self.unit, strict=True)) else None
        return Write(data, Stored(self.store[region.slices].write(data), f"{region.begin}..{region.end} of {self.folder}", again))

    def _afresh(self, region: Region, data: Array) -> Any:
        """Write over damaged chunks at the border, which tensorstore would read first: they hold more than the region."""
        for file in self.files(region):
            Path(file).unlink(missing_ok=True)
        return self.store[region.slices].write(data).result()

    def read(self, region: Region) -> Array:
        """The stored voxels of a region; the fill value where nothing was written.

        Raises
        ------
        InputError : outside the array.  StorageError : a chunk that cannot be read, e.g. one whose checksum is wrong.
        """
        check_inside(region, self.shape, f"output array {self.name!r}")
        try:
            return np.asarray(self.store[region.slices].read().result())
        except (ValueError, OSError) as error:
            raise failure(f"cannot read {region.begin}..{region.end} of {self.folder}", error) from error

    def complete(self, region: Region) -> bool:
        """Whether every chunk (shard) file that the region touches exists."""
        check_inside(region, self.shape, f"output array {self.name!r}")
        return all(os.path.exists(f) for f in self.files(region))

    def files(self, region: Region) -> Iterator[str]:
        """The chunk (shard) files that a region touches, whether they exist or not."""
        ranges = [range(b // u, -(-e // u)) for b, e, u in zip(region.begin, region.end, self.unit, strict=True)]
        for index in product(*ranges):
            yield os.path.join(self.folder, self.separator.join(map(str, ("c", *index))))

    def _check_aligned(self, region: Region) -> None:
        for axis, begin, end, unit, extent in zip(self.axes, region.begin, region.end, self.unit, self.shape, strict=True):
            if begin % unit or (end % unit and end != extent):
                raise AlignmentError(
                    f"output array {self.name!r}, axis {axis!r}: voxels {begin}..{end} cover part of a chunk or shard of {unit}, two "
                    f"blocks would write one file and lose data: make the block's side a multiple of {unit}, or the chunks smaller"
                )


def _folder(path: str | Path) -> Path:
    local = local_path(path)
    if local is None:
        raise StorageError(f"outputs are written to local or mounted folders, not to {path}: write locally, then copy")
    return local.absolute()


def _array_folder(root: Path, name: str, volume: bool) -> Path:
    return root / name / "0" if volume else root / name


def _document(folder: Path) -> dict[str, Any] | None:
    """The zarr.json of a folder, or None."""
    try:
        value: dict[str, Any] = json.loads((folder / "zarr.json").read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, OSError) as error:
        raise StorageError(f"cannot read {folder / 'zarr.json'}: {error}") from error
    return value


def _put(folder: Path, document: Mapping[str, Any]) -> None:
    write_atomic(folder / "zarr.json", json.dumps(document, indent=2).encode())


def _make(folder: Path) -> None:
    try:
        make_folders(folder)
    except OSError as error:
        raise StorageError(error.errno, f"cannot make {folder}: {error.strerror}") from error


def _counts(shape: tuple[int, ...], unit: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-(-n // u) for n, u in zip(shape, unit, strict=True))


def _check_layout(name: str, shape: tuple[int, ...], chunks: tuple[int, ...], unit: tuple[int, ...], placement: Placement) -> None:
    if not len(shape) == len(chunks) == len(unit) == len(placement.axes):
        raise PlanRefused(
            f"output array {name!r}: shape {shape}, chunks {chunks}, shards {unit} and axes {placement.axes} differ in length"
        )
    if min((*chunks, *unit)) < 1 or any(u % c for u, c in zip(unit, chunks, strict=True)):
        raise PlanRefused(f"output array {name!r}: shards {unit} must be multiples of chunks {chunks}, both at least 1")


def _array_document(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    chunks: tuple[int, ...],
    shards: Sequence[int] | None,
    placement: Placement,
    fill_value: float,
    attributes: Mapping[str, Any],
) -> dict[str, Any]:
    """The array's zarr.json as zarr-python writes it."""
    import zarr
    import zarr.codecs
    import zarr.storage

    unit = tuple(shards or chunks)
    separator = "." if math.prod(_counts(shape, unit)) <= FLAT_UNITS else "/"
    files: dict[str, Any] = {}
    try:
        zarr.create_array(
            zarr.storage.MemoryStore(files),
            shape=shape,
            dtype=dtype,
            chunks=chunks,
            shards=tuple(shards) if shards else None,
            compressors=[zarr.codecs.ZstdCodec(level=ZSTD_LEVEL), zarr.codecs.Crc32cCodec()],
            fill_value=fill_value,
            chunk_key_encoding={"name": "default", "separator": separator},
            dimension_names=placement.axes,
            attributes={**placement.attributes(), **attributes},
            zarr_format=3,
        )
    except (ValueError, TypeError) as error:
        raise PlanRefused(f"zarr v3 cannot hold an array of {dtype} with fill value {fill_value}: {error}") from error
    document: dict[str, Any] = json.loads(files["zarr.json"].to_bytes())
    return document


def _make_array(folder: Path, document: Mapping[str, Any], counts: tuple[int, ...]) -> None:
    """Folders first, metadata last: an array that can be opened has durable folders for all its chunks."""
    _make(folder)
    if document["chunk_key_encoding"]["configuration"]["separator"] == "/":
        for index in product(*map(range, counts[:-1])):
            os.makedirs(folder.joinpath("c", *map(str, index)), exist_ok=True)
        os.sync()
    sync_folder(folder)
    _put(folder, document)


def _check_same(folder: Path, existing: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse an array of another layout or world geometry; other attributes may differ."""
    geometry = ("voxel_size", "offset", "units")
    old, new = ({**d, **{k: d.get("attributes", {}).get(k) for k in geometry}, "attributes": None} for d in (existing, wanted))
    differing = [k for k in sorted({*old, *new} - {"consolidated_metadata"}) if old.get(k) != new.get(k)]
    if differing:
        raise FingerprintMismatch(
            f"output array {folder} exists with another layout: "
            + "; ".join(f"{k} is {_short(old.get(k))}, the plan wants {_short(new.get(k))}" for k in differing)
            + ": choose another [output] path, or remove it"
        )


def _short(value: Any) -> str:
    """A metadata value without the words that every zarr.json repeats."""
    if isinstance(value, Mapping) and "configuration" in value:
        inner = value["configuration"]
        return json.dumps(next(iter(inner.values())) if len(inner) == 1 else inner)
    return json.dumps(value)
