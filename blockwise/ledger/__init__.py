"""What a run remembers: one contract (contract.py), kept in an SQLite file or on a MongoDB server."""

from pathlib import Path

from blockwise.ledger.contract import Attempt, Bits, Booking, Driver, FailureKind, Ledger, Marks, PageKey
from blockwise.ledger.sqlite import SqliteLedger

__all__ = ["Attempt", "Bits", "Booking", "Driver", "FailureKind", "Ledger", "Marks", "PageKey", "open_ledger"]


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
    if isinstance(url, str) and url.startswith(("mongodb://", "mongodb+srv://")):
        from blockwise.ledger.mongodb import MongoLedger

        return MongoLedger(url, run, patience_s=patience_s)
    return SqliteLedger(url, create=create)
