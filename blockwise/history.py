"""Subscribers that write into the run folder: events as JSON lines, and blocks and bytes over time for the report."""

import time
from collections.abc import Callable

from blockwise.events import BlocksDone, Event, StageFinished, StageStarted
from blockwise.folder import RunFolder
from blockwise.status import HistoryPoint

LEAST_S: float = 2.0
POINTS: int = 500
"""About as many points a run leaves, however long it takes."""


class HistoryRecorder:
    """Appends the progress of the main stage to history.jsonl, over all drivers of the run."""

    def __init__(self, folder: RunFolder, clock: Callable[[], float] = time.time) -> None:
        self._folder, self._clock = folder, clock
        history = folder.history()
        self._nbytes = history[-1].nbytes if history else 0
        self._began_s = history[0].at_s if history else clock()
        self._stage, self._blocks, self._written_s = "", 0, 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageStarted) and event.main:
            self._stage, self._blocks = event.stage, event.done
            self._write()
        elif isinstance(event, BlocksDone) and event.stage == self._stage:
            self._blocks += event.count
            self._nbytes += event.nbytes
            if self._clock() - self._written_s >= max(LEAST_S, (self._clock() - self._began_s) / POINTS):
                self._write()
        elif isinstance(event, StageFinished) and event.stage == self._stage:
            self._write()

    def _write(self) -> None:
        self._written_s = self._clock()
        self._folder.note_history(HistoryPoint(self._written_s, self._blocks, self._nbytes))
