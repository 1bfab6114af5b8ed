"""The keeper for several drivers: documents on a MongoDB server, every change of one document atomic and idempotent.

What it guarantees
    A call that returned was acknowledged by a majority of the replica set, journalled (w=majority, j), and reads see only what a
    majority has, so that no driver skips a block for a mark that an election takes back. A booking is not one
    transaction: it is written as attempts, checksums, values, and the marks last, each of them idempotent. A crash between leaves
    blocks unmarked that are redone (G2), never a mark without what belongs to it.
Who writes
    Any number of drivers. Bits are set by `$bit or`, so two drivers that book blocks of one page lose nothing, claims or not.
    A page is claimed by inserting a document whose `_id` is the page's: the server lets one through.
When nobody answers
    Every call is tried again, with growing pauses, for `patience_s`; `waiting` is told meanwhile. Then LedgerError with errno
    EHOSTUNREACH, and until a call is answered the next ones are tried once. All calls may be repeated, for an answer that was lost leaves
    the same document behind as one that came.

All ids are strings, JSON lists that begin with the run. A page is 512 words of 32 bits, each in an Int64, inserted as zeros
before the first mark. Only what small servers have too is used: no transactions, TTL, change streams, partial indexes,
pipeline updates. The object holds connections and cannot be pickled; texts it makes hold no credentials.
"""

import errno
import json
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from itertools import groupby
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from bson import Int64
from pymongo import MongoClient, ReplaceOne, UpdateOne
from pymongo.errors import BulkWriteError, ConnectionFailure, DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from blockwise.errors import ConfigError, LedgerError
from blockwise.grid import PAGE_BLOCKS
from blockwise.ledger.contract import Attempt, Bits, Booking, Driver, Marks, PageKey, Waiting, unpack, wait_quietly
from blockwise.ledger.records import PAGE_BYTES, check_marks, fingerprint_json, mask, popcount, records, taken_over
from blockwise.ledger.server_url import FILE_VARIABLE, PASSWORD_VARIABLE, USER_VARIABLE, ServerUrl, parse_url

VERSION: int = 1
"""Version of the documents below; a run of another version is refused."""

WORDS: int = PAGE_BYTES // 4
"""Words of a page: 32 bits in an Int64, because bit 31 would overflow the server's 32-bit integers."""

SEGMENT: int = 512
"""Checksums per document; a whole page in one would make the server rewrite 200 kB for one block."""

BULK: int = 64
"""Changes sent at once, so that one answer comes well within the socket's timeout."""

READ_PAGES: int = 256
"""Pages fetched at once, about 2 MB."""

FIRST_PAUSE_S: float = 0.05
"""Pause before the second try; the next are twice as long each, up to 2 s."""

FIRST_S: float = 5.0
"""How long opening waits at most: a wrong address should be known at once, an outage in the middle of a run be waited for."""

DUPLICATE_KEY = 11_000

Document = dict[str, Any]
T = TypeVar("T")
logger = logging.getLogger(__name__)


class MongoLedger:
    """A run's ledger among the documents of a MongoDB database.

    Parameters
    ----------
    url : mongodb://HOST:PORT/DATABASE, options allowed; see `server_url.parse_url` for user and password.
    run : names the run among those of the database.
    patience_s : how long one call is tried again while the server does not answer.

    Raises
    ------
    ConfigError : a url that cannot be used or no run id.  LedgerError : nobody answers, no right to write, another version.
    """

    shared = True

    def __init__(self, url: str, run: str, *, patience_s: float = 60.0) -> None:
        self._server = parse_url(url)
        self.url = self._server.text
        if not run:
            raise ConfigError(f"the ledger at {self.url} holds many runs: give the run id, open_ledger(url, run=...)")
        self.run = run
        self.waiting: Waiting = wait_quietly
        self._met = self._gave_up = False
        self._patience_s = min(FIRST_S, patience_s)
        self._known: set[str] = set()
        self._client = _client(self._server, min(FIRST_S, patience_s))
        try:
            self._db = self._client[self._server.database]
            self._prepare()
        except BaseException:
            self._client.close()
            raise
        self._met = True
        self._patience_s = patience_s

    def __repr__(self) -> str:
        return f"MongoLedger({self.url!r}, run={self.run!r})"

    def _prepare(self) -> None:
        place = [("run", 1), ("stage", 1), ("domain", 1)]
        self._try(self._db.pages.create_index, [*place, ("page", 1)], unique=True)
        self._try(self._db.attempts.create_index, [*place, ("block", 1), ("attempt", 1)], unique=True)
        self._insert("runs", [{"_id": self.run, "version": VERSION}])
        version = (self._get("runs", self.run) or {}).get("version")
        if version != VERSION:
            raise LedgerError(
                f"run {self.run} at {self.url} is a ledger of version {version}, this blockwise writes version {VERSION}: "
                "continue with the blockwise that made it, or start a new run"
            )

    def _try(self, call: Callable[..., T], *args: Any, **options: Any) -> T:
        """The answer of one idempotent call, made as often as the patience allows."""
        started, pause_s, away = time.monotonic(), FIRST_PAUSE_S, False
        while True:
            try:
                answer = call(*args, **options)
            except PyMongoError as error:
                waited_s = time.monotonic() - started
                if not _is_transient(error) or self._gave_up or waited_s + pause_s > self._patience_s:
                    self._gave_up = isinstance(error, ConnectionFailure)
                    raise self._teaching(error, waited_s) from None
                if isinstance(error, ConnectionFailure):
                    self._wait(waited_s, _brief(self._server.redact(str(error))), first=not away)
                    away = True
            else:
                self._gave_up = False
                if away:
                    self.waiting(time.monotonic() - started, "")
                return answer
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 2.0)

    def _wait(self, waited_s: float, why: str, *, first: bool) -> None:
        """Tell of a try that failed; whoever is told may end the wait."""
        if first:
            logger.warning("ledger %s does not answer, trying again for %g s", self.url, self._patience_s)
        try:
            self.waiting(waited_s, why)
        except BaseException:
            self._gave_up = True
            raise

    def _teaching(self, error: PyMongoError, waited_s: float) -> LedgerError:
        text = _brief(self._server.redact(str(error)))
        if isinstance(error, ConnectionFailure):
            fix = f"nobody answered for {waited_s:.1f} s: check that the server runs and can be reached, then resume"
            fix += "" if self._met else "; a run that has not begun may keep its ledger in a file: --set ledger.url=ledger.sqlite"
        elif isinstance(error, OperationFailure) and error.code in (13, 18):
            fix = (
                f"the server refused the login: set ${USER_VARIABLE} and ${PASSWORD_VARIABLE}, or ${FILE_VARIABLE}, to a user that may "
                "write the database"
            )
        else:
            fix = "the server refused: check its log, then resume"
        teaching = LedgerError(f"ledger {self.url}: {fix} ({text})")
        teaching.errno = errno.EHOSTUNREACH if isinstance(error, ConnectionFailure) else None
        return teaching

    def _id(self, *parts: str | int) -> str:
        return json.dumps([self.run, *parts])

    def _page_id(self, key: PageKey) -> str:
        return self._id(key.stage, key.domain, int(key.page))

    def _insert(self, collection: str, documents: Sequence[Document]) -> None:
        """Insert what is not there yet."""
        for first in range(0, len(documents), BULK):
            self._try(_insert_new, self._db[collection], documents[first : first + BULK])

    def _bulk(self, collection: str, changes: Sequence[UpdateOne | ReplaceOne]) -> int:
        """Send changes in any order; the number of documents they met."""
        met = 0
        for first in range(0, len(changes), BULK):
            met += self._try(self._db[collection].bulk_write, changes[first : first + BULK], ordered=False).matched_count
        return met

    def _put(self, collection: str, documents: Sequence[Document]) -> None:
        self._bulk(collection, [ReplaceOne({"_id": d["_id"]}, d, upsert=True) for d in documents])

    def _get(self, collection: str, id: str) -> Document | None:
        found: Document | None = self._try(self._db[collection].find_one, {"_id": id})
        return found

    def _find(self, collection: str, query: Document, order: str = "_id", limit: int = 0) -> list[Document]:
        return self._try(lambda: list(self._db[collection].find(query).sort(order, 1).limit(limit)))

    def close(self) -> None:
        self._client.close()

    def commit(self, booking: Booking) -> None:
        rows = records(booking)
        self._put("attempts", [self._attempt_document(a) for a in rows.attempts])
        self._bulk("checksums", [change for marks in rows.marks for change in self._checksum_changes(marks, upsert=True)])
        self._put("values", [{"_id": self._id(name), "json": value} for name, value in rows.values.items()])
        self._make_pages([m.key for m in rows.marks])
        met, meant = self._bulk("pages", [self._word_change(m, "or") for m in rows.marks]), len(rows.marks)
        if met != meant:
            raise LedgerError(
                f"ledger {self.url}: {meant - met} of {meant} pages of run {self.run} vanished while it ran: somebody dropped documents. "
                "Find out who; then rebuild with `blockwise verify RUN --rebuild`"
            )

    def _attempt_document(self, attempt: Attempt) -> Document:
        return {"_id": self._id(attempt.stage, attempt.domain, attempt.block, attempt.attempt), "run": self.run, **asdict(attempt)}

    def _make_pages(self, keys: Sequence[PageKey]) -> None:
        """Zeros where a page is met for the first time: `$bit` on a missing array would make an object."""
        missing = {self._page_id(k): k for k in keys if self._page_id(k) not in self._known}
        zeros = [Int64(0)] * WORDS
        self._insert(
            "pages",
            [
                {"_id": id, "run": self.run, "stage": k.stage, "domain": k.domain, "page": int(k.page), "words": zeros}
                for id, k in missing.items()
            ],
        )
        self._known.update(missing)

    def _word_change(self, marks: Marks, operator: Literal["or", "and"]) -> UpdateOne:
        """Set (or) or clear (and) the bits of `marks`, naming only the words that change."""
        words = mask(marks.positions).view("<u4")
        touched = np.flatnonzero(words)
        operands = words[touched] if operator == "or" else ~words[touched]
        changes = {f"words.{w}": {operator: Int64(v)} for w, v in zip(touched.tolist(), operands.tolist(), strict=True)}
        return UpdateOne({"_id": self._page_id(marks.key)}, {"$bit": changes})

    def _checksum_changes(self, marks: Marks, *, upsert: bool) -> Iterator[UpdateOne]:
        if marks.checksums is None:
            return
        stored = dict(zip(marks.positions.tolist(), marks.checksums.tolist(), strict=True))
        for segment, members in groupby(sorted(stored), lambda position: position // SEGMENT):
            values = {f"crc.{p}": stored[p] for p in members}
            yield UpdateOne({"_id": self._segment_id(marks.key, segment)}, {"$set": values}, upsert=upsert)

    def _segment_id(self, key: PageKey, segment: int) -> str:
        return self._id(key.stage, key.domain, int(key.page), segment)

    def page(self, key: PageKey) -> Bits:
        found = self._get("pages", self._page_id(key))
        return unpack(_bytes(found) if found else bytes(PAGE_BYTES))

    def pages(self, stage: str, domain: str) -> Iterator[tuple[int, Bits]]:
        return ((page, unpack(data)) for page, data in self._pages(stage, domain))

    def _pages(self, stage: str, domain: str) -> Iterator[tuple[int, bytes]]:
        last, found = -1, [Document()]
        while found:
            query = {"run": self.run, "stage": stage, "domain": domain, "page": {"$gt": last}}
            found = self._find("pages", query, "page", READ_PAGES)
            yield from ((d["page"], _bytes(d)) for d in found if any(d["words"]))
            last = found[-1]["page"] if found else last

    def count(self, stage: str, domain: str) -> int:
        return sum(popcount(data) for _, data in self._pages(stage, domain))

    def checksums(self, key: PageKey) -> npt.NDArray[np.uint32] | None:
        ids = [self._segment_id(key, s) for s in range(PAGE_BLOCKS // SEGMENT)]
        found = self._find("checksums", {"_id": {"$in": ids}})
        if not found:
            return None
        sums = np.zeros(PAGE_BLOCKS, np.uint32)
        for document in found:
            sums[[int(p) for p in document["crc"]]] = list(document["crc"].values())
        return sums

    def unmark(self, marks: Marks) -> None:
        check_marks(marks)
        if not len(marks.positions):
            return
        self._bulk("pages", [self._word_change(marks, "and")])
        zeros = Marks(marks.key, marks.positions, np.zeros(len(marks.positions), np.uint32))
        self._bulk("checksums", list(self._checksum_changes(zeros, upsert=False)))

    def attempts(self, stage: str | None = None) -> list[Attempt]:
        found = self._find("attempts", {"run": self.run} if stage is None else {"run": self.run, "stage": stage})
        return sorted((_value(Attempt, d) for d in found), key=lambda a: (a.at_s, a.stage, a.domain, a.block, a.attempt))

    def forget_attempts(self, stage: str, domain: str, blocks: npt.NDArray[np.int64] | None = None) -> None:
        query: Document = {"run": self.run, "stage": stage, "domain": domain}
        if blocks is not None:
            query["block"] = {"$in": blocks.tolist()}
        self._try(self._db.attempts.delete_many, query)

    def get(self, name: str) -> object | None:
        return self._json("values", self._id(name))

    def fingerprint(self, stage: str, domain: str) -> dict[str, str] | None:
        value = self._json("fingerprints", self._id(stage, domain))
        return value if isinstance(value, dict) else None

    def _json(self, collection: str, id: str) -> object | None:
        found = self._get(collection, id)
        return json.loads(found["json"]) if found else None

    def set_fingerprint(self, stage: str, domain: str, fingerprint: Mapping[str, str]) -> None:
        self._put("fingerprints", [{"_id": self._id(stage, domain), "json": fingerprint_json(fingerprint)}])

    def join(self, driver: Driver) -> None:
        self._put("drivers", [self._driver_document(driver)])

    def drivers(self) -> list[Driver]:
        return sorted((_value(Driver, d) for d in self._find("drivers", {"run": self.run})), key=lambda d: d.id)

    def beat(self, driver: Driver) -> None:
        document = self._driver_document(driver)
        if not self._bulk("drivers", [ReplaceOne({"_id": document["_id"]}, document)]):
            raise taken_over(driver)

    def _driver_document(self, driver: Driver) -> Document:
        return {"_id": self._id(driver.id), "run": self.run, **asdict(driver)}

    def leave(self, driver_id: str) -> None:
        self._try(self._db.claims.delete_many, {"run": self.run, "driver": driver_id})
        self._try(self._db.drivers.delete_one, {"_id": self._id(driver_id)})

    def claim(self, key: PageKey, driver_id: str) -> bool:
        return self._try(self._claim, self._page_id(key), driver_id)

    def _claim(self, id: str, driver_id: str) -> bool:
        claims = self._db.get_collection("claims", read_concern=ReadConcern("local"))  # the insert met it there, so must the look
        try:
            claims.insert_one({"_id": id, "run": self.run, "driver": driver_id})
        except DuplicateKeyError:
            holder = claims.find_one({"_id": id})
            return holder is not None and holder["driver"] == driver_id
        return True


def _client(server: ServerUrl, selection_s: float) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # an option that pymongo would drop with a warning may be tls
            return MongoClient(
                server.raw,
                **server.login,
                appname="blockwise",
                serverSelectionTimeoutMS=int(1000 * selection_s),
                connectTimeoutMS=2_000,
                socketTimeoutMS=5_000,
                heartbeatFrequencyMS=2_000,
                retryWrites=True,
                w="majority",
                journal=True,
                readConcernLevel="majority",
                readPreference="primary",
            )
    except (PyMongoError, UserWarning, ValueError, TypeError) as error:
        raise ConfigError(f"[ledger] url {server.text}: {server.redact(str(error))}") from None


def _brief(text: str) -> str:
    """What pymongo says, without its picture of all servers."""
    return text.partition(", Timeout:")[0]


def _insert_new(collection: Any, documents: Sequence[Document]) -> None:
    try:
        collection.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        if _codes(error) != {DUPLICATE_KEY}:
            raise


def _is_transient(error: PyMongoError) -> bool:
    """Whether the same call may succeed later: lost connections, elections, and upserts of two drivers that met."""
    if isinstance(error, BulkWriteError):
        return _codes(error) <= {DUPLICATE_KEY}
    return isinstance(error, ConnectionFailure) or error.has_error_label("RetryableWriteError")


def _codes(error: BulkWriteError) -> set[int]:
    return {e["code"] for e in error.details["writeErrors"]}


def _bytes(document: Document) -> bytes:
    """The done bits of a page's document, as SQLite stores them."""
    return np.array(document["words"], np.int64).astype("<u4").tobytes()


def _value(kind: type[T], document: Document) -> T:
    return kind(**{f.name: document[f.name] for f in fields(kind)})  # type: ignore[arg-type]
