"""A table of partners as a Parquet data set, one file per cell of the volume: `<output>/<name>.parquet/<z>_<y>_<x>.parquet`.

A row lies in the cell that holds its post site, rows are ordered by post site, and a cell without partners is a file without rows; so
the folder is at any time a data set that pandas, polars, DuckDB and pyarrow read, whole or by region. Files appear whole and durably,
and their bytes follow from their rows alone: a cell written twice, even at once, leaves the same file.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from blockwise.errors import InputError, MissingError, StorageError
from blockwise.geometry import Region
from blockwise.grid import Block, Grid
from blockwise.storage.durable import make_folders
from blockwise.storage.output import create_group
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
        """Make the output and the folder, durably; idempotent."""
        create_group(self.path)
        make_folders(self.folder)

    def file(self, block: Block) -> Path:
        return self.folder / ("_".join(map(str, block.position)) + ".parquet")

    def write(self, block: Block, *groups: "pa.Table") -> Write:
        """Start writing one cell, of a table or of several that become row groups of their own."""
        return write_file(self.file(block), serialised(*groups))

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


def serialised(*groups: "pa.Table") -> bytes:
    """Tables of one schema as the bytes of one Parquet file; each begins a row group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, groups[0].schema, compression="zstd") as writer:
        for table in groups:
            writer.write_table(table, row_group_size=ROW_GROUP)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def read_groups(file: str | Path, column: str, value: int) -> "pa.Table":
    """The rows of the row groups that hold `value`, and nothing else, in an integer column.

    Raises
    ------
    MissingError : no such file.  StorageError : it cannot be read.
    """
    with _teaching(file):
        import pyarrow.parquet as pq

        found = pq.ParquetFile(file)
        at = found.schema_arrow.get_field_index(column)
        ranges = [found.metadata.row_group(g).column(at).statistics for g in range(found.num_row_groups)]
        groups = [g for g, s in enumerate(ranges) if s is not None and s.has_min_max and s.min == s.max == value]
        return found.read_row_groups(groups, use_threads=False)


def read_parquet(file: str | Path, columns: Sequence[str] | None = None) -> "pa.Table":
    """The rows of one Parquet file, in one thread.

    Raises
    ------
    MissingError : no such file.  StorageError : it cannot be read.
    """
    with _teaching(file):
        import pyarrow.parquet as pq

        return pq.ParquetFile(file).read(columns=None if columns is None else list(columns), use_threads=False)


@contextmanager
def _teaching(file: str | Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError as error:
        raise MissingError(f"no file {file}: not computed yet, or gone; `blockwise verify RUN --rebuild` tells") from error
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
