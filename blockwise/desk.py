"""What the drivers of a run's stages share: one inbox, one state, what a person asks, and one answer to a full or read-only disk."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from blockwise.config import FolderConfig
from blockwise.deadline import Deadline
from blockwise.events import Events, State

DISK_PAUSES_S: tuple[float, ...] = (5, 10, 30, 60, 60, 60, 60, 60, 60, 60)
"""Waits between probes of a full disk; after the last the run stops, resumable."""


@dataclass(slots=True)
class Control:
    """What a person asks of a running driver; signals set it, from any thread."""

    drain: bool = False
    stop: bool = False

    def interrupt(self) -> None:
        """First call: drain. Second: stop at once."""
        self.stop, self.drain = self.drain, True


@dataclass(slots=True)
class Desk:
    """What the drivers of a run's stages share: one inbox, one state, one answer to a full or read-only disk.

    cluster : an entered cluster of blockwise.cluster, with `client` and `count()`.
    overdue : worker -> key of the stage and the block that it ended itself for.  leaving : worker -> why it leaves.
    longest_s : of the slowest block so far.
    """

    cluster: Any
    settings: FolderConfig
    events: Events
    control: Control
    inbox: "queue.SimpleQueue[Callable[[], None]]" = field(default_factory=queue.SimpleQueue)
    state: State = "running"
    message: str = ""
    paused_until_s: float = 0.0
    disk_pauses: int = 0
    overdue: dict[str, tuple[str, int | None]] = field(default_factory=dict)
    leaving: dict[str, str] = field(default_factory=dict)
    longest_s: float = 0.0

    @property
    def leasing(self) -> bool:
        """Whether leases may go out now."""
        return not self.control.drain and time.monotonic() >= self.paused_until_s

    def hear_leaving(self, worker: str, why: str) -> None:
        """A worker leaves, and says so to every stage."""
        if worker not in self.leaving:
            self.leaving[worker] = why
            self.events.message(f"Worker {worker} leaves: {why}. What it has not finished goes to others.")

    def break_off(self, why: str) -> None:
        """Stop before the other blocks fail alike."""
        if self.state == "running":
            self.state, self.message = "failed", why
            self.events.message(f"{why}. Stopped before the others fail alike; mend the cause and run again.", "error")

    def pause_for_disk(self, error: str) -> None:
        """Lease nothing for a while, then one block to see whether it is still so; in the end drain."""
        if time.monotonic() < self.paused_until_s:
            return
        full, again = ("read-only", "Mount it to be written") if "read-only" in error.lower() else ("full", "Free some space")
        if self.disk_pauses == len(DISK_PAUSES_S):
            self.message = f"the disk stayed {full}"
            self.control.drain = True
            return
        wait_s = DISK_PAUSES_S[self.disk_pauses]
        self.disk_pauses += 1
        self.paused_until_s = time.monotonic() + wait_s
        self.message = f"disk {full}, next try in {wait_s:.0f} s"
        self.events.message(f"The disk is {full} ({error}): paused, next try in {wait_s:.0f} s. {again} to go on.", "warning")

    def drain_for(self, why: str) -> None:
        """Drain because this process must end."""
        self.message = why
        self.events.message(f"Stopping, for this driver is in a job and {why}. Run again to go on.", "warning")
        self.control.drain = True


@contextmanager
def within_its_job(desk: Desk) -> Iterator[None]:
    """Meanwhile, drain before the job of this process ends, if it is in one, while its last blocks can still be finished and booked."""
    deadline, over = Deadline.of(), threading.Event()

    def watch() -> None:
        if deadline.wait(lambda: desk.longest_s, over.is_set):
            desk.inbox.put(lambda: desk.drain_for(deadline.sentence))

    if deadline.possible:
        threading.Thread(target=watch, name="blockwise-deadline", daemon=True).start()
    try:
        yield
    finally:
        over.set()
