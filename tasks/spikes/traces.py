"""What an opened recording is: traces of neurons over frames, read piece by piece from whatever holds them.

Every kind of recording (array file, Suite2p folder, NWB file) answers the same five things, so a block of traces is read the same way
from all of them. Readers are safe to share between the threads of one process; between processes a `Recording` is sent, not a reader.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from blockwise.geometry import Region

Traces2D = npt.NDArray[np.floating[Any]]


class Traces(Protocol):
    """Traces of one opened recording, (neurons, frames)."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def read(self, rows: slice, frames: slice) -> Traces2D:
        """dF/F as a fraction of the given rows and frames: (rows, frames) float32 or float64, NaN where there is no value."""
        ...

    def identity(self) -> dict[str, str]:
        """A digest of everything that decides what `read` returns, by the name of its part."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file or folder holds under one variable, known without reading a trace.

    shape : as stored, (neurons, frames) or (frames,) of one neuron.
    """

    variable: str | None
    shape: tuple[int, ...]
    dtype: str


def rows_and_frames(shape: tuple[int, ...]) -> tuple[int, int]:
    """The shape of an array of one or two dimensions as (neurons, frames)."""
    rows, frames = shape if len(shape) == 2 else (1, *shape)
    return int(rows), int(frames)


def box(shape: tuple[int, int], rows: slice, frames: slice) -> Region:
    """Two slices without steps as a region inside `shape`."""
    (r0, r1, _), (f0, f1, _) = rows.indices(shape[0]), frames.indices(shape[1])
    return Region((r0, f0), (max(r0, r1), max(f0, f1)))


def as_float(data: npt.NDArray[Any]) -> Traces2D:
    """float32 or float64 as they are; of other types float32 where it holds every value, else float64."""
    if data.dtype in (np.float32, np.float64):
        return data.astype(data.dtype.newbyteorder("="), copy=False)
    exact = data.dtype.itemsize <= 2
    return data.astype(np.float32 if exact else np.float64)
