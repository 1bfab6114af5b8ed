"""The embedded keeper: one SQLite file in the run folder, one connection, one transaction per call that writes.

What it guarantees
    A call that returned is on stable storage (synchronous=FULL: the log is synced at every commit). A call that did not return
    left all of it or nothing: SQLite rolls a torn transaction back when the file is next opened, nothing has to be repaired.
Who writes
    The driver, from one thread at a time. A second process waits `BUSY_S` for the lock, then gets a LedgerError.
What a crash leaves
    `ledger.sqlite-wal` and `-shm` beside the file (or `-journal` on network file systems). They belong to it: never delete them.

Pages of done bits are 2,048-byte BLOBs, checksums 64 KiB BLOBs in a table of their own, written in place, so that a lease of few
blocks costs few bytes. On file systems that several machines may mount the write-ahead log is replaced by a rollback journal.
The object holds a connection and cannot be pickled: a ledger stays with its driver.
"""

import errno
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import astuple, fields, replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from blockwise.errors import LedgerError, RunActive
from blockwise.grid import PAGE_BLOCKS
from blockwise.ledger.contract import Attempt, Bits, Booking, Driver, Marks, PageKey, Waiting, unpack, wait_quietly
from blockwise.ledger.filesystem import on_network
from blockwise.ledger.records import PAGE_BYTES, check_marks, fingerprint_json, mask, popcount, records, taken_over

APPLICATION_ID: int = 0x62_6C_6B_77
"""Marks an SQLite file as a ledger ("blkw" in its header)."""

VERSION: int = 1
"""Version of the tables below; a file of another version is refused, never migrated behind the user's back."""

BUSY_S: float = 5.0
"""How long a call waits for another process that is writing."""

READ_PAGES: int = 1_024
"""Pages fetched at once by `pages`: 2 MiB, whatever the size of the domain."""

NO_MARKS: bytes = bytes(PAGE_BYTES)

SCHEMA: tuple[str, ...] = (
    f"""CREATE TABLE page (stage TEXT NOT NULL, domain TEXT NOT NULL, page INTEGER NOT NULL,
        bits BLOB NOT NULL CHECK (length(bits) = {PAGE_BYTES}), UNIQUE (stage, domain, page))""",
    f"""CREATE TABLE checksum (stage TEXT NOT NULL, domain TEXT NOT NULL, page INTEGER NOT NULL,
        crc BLOB NOT NULL CHECK (length(crc) = {4 * PAGE_BLOCKS}), UNIQUE (stage, domain, page))""",
    """CREATE TABLE attempt (stage TEXT NOT NULL, domain TEXT NOT NULL, block INTEGER NOT NULL, attempt INTEGER NOT NULL,
        kind TEXT NOT NULL, worker TEXT NOT NULL, error TEXT NOT NULL, traceback TEXT NOT NULL, at_s REAL NOT NULL,
        final INTEGER NOT NULL, PRIMARY KEY (stage, domain, block, attempt))""",
    "CREATE TABLE value (name TEXT PRIMARY KEY, json TEXT NOT NULL)",
    "CREATE TABLE fingerprint (stage TEXT NOT NULL, domain TEXT NOT NULL, json TEXT NOT NULL, PRIMARY KEY (stage, domain))",
    """CREATE TABLE driver (id TEXT PRIMARY KEY, host TEXT NOT NULL, boot_id TEXT NOT NULL, pid INTEGER NOT NULL,
        started_s REAL NOT NULL, beat INTEGER NOT NULL, at_s REAL NOT NULL)""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)

ATTEMPT_COLUMNS: str = ", ".join(f.name for f in fields(Attempt))
DRIVER_COLUMNS: str = ", ".join(f.name for f in fields(Driver))


class SqliteLedger:
    """A ledger in one SQLite file.

    Parameters
    ----------
    path : the file; made where it is missing, in a folder that exists.
    create : False refuses a missing file instead.

    Raises
    ------
    LedgerError : no such file or folder, not a ledger, another version, locked, unreadable or unwritable.
    """

    shared = False

    def __init__(self, path: str | Path, *, create: bool = True) -> None:
        self.path = Path(path)
        self.url = str(path)
        self.waiting: Waiting = wait_quietly
        _check_place(self.path, create)
        with self._errors():
            self._db = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            with self._errors():
                self._prepare()
        except BaseException:
            self._db.close()
            raise

    def __repr__(self) -> str:
        return f"SqliteLedger({self.url!r})"

    def _prepare(self) -> None:
        self._check_kind()
        self._db.execute(f"PRAGMA journal_mode = {'DELETE' if on_network(self.path) else 'WAL'}")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA fullfsync = ON")  # macOS: without it fsync stops at the drive's cache
        with self._transaction():
            if self._is_empty():
                for statement in SCHEMA:
                    self._db.execute(statement)

    def _is_empty(self) -> bool:
        return not self._number("SELECT count(*) FROM sqlite_master")

    def _check_kind(self) -> None:
        """Refuse what is not ours before anything is written into it."""
        if self._is_empty():
            return
        if self._number("PRAGMA application_id") != APPLICATION_ID:
            raise LedgerError(f"{self.path} is an SQLite file of another program, not a ledger: give another path or move it away")
        version = self._number("PRAGMA user_version")
        if version != VERSION:
            raise LedgerError(
                f"{self.path} is a ledger of version {version}, this blockwise writes version {VERSION}: continue with the blockwise that "
                "made it, or move the file away and rebuild it from the outputs with `blockwise verify RUN --rebuild`"
            )

    def _number(self, query: str) -> int:
        return int(self._db.execute(query).fetchone()[0])

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _teaching(self.path, error) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of what is written inside, durably, or nothing."""
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        self._db.close()

    def commit(self, booking: Booking) -> None:
        rows = records(booking)
        with self._transaction():
            for marks in rows.marks:
                self._write_bits(marks.key, self._bits(marks.key) | mask(marks.positions))
                if marks.checksums is not None:
                    self._write_checksums(marks.key, marks.positions, marks.checksums)
            self._db.executemany("REPLACE INTO attempt VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", map(astuple, rows.attempts))
            self._db.executemany("REPLACE INTO value VALUES (?, ?)", rows.values.items())

    def _bits(self, key: PageKey) -> npt.NDArray[np.uint8]:
        with self._errors():
            row = self._db.execute("SELECT bits FROM page WHERE stage = ? AND domain = ? AND page = ?", _key(key)).fetchone()
        return np.frombuffer(row[0] if row else NO_MARKS, np.uint8)

    def _write_bits(self, key: PageKey, bits: npt.NDArray[np.uint8]) -> None:
        self._db.execute(
            "INSERT INTO page VALUES (?, ?, ?, ?) ON CONFLICT (stage, domain, page) DO UPDATE SET bits = excluded.bits",
            (*_key(key), bits.tobytes()),
        )

    def _write_checksums(self, key: PageKey, positions: npt.NDArray[np.int64], sums: npt.NDArray[np.uint32]) -> None:
        """Into the stored BLOB, only the span that holds `positions`."""
        self._db.execute("INSERT OR IGNORE INTO checksum VALUES (?, ?, ?, zeroblob(?))", (*_key(key), 4 * PAGE_BLOCKS))
        row = self._db.execute("SELECT rowid FROM checksum WHERE stage = ? AND domain = ? AND page = ?", _key(key)).fetchone()
        first, last = int(positions.min()), int(positions.max())
        with self._db.blobopen("checksum", "crc", row[0]) as blob:
            blob.seek(4 * first)
            span = np.frombuffer(blob.read(4 * (last - first + 1)), "<u4").copy()
            span[positions - first] = sums
            blob.seek(4 * first)
            blob.write(span.tobytes())

    def page(self, key: PageKey) -> Bits:
        return unpack(self._bits(key).tobytes())

    def pages(self, stage: str, domain: str) -> Iterator[tuple[int, Bits]]:
        return ((page, unpack(data)) for page, data in self._pages(stage, domain))

    def _pages(self, stage: str, domain: str) -> Iterator[tuple[int, bytes]]:
        last, rows = -1, [(0, b"")]
        while rows:
            with self._errors():
                rows = self._db.execute(
                    "SELECT page, bits FROM page WHERE stage = ? AND domain = ? AND page > ? ORDER BY page LIMIT ?",
                    (stage, domain, last, READ_PAGES),
                ).fetchall()
            yield from ((page, data) for page, data in rows if data != NO_MARKS)
            last = rows[-1][0] if rows else last

    def count(self, stage: str, domain: str) -> int:
        return sum(popcount(data) for _, data in self._pages(stage, domain))

    def checksums(self, key: PageKey) -> npt.NDArray[np.uint32] | None:
        with self._errors():
            row = self._db.execute("SELECT crc FROM checksum WHERE stage = ? AND domain = ? AND page = ?", _key(key)).fetchone()
        return np.frombuffer(row[0], "<u4").astype(np.uint32) if row else None

    def unmark(self, marks: Marks) -> None:
        check_marks(marks)
        if not len(marks.positions):
            return
        with self._transaction():
            self._write_bits(marks.key, self._bits(marks.key) & ~mask(marks.positions))
            if self.checksums(marks.key) is not None:
                self._write_checksums(marks.key, marks.positions, np.zeros(len(marks.positions), np.uint32))

    def attempts(self, stage: str | None = None) -> list[Attempt]:
        query = f"SELECT {ATTEMPT_COLUMNS} FROM attempt WHERE stage = coalesce(?, stage) ORDER BY at_s, stage, domain, block, attempt"
        with self._errors():
            rows = self._db.execute(query, (stage,)).fetchall()
        return [replace(Attempt(*row), final=bool(row[-1])) for row in rows]

    def forget_attempts(self, stage: str, domain: str, blocks: npt.NDArray[np.int64] | None = None) -> None:
        with self._transaction():
            if blocks is None:
                self._db.execute("DELETE FROM attempt WHERE stage = ? AND domain = ?", (stage, domain))
            else:
                keys = ((stage, domain, block) for block in blocks.tolist())
                self._db.executemany("DELETE FROM attempt WHERE stage = ? AND domain = ? AND block = ?", keys)

    def get(self, name: str) -> object | None:
        return self._json("SELECT json FROM value WHERE name = ?", name)

    def fingerprint(self, stage: str, domain: str) -> dict[str, str] | None:
        value = self._json("SELECT json FROM fingerprint WHERE stage = ? AND domain = ?", stage, domain)
        return value if isinstance(value, dict) else None

    def _json(self, query: str, *key: str) -> object | None:
        with self._errors():
            row = self._db.execute(query, key).fetchone()
        return json.loads(row[0]) if row else None

    def set_fingerprint(self, stage: str, domain: str, fingerprint: Mapping[str, str]) -> None:
        with self._transaction():
            self._db.execute("REPLACE INTO fingerprint VALUES (?, ?, ?)", (stage, domain, fingerprint_json(fingerprint)))

    def join(self, driver: Driver) -> None:
        with self._transaction():
            other = next((d for d in self.drivers() if d.id != driver.id), None)
            if other is not None:
                raise RunActive(
                    f"the run of {self.path} is driven by process {other.pid} on {other.host} (driver {other.id}): wait for it, or stop it "
                    "with Ctrl-C there and start again; an SQLite ledger serves one driver, a MongoDB ledger several"
                )
            self._db.execute("REPLACE INTO driver VALUES (?, ?, ?, ?, ?, ?, ?)", astuple(driver))

    def drivers(self) -> list[Driver]:
        with self._errors():
            return [Driver(*row) for row in self._db.execute(f"SELECT {DRIVER_COLUMNS} FROM driver ORDER BY id")]

    def beat(self, driver: Driver) -> None:
        update = f"UPDATE driver SET ({DRIVER_COLUMNS}) = (?, ?, ?, ?, ?, ?, ?) WHERE id = ?"
        with self._transaction():
            if not self._db.execute(update, (*astuple(driver), driver.id)).rowcount:
                raise taken_over(driver)

    def leave(self, driver_id: str) -> None:
        with self._transaction():
            self._db.execute("DELETE FROM driver WHERE id = ?", (driver_id,))

    def claim(self, key: PageKey, driver_id: str) -> bool:
        return True


def _key(key: PageKey) -> tuple[str, str, int]:
    return key.stage, key.domain, int(key.page)


def _check_place(path: Path, create: bool) -> None:
    if path.is_dir():
        raise LedgerError(f"{path} is a folder, not a ledger: name the file in it, e.g. {path / 'ledger.sqlite'}")
    if not path.exists() and not create:
        raise LedgerError(f"no ledger at {path}: check the run folder; a lost ledger is rebuilt with `blockwise verify RUN --rebuild`")
    if not path.parent.is_dir():
        raise LedgerError(f"no folder {path.parent} for the ledger {path.name}: make the folder or give another path")


def is_damaged(path: Path) -> bool:
    """Whether SQLite finds a fault in a file: one that is no database, was cut off, or has pages that contradict each other."""
    with closing(sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=rw", uri=True, timeout=BUSY_S)) as db:
        try:
            return bool(db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok")
        except sqlite3.DatabaseError as error:
            return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


def _teaching(path: Path, error: sqlite3.Error) -> LedgerError:
    """What SQLite said, where, and what to do; `errno` is ENOSPC where the disk is full."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    fix = {
        sqlite3.SQLITE_BUSY: f"another process has been writing for {BUSY_S:g} s: stop it, for an SQLite ledger has one driver",
        sqlite3.SQLITE_FULL: "the disk is full: make room and resume, nothing that was booked is lost",
        sqlite3.SQLITE_READONLY: "the file or its folder is write-protected: give yourself write permission on both",
        sqlite3.SQLITE_CANTOPEN: "the file cannot be opened: check that you may read and write it and its folder",
        sqlite3.SQLITE_NOTADB: "this is not a ledger: give another path or move the file away; where it is what is left of a ledger, "
        "`blockwise verify RUN --rebuild` sets it aside and restores it from the outputs",
        sqlite3.SQLITE_CORRUPT: "the file is damaged: `blockwise verify RUN --rebuild` sets it aside and restores it from the outputs",
        sqlite3.SQLITE_IOERR: "the disk or the network file system failed: check it, then resume",
    }.get(code, "resume the run; if it happens again, move the file away and rebuild with `blockwise verify RUN --rebuild`")
    teaching = LedgerError(f"ledger {path}: {error}: {fix}")
    teaching.errno = errno.ENOSPC if code == sqlite3.SQLITE_FULL else None
    return teaching
