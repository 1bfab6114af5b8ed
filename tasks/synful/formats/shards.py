"""Many small values by 64-bit keys in a few files: the sharded format of neuroglancer's precomputed data.

A key's lowest bits say which minishard of a shard it lies in, the next ones which shard (hash "identity"). A shard is a file: 16 bytes per
minishard that tell where its index lies, the values, the indexes. An index has three rows of uint64: keys, begins and sizes, the first
two as differences to what came before. Nothing is compressed.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SHARD_ROWS: int = 1 << 17
"""Values that a shard should hold: what is put together in memory."""

MINISHARD_ROWS: int = 1 << 8
"""Values that a minishard should hold: its index is read to find one of them."""

Ids = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Sharding:
    """How many bits of a key tell its shard, and its minishard."""

    shard_bits: int
    minishard_bits: int

    @classmethod
    def of(cls, rows: int) -> "Sharding":
        """For a number of values."""
        shards = max(0, int(rows - 1).bit_length() - SHARD_ROWS.bit_length() + 1)
        return cls(shards, max(0, min(rows, SHARD_ROWS).bit_length() - MINISHARD_ROWS.bit_length() + 1))

    def to_json(self) -> dict[str, Any]:
        """What the metadata say."""
        return {
            "@type": "neuroglancer_uint64_sharded_v1",
            "hash": "identity",
            "preshift_bits": 0,
            "minishard_bits": self.minishard_bits,
            "shard_bits": self.shard_bits,
            "minishard_index_encoding": "raw",
            "data_encoding": "raw",
        }

    @property
    def shards(self) -> int:
        return 1 << self.shard_bits

    def shard_of(self, keys: Ids) -> npt.NDArray[np.int64]:
        """(n,) int64."""
        return ((keys >> np.uint64(self.minishard_bits)) & np.uint64(self.shards - 1)).astype(np.int64)

    def minishard_of(self, keys: Ids) -> npt.NDArray[np.int64]:
        """(n,) int64."""
        return (keys & np.uint64((1 << self.minishard_bits) - 1)).astype(np.int64)

    def order(self, keys: Ids) -> npt.NDArray[np.int64]:
        """The order in which a shard holds values: by minishard, then by key."""
        return np.asarray(np.lexsort((keys, self.minishard_of(keys))), np.int64)

    def write(self, folder: Path, shard: int, keys: Ids, sizes: npt.NDArray[np.int64], data: Bytes) -> None:
        """Write one shard.

        Parameters
        ----------
        keys : distinct, in `order`.  sizes : of their values, bytes.  data : the values, one after the other.
        """
        minishards = self.minishard_of(keys)
        borders = np.searchsorted(minishards, np.arange((1 << self.minishard_bits) + 1))
        begins = np.concatenate([[0], np.cumsum(sizes)]).astype(np.uint64)
        indexes, index = [], np.zeros((1 << self.minishard_bits, 2), np.uint64)
        at = int(begins[-1])
        for number, (low, high) in enumerate(pairwise(borders)):
            if low < high:
                rows = np.zeros((3, high - low), np.uint64)
                rows[0] = np.diff(keys[low:high], prepend=np.uint64(0))
                rows[1, 0], rows[2] = begins[low], sizes[low:high]
                indexes.append(rows)
                index[number] = at, at + rows.nbytes
                at += rows.nbytes
        with (folder / self.file_name(shard)).open("wb") as file:
            file.write(index.astype("<u8").tobytes())
            file.write(data.data)
            for rows in indexes:
                file.write(rows.astype("<u8").tobytes())

    def file_name(self, shard: int) -> str:
        """Hexadecimal, as wide as the largest."""
        return f"{shard:0{max(1, -(-self.shard_bits // 4))}x}.shard"
