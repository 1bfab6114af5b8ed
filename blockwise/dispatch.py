"""Works off the stages of a run in one thread: leases go to all that have blocks ready, the later stages first.

Later stages first keeps what was just written in caches and shows results early; the earlier ones get what is left of the window, so that
no worker waits while any stage has work. A lease of a later stage that is smaller than it should be waits until nothing else is to be
leased. A full disk, a person, the want of workers and a task that fails everywhere stop the run as a whole.
At most COMMIT_S passes between a receipt and its durable mark, beyond the commit itself. A crash is resumed by the same call.
"""

import queue
import time
from collections.abc import Sequence
from typing import Protocol

from blockwise.cluster.settings import LEASES_PER_WORKER
from blockwise.desk import Desk
from blockwise.driver import StageDriver
from blockwise.events import State
from blockwise.heartbeat import drop_dead
from blockwise.presence import Absence

COMMIT_S: float = 0.1
"""Most seconds between a receipt and its durable mark, beyond the commit itself."""
TICK_S: float = 0.05
OTHERS_S: float = 2.0
"""Time between two looks at what other drivers of the run have done."""
LANDING_S: float = 5.0
"""What is still out gets so long to come in where a run stops by itself."""
ADDED = ("reading", "computing", "writing", "busy", "blocks_done")
"""What workers tell by stage; the rest they tell of the process."""


class Stages(Protocol):
    """The stages of a run, as they begin and end."""

    @property
    def over(self) -> bool:
        """Whether all have ended."""

    @property
    def finishing(self) -> bool:
        """Whether what follows the last block of a stage is being made."""

    def ready(self) -> Sequence[StageDriver]:
        """Drivers of the stages that may begin since the last call, in the order of the run."""

    def begun(self, driver: StageDriver) -> None:
        """Its first block is about to be leased."""

    def may_end(self, driver: StageDriver) -> bool:
        """Whether the stages that it reads have ended."""

    def ended(self, driver: StageDriver) -> None:
        """Nothing of it is left."""


class OneStage:
    """A run of one stage, which begins at once."""

    def __init__(self, driver: StageDriver) -> None:
        self._drivers, self.over, self.finishing = [driver], False, False

    def ready(self) -> Sequence[StageDriver]:
        """Its driver, once."""
        found, self._drivers = self._drivers, []
        return found

    def begun(self, driver: StageDriver) -> None:
        """Nothing is to be told."""

    def may_end(self, driver: StageDriver) -> bool:
        """There is nothing that it reads."""
        return True

    def ended(self, driver: StageDriver) -> None:
        """All has ended."""
        self.over = True


class Dispatch:
    """Works off stages on one cluster. `drivers`: of all stages that were ready so far, in the order of the run."""

    def __init__(self, desk: Desk, stages: Stages) -> None:
        self.desk, self.stages = desk, stages
        self.drivers: tuple[StageDriver, ...] = ()
        self._active: list[StageDriver] = []
        self._absence = Absence(desk.events)
        self._committed_s = self._asked_s = time.monotonic()
        self._drain_sent_s = 0.0

    def run(self) -> State:
        """Work until nothing remains (done or failed), the breaker trips (failed), or a person stops it (interrupted)."""
        try:
            while self.desk.state == "running":
                self._step()
            self._land_the_rest()
        finally:
            for driver in self._active:
                driver.close()
        return self.desk.state

    def _step(self) -> None:
        self._work(TICK_S)
        if self.desk.control.drain:
            self._drain()
            return
        for driver in tuple(self._active):
            if driver.begun and self.stages.may_end(driver) and driver.over:
                self._end(driver)
        if self.stages.over:
            self.desk.state = "failed" if any(d.books.failed for d in self.drivers) else "done"
        elif time.monotonic() - self._asked_s > OTHERS_S:
            self._look_at_others()

    def _end(self, driver: StageDriver) -> None:
        self._active.remove(driver)
        driver.close()
        self.stages.ended(driver)

    def _work(self, seconds: float) -> None:
        """Lease what is ready, then handle what comes in for so long."""
        found = self.stages.ready()
        self.drivers += tuple(found)
        self._active += found
        self._fill()
        self._listen(seconds)

    def _listen(self, seconds: float) -> None:
        """Handle what is in the inbox, waiting at most this long for the first message; commit when due."""
        try:
            self.desk.inbox.get(timeout=seconds)()
            while True:
                self.desk.inbox.get_nowait()()
        except queue.Empty:
            pass
        if time.monotonic() - self._committed_s >= COMMIT_S:
            self._committed_s = time.monotonic()
            for driver in self._active:
                driver.commit()

    # --- leasing -------------------------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        workers = self.desk.cluster.count()
        left = 0 if self.desk.control.drain else sum(driver.leases_left(workers) for driver in self._active)
        if self._absence.gives_up(workers, time.monotonic(), self.desk.cluster.want(left)):
            self._stop_for_want_of_workers()
        window = LEASES_PER_WORKER * workers if not self.desk.disk_pauses else 1
        room = window - self.flying
        for whole in (True, False) if len(self._active) > 1 else (False,):
            for driver in reversed(self._active):
                if room > 0 and self._has_begun(driver):
                    room -= driver.lease(room, workers, whole=whole)

    def _has_begun(self, driver: StageDriver) -> bool:
        """Whether a stage is at work; it begins when its first block is ready."""
        if not driver.begun and self.desk.leasing and driver.may_begin:
            self.stages.begun(driver)
            driver.begin()
        return driver.begun

    @property
    def flying(self) -> int:
        """Leases that are out."""
        return sum(driver.flying for driver in self._active)

    def _look_at_others(self) -> None:
        """Take note of what other drivers have done; one that is found dead loses its pages."""
        self._asked_s = time.monotonic()
        for driver in tuple(self._active):
            if driver.waits_for_others and not driver.take_over():
                drop_dead(driver.books.ledger, self._work)
            elif driver.books.elsewhere:
                driver.books.refresh()
        self._asked_s = time.monotonic()

    # --- stopping --------------------------------------------------------------------------------------------------------------

    def _stop_for_want_of_workers(self) -> None:
        why = f"no worker was connected for {self._absence.gone_s:.0f} s"
        self.desk.state, self.desk.message = "interrupted", why
        self.desk.events.message(f"Stopped: {why}. See why workers do not start, then run again: what is done is kept.", "error")

    def _drain(self) -> None:
        """Ask the workers to give back what they have not started, once; wait at most drain_s; at once on a second request."""
        now, drain_s = time.monotonic(), self.desk.settings.drain_s
        if not self._drain_sent_s:
            self._drain_sent_s = now
            self.desk.events.message(f"Stopping: blocks under way are finished (at most {drain_s:.0f} s); once more stops at once.")
            self._drain_workers()
        idle = not self.flying and not self.stages.finishing
        if idle or self.desk.control.stop or now - self._drain_sent_s > drain_s:
            self.desk.state = "interrupted"

    def _drain_workers(self) -> None:
        for driver in self._active:
            driver.drain()

    def _land_the_rest(self) -> None:
        """Take what has already come in; what is still out is abandoned and will be computed again."""
        if self.desk.state == "failed" and self.flying:
            self._drain_workers()
        deadline_s = time.monotonic() + LANDING_S
        while self.flying and self.desk.state == "failed" and time.monotonic() < deadline_s:
            self._listen(TICK_S)
        for driver in self._active:
            driver.abandon()

    # --- what others see, from any thread --------------------------------------------------------------------------------------

    @property
    def active(self) -> tuple[StageDriver, ...]:
        """Drivers of the stages that are at work."""
        return tuple(driver for driver in tuple(self._active) if driver.begun)

    @property
    def nbytes(self) -> int:
        """Bytes booked so far."""
        return sum(driver.nbytes for driver in self.drivers)

    def workers(self) -> dict[str, dict[str, float]]:
        """What each worker told last, over all stages: its steps and its compute added up, its memory once."""
        found: dict[str, dict[str, float]] = {}
        for driver in self.active:
            for name, values in driver.workers().items():
                known = found.setdefault(name, dict.fromkeys(values, 0.0))
                for key, value in values.items():
                    known[key] = known.get(key, 0.0) + value if key in ADDED else max(known.get(key, 0.0), value)
        return found
