"""A cluster of a thousand workers in one process and without Dask, for `benchmarks.scale`: a clock that jumps, and what a driver sees.

The driver, its books, its backlog and its ledger are the real ones; they run in this thread, as they do under Dask. In place of Dask's
client stands one that gives each lease to the worker with the fewest; a worker works its leases off one after the other and sends what a
real one sends: progress messages, what it does, and a receipt in columns. Its time is the simulation's: whenever the driver waits for its
inbox, the clock jumps to what happens next. Workers die now and then, with all their leases, and are replaced.
"""

import asyncio
import heapq
import queue
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from distributed.scheduler import KilledWorker

from blockwise.grid import Ids
from blockwise.lease import PROGRESS_BYTES, Lease, Progress, Receipt
from blockwise.worker import StageSpec

BLOCK_BYTES: int = 1 << 20
ACTIVITY_S: float = 0.5
SPREAD: float = 0.2
"""Standard deviation of a lease's time over its mean."""


class Clock:
    """Simulated seconds, and what is to happen when."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def at(self, when_s: float, happen: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._due, (when_s, self._number, happen))

    def advance(self, until_s: float) -> bool:
        """Jump to the next thing due and let it happen; False, at `until_s`, where nothing is due before."""
        if not self._due or self._due[0][0] > until_s:
            self.now_s = until_s
            return False
        self.now_s, _, happen = heapq.heappop(self._due)
        happen()
        return True

    @contextmanager
    def instead_of_time(self) -> Iterator[None]:
        """Let every module of blockwise read this clock."""
        stand_in = SimpleNamespace(monotonic=lambda: self.now_s, time=lambda: self.now_s, sleep=self._sleep)
        modules = [m for name, m in tuple(sys.modules.items()) if name.startswith("blockwise.") and getattr(m, "time", None) is time]
        for module in modules:
            vars(module)["time"] = stand_in
        try:
            yield
        finally:
            for module in modules:
                vars(module)["time"] = time

    def _sleep(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while self.advance(until_s):
            pass


class Inbox:
    """The driver's inbox: waiting for it lets simulated time pass."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._messages = clock, deque[Callable[[], None]]()

    def put(self, message: Callable[[], None]) -> None:
        self._messages.append(message)

    def get(self, timeout: float) -> Callable[[], None]:
        until_s = self._clock.now_s + timeout
        while not self._messages:
            if not self._clock.advance(until_s) and not self._messages:
                raise queue.Empty
        return self._messages.popleft()

    def get_nowait(self) -> Callable[[], None]:
        if not self._messages:
            raise queue.Empty
        return self._messages.popleft()


@dataclass(slots=True, eq=False)
class Future:
    """A lease at a worker, as a future of Dask's looks to the driver."""

    lease: Lease
    worker: "Worker"
    ids: Ids
    status: str = "pending"
    result: Receipt | None = None
    told: Callable[["Future"], None] | None = None

    def add_done_callback(self, told: Callable[["Future"], None]) -> None:
        self.told = told

    def release(self) -> None:
        self.result = None


@dataclass(slots=True, eq=False)
class Worker:
    """One worker: its leases in order, and what it has done."""

    name: str
    alive: bool = True
    leases: deque[Future] = field(default_factory=deque)
    blocks_done: int = 0
    told_s: float = 0.0
    tell_s: float = 0.0


class Client:
    """What the driver asks of Dask's client, answered by simulated workers.

    Attributes
    ----------
    block_s : seconds that a block takes a worker.
    """

    def __init__(self, clock: Clock, workers: int, *, block_s: float, death_every_s: float, seed: int = 0) -> None:
        self.clock, self.block_s, self._death_every_s = clock, block_s, death_every_s
        self._random = np.random.default_rng(seed)
        self._factors = iter(())
        self._hear: Callable[[tuple[float, Any]], None] = lambda event: None
        self.workers = [Worker(f"tcp://worker-{n}") for n in range(workers)]
        self._holding: list[dict[int, None]] = [dict.fromkeys(range(workers))]
        """Numbers of the workers that hold 0, 1, 2, ... leases, in the order in which they came to."""
        self.leases = self.messages = self.deaths = 0
        self._loop = asyncio.new_event_loop()
        self.loop = SimpleNamespace(add_callback=self._run)

    def _run(self, call: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        self._loop.run_until_complete(call(*arguments))

    def close(self) -> None:
        self._loop.close()

    # --- what the driver calls ---------------------------------------------------------------------------------------------------

    def subscribe_topic(self, topic: str, hear: Callable[[tuple[float, Any]], None]) -> None:
        self._hear = hear
        self.clock.at(self.clock.now_s + ACTIVITY_S, self._tell_activity)
        if self._death_every_s:
            self.clock.at(self.clock.now_s + self._death_every_s, self._die)

    def unsubscribe_topic(self, topic: str) -> None:
        self._hear = lambda event: None

    def run(self, function: Any, **options: Any) -> dict[str, Any]:
        """Simulated workers answer nothing: they have this version."""
        return {}

    def register_plugin(self, plugin: Any, name: str = "") -> None:
        """Workers of a simulation need no task."""

    def unregister_worker_plugin(self, name: str) -> None:
        """See `register_plugin`."""

    def submit(self, function: Any, lease: Lease, **options: Any) -> Future:
        """Give a lease to the worker that has the fewest, as Dask's scheduler does."""
        worker = self.workers[next(iter(next(filter(None, self._holding))))]
        future = Future(lease, worker, np.sort(lease.ids))
        worker.tell_s = lease.tell_s
        self._change(worker, lambda: worker.leases.append(future))
        if len(worker.leases) == 1:
            self._begin(worker)
        return future

    async def gather(self, future: Future, *, asynchronous: bool) -> Receipt:
        """The receipt of a lease that has ended, or why there is none."""
        if future.result is None:
            raise KilledWorker("lease", SimpleNamespace(address=future.worker.name), 0)
        return future.result

    # --- what workers do ---------------------------------------------------------------------------------------------------------

    def _begin(self, worker: Worker) -> None:
        """Work the first lease of a worker off: its messages and its end are put into the clock."""
        lease = worker.leases[0].lease
        took_s = len(lease.ids) * self.block_s * self._factor()
        self._tell(worker, worker.leases[0], 0, took_s, self.clock.now_s)

    def _factor(self) -> float:
        """How fast a worker is this time; drawn many at once."""
        factor = next(self._factors, None)
        if factor is None:
            self._factors = iter(np.clip(self._random.normal(1, SPREAD, 10_000), 0.3, 3).tolist())
            factor = next(self._factors)
        return float(factor)

    def _tell(self, worker: Worker, future: Future, told: int, took_s: float, begun_s: float) -> None:
        """Wait for the next message or for the end of a lease, whichever comes first."""
        lease = future.lease
        next_s = self.clock.now_s + max(0.05, lease.tell_s)
        if next_s >= begun_s + took_s:
            self.clock.at(begun_s + took_s, lambda: self._end(worker, future, took_s))
            return

        def tell() -> None:
            if worker.leases and worker.leases[0] is future:
                done = int(len(lease.ids) * (self.clock.now_s - begun_s) / took_s)
                if done > told:
                    self._message({"worker": worker.name, "progress": progress_message(lease.number, future.ids, told, done)})
                self._tell(worker, future, done, took_s, begun_s)

        self.clock.at(next_s, tell)

    def _message(self, content: dict[str, Any]) -> None:
        self.messages += 1
        self._hear((self.clock.now_s, content))

    def _end(self, worker: Worker, future: Future, took_s: float) -> None:
        """The receipt of a finished lease; the next lease begins."""
        if not worker.leases or worker.leases[0] is not future:
            return
        ids = future.ids
        future.status, future.result = "finished", receipt(future.lease.number, worker.name, ids, took_s)
        worker.blocks_done += len(ids)
        self._free(worker)
        if worker.leases:
            self._begin(worker)
        self._landed(future)

    def _free(self, worker: Worker) -> None:
        self._change(worker, worker.leases.popleft)

    def _change(self, worker: Worker, change: Callable[[], object]) -> None:
        """Give a worker a lease or take one, and note how many it holds now."""
        n = int(worker.name.rsplit("-", 1)[1])
        del self._holding[len(worker.leases)][n]
        change()
        while len(self._holding) <= len(worker.leases):
            self._holding.append({})
        self._holding[len(worker.leases)][n] = None

    def _landed(self, future: Future) -> None:
        self.leases += 1
        if future.told is not None:
            future.told(future)

    def _die(self) -> None:
        """A worker is killed, with all its leases; another takes its place."""
        worker = self.workers[int(self._random.integers(len(self.workers)))]
        lost = list(worker.leases)
        while worker.leases:
            self._free(worker)
        self.deaths += 1
        for future in lost:
            future.status = "error"
            self._landed(future)
        self.clock.at(self.clock.now_s + self._death_every_s, self._die)

    def _tell_activity(self) -> None:
        """Every worker that is due says what it does."""
        now_s = self.clock.now_s
        for worker in self.workers:
            if now_s - worker.told_s >= worker.tell_s:
                worker.told_s = now_s
                steps = {"reading": 1, "computing": 1, "writing": 1, "rss_mb": 900.0, "busy": 0.9, "blocks_done": worker.blocks_done}
                self._message({"worker": worker.name, "activity": steps})
        self.clock.at(now_s + ACTIVITY_S, self._tell_activity)


def progress_message(lease: int, ids: Ids, told: int, done: int) -> bytes:
    """What a worker sends of a lease whose first `done` blocks are durable, where it has sent that of `told`.

    Two more blocks were started than done. Where ids follow each other the bytes of `Progress.encode` are put down at once, because it
    is the worker's time that this takes, and none of the driver's.
    """
    begin, end = told + 2 * (told > 0), min(done + 2, len(ids))
    started, ended = ids[begin:end], ids[told:done]
    if not len(started) or int(ids[end - 1]) - int(ids[told]) != end - 1 - told:
        return Progress(lease, started, ended, np.zeros(len(ended), np.uint32)).encode()
    runs = (int(ids[begin]), int(ids[end - 1]) + 1, int(ids[told]), int(ids[done - 1]) + 1)
    sums = len(ended) if 8 * (8 + len(ended)) <= PROGRESS_BYTES else 0
    return struct.pack("<8q", lease, 2, 2, sums, *runs) + bytes(8 * sums)


def receipt(lease: int, worker: str, ids: Ids, took_s: float) -> Receipt:
    """The receipt of a lease whose blocks all took the same time."""
    each = np.full(len(ids), took_s / len(ids) / 5, np.float32)
    sums, nbytes = np.zeros(len(ids), np.uint32), np.full(len(ids), BLOCK_BYTES, np.int64)
    return Receipt(lease, worker, ids, sums, nbytes, each, 3 * each, each, (), np.empty(0, np.int64), took_s)


class SimulatedWorkers:
    """What the driver asks of a cluster."""

    device, memory_limit_mb, dashboard, page = "cpu", 0.0, "", ""

    def __init__(self, client: Client) -> None:
        self.client = client

    def count(self) -> int:
        return len(self.client.workers)

    def want(self, leases: int) -> str:
        """The workers of a simulation are all there."""
        return ""


def stage_spec(stage: str) -> StageSpec:
    """A stage without a task: no worker unpickles it."""
    return StageSpec(f"blockwise-{stage}-simulated", stage, b"", "cpu", 3600.0)
