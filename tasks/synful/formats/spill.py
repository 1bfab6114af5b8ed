"""Records by bucket, on disk: what is to be grouped and does not fit into memory goes to a file per bucket and is read by bucket."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Records = npt.NDArray[Any]


class Spill:
    """Files below a folder, one per bucket.

    Parameters
    ----------
    folder : is made.  buckets : how many.  dtype : of the records.
    """

    def __init__(self, folder: Path, buckets: int, dtype: np.dtype[Any]) -> None:
        folder.mkdir()
        self.folder, self.buckets, self.dtype = folder, buckets, dtype

    def add(self, records: Records, bucket: npt.NDArray[np.int64]) -> None:
        """Append records, each to its bucket."""
        order = np.argsort(bucket, kind="stable")
        borders = np.searchsorted(bucket[order], np.arange(self.buckets + 1))
        for number in np.flatnonzero(np.diff(borders)):
            with (self.folder / str(number)).open("ab") as file:
                file.write(records[order[borders[number] : borders[number + 1]]].tobytes())

    def drained(self) -> Iterator[tuple[int, Records]]:
        """Buckets that hold records, in order; their files are removed, and the folder in the end."""
        for number in range(self.buckets):
            file = self.folder / str(number)
            if file.exists():
                yield number, np.fromfile(file, self.dtype)
                file.unlink()
        self.folder.rmdir()
