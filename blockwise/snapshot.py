"""The state of a run that this process drives, as a Status. Reads numbers that the driver's thread changes; each is whole at any time."""

import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from blockwise.books import Books
from blockwise.events import State
from blockwise.status import Counts, FailureStatus, StageStatus, Status, WorkerStatus

if TYPE_CHECKING:
    from blockwise.dispatch import Dispatch
    from blockwise.run import Run

RATE_S: float = 30.0
"""Rates are means over this long."""
FAILURES_SHOWN: int = 50


@dataclass(slots=True)
class Rates:
    """Blocks and bytes per second over the last RATE_S."""

    points: deque[tuple[float, int, int]] = field(default_factory=deque)

    def add(self, now_s: float, blocks: int, nbytes: int) -> tuple[float, float]:
        self.points.append((now_s, blocks, nbytes))
        while len(self.points) > 2 and now_s - self.points[0][0] > RATE_S:
            self.points.popleft()
        then_s, b, n = self.points[0]
        span = now_s - then_s
        return ((blocks - b) / span, (nbytes - n) / span) if span > 0 else (0.0, 0.0)


def counts_of(books: Books, running: int = 0) -> Counts:
    """The account of one stage in numbers."""
    return Counts(
        total=len(books.grid),
        done=books.done,
        failed=len(books.quarantined),
        running=running,
        executed=books.executed,
        masked=books.masked,
        orphans=books.orphans,
    )


def block_map(books: Books, under_way: Collection[int] = ()) -> tuple[int, ...]:
    """Per cell: 0-100 % done, 200 where blocks are under way, 255 where it holds a quarantined block."""
    total, cells = len(books.grid), len(books.cells)
    width = np.diff(-(-np.arange(cells + 1) * total // cells))
    shade = np.minimum(100, 100 * books.cells // np.maximum(1, width)).astype(int)
    for value, ids in ((200, under_way), (255, tuple(books.quarantined))):  # a tuple: the driver may add one meanwhile
        touched = np.unique(np.array(ids, np.int64) * cells // total)
        shade[touched[(shade[touched] < 100) | (value == 255)]] = value
    return tuple(shade.tolist())


def workers_of(dispatch: "Dispatch") -> tuple[WorkerStatus, ...]:
    """What the workers told last."""
    return tuple(
        WorkerStatus(
            name=name,
            reading=int(v["reading"]),
            computing=int(v["computing"]),
            writing=int(v["writing"]),
            rss_mb=round(v["rss_mb"], 1),
            busy=round(v["busy"], 3),
            blocks_done=int(v["blocks_done"]),
            **{k: round(v[k], 3) for k in ("gpu", "gpu_mb", "gpu_total_mb") if k in v},
        )
        for name, v in sorted(dispatch.workers().items())
    )


def failures_of(books: Books) -> tuple[FailureStatus, ...]:
    """The quarantined blocks, first ones first."""
    names = {d.digest: d.name for d in books.grid.domains}
    return tuple(
        FailureStatus(a.stage, names[a.domain], a.block, a.attempt, a.kind, a.error, a.traceback, a.worker)
        for _, a in sorted(tuple(books.quarantined.items()))[:FAILURES_SHOWN]
    )


def snapshot(run: "Run") -> Status:
    """The state of a run now."""
    dispatch, now_s = run.dispatch, time.monotonic()
    active = {d.books.stage: d for d in dispatch.active} if dispatch is not None else {}
    counts = {name: counts_of(b, active[name].running if name in active else 0) for name, b in run.accounts.items()}
    stages = tuple(
        StageStatus(s.name, _stage_state(run, s.name in active, found), s is run.task, found, run.totals.of(s.name))
        for s, found in ((s, counts.get(s.name, Counts())) for s in run.stages)
    )
    blocks = counts.get(run.task.name, Counts())
    main = run.accounts.get(run.task.name)
    blocks_per_s, bytes_per_s = run.rates.add(now_s, blocks.done, dispatch.nbytes if dispatch is not None else 0)
    left = blocks.total - blocks.done - blocks.masked - blocks.failed - blocks.orphans
    return Status(
        run=run.folder.run,
        task=run.task.name,
        folder=str(run.folder.path),
        output=run.task.output_path() or "",
        state=run.state,
        blocks=blocks,
        stages=stages,
        workers=workers_of(dispatch) if dispatch is not None else (),
        lost=run.totals.lost,
        failures=tuple(f for b in run.accounts.values() for f in failures_of(b)),
        blocks_per_s=round(blocks_per_s, 3),
        bytes_per_s=round(max(0.0, bytes_per_s), 1),
        eta_s=round(left / blocks_per_s, 1) if blocks_per_s > 0 and run.state == "running" else None,
        elapsed_s=round(now_s - run.begun_s, 1),
        message=run.outage.message or (dispatch.desk.message if dispatch is not None else run.message),
        dashboard=run.dashboard if run.state == "running" else "",
        page=run.page if run.state == "running" else "",
        map=block_map(main, active[run.task.name].under_way() if run.task.name in active else ()) if main is not None else (),
        driver=run.driver,
        at_s=time.time(),
    )


def _stage_state(run: "Run", active: bool, counts: Counts) -> State:
    if counts.total and counts.done + counts.masked == counts.total:
        return "done"
    if active:
        return "running"
    begun = counts.executed > 0 or counts.failed > 0 or counts.orphans > 0
    return run.state if begun and run.state != "running" else "planned"
