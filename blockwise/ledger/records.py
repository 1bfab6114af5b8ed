"""What both keepers check and convert before they write, so that a bad booking leaves nothing behind in either."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from blockwise.errors import LedgerError, RunActive
from blockwise.grid import PAGE_BLOCKS
from blockwise.ledger.contract import Attempt, Booking, Driver, Marks, PageKey, pack

PAGE_BYTES: int = PAGE_BLOCKS // 8
"""Bytes of one page of done bits."""


@dataclass(frozen=True, slots=True)
class Records:
    """A booking that is known to fit: its marks gathered by page, attempts as plain text, values as JSON."""

    marks: tuple[Marks, ...]
    attempts: tuple[Attempt, ...]
    values: dict[str, str]


def records(booking: Booking) -> Records:
    """The booking in the form that both keepers write.

    Raises
    ------
    LedgerError : a position outside the page, checksums of another length, or a value that is no JSON.
    """
    for marks in booking.marks:
        check_marks(marks)
    return Records(
        tuple(_by_page(m for m in booking.marks if len(m.positions))),
        tuple(map(_plain, booking.attempts)),
        {name: _json(name, value) for name, value in (booking.values or {}).items()},
    )


def _by_page(marks: Iterable[Marks]) -> Iterator[Marks]:
    """The same marks with one per page, or two where only some have checksums: many reports of few pages come between two commits."""
    pages: dict[tuple[PageKey, bool], list[Marks]] = {}
    for some in marks:
        pages.setdefault((some.key, some.checksums is None), []).append(some)
    for (key, bare), parts in pages.items():
        if len(parts) == 1:
            yield parts[0]
        else:
            sums = None if bare else np.concatenate([p.checksums for p in parts if p.checksums is not None])
            yield Marks(key, np.concatenate([p.positions for p in parts]), sums)


def check_marks(marks: Marks) -> None:
    """Refuse marks that do not fit their page.

    Raises
    ------
    LedgerError : a position outside 0..PAGE_BLOCKS-1, or not one checksum per position.
    """
    positions, sums = marks.positions, marks.checksums
    if len(positions) and (int(positions.min()) < 0 or int(positions.max()) >= PAGE_BLOCKS):
        raise LedgerError(
            f"marks of {marks.key}: positions {int(positions.min())}..{int(positions.max())} are not in 0..{PAGE_BLOCKS - 1}: "
            "positions count from the first block of the page, not of the domain"
        )
    if sums is not None and len(sums) != len(positions):
        raise LedgerError(f"marks of {marks.key}: {len(positions)} positions but {len(sums)} checksums: give one for each, or None")


def mask(positions: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """A page, (PAGE_BYTES,) uint8, with the bits of `positions` set."""
    bits = np.zeros(PAGE_BLOCKS, np.bool_)
    bits[positions] = True
    return np.frombuffer(pack(bits), np.uint8)


def popcount(data: bytes) -> int:
    """Set bits; the length of `data` is a multiple of 8."""
    return int(np.bitwise_count(np.frombuffer(data, np.uint64)).sum())


def fingerprint_json(fingerprint: Mapping[str, str]) -> str:
    """A fingerprint as both keepers store it."""
    return json.dumps(dict(fingerprint))


def taken_over(driver: Driver) -> RunActive:
    """The error of a driver whose heartbeat row someone has removed."""
    return RunActive(
        f"driver {driver.id} (process {driver.pid} on {driver.host}) is no longer in the ledger: another driver held it for dead and took "
        "the run over. Stop this one; what it has booked stays booked"
    )


def _plain(attempt: Attempt) -> Attempt:
    """Without NumPy integers and the lone surrogates that file names bring into tracebacks, for neither keeper can store them."""
    return replace(
        attempt,
        block=int(attempt.block),
        attempt=int(attempt.attempt),
        error=_encodable(attempt.error),
        traceback=_encodable(attempt.traceback),
    )


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _json(name: str, value: object) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError) as error:
        raise LedgerError(f"value {name!r} cannot be stored: {error}; use JSON types: str, int, float, bool, None, lists, dicts") from None
