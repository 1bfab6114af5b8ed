"""SQLite files have the table that FAFB's release has, and hold every bit of an id."""

import sqlite3
from contextlib import closing

import pyarrow as pa
import pytest

from blockwise.errors import InputError, MissingError
from tasks.synful.formats.sqlite import read_sqlite, write_sqlite
from tests.synful.formats.examples import BOX, assert_same, in_box

ORIGINAL = ["pre_x", "pre_y", "pre_z", "post_x", "post_y", "post_z", "scores", "cleft_scores", "segmentid_pre", "segmentid_post"]


def query(path, text):
    with closing(sqlite3.connect(path)) as database:
        return database.execute(text).fetchall()


def test_what_is_written_is_read(tmp_path, rows, data_set):
    assert write_sqlite(data_set, tmp_path / "a.db") == rows.num_rows
    assert_same(read_sqlite(tmp_path / "a.db"), rows)
    assert_same(read_sqlite(tmp_path / "a.db", region_nm=BOX), in_box(rows))


def test_the_columns_of_the_original_come_first(tmp_path, rows):
    write_sqlite(rows, tmp_path / "a.db")
    columns = [c[1] for c in query(tmp_path / "a.db", "PRAGMA table_info(synlinks)")]
    assert columns[: len(ORIGINAL)] == ORIGINAL
    assert columns[len(ORIGINAL) :] == ["id"]
    assert query(tmp_path / "a.db", "SELECT count(*), sum(cleft_scores) FROM synlinks") == [(rows.num_rows, None)]


def test_further_columns_follow(tmp_path, rows):
    more = rows.append_column("cleft_score", pa.array([1.5] * rows.num_rows)).append_column("note", pa.array(["a'\""] * rows.num_rows))
    write_sqlite(more, tmp_path / "a.db")
    assert_same(read_sqlite(tmp_path / "a.db"), more)
    assert query(tmp_path / "a.db", "SELECT DISTINCT cleft_scores FROM synlinks") == [(1.5,)]


def test_segments_and_places_are_looked_up_by_index(tmp_path, rows):
    write_sqlite(rows, tmp_path / "a.db")
    for where in ("segmentid_pre = 1", "segmentid_post = 1", "post_z >= 1 AND post_z < 2"):
        assert "USING INDEX" in query(tmp_path / "a.db", f"EXPLAIN QUERY PLAN SELECT * FROM synlinks WHERE {where}")[0][3]


def test_a_file_of_the_original(tmp_path):
    with closing(sqlite3.connect(tmp_path / "a.db")) as database:
        database.execute(f"CREATE TABLE synlinks ({', '.join(ORIGINAL)})")
        database.execute("INSERT INTO synlinks VALUES (1, 2, 3, 4, 5, 6, 7.5, 80, 9, NULL)")
        database.commit()
    found = read_sqlite(tmp_path / "a.db").to_pylist()[0]
    assert (found["id"], found["pre_z"], found["post_x"], found["score"]) == (0, 3, 4, 7.5)
    assert (found["segment_pre"], found["cleft_score"]) == (9, 80)


def test_a_table_without_rows(tmp_path, rows):
    assert write_sqlite(rows.slice(0, 0), tmp_path / "a.db") == 0
    assert read_sqlite(tmp_path / "a.db").num_rows == 0


def test_the_same_rows_give_the_same_bytes(tmp_path, rows, data_set):
    write_sqlite(rows, tmp_path / "a.db")
    write_sqlite(data_set, tmp_path / "b.db")
    assert (tmp_path / "a.db").read_bytes() == (tmp_path / "b.db").read_bytes()


def test_what_is_no_such_file_is_refused(tmp_path):
    with pytest.raises(MissingError):
        read_sqlite(tmp_path / "none.db")
    (tmp_path / "text.db").write_text("no database, but long enough to be one, or so it may look")
    with pytest.raises(InputError, match="cannot be read"):
        read_sqlite(tmp_path / "text.db")
    sqlite3.connect(tmp_path / "empty.db").close()
    with pytest.raises(InputError, match="holds no table synlinks"):
        read_sqlite(tmp_path / "empty.db")
