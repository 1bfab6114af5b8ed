"""Reader of TensorFlow checkpoints of the V2 form, without TensorFlow (Synful spec 4.2).

`PREFIX.index` is a LevelDB table that maps a variable's name to where its bytes lie in `PREFIX.data-SSSSS-of-NNNNN`. What is read is
checked against the checksums of the file.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blockwise.errors import MissingError, ModelError
from tasks.synful.protobuf import fields, varint

MAGIC = 0xDB4775248B80FB57
FOOTER_BYTES = 48
TRAILER_BYTES = 5

DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 6: "i1", 9: "<i8", 10: "?", 17: "<u2", 19: "<f2", 22: "<u4", 23: "<u8"}


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one variable lies: in a shard's file, in bytes."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    sliced: bool


class TensorFlowCheckpoint(Mapping[str, npt.NDArray[Any]]):
    """Variables of a checkpoint by name; each is read from the file when it is asked for.

    Parameters
    ----------
    prefix : what the names of its files begin with, or its .index file.

    Attributes
    ----------
    shapes : of all variables, by name.

    Raises
    ------
    MissingError : no such checkpoint, or a shard of it lacks.  ModelError : not such a checkpoint, cut off, or damaged.
    """

    def __init__(self, prefix: str | Path) -> None:
        self.prefix = Path(str(prefix).removesuffix(".index"))
        index = Path(f"{self.prefix}.index")
        if not index.is_file():
            raise MissingError(f"no checkpoint {self.prefix}: {index.name} is not there")
        try:
            values = dict(_table(memoryview(index.read_bytes())))
            self.shards = _number_of_shards(values.pop("", memoryview(b"")))
            self._entries = {name: _entry(value) for name, value in values.items()}
        except ModelError as error:
            raise ModelError(f"{index}: {error}") from None
        self.shapes = {name: entry.shape for name, entry in self._entries.items()}

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        from tasks.synful.crc32c import crc32c, masked

        entry = self._entries[name]
        file = Path(f"{self.prefix}.data-{entry.shard:05}-of-{self.shards:05}")
        if entry.dtype not in DTYPES or entry.sliced:
            what = "is stored in slices" if entry.sliced else f"has TensorFlow's type number {entry.dtype}"
            raise ModelError(f"{self.prefix}: variable {name} {what}, which this reader does not know")
        data = _bytes_of(file, entry, name)
        if masked(crc32c(data)) != entry.checksum:
            raise ModelError(f"{file}: the bytes of variable {name} do not fit their checksum: the file is damaged, copy it again")
        return np.frombuffer(data, DTYPES[entry.dtype]).reshape(entry.shape).copy()

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _bytes_of(file: Path, entry: Entry, name: str) -> bytes:
    if not file.is_file():
        raise MissingError(f"{file} is not there: it holds variable {name}")
    with file.open("rb") as opened:
        opened.seek(entry.offset)
        data = opened.read(entry.size)
    if len(data) != entry.size:
        end = entry.offset + entry.size
        raise ModelError(f"{file} has {file.stat().st_size} bytes, variable {name} ends at {end}: the file is cut off, copy it again")
    if entry.dtype in DTYPES and np.dtype(DTYPES[entry.dtype]).itemsize * int(np.prod(entry.shape, dtype=np.int64)) != entry.size:
        raise ModelError(f"{file}: variable {name} of shape {list(entry.shape)} cannot have {entry.size} bytes")
    return data


def _table(file: memoryview) -> Iterator[tuple[str, memoryview]]:
    """Keys and values of a LevelDB table."""
    if len(file) < FOOTER_BYTES or struct.unpack("<Q", file[-8:])[0] != MAGIC:
        raise ModelError("does not end like a TensorFlow index: it is cut off or of another kind")
    footer, at = file[-FOOTER_BYTES:], 0
    for _ in range(2):  # of the metaindex block, which is empty here
        _, at = varint(footer, at)
    for _, handle in _block(file, *_handle(footer, at)):
        for key, value in _block(file, *_handle(handle, 0)):
            yield str(key, "utf-8", "replace"), value


def _handle(data: memoryview, at: int) -> tuple[int, int]:
    offset, at = varint(data, at)
    return offset, varint(data, at)[0]


def _block(file: memoryview, offset: int, size: int) -> Iterator[tuple[bytes, memoryview]]:
    """Entries of one block: each key shares a beginning with the one before."""
    from tasks.synful.crc32c import crc32c, masked

    block = file[offset : offset + size + TRAILER_BYTES]
    if len(block) < size + TRAILER_BYTES or size < 4:
        raise ModelError(f"a block ends at {offset + size + TRAILER_BYTES}, the file at {len(file)}: it is cut off")
    if block[size] != 0:
        raise ModelError(f"blocks are compressed (kind {block[size]}), which TensorFlow's checkpoints never are: it is of another kind")
    if masked(crc32c(block[: size + 1])) != struct.unpack("<I", block[size + 1 :])[0]:
        raise ModelError(f"the block at {offset} does not fit its checksum: the file is damaged, copy it again")
    (restarts,) = struct.unpack("<I", block[size - 4 : size])
    end, at, key = size - 4 * (restarts + 1), 0, b""
    while at < end:
        shared, at = varint(block, at)
        unshared, at = varint(block, at)
        length, at = varint(block, at)
        key = key[:shared] + bytes(block[at : at + unshared])
        yield key, block[at + unshared : at + unshared + length]
        at += unshared + length


def _number_of_shards(header: memoryview) -> int:
    """Of the entry under the empty key: field 1 counts shards, field 2 is 1 for bytes in big-endian order."""
    found = dict(fields(header))
    if 1 not in found or found.get(2, 0) != 0:
        raise ModelError("a TensorFlow index without a usable header" + (": big-endian bytes" if found.get(2) else ""))
    return int(found[1])  # type: ignore[arg-type]


def _entry(message: memoryview) -> Entry:
    """Fields of a BundleEntryProto: 1 type, 2 shape, 3 shard, 4 offset, 5 size, 6 checksum, 7 slices."""
    found: dict[int, Any] = dict(fields(message))
    shape = tuple(_shape(found[2])) if 2 in found else ()
    numbers = (found.get(n, 0) for n in (3, 4, 5, 6))
    return Entry(found.get(1, 0), shape, *numbers, 7 in found)


def _shape(message: memoryview) -> Iterator[int]:
    """Of a TensorShapeProto: field 2 repeats, its field 1 is a length, absent for 0."""
    for number, value in fields(message):
        if number == 2 and isinstance(value, memoryview):
            length = dict(fields(value)).get(1, 0)
            yield int(length)  # type: ignore[arg-type]
