"""Which workers are there, as the driver knows: what each told last, and since when none is connected. No clock but the one given."""

from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Any

from blockwise.events import Events

SILENT_WORKER_S: float = 5.0
"""A worker tells what it does twice a second, every 2.5 s where there are 1,000; one that is silent for so long is gone."""
MISSED_S: float = 30.0
"""Without any worker for so long, a person is told; one that was killed is back within a few seconds."""
GIVEN_UP_S: float = 1800.0
"""Without any worker for so long, the run stops."""


@dataclass(slots=True)
class Activity:
    """The last thing a worker told of itself."""

    at_s: float
    values: dict[str, float]


@dataclass(slots=True)
class Absence:
    """A time without workers; says that it lasts, and when it is over."""

    events: Events
    gone_s: float = 0.0
    since_s: float | None = None
    waited_s: float = -inf
    """When workers were last seen to stand in a queue."""
    told: bool = False

    def gives_up(self, workers: int, now_s: float, waiting: str = "") -> bool:
        """Whether it has lasted so long that nobody comes; to be asked all the time, with the number of workers connected now.

        `waiting` says of workers that stand in a queue, where there are some: while they do, the time does not count.
        """
        if workers:
            if self.told:
                self.events.message(f"Workers are back after {self.gone_s:.0f} s: the run goes on.")
            self.gone_s, self.since_s, self.told = 0.0, None, False
            return False
        self.since_s = now_s if self.since_s is None else self.since_s
        self.gone_s = now_s - self.since_s
        if self.gone_s >= MISSED_S and not self.told:
            self.told = True
            then = waiting or f"after {GIVEN_UP_S:.0f} s the run stops"
            self.events.message(f"No worker is connected since {self.gone_s:.0f} s; {then}.", "warning")
        if waiting:
            self.waited_s = now_s
        return now_s - max(self.since_s, self.waited_s) >= GIVEN_UP_S


def ended_for_memory(client: Any, worker: str) -> float:
    """MB of memory at which Dask's keeper of a worker ended it; 0 where it did not.

    What a worker told last of itself is up to half a second old, in which it may have doubled.
    """
    with suppress(OSError):
        events = client.get_events("worker-restart-memory")
        return max((float(event["rss"]) / 1e6 for _, event in events if event["worker"] == worker), default=0.0)
    return 0.0
