"""A table of partners as a Parquet data set, one file per cell of the volume: `<output>/<name>.parquet/<z>_<y>_<x>.parquet`.

A row lies in the cell that holds its post site, rows are ordered by post site, and a cell without partners is a file without rows; so
the folder is at any time a data set that pandas, polars, DuckDB and pyarrow read, whole or by region. Files appear whole and durably,
and their bytes follow from their rows alone: a cell written twice, even at once, leaves the same file.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from blockwise.errors import InputError, MissingError, StorageError
from blockwise.geometry import Region
from blockwise.grid import Block, Grid
from blockwise.storage.durable import make_folders
from blockwise.storage.tables import write_file
from blockwise.storage.writes import Array, Write

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP = 1 << 16


@dataclass(frozen=True, slots=True)
class Cells:
    """One table in cells; making the value touches no file.

    Parameters
    ----------
    path : the output, a local folder.  name : of the table.  grid : of the cells.
    """

    path: str
    name: str
    grid: Grid

    @property
    def folder(self) -> Path:
        return Path(self.path).absolute() / f"{self.name}.parquet"

    def create(self) -> None:
        """Make the folder, durably; idempotent."""
        make_folders(self.folder)

    def file(self, block: Block) -> Path:
        return self.folder / ("_".join(map(str, block.position)) + ".parquet")

    def write(self, block: Block, table: "pa.Table") -> Write:
        """Start writing one cell."""
        return write_file(self.file(block), serialised(table))

    def stored(self, block: Block) -> Array | None:
        """The bytes of a cell's file; None where it is missing."""
        return np.fromfile(self.file(block), np.uint8) if self.file(block).is_file() else None

    def read(self, block: Block, columns: Sequence[str] | None = None) -> "pa.Table":
        """The rows of one cell.

        Raises
        ------
        MissingError : there is none.  StorageError : it cannot be read.
        """
        return read_parquet(self.file(block), columns)

    def meeting(self, region: Region) -> Iterable[Block]:
        """The cells that meet a region of voxels."""
        return self.grid.blocks(self.grid.ids_meeting(0, region))


def serialised(table: "pa.Table") -> bytes:
    """A table as the bytes of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=ROW_GROUP)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def read_parquet(file: str | Path, columns: Sequence[str] | None = None) -> "pa.Table":
    """The rows of one Parquet file, in one thread.

    Raises
    ------
    MissingError : no such file.  StorageError : it cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file).read(columns=None if columns is None else list(columns), use_threads=False)
    except FileNotFoundError as error:
        raise MissingError(f"no file {file}: its cell was not computed, or the file is gone; `blockwise verify RUN --rebuild` tells") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise StorageError(f"cannot read {file}: {error}; `blockwise verify RUN --rebuild` has it computed anew") from error


def read_partners(folder: str | Path, region_nm: tuple[Sequence[float], Sequence[float]] | None = None) -> "pa.Table":
    """A data set of partners, or one Parquet file of it, whole or the rows whose post site lies in a box.

    Parameters
    ----------
    folder : `<output>/partners.parquet`, or a file.  region_nm : begin and end, nm, z y x, half-open.

    Raises
    ------
    MissingError : no such folder.  InputError : it holds no Parquet file.
    """
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    place = Path(folder)
    if not place.exists():
        raise MissingError(f"no data set of partners at {place}: give `<output>/partners.parquet`")
    files = [str(place)] if place.is_file() else sorted(str(f) for f in place.iterdir() if f.suffix == ".parquet")
    if not files:
        raise InputError(f"{place} holds no .parquet file{'; is the run done?' if os.path.isdir(place) else ''}")
    found = None
    for axis, low, high in zip("zyx", *region_nm, strict=True) if region_nm else ():
        inside = (pc.field(f"post_{axis}") >= low) & (pc.field(f"post_{axis}") < high)
        found = inside if found is None else found & inside
    return ds.dataset(files, format="parquet").to_table(filter=found)
