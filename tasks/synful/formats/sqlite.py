"""Partners as the table `synlinks` of an SQLite file, as the FAFB release has it (spec 7.5).

    pre_x, pre_y, pre_z, post_x, post_y, post_z   nm
    scores, cleft_scores                          cleft_scores is null where clefts were not looked at
    segmentid_pre, segmentid_post                 null where there is no segment

Further columns follow under their own names, the id first. SQLite has no unsigned integers: ids of 2^63 and above are kept as the
negative numbers of the same bits, and read back as they were.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow as pa

from blockwise.errors import InputError, MissingError
from tasks.synful.formats.stream import (
    IDENTITIES,
    KNOWN,
    ROWS,
    SIGNED,
    Box,
    Partners,
    as_partners,
    batches,
    dataset,
    integers,
    unsigned_identities,
)
from tasks.synful.formats.whole import whole_file
from tasks.synful.partners import POST, schema

TABLE = "synlinks"
SITES = tuple(f"{end}_{a}" for end in ("pre", "post") for a in "xyz")
ORIGINAL = {"score": "scores", "cleft_score": "cleft_scores", "segment_pre": "segmentid_pre", "segment_post": "segmentid_post"}
INDEXES = {
    "synlinks_pre": ("segmentid_pre", "segmentid_post"),
    "synlinks_post": ("segmentid_post",),
    "synlinks_position": ("post_z", "post_y", "post_x"),
}


def write_sqlite(partners: Partners, target: str | Path) -> int:
    """Write all rows, then the indexes over segments and post sites.

    Parameters
    ----------
    partners : a table, or a data set `<output>/<name>.parquet`.

    Returns
    -------
    How many rows were written.

    Raises
    ------
    MissingError, InputError : no partners there.  StorageError : it cannot be written.
    """
    found = dataset(partners).schema
    ours = [*SITES, *ORIGINAL, *(n for n in found.names if n not in SITES and n not in ORIGINAL)]
    columns = [ORIGINAL.get(n, n) for n in ours]
    rows = 0
    with whole_file(target) as file, closing(sqlite3.connect(file)) as database:
        database.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
        types = [_type(found.field(n).type if n in found.names else None) for n in ours]
        database.execute(f"CREATE TABLE {TABLE} ({', '.join(f'{_quoted(c)} {t}' for c, t in zip(columns, types, strict=True))})")
        insert = f"INSERT INTO {TABLE} VALUES ({', '.join('?' * len(columns))})"
        for batch in batches(partners):
            values = [integers(batch[n]).to_pylist() if n in batch.schema.names else [None] * batch.num_rows for n in ours]
            database.executemany(insert, zip(*values, strict=True))
            rows += batch.num_rows
        for name, on in INDEXES.items():
            database.execute(f"CREATE INDEX {name} ON {TABLE} ({', '.join(on)})")
        database.commit()
    return rows


def _type(kind: pa.DataType | None) -> str:
    if kind is not None and pa.types.is_integer(kind):
        return "INTEGER"
    return "TEXT" if kind is not None and (pa.types.is_string(kind) or pa.types.is_large_string(kind)) else "REAL" if kind else "INTEGER"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def read_sqlite(path: str | Path, *, region_nm: Box | None = None, table: str = TABLE) -> pa.Table:
    """Partners of an SQLite file, whole or by the box that holds their post site.

    Columns that are null in all rows are left out; rows without ids are numbered in the order of the file.

    Parameters
    ----------
    region_nm : begin and end, nm, z y x, half-open.

    Raises
    ------
    MissingError : no such file.  InputError : it holds no such table.
    """
    where = " AND ".join(f"{n} >= ? AND {n} < ?" for n in POST) if region_nm is not None else "1"
    limits = [float(v) for pair in zip(*region_nm, strict=True) for v in pair] if region_nm is not None else []
    with _opened(path) as database:
        names = [str(row[1]) for row in database.execute(f"PRAGMA table_info({_quoted(table)})")]
        if not names:
            raise InputError(f"{path} holds no table {table}; its tables are {', '.join(_tables(database))}")
        extra = [] if "id" in names else ["rowid - 1 AS id"]
        cursor = database.execute(
            f"SELECT {', '.join([*map(_quoted, names), *extra])} FROM {_quoted(table)} WHERE {where} ORDER BY rowid", limits
        )
        columns = names if not extra else [*names, "id"]
        tables = list(_fetched(cursor, columns))
    rows = pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({n: pa.array([], _guess(n)) for n in columns})
    empty = [n for n in rows.schema.names if pa.types.is_null(rows.schema.field(n).type)]
    return as_partners(unsigned_identities(rows.drop_columns(empty)), str(path))


def _fetched(cursor: sqlite3.Cursor, columns: list[str]) -> Iterator[pa.Table]:
    while rows := cursor.fetchmany(ROWS):
        yield pa.table(dict(zip(columns, map(pa.array, zip(*rows, strict=True)), strict=True)))


def _guess(name: str) -> pa.DataType:
    """The type of a column without rows."""
    ours = KNOWN.get(name, name)
    if ours == "cleft_score" or ours.startswith(("segment", "body")):
        return pa.null()
    return schema().field(ours).type if ours in schema().names else pa.int64() if ours in (*IDENTITIES, *SIGNED) else pa.null()


@contextmanager
def _opened(path: str | Path) -> Iterator[sqlite3.Connection]:
    if not Path(path).is_file():
        raise MissingError(f"no file {path}")
    try:
        with closing(sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)) as database:
            yield database
    except sqlite3.Error as error:
        raise InputError(f"{path} cannot be read as an SQLite file of partners: {error}") from error


def _tables(database: sqlite3.Connection) -> list[str]:
    return [str(row[0]) for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")] or ["none"]
