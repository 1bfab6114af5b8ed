"""Documents in the original's schema on a real server."""

import pyarrow as pa
import pytest

from blockwise.errors import PlanRefused, StorageError
from tasks.synful.formats.mongodb import INDEXES, read_mongodb, write_mongodb
from tests.ledger.conftest import database, mongodb
from tests.synful.formats.examples import BOX, assert_same, in_box, partners

__all__ = ["database", "mongodb"]


def test_what_is_written_is_read(database, rows, data_set):
    for _ in range(2):
        assert write_mongodb(data_set, database, "pred") == rows.num_rows
    assert_same(read_mongodb(database, "pred"), rows)
    assert_same(read_mongodb(database, "pred", region_nm=BOX), in_box(rows))
    either = read_mongodb(database, "pred", region_nm=BOX, either=True)
    assert set(in_box(rows)["id"].to_pylist()) < set(either["id"].to_pylist())


def test_nothing_else_is_left_in_the_database(database, rows):
    from pymongo import MongoClient

    write_mongodb(rows, database, "pred")
    with MongoClient(database) as client:
        assert client.get_default_database().list_collection_names() == ["pred.synapses"]
        assert set(client.get_default_database()["pred.synapses"].index_information()) == {"_id_", *INDEXES}


def test_adding_replaces_documents_of_the_same_id(database):
    rows = partners(60)
    first, changed = rows.slice(0, 40), rows.slice(30).set_column(7, "score", pa.array([-1.0] * 30))
    write_mongodb(first, database, "pred")
    write_mongodb(changed, database, "pred", mode="r+")
    assert_same(read_mongodb(database, "pred"), pa.concat_tables([rows.slice(0, 30), changed.cast(rows.schema)]))


def test_of_partners_with_one_id_the_first_is_kept(database, rows):
    assert write_mongodb(pa.concat_tables([rows, rows]), database, "pred") == rows.num_rows


def test_an_empty_collection(database, rows):
    assert write_mongodb(rows.slice(0, 0), database, "pred") == 0
    assert read_mongodb(database, "pred").num_rows == 0


def test_reading_only_is_no_mode_of_writing(database, rows):
    with pytest.raises(PlanRefused, match="'r' does not write"):
        write_mongodb(rows, database, "pred", mode="r")


def test_no_answer_tells_no_secrets(rows, monkeypatch):
    monkeypatch.setattr("tasks.synful.formats.mongodb.PATIENCE_S", 0.2)
    with pytest.raises(StorageError, match="nobody answered") as error:
        write_mongodb(rows, "mongodb://user:hidden@127.0.0.1:1/x", "pred")
    assert "hidden" not in str(error.value)
