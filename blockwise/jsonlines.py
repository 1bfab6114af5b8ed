"""Events as JSON, one object per line: for logs, pipes and other programs.

Every line holds `event` (the class name in snake case), `at_s` and the fields of the event. Batches of blocks come at most once a
second per stage, summed; where a sum spans several workers, `worker` is empty. What is left of a sum comes before the end of its
stage, so that the counts of all lines add up to the whole.
"""

import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TextIO

from blockwise.events import BlocksDone, Event, RunFinished, StageFinished

INTERVAL_S: float = 1.0
"""Least time between two `blocks_done` lines of one stage."""


def event_name(event: Event) -> str:
    """`BlocksDone` -> `blocks_done`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()


def event_line(event: Event) -> str:
    """One event as one line of JSON, without the line end."""
    return json.dumps({"event": event_name(event), **asdict(event)})


def added(first: BlocksDone, second: BlocksDone) -> BlocksDone:
    """Two batches of one stage as one, at the time of the second."""
    return replace(
        second,
        worker=first.worker if first.worker == second.worker else "",
        count=first.count + second.count,
        nbytes=first.nbytes + second.nbytes,
        read_s=first.read_s + second.read_s,
        compute_s=first.compute_s + second.compute_s,
        write_s=first.write_s + second.write_s,
    )


class JsonLines:
    """A subscriber that writes each event to `stream` and flushes."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._sums: dict[str, BlocksDone] = {}
        self._written_s: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, BlocksDone):
            self._add(event)
            return
        if isinstance(event, StageFinished | RunFinished):
            self._write_sums()
        self._write(event)

    def close(self) -> None:
        """Write what was summed up and not yet written."""
        self._write_sums()

    def _add(self, event: BlocksDone) -> None:
        stage = event.stage
        self._sums[stage] = added(self._sums[stage], event) if stage in self._sums else event
        now = self._clock()
        if now - self._written_s.get(stage, -INTERVAL_S) >= INTERVAL_S:
            self._written_s[stage] = now
            self._write(self._sums.pop(stage))

    def _write_sums(self) -> None:
        for stage in tuple(self._sums):
            self._write(self._sums.pop(stage))

    def _write(self, event: Event) -> None:
        self._stream.write(event_line(event) + "\n")
        self._stream.flush()
