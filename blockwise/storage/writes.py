"""What a task hands back for each write it started; the engine awaits, checksums and books it."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Durable(Protocol):
    """A write under way; `result` returns when the data is on stable storage, or raises; `done` tells whether it would at once."""

    def result(self) -> object: ...
    def done(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Write:
    """One started write of a block: the data as stored, and its durable future (None: nothing to wait for)."""

    data: Array
    future: Durable | None = None


def checksum(arrays: Sequence[Array]) -> int:
    """One crc32 over the bytes of all arrays of a block, in order, each in C order."""
    value = 0
    for data in arrays:
        value = zlib.crc32(np.ascontiguousarray(data).reshape(-1).view(np.uint8).data, value)
    return value
