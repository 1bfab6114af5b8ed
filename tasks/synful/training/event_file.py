"""Figures as TensorBoard reads them, written without TensorBoard: records of `Event` messages (tensorflow/core/util/event.proto).

A start of training writes a file of its own and says from which step it goes on, so that what a crash made void is not shown. Every
record is complete and flushed when `add` returns; a torn last one is skipped by readers.
"""

import platform
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from blockwise.storage import make_folders

VERSION = b"brain.Event:2"
START = 1
"""Of SessionLog.SessionStatus."""


class EventFile:
    """Appends figures to one file of a folder.

    Parameters
    ----------
    folder : TensorBoard is started on it, or on one above.  step : events from here on in older files are void.
    """

    def __init__(self, folder: Path, *, step: int = 0) -> None:
        make_folders(folder)
        self._file = (folder / f"events.out.tfevents.{time.time_ns() // 1_000_000}.{platform.node()}").open("ab")
        self._write(_text(3, VERSION))
        self._write(_number(2, step) + _text(7, _number(1, START)))

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures of a step, by name; a slash in a name makes a group."""
        values = b"".join(_text(1, _text(1, name.encode()) + b"\x15" + struct.pack("<f", value)) for name, value in figures.items())
        self._write(_number(2, step) + _text(5, values))

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _write(self, event: bytes) -> None:
        message = b"\x09" + struct.pack("<d", time.time()) + event
        self._file.write(record(message))
        self._file.flush()


def record(data: bytes) -> bytes:
    """A TFRecord: length, its checksum, data, its checksum."""
    from tasks.synful.crc32c import crc32c, masked

    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked(crc32c(length))) + data + struct.pack("<I", masked(crc32c(data)))


def _number(field: int, value: int) -> bytes:
    return bytes([field << 3]) + _varint(value)


def _text(field: int, data: bytes) -> bytes:
    """Bytes, a text or a message as a field."""
    return bytes([field << 3 | 2]) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])
