"""Parts of tables: whole, durable, the same bytes from the same rows, in folders made beforehand."""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

from blockwise.errors import BlockwiseError, FingerprintMismatch, InputError, MissingError, PlanRefused, StorageError
from blockwise.geometry import Domain
from blockwise.grid import PAGE_BLOCKS, Grid, GridSpec
from blockwise.storage import OutputArray, checksum, durable, sweep_locks
from blockwise.storage.tables import TableParts

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), ("score", pa.float32()), ("name", pa.string())])


def line(*lengths):
    return Grid([Domain(f"line{i}", ("x",), (n,)) for i, n in enumerate(lengths)], GridSpec((1,)))


def rows(*ids):
    return pa.table({"id": list(ids), "score": [i / 3 if i else None for i in ids], "name": [f"n{i}" for i in ids]}, schema=SCHEMA)


@pytest.fixture
def parts(tmp_path):
    made = TableParts(str(tmp_path / "out.zarr"), "points", SCHEMA, line(5, 3))
    made.create()
    return made


def put(parts, id, table):
    """Write one part and wait for it."""
    write = parts.write(parts.grid.block(id), table)
    write.future.result()
    return write


# --- writing and reading


@pytest.mark.parametrize("ids", [(), (7,), (3, 0, 2), tuple(range(5_000))], ids=len)
def test_a_part_is_read_back(parts, ids):
    block = parts.grid.block(6)
    assert not parts.complete(block)
    put(parts, 6, rows(*ids))
    assert parts.complete(block)
    assert parts.read(block).equals(rows(*ids))
    assert parts.read(block).schema.equals(SCHEMA)


def test_what_is_checksummed_is_what_lies_there(parts):
    write = put(parts, 2, rows(1, 2))
    assert write.data.dtype == np.uint8
    assert write.data.tobytes() == parts.file(parts.grid.block(2)).read_bytes()
    assert checksum([write.data]) == checksum([parts.stored(parts.grid.block(2))])
    assert parts.stored(parts.grid.block(3)) is None


ODD = {
    "cut": lambda t: pa.concat_tables([rows(8), t, rows(9)]).slice(1, 4),
    "pieces": lambda t: pa.concat_tables([t.slice(0, 1), t.slice(1, 2), t.slice(3)]),
    "filtered": lambda t: pa.concat_tables([t, rows(99)]).filter(np.array([True] * 4 + [False])),
    "metadata": lambda t: t.replace_schema_metadata({"made": "today"}),
    "nullable": lambda t: t.cast(pa.schema([(f.name, f.type) for f in SCHEMA])),
}


@pytest.mark.parametrize("how", ODD)
def test_the_same_rows_give_the_same_bytes(parts, how):
    table = rows(4, 0, 6, 7)
    odd = ODD[how](table)
    assert odd.to_pydict() == table.to_pydict()
    assert put(parts, 0, odd).data.tobytes() == put(parts, 1, table).data.tobytes()


def test_other_programs_read_a_part(parts):
    import pandas

    put(parts, 0, rows(1, 2))
    assert pandas.read_feather(parts.file(parts.grid.block(0)))["name"].tolist() == ["n1", "n2"]


def test_a_part_written_twice_at_once_is_whole(parts):
    file = parts.file(parts.grid.block(0))
    with ThreadPoolExecutor(8) as pool:
        writes = list(pool.map(lambda _: put(parts, 0, rows(*range(500))), range(64)))
    assert {w.data.tobytes() for w in writes} == {file.read_bytes()}
    assert [f.name for f in file.parent.iterdir()] == ["0.arrow"]


def test_a_worker_gets_it_by_pickle(parts):
    other = pickle.loads(pickle.dumps(parts))
    put(other, 4, rows(1))
    assert parts.read(parts.grid.block(4)).equals(rows(1))


# --- folders


def test_a_write_syncs_file_and_folder_and_makes_no_folder(parts, monkeypatch):
    synced = []
    monkeypatch.setattr(durable.os, "fsync", lambda handle: synced.append(os.readlink(f"/proc/self/fd/{handle}")))
    monkeypatch.setattr("os.mkdir", None)
    put(parts, 0, rows(1))
    folder = str(parts.file(parts.grid.block(0)).parent)
    assert len(synced) == 2
    assert synced[0].startswith(f"{folder}/.0.arrow.")
    assert synced[1] == folder


def test_parts_are_spread_over_folders(tmp_path):
    parts = TableParts(str(tmp_path / "out.zarr"), "points", SCHEMA, line(3, 1_000_000))
    parts.create()
    firsts = np.arange(3, len(parts.grid), PAGE_BLOCKS)
    lasts = np.minimum(firsts + PAGE_BLOCKS, len(parts.grid)) - 1
    folders = [[parts.file(b).parent for b in parts.grid.blocks(ids)] for ids in (firsts, lasts)]
    assert folders[0] == folders[1]
    assert set(folders[0]) == set(folders[0][0].parent.iterdir())


def test_a_set_that_grows_keeps_its_parts(parts):
    put(parts, 6, rows(1))
    first, second = parts.grid.domains
    grown = TableParts(parts.path, parts.name, SCHEMA, Grid([Domain("new", ("x",), (4,)), first, second], parts.grid.spec))
    grown.create()
    assert grown.read(grown.grid.block(6 + 4)).equals(rows(1))
    put(grown, 0, rows(2))
    assert not parts.complete(parts.grid.block(0))


def test_tables_lie_below_tables(parts):
    put(parts, 0, rows(1))
    below = TableParts(parts.path, "points/more/reduce-1", SCHEMA, line(1))
    below.create()
    put(below, 0, rows(2))
    parts.create()
    assert parts.read(parts.grid.block(0)).equals(rows(1))


def test_what_a_killed_writer_leaves_is_ignored_and_swept(parts):
    (left := parts.file(parts.grid.block(0)).with_name(".0.arrow.abc.partial")).write_bytes(b"ARROW1")
    assert not parts.complete(parts.grid.block(0))
    assert sweep_locks(parts.path, older_s=0) == 1
    assert not left.exists()


# --- what is refused


BAD = {
    "other columns": (pa.table({"id": [1], "name": ["a"]}), r"has the columns \['id', 'name'\], wanted are \['id', 'score', 'name'\]"),
    "other order": (rows(1).select(["score", "id", "name"]), "in this order"),
    "other type": (rows(1).set_column(1, "score", pa.array([1.0])), "'score' is double, wanted is float"),
    "nulls": (rows(1).set_column(0, "id", pa.array([None], pa.int64())), "'id' has 1 nulls, wanted are none"),
}


@pytest.mark.parametrize("how", BAD)
def test_a_table_that_does_not_fit_is_refused_with_the_difference(parts, how):
    table, says = BAD[how]
    with pytest.raises(InputError, match=rf"block 5, table 'points': .*{says}"):
        parts.write(parts.grid.block(5), table)
    assert not parts.complete(parts.grid.block(5))


def other_schema(parts):
    TableParts(parts.path, parts.name, pa.schema([("id", pa.int32())]), parts.grid).create()


def array_there(parts):
    OutputArray.create(parts.path, "rates", shape=(4,), dtype="int64", chunks=(2,), axes=("x",))
    TableParts(parts.path, "rates", SCHEMA, parts.grid).create()


def on_a_server(parts):
    TableParts("s3://bucket/out.zarr", "points", SCHEMA, parts.grid).create()


def missing(parts):
    parts.read(parts.grid.block(1))


def broken(parts):
    put(parts, 1, rows(*range(100)))
    file = parts.file(parts.grid.block(1))
    file.write_bytes(file.read_bytes()[:200])
    parts.read(parts.grid.block(1))


def no_folder(parts):
    put(TableParts(parts.path, "never", SCHEMA, parts.grid), 0, rows(1))


@pytest.mark.parametrize(
    ("act", "error", "says"),
    [
        (other_schema, FingerprintMismatch, r"exists with the columns .*'id: int64 not null'.* the plan wants \['id: int32'\]"),
        (array_there, PlanRefused, "is a zarr array"),
        (on_a_server, StorageError, "write locally, then copy"),
        (missing, MissingError, "block 1 has no part of table 'points'"),
        (broken, StorageError, r"cannot read .*1\.arrow"),
        (no_folder, StorageError, "cannot write"),
    ],
)
def test_what_cannot_be_is_said(parts, act, error: type[BlockwiseError], says):
    with pytest.raises(error, match=says):
        act(parts)


def test_arrow_is_imported_by_those_who_write_tables_only():
    import subprocess
    import sys

    program = "import sys, blockwise.storage.tables, blockwise.reduce; sys.exit('pyarrow' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
