"""What a task hands back for each write it started; the engine awaits, checksums and books it."""

import os
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from blockwise.errors import StorageError

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


@dataclass(frozen=True, slots=True)
class Stored:
    """The future of a durable write; its failure comes as StorageError with the system's errno.

    again : writes once more, and waits, where what lay there before is damaged; None where nothing of it is read.
    """

    future: Any
    where: str
    again: Callable[[], Any] | None = None

    def done(self) -> bool:
        """Whether `result` would return at once."""
        return bool(self.future.done())

    def result(self) -> object:
        try:
            try:
                return self.future.result()
            except (ValueError, OSError) as error:
                if self.again is None or "Error reading" not in str(error):
                    raise
                return self.again()
        except (ValueError, OSError) as error:
            raise failure(f"cannot write {self.where}", error) from error


def failure(what: str, error: Exception) -> StorageError:
    """tensorstore gives the errno in its text only; the engine tells a full disk by it."""
    found = re.search(r"os_error_code='(\d+)'", str(error))
    return StorageError(int(found[1]), f"{what}: {os.strerror(int(found[1]))}") if found else StorageError(f"{what}: {error}")
