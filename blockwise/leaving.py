"""How a worker leaves the cluster before its job ends, so that no block is lost and none is blamed.

From the first moment the scheduler sends it nothing, its pipelines begin no further block, and leases that wait here go to other
workers. Then the blocks under way become durable, their leases return what is unfinished as data, the driver fetches the receipts,
the scheduler takes the worker off as one whose end was expected, and the process ends, with its nanny. What a job that ends sooner
cuts off is what a killed worker leaves: written, unmarked blocks, which are computed again.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from distributed import Worker
from distributed.core import Status

from blockwise.deadline import Deadline

POLL_S: float = 0.05
FETCH_S: float = 5.0
"""What the driver may take to fetch the last receipts."""
PLACE = "blockwise-departure"
WORKING = (Status.running, Status.paused)
ALIVE = (Status.init, Status.starting, *WORKING)


class Departure:
    """Watches for the end of a worker's job and lets the worker leave.

    longest_s : gives the seconds of the longest block so far. tell : takes the sentence that says why the worker leaves.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker, self.deadline = worker, Deadline.of()
        self.longest_s: Callable[[], float] = lambda: 0.0
        self.tell: Callable[[str], None] = lambda why: None
        self._thread = threading.Thread(target=self._watch, name="blockwise-deadline", daemon=True)

    def watch(self) -> None:
        """Begin to watch, where there is an end to watch for; again: nothing."""
        if self.deadline.possible and self._thread.ident is None:
            self._thread.start()

    def _watch(self) -> None:
        if self.deadline.wait(lambda: self.longest_s(), lambda: self.worker.status not in ALIVE):
            self.worker.loop.add_callback(self.leave, self.deadline.sentence)

    async def leave(self, why: str) -> None:
        """Leave now; a second call does nothing."""
        worker = self.worker
        if worker.status not in WORKING:
            return
        worker.status = Status.closing_gracefully  # told to the scheduler; pipelines look at it before each block
        self.tell(why)
        handed: set[Any] = set()
        while worker.state.executing:
            self._hand_on(handed)
            await asyncio.sleep(POLL_S)
        end_s = time.monotonic() + FETCH_S
        while worker.data and time.monotonic() < end_s:
            await asyncio.sleep(POLL_S)
        await self._take_off()
        await worker.close(reason=f"blockwise-leave: {why}")

    def _hand_on(self, handed: set[Any]) -> None:
        """Let the scheduler give the leases that wait here to other workers."""
        for task in tuple(self.worker.state.ready):
            if task.key not in handed:
                handed.add(task.key)
                self.worker.batched_send({"op": "reschedule", "key": task.key, "stimulus_id": f"blockwise-leave-{time.time()}"})

    async def _take_off(self) -> None:
        """Leave the scheduler as a worker whose end was expected: what it still has is moved, or run again without blame."""
        about = {"stimulus_id": f"blockwise-leave-{time.time()}"}
        with suppress(OSError, asyncio.TimeoutError):  # of a scheduler that is gone
            scheduler, address = self.worker.scheduler, self.worker.address
            if not await asyncio.wait_for(scheduler.retire_workers(workers=[address], close_workers=False, remove=True, **about), FETCH_S):
                await asyncio.wait_for(scheduler.unregister(address=address, expected=True, close=False, **about), FETCH_S)


def departure(worker: Worker) -> Departure:
    """The departure of a worker, one per process."""
    if PLACE not in worker.extensions:
        worker.extensions[PLACE] = Departure(worker)
    found: Departure = worker.extensions[PLACE]
    return found
