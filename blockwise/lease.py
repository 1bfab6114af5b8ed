"""Values that travel between driver and workers: leases out, progress and receipts back. Columns, never a list of objects per block.

A receipt is the truth about a lease. Progress is a hint that is sent while the lease runs, so that the death of a worker leaves a
handful of suspects (started and not booked) instead of a whole lease; booking the same block from both is harmless.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blockwise.grid import Ids
from blockwise.ledger.contract import FailureKind

Seconds32 = npt.NDArray[np.float32]

PROGRESS_BYTES: int = 4_096
"""Most bytes of one progress message: the scheduler keeps 1,000 of them per topic."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Blocks handed to one worker as one Dask task, for the stage whose StageSpec has this `key`.

    solo : they run with nothing else in the process, because one may kill it.
    tell_s : least time between two messages of the worker.
    """

    number: int
    key: str
    ids: Ids
    solo: bool = False
    tell_s: float = 0.0


@dataclass(frozen=True, slots=True)
class BlockError:
    """Why one block failed, as data."""

    id: int
    kind: FailureKind
    error: str
    traceback: str
    disk_full: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a lease: columns for the blocks that are done and durable, by id; errors; ids given back."""

    lease: int
    worker: str
    ids: Ids
    checksums: npt.NDArray[np.uint32]
    nbytes: npt.NDArray[np.int64]
    read_s: Seconds32
    compute_s: Seconds32
    write_s: Seconds32
    errors: tuple[BlockError, ...]
    unfinished: Ids
    wall_s: float


@dataclass(frozen=True, slots=True)
class Progress:
    """Ids that were started or became durable since the last message; `checksums` is empty where ids were too many to send them."""

    lease: int
    started: Ids
    done: Ids
    checksums: npt.NDArray[np.uint32]

    def parts(self) -> Iterator["Progress"]:
        """Itself, or halves of it until each is encoded in PROGRESS_BYTES."""
        ids = self.started.size + self.done.size
        if ids < 2 or len(self.encode()) <= PROGRESS_BYTES:
            yield self
            return
        n, m, k = -(-self.started.size // 2), -(-self.done.size // 2), -(-self.checksums.size // 2)
        yield from Progress(self.lease, self.started[:n], self.done[:m], self.checksums[:k]).parts()
        yield from Progress(self.lease, self.started[n:], self.done[m:], self.checksums[k:]).parts()

    def encode(self) -> bytes:
        """Little-endian int64: lease, count of started, done, checksums; then ids as runs [begin, end); then the checksums.

        Checksums that would not fit into PROGRESS_BYTES are left to the receipt.
        """
        started, done = _runs(self.started), _runs(self.done)
        crcs = self.checksums.astype(np.int64)
        if 8 * (4 + started.size + done.size + crcs.size) > PROGRESS_BYTES:
            crcs = crcs[:0]
        return np.concatenate([[self.lease, started.size, done.size, crcs.size], started, done, crcs]).astype("<i8").tobytes()

    @classmethod
    def decode(cls, data: bytes) -> "Progress":
        words = np.frombuffer(data, "<i8")
        lease, n, m, k = words[:4].tolist()
        body = words[4:]
        return cls(lease, _ids(body[:n]), _ids(body[n : n + m]), body[n + m : n + m + k].astype(np.uint32))


def _runs(ids: Ids) -> Ids:
    if not ids.size:
        return ids
    breaks = np.flatnonzero(np.diff(ids) != 1)
    begins, ends = ids[np.concatenate([[0], breaks + 1])], ids[np.concatenate([breaks, [ids.size - 1]])] + 1
    return np.stack([begins, ends], axis=1).ravel()


def _ids(runs: Ids) -> Ids:
    pairs = runs.reshape(-1, 2).tolist()
    return np.concatenate([np.arange(b, e, dtype=np.int64) for b, e in pairs]) if pairs else np.empty(0, np.int64)
