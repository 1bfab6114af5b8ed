"""What a run remembers: one contract (contract.py), kept in an SQLite file or on a MongoDB server."""

from pathlib import Path

from blockwise.ledger.contract import Attempt, Bits, Booking, Driver, FailureKind, Ledger, Marks, PageKey
from blockwise.ledger.sqlite import SqliteLedger, is_damaged

__all__ = ["Attempt", "Bits", "Booking", "Driver", "FailureKind", "Ledger", "Marks", "PageKey", "is_lost", "open_ledger", "set_aside"]


def is_on_server(url: str | Path) -> bool:
    """Whether a ledger is kept on a server."""
    return isinstance(url, str) and url.startswith(("mongodb://", "mongodb+srv://"))


def is_lost(url: str | Path) -> bool:
    """Whether the file of a ledger is missing or damaged; one on a server is not ours to judge."""
    return not is_on_server(url) and (not Path(url).exists() or is_damaged(Path(url)))


def set_aside(url: str | Path) -> None:
    """Rename the files of a damaged ledger to *.damaged, so that a new one may be made; those of an earlier time are replaced."""
    for file in (Path(f"{url}{ending}") for ending in ("", "-wal", "-shm", "-journal")):
        if file.exists():
            file.replace(f"{file}.damaged")


def open_ledger(url: str | Path, run: str = "", *, create: bool = True, patience_s: float = 60.0) -> Ledger:
    """Open the ledger of one run.

    Parameters
    ----------
    url : a path (SQLite), or mongodb:// or mongodb+srv:// with the database in its path (default "blockwise").
    run : run id; names the run's documents on a server that many runs share. An SQLite file holds one run and ignores it.
    create : False refuses an SQLite file that is not there.
    patience_s : how long a call on a server is tried again while nobody answers.

    Raises
    ------
    ConfigError : a url that cannot be used, or no run id for a server.  LedgerError : broken, unreachable, of another version.
    """
    if is_on_server(url):
        from blockwise.ledger.mongodb import MongoLedger

        return MongoLedger(str(url), run, patience_s=patience_s)
    return SqliteLedger(url, create=create)
