"""How many blocks a lease holds, and which ids go into the next one. No Dask here, no clock but the one given.

K starts at 1 (or at the last K in the ledger), follows the measured time of leases toward the target by at most a factor of 4 per
receipt, and never exceeds a page nor remaining / (4 x workers), so that the end of a stage is shared out. A task that computes in
batches gets whole batches.
"""

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from blockwise.grid import PAGE_BLOCKS, Ids
from blockwise.lease import Lease, Receipt

GROWTH: float = 4.0
"""Most that K changes per receipt."""
PIECES: int = 8
"""Parts into which the unblamed blocks of a lost lease are leased again."""


def target_lease_s(workers: int) -> float:
    """Seconds of work per lease: clamp(workers / 50, 1, 30), so that the driver books at most some 50 leases a second."""
    return min(30.0, max(1.0, workers / 50))


def tell_every_s(workers: int) -> float:
    """Least seconds between two messages of a worker: clamp(workers / 400, 0, 2.5), some 400 of a kind a second at the driver."""
    return min(2.5, workers / 400)


@dataclass(slots=True)
class Pace:
    """K, the number of blocks of a lease; a multiple of `batch`."""

    target_s: float
    k: float = 1.0
    batch: int = 1

    def learn(self, receipt: Receipt) -> None:
        """Move K toward the target by what this lease took; blocks that only fail teach nothing, and stay few."""
        finished = len(receipt.ids) + len(receipt.errors)
        if receipt.ids.size and receipt.wall_s > 0:
            wish = finished * self.target_s / receipt.wall_s
            self.k = min(max(wish, self.k / GROWTH, 1.0), self.k * GROWTH, float(PAGE_BLOCKS))

    def size(self, remaining: int, workers: int) -> int:
        wish = min(int(self.k), remaining // (4 * max(1, workers)), PAGE_BLOCKS)
        return max(self.batch, wish // self.batch * self.batch)


@dataclass(slots=True)
class Flying:
    """A lease at a worker, and what progress has told of it."""

    lease: Lease
    future: Any
    started: list[Ids] = field(default_factory=list)
    counted: int = 0
    worker: str = ""


@dataclass(slots=True)
class Backlog:
    """Ids waiting for a lease: suspects alone, pieces of lost leases each as it is, given-back ones, failed ones when due, fresh ones.

    pages : fresh ids, a page's worth at most at a time; an empty array says that there are none now, but may be later.
    """

    pages: Iterator[Ids]
    current: Ids = field(default_factory=lambda: np.empty(0, np.int64))
    returned: deque[Ids] = field(default_factory=deque)
    pieces: deque[Ids] = field(default_factory=deque)
    due: list[tuple[float, int, bool]] = field(default_factory=list)
    solo: deque[int] = field(default_factory=deque)
    spent: bool = False

    def give_back(self, ids: Ids) -> None:
        if ids.size:
            self.returned.append(ids)

    def give_back_apart(self, ids: Ids) -> None:
        """Lease these in PIECES pieces: one of them may kill, so that each death leaves fewer to look at."""
        self.pieces.extend(piece for piece in np.array_split(ids, PIECES) if piece.size)

    def retry(self, id: int, at_s: float, *, solo: bool) -> None:
        heapq.heappush(self.due, (at_s, id, solo))

    def take(self, size: int, now_s: float) -> tuple[Ids, bool] | None:
        """Up to `size` ids and whether they must run alone; None when nothing is ready now."""
        while self.due and self.due[0][0] <= now_s:
            _, id, solo = heapq.heappop(self.due)
            if solo:
                self.solo.append(id)
            else:
                self.returned.append(np.array([id], np.int64))
        if self.solo:
            return np.array([self.solo.popleft()], np.int64), True
        for waiting, most in ((self.pieces, 1), (self.returned, size)):
            if waiting:
                return _some(waiting, size, most), False
        return self._fresh(size)

    def _fresh(self, size: int) -> tuple[Ids, bool] | None:
        """Ids of one or more pages: a set of many short domains must not cost a lease each."""
        parts, wanted = [], size
        while wanted and self._refill():
            parts.append(self.current[:wanted])
            self.current = self.current[wanted:]
            wanted -= len(parts[-1])
        return (np.concatenate(parts), False) if parts else None

    def _refill(self, least: int = 1) -> bool:
        """Look for fresh ids until there are `least`; whether there are any."""
        parts, count = [self.current], len(self.current)
        while count < least and not self.spent:
            page = next(self.pages, None)
            self.spent = page is None
            if page is None or not page.size:
                break
            parts.append(page)
            count += len(page)
        self.current = np.concatenate(parts) if len(parts) > 1 else self.current
        return count > 0

    def is_ripe(self, size: int, now_s: float) -> bool:
        """Whether a whole lease waits: `size` fresh ids, or the last of them, or some that were leased before."""
        again = self.solo or self.pieces or self.returned or (self.due and self.due[0][0] <= now_s)
        return bool(again) or (self._refill(size) and (len(self.current) >= size or self.spent))

    @property
    def has_some(self) -> bool:
        """Whether anything could be leased now, or nothing will come any more."""
        return self.is_ripe(1, 0.0) or self.spent

    @property
    def empty(self) -> bool:
        """Whether nothing waits, now or later."""
        return not (self.returned or self.pieces or self.due or self.solo or self._refill()) and self.spent


def _some(waiting: deque[Ids], size: int, most: int) -> Ids:
    """Up to `size` ids of at most `most` arrays; what is left of the last stays first in line."""
    parts: list[Ids] = []
    while waiting and size and len(parts) < most:
        ids = waiting.popleft()
        if len(ids) > size:
            waiting.appendleft(ids[size:])
        parts.append(ids[:size])
        size -= len(parts[-1])
    return np.concatenate(parts)
