"""Partners as a stream of tables, whatever they lie in, and foreign columns as ours: what every format is written from and read into."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from blockwise.errors import InputError, MissingError
from tasks.synful.partners import COLUMNS, POST, PRE, require, schema

Partners: TypeAlias = pa.Table | str | Path
"""A table, a data set `<output>/<name>.parquet`, or one Parquet file."""

Box: TypeAlias = tuple[Sequence[float], Sequence[float]]
"""Begin and end, nm, z y x, half-open."""

ROWS: int = 1 << 17
"""Rows that are looked at together: some MB, whatever the size of the data set."""

SIGNED = ("skeleton_pre", "skeleton_post", "node_pre", "node_post")
IDENTITIES = ("id", *(f"{what}_{end}" for what in ("segment", "body", "annotation") for end in ("pre", "post")), "cleft_id")

KNOWN: Mapping[str, str] = {
    "scores": "score",
    "cleft_scores": "cleft_score",
    "segmentid_pre": "segment_pre",
    "segmentid_post": "segment_post",
    **{
        f"{end}_{theirs}_id": f"{ours}_{end}"
        for theirs, ours in (("seg", "segment"), ("body", "body"), ("skel", "skeleton"), ("node", "node"))
        for end in ("pre", "post")
    },
}
"""Columns under the names that the original's databases give them, and ours."""

ROUNDING = 1e-6
"""Of a voxel: what divisions may lose."""


def batches(
    partners: Partners,
    columns: Sequence[str] | None = None,
    *,
    region_nm: Box | None = None,
    rows: int = ROWS,
) -> Iterator[pa.Table]:
    """Rows in their order, at most `rows` at a time; file by file, so that the memory taken does not depend on how many there are.

    Parameters
    ----------
    partners : a table, a data set `<output>/<name>.parquet`, or one Parquet file.
    columns : which; by default all.
    region_nm : begin and end, nm, z y x, half-open; rows whose post site lies in it.

    Raises
    ------
    MissingError : no such data set.  InputError : it lacks the columns of partners.
    """
    found = dataset(partners)
    require(found, COLUMNS, f"a table of partners{'' if is_table(partners) else f' ({partners})'}")
    scanner = found.scanner(
        columns=list(columns) if columns is not None else None,
        filter=inside(region_nm),
        batch_size=rows,
        batch_readahead=1,
        fragment_readahead=1,
        use_threads=False,
    )
    yield from _gathered(scanner.to_batches(), rows)


def _gathered(found: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Small batches put together, for cells may be small and many."""
    held: list[pa.RecordBatch] = []
    for batch in found:
        if held and sum(b.num_rows for b in held) + batch.num_rows > rows:
            yield pa.Table.from_batches(held).combine_chunks()
            held = []
        if batch.num_rows:
            held.append(batch)
    if held:
        yield pa.Table.from_batches(held).combine_chunks()


def dataset(partners: Partners) -> Any:
    """What rows are scanned from: a pyarrow data set; its files in the order of their numbers, so z first for cells."""
    if is_table(partners):
        return ds.dataset(partners)
    place = Path(str(partners))
    if not place.exists():
        raise MissingError(f"no data set of partners at {place}: give `<output>/partners.parquet`, a Parquet file or a table")
    files = [place] if place.is_file() else sorted((f for f in place.iterdir() if f.suffix == ".parquet"), key=_numbers)
    if not files:
        raise InputError(f"{place} holds no .parquet file; is the run done?")
    return ds.dataset([str(f) for f in files], format="parquet")


def is_table(partners: Partners) -> bool:
    """Whether partners lie in memory."""
    return not isinstance(partners, str | Path)


def _numbers(file: Path) -> tuple[tuple[int, ...], str]:
    parts = file.stem.split("_")
    return tuple(int(p) for p in parts) if all(p.isdigit() for p in parts) else (), file.name


def column_names(partners: Partners) -> list[str]:
    """Names of the columns, in order."""
    return list(dataset(partners).schema.names)


def count_rows(partners: Partners) -> int:
    """How many rows there are, from footers alone."""
    return int(dataset(partners).count_rows())


def inside(region_nm: Box | None) -> Any:
    """The condition that the post site lies in a box, half-open; None for everywhere."""
    if region_nm is None:
        return None
    conditions = [c for name, low, high in zip(POST, *region_nm, strict=True) for c in (pc.field(name) >= low, pc.field(name) < high)]
    found = conditions[0]
    for condition in conditions[1:]:
        found = found & condition
    return found


def in_region(rows: pa.Table, region_nm: Box | None) -> pa.Table:
    """The rows whose post site lies in a box; all for None."""
    return rows if region_nm is None else rows.filter(inside(region_nm))


def as_partners(
    rows: pa.Table,
    what: str,
    *,
    names: Mapping[str, str] | None = None,
    voxel_size: Sequence[float] = (1.0, 1.0, 1.0),
    offset: Sequence[float] = (0.0, 0.0, 0.0),
) -> pa.Table:
    """A foreign table with our columns, in our types and order; further columns stay at the end.

    Sites become whole nm. Rows without ids are numbered from 0; rows without scores get 1, that of a certain partner.

    Parameters
    ----------
    what : names the table in errors.
    names : our column -> theirs, beside those of the original's databases (`KNOWN`), which are understood.
    voxel_size, offset : nm, z y x; what the table's coordinates are multiplied by and begin at.

    Raises
    ------
    InputError : a position is missing, or a column holds no numbers.
    """
    theirs = {v: k for k, v in (names or {}).items()}
    missing = sorted(set(theirs) - set(rows.schema.names))
    if missing:
        raise InputError(f"{what} has no column {', '.join(missing)}; its columns are {', '.join(rows.schema.names)}")
    rows = rows.rename_columns([theirs.get(n) or (n if n in COLUMNS else KNOWN.get(n, n)) for n in rows.schema.names])
    require(rows, (*PRE, *POST), what)
    found: dict[str, Any] = {
        "id": _cast(rows, "id", pa.uint64(), what) if "id" in rows.schema.names else np.arange(rows.num_rows, dtype=np.uint64)
    }
    for names_of_end in (PRE, POST):
        for name, size, begin in zip(names_of_end, voxel_size, offset, strict=True):
            found[name] = _whole_nm(_floats(rows, name, what), size, begin)
    found["score"] = _floats(rows, "score", what) if "score" in rows.schema.names else np.ones(rows.num_rows)
    for name in rows.schema.names:
        if name not in found:
            wanted = pa.uint64() if name in IDENTITIES else pa.int64() if name in SIGNED else None
            found[name] = rows[name] if wanted is None else _cast(rows, name, wanted, what)
    return pa.table(found, schema=_schema(found, rows))


def _schema(found: Mapping[str, Any], rows: pa.Table) -> pa.Schema:
    more = [pa.field(n, found[n].type) for n in rows.schema.names if n not in COLUMNS]
    return pa.schema([*schema(), *more])


def _cast(rows: pa.Table, name: str, wanted: pa.DataType, what: str) -> pa.ChunkedArray:
    try:
        return rows[name].cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"{what}: column {name} ({rows[name].type}) holds no {wanted}: {error}") from None


def _floats(rows: pa.Table, name: str, what: str) -> npt.NDArray[np.float64]:
    values = _cast(rows, name, pa.float64(), what)
    if values.null_count:
        raise InputError(f"{what}: column {name} has {values.null_count} empty fields of {rows.num_rows}")
    return np.asarray(values.to_numpy(), np.float64)


def _whole_nm(values: npt.NDArray[np.float64], size: float, begin: float) -> npt.NDArray[np.int64]:
    """Coordinates in whole nm: rounded where they are nm, up where they are voxels, so that they stay in their voxel."""
    if not np.isfinite(values).all():
        raise InputError("a position is not a finite number")
    placed = values * size + begin
    return np.asarray(np.rint(placed) if size == 1 else np.ceil(placed - ROUNDING), np.int64)


def voxels(positions_nm: npt.NDArray[np.int64], voxel_size: Sequence[float], offset: Sequence[float]) -> npt.NDArray[np.int64]:
    """The voxels that hold sites, (n, 3) int64, z y x."""
    placed = (positions_nm - np.asarray(offset)) / np.asarray(voxel_size)
    return np.asarray(np.floor(placed + ROUNDING), np.int64)


def integers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """uint64 as the int64 of the same bits, for stores without unsigned integers; other columns as they are."""
    if column.type != pa.uint64():
        return column
    return pa.chunked_array([_reinterpreted(chunk, pa.int64()) for chunk in column.chunks], pa.int64())


def unsigned(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """int64 as the uint64 of the same bits: what `integers` made undone."""
    if column.type != pa.int64():
        return column
    return pa.chunked_array([_reinterpreted(chunk, pa.uint64()) for chunk in column.chunks], pa.uint64())


def _reinterpreted(chunk: pa.Array, wanted: pa.DataType) -> pa.Array:
    return pa.Array.from_buffers(wanted, len(chunk), chunk.buffers(), offset=chunk.offset)


def unsigned_identities(rows: pa.Table) -> pa.Table:
    """The table with its columns of identities read as unsigned, whatever they are called."""
    for at, name in enumerate(rows.schema.names):
        if KNOWN.get(name, name) in IDENTITIES:
            rows = rows.set_column(at, name, unsigned(rows[name]))
    return rows
