"""The process-wide pipeline read -> compute -> write that leases feed.

One pipeline per stage belongs to a worker process and outlives leases, so that compute stays busy across their borders. Leases are
worked off in the order they came, in items closed after `ITEM_S` of work or `ITEM_BLOCKS` blocks.

    reader threads --items--> compute thread --items--> writer thread, up to WRITES_IN_FLIGHT durable futures --> columns of the lease

Guaranteed: a block enters a receipt as done only after every write it started has returned durable (G1). An exception, whatever its
class, is data of its block and of no other (G8). No block is read or computed once the worker leaves the cluster or drains. A solo
lease runs with nothing else in the process, of other stages neither, after its start was told; of all stages one computes at a time.
A block older than the timeout ends the process, named first.
A crash leaves written, unmarked blocks behind: they are written again, with the same bytes (G2).
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from math import inf
from typing import Any

from blockwise.failures import block_error
from blockwise.gpu import is_out_of_memory, release_memory
from blockwise.grid import Block, Grid
from blockwise.items import ITEM_S, Item, batches, items, items_or_idle, one_each
from blockwise.lease import Lease, Progress, Receipt
from blockwise.task import Task
from blockwise.work import Entry, Flight, Occupancy, Work, receipt

ITEM_BLOCKS: int = 256
READERS: int = 2
WRITES_IN_FLIGHT: int = 16
WRITE_BYTES_IN_FLIGHT: int = 256 << 20
PROGRESS_S: float = 0.05
"""Least time between two progress messages of a lease, and what a solo lease waits for its message to leave the process."""
LOADING_S: float = 900.0
"""What opening sources or loading a model may take beyond the timeout of a block: it is not the block that is slow."""
TRACEBACKS: int = 50
"""Failures of one lease that keep their traceback; the others keep their sentence."""


class Pipeline:
    """Works off leases of one stage in this process.

    Parameters
    ----------
    alive : asked before each block; False stops taking new ones (the worker left the cluster).
    tell : takes progress messages, from any thread.
    overdue : ends the process; gets the block that is older than the timeout in one step, None where it is one of several.
    block_timeout_s : age of a block in one step at which the process ends itself.
    occupancy : of the process, shared with the pipelines of its other stages; its own where none is given.
    """

    def __init__(
        self,
        task: Task,
        *,
        name: str = "worker",
        device: str = "cpu",
        alive: Callable[[], bool] = lambda: True,
        tell: Callable[[Progress], None] = lambda progress: None,
        overdue: Callable[[int | None], None] = lambda block: None,
        block_timeout_s: float = 3600.0,
        occupancy: Occupancy | None = None,
    ) -> None:
        self.task, self.grid, self._name = task, Grid(task.domains(), task.spec()), name
        self._device, self._alive, self._tell, self._overdue, self._timeout_s = device, alive, tell, overdue, block_timeout_s
        self._process = occupancy or Occupancy()
        self._gate, self._opening, self._over = self._process.gate, threading.Lock(), threading.Event()
        self._inbox: deque[Work] = deque()
        self._works: list[Work] = []
        self._draining = False
        self._opened, self._block_s = False, 0.0
        self._state: list[Any] = []
        self._to_compute: queue.Queue[Item | None] = queue.Queue(2)
        self._to_write: queue.Queue[Item | None] = queue.Queue(2)
        self._flights: deque[Flight] = deque()
        self._writes_out, self._bytes_out = 0, 0
        self.compute_s, self.blocks_done = 0.0, 0
        self._batch = task.batch_size
        self._longest = {"read": 0.0, "compute": 0.0, "write": 0.0}
        roles = [(f"read-{i}", self._read_loop) for i in range(READERS)]
        roles += [("compute", self._compute_loop), ("write", self._write_loop), ("watch", self._watch_loop)]
        self._now: dict[str, tuple[int | None, float] | None] = dict.fromkeys(n for n, _ in roles)
        self._threads = [threading.Thread(target=f, args=(n,), name=f"blockwise-{n}", daemon=True) for n, f in roles]
        for thread in self._threads:
            thread.start()

    def run(self, lease: Lease) -> Receipt:
        """Work off one lease and return its receipt; called from several threads at once."""
        work = Work(lease, self.grid.blocks(lease.ids), len(lease.ids))
        with self._gate:
            if self._over.is_set():
                self._give_back(work)
            else:
                self._inbox.append(work)
                self._works.append(work)
                self._gate.notify_all()
        work.finished.wait()
        with self._gate:
            self._works = [w for w in self._works if w is not work]
        return receipt(work, self._name)

    def drain(self) -> None:
        """Start no further block; leases return with what is unfinished."""
        with self._gate:
            self._draining = True
            self._gate.notify_all()

    def close(self, *, wait: bool = True) -> None:
        """Drain and end the threads."""
        self._over.set()
        self.drain()
        for thread in self._threads if wait else ():
            thread.join(timeout=60)

    @property
    def computing_s(self) -> float:
        """Seconds spent in compute, the block being computed now included."""
        return self.compute_s + max(0.0, time.perf_counter() - (self._now["compute"] or (None, inf))[1])

    @property
    def longest_s(self) -> float:
        """Seconds that a block may take: each step at its longest so far, a batch as one."""
        return sum(self._longest.values())

    def _took(self, step: str, seconds: float) -> float:
        self._longest[step] = max(self._longest[step], seconds)
        return seconds

    def activity(self) -> dict[str, int]:
        """Blocks in each step now."""
        steps = [step.split("-")[0] for step, now in self._now.items() if now]
        return {
            "reading": steps.count("read"),
            "computing": steps.count("compute"),
            "writing": max(len(self._flights), steps.count("write")),
        }

    # --- taking blocks -------------------------------------------------------------------------------------------------------

    @property
    def _stopping(self) -> bool:
        return self._draining or not self._alive()

    def _take(self) -> tuple[Work, list[Block]] | None:
        """The next blocks of the oldest lease, an item's worth of them; None when the pipeline closes."""
        with self._gate:
            while True:
                head = self._inbox[0] if self._inbox else None
                if head is not None and self._stopping:
                    self._give_back(self._inbox.popleft())
                    self._process.give_up(self)
                elif head is not None and self._process.admits(self, head.lease.solo):
                    return head, self._start(head)
                elif head is None and self._over.is_set():
                    return None
                else:
                    self._gate.wait(0.5)

    def _start(self, work: Work) -> list[Block]:
        count = min(ITEM_BLOCKS, max(1, int(ITEM_S / self._block_s))) if self._block_s else 1
        blocks = list(islice(work.blocks, 1 if work.lease.solo else max(count, self.task.batch_size)))
        work.begun_s = work.begun_s or time.perf_counter()
        work.left -= len(blocks)
        work.open_blocks += len(blocks)
        work.started += [b.id for b in blocks]
        self._process.blocks += len(blocks)
        self._process.solo = work.lease.solo
        if not work.left:
            self._inbox.popleft()
        return blocks

    @staticmethod
    def _give_back(work: Work) -> None:
        """Return what a lease has not started."""
        work.unfinished += [block.id for block in work.blocks]
        work.left = 0
        if not work.open_blocks:
            work.finished.set()

    def _settle(self, work: Work, count: int, unfinished: tuple[int, ...] = ()) -> None:
        """`count` blocks of `work` left the pipeline: done, failed, or `unfinished`."""
        with self._gate:
            work.unfinished += unfinished
            self._process.blocks -= count
            work.open_blocks -= count
            self._process.solo = self._process.solo and self._process.blocks > 0
            over = not work.left and not work.open_blocks
            self._gate.notify_all()
        self._report(work, now=over)  # at the end too: should the receipt be lost with the worker, its blocks are booked
        if over:
            work.finished.set()

    # --- the three steps -----------------------------------------------------------------------------------------------------

    def _read_loop(self, name: str) -> None:
        while (taken := self._take()) is not None:
            work, blocks = taken
            self._report(work, now=work.lease.solo)
            if work.lease.solo:
                self._over.wait(PROGRESS_S)
            entries: list[Entry] = []
            began = time.perf_counter()
            for i, block in enumerate(blocks):
                self._read(name, work, block, entries)
                if time.perf_counter() - began > ITEM_S:
                    if self._stopping:
                        self._settle(work, len(blocks) - i - 1, tuple(b.id for b in blocks[i + 1 :]))
                        break
                    if len(entries) >= self.task.batch_size:
                        entries, began = self._pass(self._to_compute, work, entries), time.perf_counter()
            self._pass(self._to_compute, work, entries)
        self._to_compute.put(None)

    @staticmethod
    def _pass(target: "queue.Queue[Item | None]", work: Work, entries: list[Entry]) -> list[Entry]:
        """Hand an item on; a new list to go on with."""
        if entries:
            target.put((work, entries))
        return []

    def _read(self, name: str, work: Work, block: Block, entries: list[Entry]) -> None:
        try:
            if not self._opened:
                self._open(name)
            began = time.perf_counter()
            self._now[name] = (block.id, began)
            data = self.task.read(block)
            entries.append(Entry(block, data, self._took("read", time.perf_counter() - began)))
        except BaseException as error:  # SystemExit too: a thread that ends would hang the worker
            self._fail(work, block.id, error)
        self._now[name] = None

    def _open(self, name: str) -> None:
        self._now[name] = (None, time.perf_counter() + LOADING_S)
        with self._opening:
            if not self._opened:
                self.task.open()
                self._opened = True

    def _compute_loop(self, name: str) -> None:
        for work, entries in items(self._to_compute, READERS):
            kept: list[Entry] = []
            before, began = self.compute_s, time.perf_counter()
            for batch in batches(entries, min(self.task.batch_size, self._batch)):
                if self._stopping:
                    self._settle(work, len(batch), tuple(e.block.id for e in batch))
                    continue
                with self._process.computing:
                    kept += self._compute(name, work, batch)
                if time.perf_counter() - began > ITEM_S:
                    kept, began = self._pass(self._to_write, work, kept), time.perf_counter()
            self._pass(self._to_write, work, kept)
            self._block_s = max((self.compute_s - before) / len(entries), max(e.read_s for e in entries), self._block_s / 2)
        self._to_write.put(None)

    def _compute(self, name: str, work: Work, batch: list[Entry]) -> list[Entry]:
        """Entries of the batch that succeeded, with results for data.

        A failing batch is tried again singly; one that the memory does not hold in halves, and no batch is as large again.
        """
        try:
            if not self._state:
                self._now[name] = (None, time.perf_counter() + LOADING_S)
                self._state.append(self.task.setup(self._device))
            began = time.perf_counter()
            self._now[name] = (batch[0].block.id if len(batch) == 1 else None, began)
            if len(batch) == 1:
                results = [self.task.compute(batch[0].data, self._state[0])]
            else:
                results = one_each(self.task.compute_batch([e.data for e in batch], self._state[0]), len(batch))
        except BaseException as error:
            self._now[name] = None
            if len(batch) == 1:
                self._fail(work, batch[0].block.id, error)
                return []
            size, full = (len(batch) // 2, True) if is_out_of_memory(error) else (1, False)
        else:
            return self._computed(name, batch, results, began)
        if full:
            release_memory()  # here, where the error no longer holds what was computed
            self._batch = min(self._batch, size)
        return [e for part in batches(batch, size) for e in self._compute(name, work, part)]

    def _computed(self, name: str, batch: list[Entry], results: list[Any], began: float) -> list[Entry]:
        spent = self._took("compute", time.perf_counter() - began)
        self._now[name] = None
        self.compute_s += spent
        for entry, result in zip(batch, results, strict=True):
            entry.data, entry.compute_s = result, spent / len(batch)
        return batch

    def _write_loop(self, name: str) -> None:
        for item in items_or_idle(self._to_write, self._flights):
            for entry in item[1] if item else ():
                if self._is_full:
                    self._land(max(1, self._landed))
                self._launch(name, item[0], entry)  # type: ignore[index]
            self._land(self._landed)
        self._land(len(self._flights))

    def _launch(self, name: str, work: Work, entry: Entry) -> None:
        began = time.perf_counter()
        self._now[name] = (entry.block.id, began)
        try:
            writes = self.task.write(entry.block, entry.data)
            entry.data = None
            flight = Flight.of(work, entry, writes, began) if writes else Flight(work, entry, (), 0, 0, began)
            self._count_writes(flight, 1)
            self._flights.append(flight)
        except BaseException as error:
            self._fail(work, entry.block.id, error)
        self._now[name] = None

    def _count_writes(self, flight: Flight, sign: int) -> None:
        self._writes_out += sign * len(flight.futures)
        self._bytes_out += sign * flight.nbytes

    @property
    def _is_full(self) -> bool:
        flights = len(self._flights)
        return flights > 0 and (flights >= ITEM_BLOCKS or self._writes_out >= WRITES_IN_FLIGHT or self._bytes_out >= WRITE_BYTES_IN_FLIGHT)

    @property
    def _landed(self) -> int:
        """Writes in flight that are durable, counted from the oldest."""
        return next((i for i, f in enumerate(self._flights) if not f.landed), len(self._flights))

    def _land(self, count: int) -> None:
        """Await the oldest `count` writes in flight and put them into their leases' columns."""
        landed: dict[Work, int] = {}
        for _ in range(count):
            flight = self._flights[0]  # stays there while it is awaited, for the watch to see
            work, entry = flight.work, flight.entry
            try:
                for future in flight.futures:
                    future.result()
                write_s = self._took("write", time.perf_counter() - flight.begun_s)
                work.done.append((entry.block.id, flight.crc, flight.nbytes, entry.read_s, entry.compute_s, write_s))
                landed[work] = landed.get(work, 0) + 1
            except BaseException as error:
                self._fail(work, entry.block.id, error)
            self._count_writes(self._flights.popleft(), -1)
        self.blocks_done += sum(landed.values())
        for work, n in landed.items():
            self._settle(work, n)

    def _fail(self, work: Work, block: int, error: BaseException) -> None:
        work.errors.append(block_error(block, error, with_traceback=len(work.errors) < TRACEBACKS))
        self._settle(work, 1)

    # --- telling ---------------------------------------------------------------------------------------------------------------

    def _report(self, work: Work, *, now: bool = False) -> None:
        """Send what was started and done since the last message, at most every PROGRESS_S or `tell_s` unless `now`."""
        if not now and time.perf_counter() - work.told_s < max(PROGRESS_S, work.lease.tell_s):
            return
        with self._gate:
            if not work.has_news:
                return
            progress = work.news()
        for part in progress.parts():
            self._tell(part)

    def _watch_loop(self, name: str) -> None:
        """Send what is due of the running leases, and end the process when a block is overdue."""
        while not self._over.wait(min(2 * PROGRESS_S, self._timeout_s / 4)):
            for work in tuple(self._works):
                self._report(work)
            late = [block for block, since in self._under_way() if time.perf_counter() - since > self._timeout_s]
            if late:
                self._overdue(late[0])

    def _under_way(self) -> list[tuple[int | None, float]]:
        """Block and begin of every step being made now, the oldest write among them."""
        steps = [now for now in tuple(self._now.values()) if now]
        with suppress(IndexError):
            oldest = self._flights[0]
            steps.append((oldest.entry.block.id, oldest.begun_s))
        return steps
