"""The process-wide pipeline read -> compute -> write that leases feed.

One pipeline per stage belongs to a worker process and outlives leases, so that compute stays busy across their borders. Leases are
worked off in the order they came, in items closed after `ITEM_S` of work or `ITEM_BLOCKS` blocks.

    reader threads --items--> compute thread --items--> writer thread, up to WRITES_IN_FLIGHT durable futures --> columns of the lease

Guaranteed: a block enters a receipt as done only after every write it started has returned durable (G1). An exception is data of its
block and of no other (G8). Nothing is started once the worker leaves the cluster, drains, or its deadline is near. A solo lease runs
with nothing else in the process. A block older than the timeout ends the process, after naming itself.
A crash leaves written, unmarked blocks behind: they are written again, with the same bytes (G2).
"""

import queue
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from blockwise.failures import classify, is_disk_full
from blockwise.grid import Block, Grid
from blockwise.lease import BlockError, Lease, Progress, Receipt
from blockwise.storage.writes import checksum
from blockwise.task import Task
from blockwise.work import Entry, Flight, Work, receipt

ITEM_S: float = 0.002
"""Work after which an item is handed on; a count of blocks would stall slow tasks or choke fast ones."""
ITEM_BLOCKS: int = 256
READERS: int = 2
WRITES_IN_FLIGHT: int = 16
WRITE_BYTES_IN_FLIGHT: int = 256 << 20
PROGRESS_S: float = 0.05
"""Least time between two progress messages of a lease."""


Item = tuple[Work, list[Entry]]


class Pipeline:
    """Works off leases of one stage in this process.

    Parameters
    ----------
    alive : asked before each block; False stops taking new ones (the worker left the cluster).
    tell : takes progress and timeout messages, from any thread.
    block_timeout_s : age of a block in one step at which the process ends itself.
    """

    def __init__(
        self,
        task: Task,
        *,
        name: str = "worker",
        device: str = "cpu",
        alive: Callable[[], bool] = lambda: True,
        tell: Callable[[Progress], None] = lambda progress: None,
        overdue: Callable[[int], None] = lambda block: None,
        block_timeout_s: float = 3600.0,
    ) -> None:
        self.task, self.grid, self._name = task, Grid(task.domains(), task.spec()), name
        self._device, self._alive, self._tell, self._overdue, self._timeout_s = device, alive, tell, overdue, block_timeout_s
        self._gate = threading.Condition()
        self._inbox: deque[Work] = deque()
        self._in_process, self._solo, self._closed, self._draining = 0, False, False, False
        self._opened, self._block_s = False, 0.0
        self._to_compute: queue.Queue[Item | None] = queue.Queue(2)
        self._to_write: queue.Queue[Item | None] = queue.Queue(2)
        self._now: dict[str, tuple[int, float]] = {}
        self.compute_s, self.blocks_done, self._writing = 0.0, 0, 0
        roles = [(f"read-{i}", self._read_loop) for i in range(READERS)]
        roles += [("compute", self._compute_loop), ("write", self._write_loop), ("watch", self._watch_loop)]
        self._threads = [threading.Thread(target=f, args=(n,), name=f"blockwise-{n}", daemon=True) for n, f in roles]
        for thread in self._threads:
            thread.start()

    def run(self, lease: Lease) -> Receipt:
        """Work off one lease and return its receipt; called from several threads at once."""
        work = Work(lease, self.grid.blocks(lease.ids), len(lease.ids))
        with self._gate:
            self._inbox.append(work)
            self._gate.notify_all()
        work.finished.wait()
        return receipt(work, self._name)

    def drain(self) -> None:
        """Start no further block; leases return with what is unfinished."""
        with self._gate:
            self._draining = True
            self._gate.notify_all()

    def close(self) -> None:
        """Drain, end the threads and wait for them."""
        self.drain()
        with self._gate:
            self._closed = True
            self._gate.notify_all()
        for thread in self._threads:
            thread.join(timeout=60)

    def activity(self) -> dict[str, int]:
        """Blocks in each step now."""
        steps = [step.split("-")[0] for step in tuple(self._now)]
        return {"reading": steps.count("read"), "computing": steps.count("compute"), "writing": self._writing + steps.count("write")}

    # --- taking blocks -------------------------------------------------------------------------------------------------------

    def _take(self) -> tuple[Work, list[Block]] | None:
        """The next blocks of the oldest lease, an item's worth of them; None when the pipeline closes."""
        with self._gate:
            while True:
                head = self._inbox[0] if self._inbox else None
                if head is not None and (self._draining or not self._alive()):
                    self._give_back(head)
                elif head is not None and not self._solo and not (head.lease.solo and self._in_process):
                    return head, self._start(head)
                elif self._closed and head is None:
                    return None
                else:
                    self._gate.wait(0.5)

    def _start(self, work: Work) -> list[Block]:
        count = 1 if work.lease.solo or not self._block_s else min(ITEM_BLOCKS, max(1, int(ITEM_S / self._block_s)), work.left)
        blocks = list(islice(work.blocks, max(count, self.task.batch_size if not work.lease.solo else 1)))
        work.begun_s = work.begun_s or time.perf_counter()
        work.left -= len(blocks)
        work.open_blocks += len(blocks)
        work.started += [b.id for b in blocks]
        self._in_process += len(blocks)
        self._solo = work.lease.solo
        if not work.left:
            self._inbox.popleft()
        return blocks

    def _give_back(self, work: Work) -> None:
        work.unfinished += [block.id for block in work.blocks]
        work.left = 0
        self._inbox.popleft()
        if not work.open_blocks:
            work.finished.set()

    def _settle(self, work: Work, count: int) -> None:
        """`count` blocks of `work` left the pipeline, done or failed."""
        with self._gate:
            self._in_process -= count
            work.open_blocks -= count
            self._solo = self._solo and self._in_process > 0
            over = not work.left and not work.open_blocks
            self._gate.notify_all()
        self._report(work)
        if over:
            work.finished.set()

    # --- the three steps -----------------------------------------------------------------------------------------------------

    def _read_loop(self, name: str) -> None:
        while (taken := self._take()) is not None:
            work, blocks = taken
            self._report(work, now=work.lease.solo)
            entries: list[Entry] = []
            began = time.perf_counter()
            for block in blocks:
                self._read(name, work, block, entries)
                if time.perf_counter() - began > ITEM_S:
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
        began = time.perf_counter()
        self._now[name] = (block.id, began)
        try:
            if not self._opened:
                self._open()
            entries.append(Entry(block, self.task.read(block), time.perf_counter() - began))
        except Exception as error:
            self._fail(work, block.id, error)
        del self._now[name]

    def _open(self) -> None:
        with self._gate:
            if not self._opened:
                self.task.open()
                self._opened = True

    def _compute_loop(self, name: str) -> None:
        state: list[Any] = []
        for work, entries in _items(self._to_compute, READERS):
            kept: list[Entry] = []
            first = began = time.perf_counter()
            for batch in _batches(entries, self.task.batch_size):
                self._now[name] = (batch[0].block.id, time.perf_counter())
                kept += self._compute(work, batch, state)
                del self._now[name]
                if time.perf_counter() - began > ITEM_S:
                    kept, began = self._pass(self._to_write, work, kept), time.perf_counter()
            self._pass(self._to_write, work, kept)
            spent = time.perf_counter() - first
            self.compute_s += spent
            self._block_s = max(spent / len(entries), max(e.read_s for e in entries), self._block_s / 2)
        self._to_write.put(None)

    def _compute(self, work: Work, batch: list[Entry], state: list[Any]) -> list[Entry]:
        """Entries of the batch that succeeded, with results for data; a failing batch is tried again singly."""
        began = time.perf_counter()
        try:
            if not state:
                state.append(self.task.setup(self._device))
            if len(batch) == 1:
                batch[0].data = self.task.compute(batch[0].data, state[0])
            else:
                results = self.task.compute_batch([e.data for e in batch], state[0])
                for entry, result in zip(batch, results, strict=True):
                    entry.data = result
        except Exception as error:
            if len(batch) > 1:
                return [e for entry in batch for e in self._compute(work, [entry], state)]
            self._fail(work, batch[0].block.id, error)
            return []
        for entry in batch:
            entry.compute_s = (time.perf_counter() - began) / len(batch)
        return batch

    def _write_loop(self, name: str) -> None:
        flights: deque[Flight] = deque()
        for item in _items_or_idle(self._to_write, flights):
            for entry in item[1] if item else ():
                self._launch(name, item[0], entry, flights)  # type: ignore[index]
                if flights and flights[-1].futures and _too_many(flights):
                    self._land(flights, 1)
            ready = len(flights) if item is None else next((i for i, f in enumerate(flights) if not f.landed()), len(flights))
            self._land(flights, ready)
            self._writing = len(flights)

    def _launch(self, name: str, work: Work, entry: Entry, flights: "deque[Flight]") -> None:
        began = time.perf_counter()
        self._now[name] = (entry.block.id, began)
        try:
            writes = self.task.write(entry.block, entry.data)
            entry.data = None
            arrays, futures = [w.data for w in writes], [w.future for w in writes if w.future is not None]
            flights.append(Flight(work, entry, futures, checksum(arrays), sum(a.nbytes for a in arrays), began))
        except Exception as error:
            self._fail(work, entry.block.id, error)
        del self._now[name]

    def _land(self, flights: "deque[Flight]", count: int) -> None:
        """Await the oldest `count` writes in flight and put them into their leases' columns."""
        landed: dict[Work, int] = {}
        for _ in range(count):
            flight = flights.popleft()
            work, entry = flight.work, flight.entry
            try:
                for future in flight.futures:
                    future.result()
            except Exception as error:
                self._fail(work, entry.block.id, error)
                continue
            write_s = time.perf_counter() - flight.begun_s
            work.done.append((entry.block.id, flight.crc, flight.nbytes, entry.read_s, entry.compute_s, write_s))
            landed[work] = landed.get(work, 0) + 1
        self.blocks_done += sum(landed.values())
        for work, n in landed.items():
            self._settle(work, n)

    def _fail(self, work: Work, block: int, error: Exception) -> None:
        text = "".join(traceback.format_exception(error))[-8_000:]
        work.errors.append(BlockError(block, classify(error), f"{type(error).__name__}: {error}"[:500], text, is_disk_full(error)))
        self._settle(work, 1)

    # --- telling ---------------------------------------------------------------------------------------------------------------

    def _report(self, work: Work, *, now: bool = False) -> None:
        """Send what was started and done since the last message, at most every PROGRESS_S unless `now`."""
        if not now and time.perf_counter() - work.told_s < PROGRESS_S:
            return
        work.told_s = time.perf_counter()
        (a, b), (n, m) = work.told, (len(work.started), len(work.done))
        work.told = (n, m)
        done = work.done[b:m]
        ids, crcs = np.array([d[0] for d in done], np.int64), np.array([d[1] for d in done], np.uint32)
        order = np.argsort(ids)
        self._tell(Progress(work.lease.number, np.array(sorted(work.started[a:n]), np.int64), ids[order], crcs[order]))

    def _watch_loop(self, name: str) -> None:
        """Send what is due of the running leases, and end the process when a block is overdue."""
        while not self._closed:
            with self._gate:
                self._gate.wait(min(PROGRESS_S * 4, self._timeout_s / 4))
                head = self._inbox[0] if self._inbox else None
            if head is not None and head.told != (len(head.started), len(head.done)):
                self._report(head)
            late = [block for block, since in tuple(self._now.values()) if time.perf_counter() - since > self._timeout_s]
            if late:
                self._overdue(late[0])


def _items(source: "queue.Queue[Item | None]", feeders: int) -> Iterator[Item]:
    """Items until every feeder said None."""
    while feeders:
        item = source.get()
        if item is None:
            feeders -= 1
        else:
            yield item


def _items_or_idle(source: "queue.Queue[Item | None]", flight: "deque[Any]") -> Iterator[Item | None]:
    """Items, or None when nothing came for a moment while writes are in flight; ends when the feeder said None."""
    while True:
        try:
            item = source.get(timeout=ITEM_S) if flight else source.get()
        except queue.Empty:
            yield None
            continue
        if item is None:
            yield None
            return
        yield item


def _too_many(flights: "deque[Flight]") -> bool:
    return len(flights) > WRITES_IN_FLIGHT or sum(f.nbytes for f in flights) > WRITE_BYTES_IN_FLIGHT


def _batches(entries: list[Entry], size: int) -> Iterator[list[Entry]]:
    """Runs of at most `size` entries of one input shape."""
    batch: list[Entry] = []
    for entry in entries:
        if batch and (len(batch) == size or entry.block.input_shape != batch[0].block.input_shape):
            yield batch
            batch = []
        batch.append(entry)
    if batch:
        yield batch
