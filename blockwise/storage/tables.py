"""Tables in parts: one Arrow file per block of a grid, written durably by whichever worker computed the block.

Layout
------
The table `name` of an output is the zarr group `<output>/<name>`, whose attributes tell its schema. The part of a block is the file
`<domain digest>/<page>/<n>.arrow` below it, where n counts from the domain's first block: the ledger's own key, so a set of recordings
can grow, and no folder holds more than PAGE_BLOCKS parts. `create` makes all folders and fsyncs them; a block never makes one.
Parts are Arrow IPC files with zstd: the schema comes back exactly, a small part costs one short footer, its bytes follow from schema and
rows alone, and pandas, polars, R and DuckDB read them. Parquet would add a second type system and statistics that nobody asks of a part.

Guarantees
----------
* The future of `write` returns when the part survives a power cut: file, rename and folder are synced (G1).
* The same rows give the same bytes, however a table was sliced or put together; a block written twice, even at once, leaves one whole
  part (G4). A block that found nothing writes a part without rows, so `complete` is true of what was written (G6).
* A crash leaves whole parts, and `*.partial` files that every reader ignores and `blockwise clean` removes.

Who writes: the driver folders and attributes, any worker the parts of its own blocks. Outputs are local (or mounted) folders.
"""

import functools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from blockwise.errors import FingerprintMismatch, InputError, MissingError, StorageError
from blockwise.grid import PAGE_BLOCKS, Block, Grid
from blockwise.storage.context import WRITES_IN_FLIGHT, local_path
from blockwise.storage.durable import sync_folder, write_atomic
from blockwise.storage.output import ZSTD_LEVEL, create_group, group_attributes, set_group_attributes
from blockwise.storage.writes import Array, Write

if TYPE_CHECKING:
    import pyarrow as pa

ATTRIBUTE = "columns"


@dataclass(frozen=True, slots=True)
class TableParts:
    """One table of an output, in one part per block; making the value touches no file.

    Parameters
    ----------
    path : the output.  name : of the table, "/" allowed.
    schema : names and types of the columns, in order; fields with `nullable=False` refuse nulls.
    grid : the blocks that write the parts.
    """

    path: str
    name: str
    schema: "pa.Schema"
    grid: Grid

    @property
    def folder(self) -> Path:
        """Where the table lies."""
        return (local_path(self.path) or Path(self.path)).absolute() / self.name

    def create(self) -> None:
        """Make the table's group and every folder of its parts, durably; idempotent, and adds what new domains need.

        Raises
        ------
        FingerprintMismatch : the table exists with another schema.
        PlanRefused : something else lies there.  StorageError : it cannot be written.
        """
        create_group(self.path)
        for group in [*list(Path(self.name).parents)[-2::-1], Path(self.name)]:
            create_group(f"{self.path}/{group}")
        self._claim_schema()
        try:
            for index, domain in enumerate(self.grid.domains):
                for page in range(self.grid.pages(index)):
                    os.makedirs(self.folder / domain.digest / str(page), exist_ok=True)
                sync_folder(self.folder / domain.digest)
            sync_folder(self.folder)
        except OSError as error:
            raise StorageError(error.errno, f"cannot make the folders of table {self.folder}: {error.strerror}") from error

    def _claim_schema(self) -> None:
        now = [f"{f.name}: {f.type}{'' if f.nullable else ' not null'}" for f in self.schema]
        then = group_attributes(self.folder).get(ATTRIBUTE, now)
        if then != now:
            raise FingerprintMismatch(
                f"table {self.folder} exists with the columns {then}, the plan wants {now}: choose another [output] path, or remove it"
            )
        set_group_attributes(self.folder, {ATTRIBUTE: now})

    def file(self, block: Block) -> Path:
        """Where the part of a block lies, or will."""
        local = block.id - int(self.grid.starts[block.domain])
        return self.folder / self.grid.domains[block.domain].digest / str(local // PAGE_BLOCKS) / f"{local}.arrow"

    def write(self, block: Block, table: "pa.Table") -> Write:
        """Start writing the part of a block; `data` of what is returned are the file's bytes, uint8.

        Raises
        ------
        InputError : the table has other columns than the schema; names those that differ.
        """
        data = _serialised(self._fitting(block, table))
        return write_file(self.file(block), data)

    def _fitting(self, block: Block, table: "pa.Table") -> "pa.Table":
        """The table under our schema, which may say less than its own (metadata) or more (no nulls)."""
        import pyarrow as pa

        if wrong := list(_differences(self.schema, table)):
            raise InputError(
                f"block {block.id}, table {self.name!r}: {'; '.join(wrong)}. "
                "Build it with pyarrow.table(columns, schema=parts.schema), or change the schema and the task's version"
            )
        return pa.Table.from_arrays(table.columns, schema=self.schema).combine_chunks()

    def complete(self, block: Block) -> bool:
        """Whether the part of a block is there; parts appear whole."""
        return self.file(block).is_file()

    def stored(self, block: Block) -> Array | None:
        """The bytes of a part as uint8, those that `write` put there; None where it is missing."""
        return np.fromfile(self.file(block), np.uint8) if self.complete(block) else None

    def read(self, block: Block) -> "pa.Table":
        """The part of a block.

        Raises
        ------
        MissingError : there is none.  StorageError : it cannot be read.
        """
        import pyarrow as pa

        file = self.file(block)
        try:
            with pa.OSFile(str(file)) as source:
                return pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(use_threads=False)).read_all()
        except FileNotFoundError as error:
            raise MissingError(
                f"block {block.id} has no part of table {self.name!r} at {file}: it was not computed, or the file is gone; "
                "`blockwise verify RUN --rebuild` takes back the marks of blocks whose parts are missing"
            ) from error
        except (pa.ArrowInvalid, OSError) as error:
            raise StorageError(f"cannot read {file}: {error}; `blockwise verify RUN --rebuild` has it computed anew") from error


def write_file(file: Path, data: bytes) -> Write:
    """Start writing a whole file in one durable step; its folder must exist. The bytes come back as `data` of what is returned, uint8."""
    return Write(np.frombuffer(data, np.uint8), _writers().submit(write_atomic, file, data))


@functools.cache
def _writers() -> ThreadPoolExecutor:
    """The process's writers of parts: several fsyncs in flight hide their cost. Made at first use, so never before a fork."""
    return ThreadPoolExecutor(WRITES_IN_FLIGHT, thread_name_prefix="blockwise-part")


def _serialised(table: "pa.Table") -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=ZSTD_LEVEL), use_threads=False)
    with pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _differences(wanted: "pa.Schema", table: "pa.Table") -> Iterator[str]:
    """What keeps a table from having the wanted columns, one sentence each."""
    names = table.schema.names
    if names != wanted.names:
        yield f"has the columns {names}, wanted are {wanted.names} in this order"
        return
    for field, column in zip(wanted, table.columns, strict=True):
        if column.type != field.type:
            yield f"column {field.name!r} is {column.type}, wanted is {field.type}"
        elif column.null_count and not field.nullable:
            yield f"column {field.name!r} has {column.null_count} nulls, wanted are none"
