"""What a ledger remembers, whoever keeps it: pages of done bits, rows for exceptions, fingerprints, counters, living drivers.

Guarantees every keeper gives
-----------------------------
* `commit` is atomic and durable: after it returns the marks survive the death of the process and of the machine; before, either
  all of it or nothing is there. It is idempotent for marks (a block marked twice is marked).
* The driver calls `commit` only for blocks whose data is already durable (G1), so losing the ledger's tail costs work, never data.
* A page that was never marked reads as zeros. The key of a page is (stage, domain digest, page), so a set of recordings can grow.

Who writes: the driver, from one thread. `status` from elsewhere reads the run folder's status.json and never opens the ledger.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from blockwise.grid import PAGE_BLOCKS

Bits = npt.NDArray[np.bool_]
"""(PAGE_BLOCKS,) bool: which blocks of a page are done."""

FailureKind = Literal["transient", "memory", "poison", "died", "timeout"]


Waiting = Callable[[float, str], None]
"""Called at every try that failed, with the seconds since the first and why; with "" once an answer came. What it raises ends the wait."""


@dataclass(frozen=True, slots=True)
class PageKey:
    """Names one page: `page` counts PAGE_BLOCKS blocks from the domain's first."""

    stage: str
    domain: str
    page: int


@dataclass(frozen=True, slots=True)
class Marks:
    """Blocks of one page that became done.

    positions : (n,) int64 in 0..PAGE_BLOCKS-1. checksums : (n,) uint32, or None where they are not kept.
    """

    key: PageKey
    positions: npt.NDArray[np.int64]
    checksums: npt.NDArray[np.uint32] | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One failed attempt at one block; `block` counts from its domain's first, `final` says it was given up (quarantined)."""

    stage: str
    domain: str
    block: int
    attempt: int
    kind: FailureKind
    worker: str
    error: str
    traceback: str
    at_s: float
    final: bool = False


@dataclass(frozen=True, slots=True)
class Booking:
    """What one commit writes: marks, failed attempts, and values to store by name (JSON types)."""

    marks: tuple[Marks, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    values: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Driver:
    """A living driver, as its heartbeat row names it. `started_s` is the process's start time, `beat` a counter that moves."""

    id: str
    host: str
    boot_id: str
    pid: int
    started_s: float
    beat: int = 0
    at_s: float = 0.0


class Ledger(Protocol):
    """One run's memory. Every method may raise LedgerError; none leaks a password of the url in its text."""

    url: str
    """Where it is kept, without credentials."""

    shared: bool
    """Whether several drivers may work on one run."""

    waiting: Waiting
    """Told while the keeper does not answer; may be set."""

    def close(self) -> None: ...

    def commit(self, booking: Booking) -> None:
        """Write all of it, durably, in one transaction (SQLite) or idempotent bulk (MongoDB)."""

    def page(self, key: PageKey) -> Bits:
        """Done bits of one page, a copy the caller may change."""

    def pages(self, stage: str, domain: str) -> Iterator[tuple[int, Bits]]:
        """Every page of one domain that has a mark, in order of page."""

    def count(self, stage: str, domain: str) -> int:
        """Done blocks of one domain."""

    def checksums(self, key: PageKey) -> npt.NDArray[np.uint32] | None:
        """(PAGE_BLOCKS,) uint32, 0 where none was stored; None where the page has no checksums."""

    def unmark(self, marks: Marks) -> None:
        """Take marks back: the blocks are to be computed again."""

    def attempts(self, stage: str | None = None) -> list[Attempt]:
        """All failed attempts, oldest first."""

    def forget_attempts(self, stage: str, domain: str, blocks: npt.NDArray[np.int64] | None = None) -> None:
        """Drop attempts (all of the domain's where `blocks` is None), so that the blocks are tried anew."""

    def get(self, name: str) -> object | None:
        """A stored value, or None."""

    def fingerprint(self, stage: str, domain: str) -> dict[str, str] | None:
        """The fingerprint this domain's marks were made under, key -> digest."""

    def set_fingerprint(self, stage: str, domain: str, fingerprint: Mapping[str, str]) -> None: ...

    def join(self, driver: Driver) -> None:
        """Enter the heartbeat row.

        Raises
        ------
        RunActive : another driver is there and this keeper is not `shared`. The caller has already dropped the dead by `leave`.
        """

    def drivers(self) -> list[Driver]: ...

    def beat(self, driver: Driver) -> None:
        """Replace the heartbeat row of this driver."""

    def leave(self, driver_id: str) -> None:
        """Remove a driver's heartbeat row and its claims."""

    def claim(self, key: PageKey, driver_id: str) -> bool:
        """Take a page for one driver; False where another driver holds it. Always True in a keeper that is not shared."""


def wait_quietly(waited_s: float, why: str) -> None:
    """A `Waiting` that tells nobody."""


def pack(bits: Bits) -> bytes:
    """A page as PAGE_BLOCKS / 8 bytes, block 0 in the lowest bit of the first byte."""
    return np.packbits(bits, bitorder="little").tobytes()


def unpack(data: bytes) -> Bits:
    """The inverse of `pack`."""
    return np.unpackbits(np.frombuffer(data, np.uint8), count=PAGE_BLOCKS, bitorder="little").astype(np.bool_)
