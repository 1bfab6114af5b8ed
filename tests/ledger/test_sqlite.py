"""What only the SQLite keeper has: its file, its journal, its refusals, and what kill -9 leaves."""

import errno
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from blockwise.errors import LedgerError
from blockwise.grid import PAGE_BLOCKS
from blockwise.ledger import Booking, Marks, PageKey, open_ledger, sqlite
from blockwise.ledger.sqlite import SqliteLedger

WRITER = Path(__file__).with_name("writer.py")
KEY = PageKey("s", "d", 0)
WHOLE_PAGE = Booking((Marks(KEY, np.arange(PAGE_BLOCKS)),))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def pragma(path: Path, name: str) -> object:
    with sqlite3.connect(path) as db:
        return db.execute(f"PRAGMA {name}").fetchone()[0]


@pytest.mark.parametrize(("network", "mode"), [(False, "wal"), (True, "delete")])
def test_the_journal_suits_the_file_system(path: Path, monkeypatch: pytest.MonkeyPatch, network: bool, mode: str):
    open_ledger(path).close()
    monkeypatch.setattr(sqlite, "on_network", lambda _: network)
    ledger = SqliteLedger(path)
    ledger.commit(WHOLE_PAGE)
    assert pragma(path, "journal_mode") == mode
    assert ledger._db.execute("PRAGMA synchronous").fetchone()[0] == 2
    ledger.close()
    assert SqliteLedger(path).count("s", "d") == PAGE_BLOCKS


def test_the_file_says_what_it_is(path: Path):
    open_ledger(str(path)).close()
    assert (pragma(path, "application_id"), pragma(path, "user_version")) == (sqlite.APPLICATION_ID, sqlite.VERSION)


def test_an_empty_file_becomes_a_ledger(path: Path):
    path.touch()
    assert open_ledger(path, create=False).count("s", "d") == 0


def no_database(path: Path) -> None:
    path.write_text("not a database at all, but long enough for a header" * 20)


def another_program(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE song (name TEXT)")


def newer_version(path: Path) -> None:
    open_ledger(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (no_database, "not a ledger: give another path or move the file away"),
        (another_program, "of another program, not a ledger"),
        (newer_version, "version 99, this blockwise writes version 1.*verify RUN --rebuild"),
        (Path.mkdir, "is a folder, not a ledger: name the file in it"),
    ],
)
def test_what_is_no_ledger_is_refused_and_left_as_it_was(path: Path, make: Callable[[Path], None], says: str):
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(LedgerError, match=says):
        open_ledger(path)
    assert before is None or path.read_bytes() == before


def test_missing_places_are_named(tmp_path: Path):
    with pytest.raises(LedgerError, match=r"no folder .*nowhere for the ledger l\.sqlite"):
        open_ledger(tmp_path / "nowhere" / "l.sqlite")
    with pytest.raises(LedgerError, match=r"no ledger at .*rebuild"):
        open_ledger(tmp_path / "l.sqlite", create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def write_protected() -> Iterator[Path]:
    """A ledger in a folder where this process, for the length of a test, may only read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ledger = SqliteLedger(folder / "ledger.sqlite")
        ledger.commit(WHOLE_PAGE)
        ledger.close()
        for place, mode in ((folder / "ledger.sqlite", 0o444), (folder, 0o555)):
            place.chmod(mode)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        yield folder / "ledger.sqlite"
        os.seteuid(user)
        folder.chmod(0o755)


def test_a_write_protected_ledger_says_so(write_protected: Path):
    with pytest.raises(LedgerError, match="permission"):
        open_ledger(write_protected)


def test_another_writer_is_named_after_a_wait(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sqlite, "BUSY_S", 0.05)
    ledger, other = SqliteLedger(path), sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError, match="another process has been writing"):
        ledger.commit(WHOLE_PAGE)
    other.close()
    ledger.commit(WHOLE_PAGE)
    assert ledger.count("s", "d") == PAGE_BLOCKS


def test_a_full_disk_leaves_nothing_of_the_booking(path: Path):
    ledger = SqliteLedger(path)
    pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
    ledger._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(LedgerError, match="disk is full: make room and resume") as caught:
        ledger.commit(Booking(tuple(Marks(PageKey("s", "d", p), np.arange(9)) for p in range(5))))
    assert caught.value.errno == errno.ENOSPC
    assert ledger.count("s", "d") == 0


def test_a_damaged_file_says_how_to_rebuild(path: Path):
    ledger = SqliteLedger(path)
    ledger.commit(Booking(tuple(Marks(PageKey("s", "d", p), np.arange(9)) for p in range(50))))
    ledger.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(LedgerError, match=r"damaged.*verify RUN --rebuild"):
        SqliteLedger(path).count("s", "d")


def test_nothing_acknowledged_is_lost_by_kill_9(path: Path):
    acknowledged, kills = 0, 6
    for kill in range(kills):
        process = subprocess.Popen([sys.executable, WRITER, path, str(acknowledged)], stdout=subprocess.PIPE, text=True)
        lines = iter(process.stdout.readline, "")
        first = int(next(lines))
        seen = [int(line) for line, _ in zip(lines, range(7 * kill), strict=False)]
        process.kill()
        rest = [int(line) for line in lines if line.endswith("\n")]
        process.wait()
        process.stdout.close()
        ledger = SqliteLedger(path)
        acknowledged = ledger.get("next")
        assert max([first, *seen, *rest]) < acknowledged
        assert ledger.count("s", "d") == acknowledged == len(ledger.attempts())
        assert np.array_equal(ledger.checksums(KEY)[:acknowledged], np.arange(acknowledged))
        ledger.close()
    assert acknowledged >= kills


def cpu_s(work: Callable[[], object]) -> float:
    """Least CPU time of user code in one of a few rounds, for the machine is shared."""
    times = []
    for _ in range(5):
        before = time.thread_time()
        work()
        times.append(time.thread_time() - before)
    return min(times)


def test_booking_a_lease_costs_little_more_than_a_bare_transaction(tmp_path: Path):
    ledger, rng = SqliteLedger(tmp_path / "ledger.sqlite"), np.random.default_rng(0)
    bare = sqlite3.connect(tmp_path / "bare.sqlite", isolation_level=None)
    bare.execute("PRAGMA journal_mode = WAL")
    bare.execute("CREATE TABLE page (id INTEGER PRIMARY KEY, bits BLOB)")
    bookings = iter([Booking((Marks(PageKey("s", "d", p), rng.permutation(PAGE_BLOCKS)),)) for p in range(100)])
    ours = cpu_s(lambda: [ledger.commit(next(bookings)) for _ in range(20)])
    rows = iter(range(100))
    theirs = cpu_s(lambda: [bare.execute("INSERT INTO page VALUES (?, randomblob(2048))", (next(rows),)) for _ in range(20)])
    bare.close()
    assert ours < 8 * theirs


def test_reading_all_pages_costs_little_more_than_unpacking_them(path: Path):
    ledger, pages = SqliteLedger(path), 610
    ledger.commit(Booking(tuple(Marks(PageKey("s", "d", p), np.arange(0, PAGE_BLOCKS, 3)) for p in range(pages))))
    packed = np.random.default_rng(0).integers(0, 256, pages * PAGE_BLOCKS // 8, np.uint8)
    ours = cpu_s(lambda: sum(int(bits.size) for _, bits in ledger.pages("s", "d")))
    assert ours < 20 * cpu_s(lambda: np.unpackbits(packed))
