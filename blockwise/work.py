"""What is on its way through a worker's pipeline: leases being worked off, blocks, and writes that are not yet durable."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from blockwise.grid import Block
from blockwise.lease import BlockError, Lease, Progress, Receipt
from blockwise.storage.writes import Durable, Write, checksum


@dataclass(slots=True)
class Occupancy:
    """What is in a worker process, over the pipelines of all its stages; `gate` guards it and tells of changes.

    blocks : that were taken and have not left. solo : whether they are a solo lease. waiting : the pipeline whose solo lease is next.
    computing : held while one of the pipelines computes.
    """

    gate: threading.Condition = field(default_factory=threading.Condition)
    computing: threading.Lock = field(default_factory=threading.Lock)
    blocks: int = 0
    solo: bool = False
    waiting: object | None = None

    def admits(self, pipeline: object, solo: bool) -> bool:
        """Whether a pipeline may take blocks now; a solo lease waits until the process is empty, and everything else for it."""
        if self.solo or self.waiting not in (None, pipeline):
            return False
        self.waiting = pipeline if solo and self.blocks else None
        return self.waiting is None

    def give_up(self, pipeline: object) -> None:
        """A pipeline takes nothing any more."""
        if self.waiting is pipeline:
            self.waiting = None


@dataclass(slots=True, eq=False)
class Work:
    """A lease being worked off, and the columns of its receipt as they grow."""

    lease: Lease
    blocks: Iterator[Block]
    left: int
    begun_s: float = 0.0
    started: list[int] = field(default_factory=list)
    done: list[tuple[int, int, int, float, float, float]] = field(default_factory=list)
    errors: list[BlockError] = field(default_factory=list)
    unfinished: list[int] = field(default_factory=list)
    open_blocks: int = 0
    told: tuple[int, int] = (0, 0)
    told_s: float = 0.0
    finished: threading.Event = field(default_factory=threading.Event)

    @property
    def has_news(self) -> bool:
        """Whether blocks were started or done since the last progress message."""
        return self.told != (len(self.started), len(self.done))

    def news(self) -> Progress:
        """What was started and done since the last call."""
        (a, b), (n, m) = self.told, (len(self.started), len(self.done))
        self.told, self.told_s = (n, m), time.perf_counter()
        ids, crcs = np.array([d[0] for d in self.done[b:m]], np.int64), np.array([d[1] for d in self.done[b:m]], np.uint32)
        order = np.argsort(ids)
        return Progress(self.lease.number, np.sort(np.array(self.started[a:n], np.int64)), ids[order], crcs[order])


@dataclass(slots=True)
class Entry:
    """One block on its way through the pipeline: `data` is its input, then its result."""

    block: Block
    data: Any
    read_s: float
    compute_s: float = 0.0


@dataclass(slots=True)
class Flight:
    """One block whose writes were started."""

    work: Work
    entry: Entry
    futures: Sequence[Durable]
    crc: int
    nbytes: int
    begun_s: float

    @classmethod
    def of(cls, work: Work, entry: Entry, writes: Sequence[Write], begun_s: float) -> "Flight":
        """The writes of one block, with the checksum of what they store."""
        arrays = [w.data for w in writes]
        futures = [w.future for w in writes if w.future is not None]
        return cls(work, entry, futures, checksum(arrays), sum(a.nbytes for a in arrays), begun_s)

    @property
    def landed(self) -> bool:
        """Whether all its writes are durable or failed."""
        return all(f.done() for f in self.futures)


def receipt(work: Work, worker: str) -> Receipt:
    """The columns of a finished lease, in order of id."""
    rows = sorted(work.done)
    columns = np.array(rows, np.float64).reshape(-1, 6)
    return Receipt(
        lease=work.lease.number,
        worker=worker,
        ids=np.array([d[0] for d in rows], np.int64),
        checksums=columns[:, 1].astype(np.uint32),
        nbytes=columns[:, 2].astype(np.int64),
        read_s=columns[:, 3].astype(np.float32),
        compute_s=columns[:, 4].astype(np.float32),
        write_s=columns[:, 5].astype(np.float32),
        errors=tuple(work.errors),
        unfinished=np.array(sorted(work.unfinished), np.int64),
        wall_s=time.perf_counter() - work.begun_s if work.begun_s else 0.0,
    )
