"""Rates on their way into files: what they are read from, in which pieces, and how a file is replaced in one step."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from blockwise.errors import StorageError
from blockwise.geometry import Region

PIECE_BYTES = 32 * 2**20
"""Bytes that are copied at a time."""


class Rates(Protocol):
    """An array (neurons, frames) that is read by region; what `blockwise.storage.open_source` returns."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    @property
    def chunks(self) -> tuple[int, ...] | None: ...

    def read(self, region: Region) -> npt.NDArray[Any]: ...


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A `.part` file to fill; when the block ends well it is forced to disk and takes the place of `path`."""
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        _sync(part)
        part.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise StorageError(f"{path} could not be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def pieces(rates: Rates) -> Iterator[Region]:
    """Regions of at most `PIECE_BYTES`, as many rows as a chunk has and as many frames as fit, that cover the array once."""
    rows, frames = rates.shape
    row_step = min(rows, (rates.chunks or (64,))[0])
    frame_step = max(1, PIECE_BYTES // (row_step * np.dtype(rates.dtype).itemsize))
    for r in range(0, rows, row_step):
        for f in range(0, frames, frame_step):
            yield Region((r, f), (min(rows, r + row_step), min(frames, f + frame_step)))
