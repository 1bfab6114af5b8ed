"""Rates on their way into files: what they are read from, in which pieces, and how a file is replaced in one step."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from blockwise.errors import StorageError
from blockwise.geometry import Region
from blockwise.storage import sync_folder

PIECE_BYTES = 32 * 2**20
"""Bytes that are copied at a time."""


class Rates(Protocol):
    """An array (neurons, frames) that is read by region; what `blockwise.storage.open_source` returns."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def chunks(self) -> tuple[int, ...] | None: ...

    def read(self, region: Region) -> npt.NDArray[Any]: ...


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to fill; when the block ends well it is forced to disk and takes the place of `path`.

    Raises
    ------
    StorageError : the folder is missing, full or not writable; the old content stays.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        yield partial
        with partial.open("rb") as handle:
            os.fsync(handle.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(error.errno, f"cannot write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def pieces(rates: Rates) -> Iterator[Region]:
    """Regions of at most `PIECE_BYTES`, as many rows as a chunk has and as many frames as fit, that cover the array once."""
    rows, frames = rates.shape
    row_step = min(rows, (rates.chunks or (64,))[0])
    frame_step = max(1, PIECE_BYTES // (row_step * np.dtype(rates.dtype).itemsize))
    for r in range(0, rows, row_step):
        for f in range(0, frames, frame_step):
            yield Region((r, f), (min(rows, r + row_step), min(frames, f + frame_step)))
