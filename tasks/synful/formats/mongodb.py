"""Partners as documents of a MongoDB collection `<name>.synapses`, in the original's schema and under its indexes (spec 10).

    id                                       int64, unique
    pre_z, pre_y, pre_x, post_z, ...         nm
    score
    pre_seg_id, post_seg_id, ...             segments, skeletons (pre_skel_id), nodes and bodies, where a partner has them

Documents are inserted into a collection of their own, which takes the place of the older one in the end: readers see all of the old or
all of the new. A writer that is killed leaves `<name>.synapses.partial`, which the next one drops. Two that write at once notice by the
count of documents, and the later one fails. FerretDB 1 renames neither over another collection nor names with dots: there the
collection is dropped and filled in place, and is not whole before `write_mongodb` returns.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from blockwise.errors import ConfigError, PlanRefused, StorageError
from blockwise.ledger.server_url import PASSWORD_VARIABLE, USER_VARIABLE, ServerUrl, parse_url
from tasks.synful.formats.stream import KNOWN, Box, Partners, as_partners, batches, integers, unsigned_identities
from tasks.synful.partners import POST, PRE

Mode = Literal["w", "r+"]
Document = dict[str, Any]

INDEXES: Mapping[str, tuple[tuple[str, ...], bool]] = {
    "pre_position": (PRE, False),
    "post_position": (POST, False),
    "seg_ids": (("pre_seg_id", "post_seg_id"), False),
    "skel_ids": (("pre_skel_id", "post_skel_id"), False),
    "node_ids": (("pre_node_id", "post_node_id"), False),
    "id": (("id",), True),
    "score": (("score",), False),
}
"""Name of an index -> its keys, all ascending, and whether it is unique."""

NAMES = {ours: theirs for theirs, ours in KNOWN.items() if theirs.startswith(("pre_", "post_"))}
BULK: int = 5_000
"""Documents sent at once."""

DUPLICATE_KEY, INVALID_NAMESPACE, NOT_IMPLEMENTED = 11_000, 73, 238
PATIENCE_S: float = 5.0
"""How long is waited for a server that does not answer."""


def write_mongodb(partners: Partners, url: str, name: str, *, mode: Mode = "w") -> int:
    """Write all rows.

    Parameters
    ----------
    partners : a table, or a data set `<output>/<name>.parquet`.
    url : mongodb://HOST:PORT/DATABASE. User and password come from $BLOCKWISE_MONGODB_USER and $BLOCKWISE_MONGODB_PASSWORD.
    name : of the collection, which becomes `<name>.synapses`.
    mode : "w" replaces the collection; "r+" adds to it, and replaces documents of the same ids.

    Returns
    -------
    How many documents were written. Of partners with one id, which lie in one voxel, the schema admits the first only.

    Raises
    ------
    ConfigError : a url that cannot be used.  StorageError : the server does not answer, or refuses.
    PlanRefused : a mode that does not write.
    """
    if mode not in ("w", "r+"):
        raise PlanRefused(f"mode {mode!r} does not write: 'w' replaces the collection, 'r+' adds to it")
    with _database(url) as database:
        if mode == "r+":
            _create_indexes(database[f"{name}.synapses"])
            return sum(_merged(database[f"{name}.synapses"], d) for d in documents(partners))
        target = database[f"{name}.synapses"]
        renames = _can_rename(database, name)
        filled = database[f"{name}.synapses.partial"] if renames else target
        filled.drop()
        _create_indexes(filled)
        rows = sum(len(d) - len(_inserted(filled, d)) for d in documents(partners))
        there = filled.estimated_document_count()
        if there != rows:
            raise StorageError(f"{filled.name} holds {there} documents, {rows} were written: does another export write there? Try again")
        if renames:
            filled.rename(target.name, dropTarget=True)
        return rows


def _can_rename(database: Any, name: str) -> bool:
    """Whether the server renames collections as this needs it, tried with an empty one."""
    from pymongo.errors import OperationFailure

    first, second = (database[f"{name}.synapses.partial{n}"] for n in ("", ".renamed"))
    first.drop()
    second.drop()
    database.create_collection(first.name)
    try:
        first.rename(second.name, dropTarget=True)
    except OperationFailure as error:
        if error.code not in (INVALID_NAMESPACE, NOT_IMPLEMENTED):
            raise
        first.drop()
        return False
    second.drop()
    return True


def _create_indexes(collection: Any) -> None:
    for name, (keys, unique) in INDEXES.items():
        collection.create_index([(k, 1) for k in keys], name=name, **({"unique": True} if unique else {}))


def documents(partners: Partners) -> Iterator[list[Document]]:
    """Partners as documents, `BULK` at a time; what a partner has not is not in its document."""
    from bson import Int64

    for rows in batches(partners, rows=BULK):
        columns = {NAMES.get(n, n): integers(rows[n]).to_pylist() for n in rows.schema.names}
        columns["id"] = [Int64(i) for i in columns["id"]]
        keys = list(columns)
        yield [{k: v for k, v in zip(keys, values, strict=True) if v is not None} for values in zip(*columns.values(), strict=True)]


def _inserted(collection: Any, documents: Sequence[Document]) -> list[Document]:
    """Insert those whose ids are new; those that are not come back."""
    from pymongo.errors import BulkWriteError

    try:
        collection.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        wrong = (error.details or {}).get("writeErrors", ())
        if any(e.get("code") != DUPLICATE_KEY for e in wrong):
            raise
        return [documents[e["index"]] for e in wrong]
    return []


def _merged(collection: Any, documents: Sequence[Document]) -> int:
    """Insert documents or replace those of the same ids; how many there were."""
    from pymongo import ReplaceOne

    older = [{k: v for k, v in d.items() if k != "_id"} for d in _inserted(collection, documents)]
    for first in range(0, len(older), BULK // 100):
        collection.bulk_write([ReplaceOne({"id": d["id"]}, d, upsert=True) for d in older[first : first + BULK // 100]], ordered=False)
    return len({d["id"] for d in documents})


def read_mongodb(url: str, name: str, *, region_nm: Box | None = None, either: bool = False) -> pa.Table:
    """Partners of `<name>.synapses`, ordered by post site.

    Parameters
    ----------
    region_nm : begin and end, nm, z y x, half-open; partners whose post site lies in it.
    either : partners of which either site lies in the box.

    Raises
    ------
    ConfigError : a url that cannot be used.  StorageError : the server does not answer, or refuses.
    """
    asked: Document = {}
    if region_nm is not None:
        boxes = [_box(columns, region_nm) for columns in ((PRE, POST) if either else (POST,))]
        asked = boxes[0] if len(boxes) == 1 else {"$or": boxes}
    with _database(url) as database:
        found = list(database[f"{name}.synapses"].find(asked, {"_id": False}))
    columns = list(dict.fromkeys(k for d in found for k in d)) or ["id", *PRE, *POST, "score"]
    rows = pa.table({c: pa.array([d.get(c) for d in found], None if found else pa.int64()) for c in columns})
    partners = as_partners(unsigned_identities(rows), f"{name}.synapses at {parse_url(url).text}")
    return partners.sort_by([(n, "ascending") for n in (*POST, *PRE)])


def _box(columns: Sequence[str], region_nm: Box) -> Document:
    return {n: {"$gte": int(np.ceil(low)), "$lt": int(np.ceil(high))} for n, low, high in zip(columns, *region_nm, strict=True)}


@contextmanager
def _database(url: str) -> Iterator[Any]:
    """The database of a url; errors of its server without the secrets of the url."""
    from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError

    server = parse_url(url)
    client = _client(server)
    try:
        yield client[server.database]
    except PyMongoError as error:
        fix = "the server refused: see its log"
        if isinstance(error, ConnectionFailure):
            fix = f"nobody answered for {PATIENCE_S:g} s: check that the server runs and can be reached"
        elif isinstance(error, OperationFailure) and error.code in (13, 18):
            fix = f"the server refused the login: set ${USER_VARIABLE} and ${PASSWORD_VARIABLE} to a user that may use the database"
        raise StorageError(f"{server.text}: {fix} ({server.redact(str(error))})") from None
    finally:
        client.close()


def _client(server: ServerUrl) -> Any:
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # an option that pymongo would drop with a warning may be tls
            return MongoClient(server.raw, **server.login, appname="blockwise", serverSelectionTimeoutMS=int(1000 * PATIENCE_S))
    except (PyMongoError, UserWarning, ValueError, TypeError) as error:
        raise ConfigError(f"url {server.text}: {server.redact(str(error))}") from None
