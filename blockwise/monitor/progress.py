"""What a run shows while it works: a live line per stage on a terminal, JSON lines elsewhere.

An event only moves a few numbers; drawing happens in rich's thread at most `REFRESH_PER_S` times a second and reads them, so that a
run at 100,000 blocks/s pays microseconds per batch and the line stays alive while the driver waits for one long block.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from blockwise.events import BlockFailed, BlocksDone, Event, Message, RunFinished, RunStarted, StageFinished, StageStarted, WorkerLost
from blockwise.jsonlines import JsonLines
from blockwise.monitor.text import figures_line, first_line, human_rate, human_seconds, percent, plain, plural, summary

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

REFRESH_PER_S: int = 4
SAMPLE_S: float = 0.5
SAMPLES: int = 60
"""The rate is taken over the last `SAMPLES` moments at least `SAMPLE_S` apart: half a minute, or longer where blocks are long."""

MAX_FAILURE_LINES: int = 20
"""Failed blocks that get a line each; the others are only counted."""


class Rate:
    """Blocks per second over the last moments."""

    def __init__(self, now_s: float, count: int) -> None:
        self._moments = deque([(now_s, count)], maxlen=SAMPLES)

    def add(self, now_s: float, count: int) -> None:
        if now_s - self._moments[-1][0] >= SAMPLE_S:
            self._moments.append((now_s, count))

    def per_s(self, now_s: float, count: int) -> float:
        began_s, before = self._moments[0]
        return (count - before) / (now_s - began_s) if now_s > began_s else 0.0


@dataclass(slots=True)
class StageProgress:
    """The numbers behind one line."""

    name: str
    total: int
    done: int
    rate: Rate
    failed: int = 0
    seconds: float | None = None
    """How long the stage took, once it is over."""

    def eta_s(self, per_s: float) -> float | None:
        return (self.total - self.done - self.failed) / per_s if per_s > 0 else None


class ProgressBar:
    """A subscriber for terminals: what happens as lines, and below them one line per stage.

    stream : a terminal, usually stderr.
    """

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console

        self._console = Console(file=stream, highlight=False)
        self._clock = clock
        self._stages: dict[str, StageProgress] = {}
        self._live: Live | None = None
        self._failures = 0

    def __call__(self, event: Event) -> None:
        match event:
            case BlocksDone():
                self._count(event)
            case StageStarted():
                self._stages[event.stage] = StageProgress(event.stage, event.total, event.done, Rate(self._clock(), event.done))
                self._start()
            case StageFinished():
                self._finish(event)
            case BlockFailed(final=True):
                self._fail(event)
            case RunFinished():
                self.close()
                self._say(*summary(event), style="bold red" if event.failed else "bold")
            case _:
                self._say(*event_lines(event), style=_style(event))

    def close(self) -> None:
        """Stop drawing; the last state of the lines stays on the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def table(self) -> "Table":
        """The lines as they are now."""
        from rich.progress_bar import ProgressBar as Bar
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        now_s = self._clock()
        for stage in tuple(self._stages.values()):
            full = stage.done >= stage.total
            bar = Bar(max(stage.total, 1), stage.done if stage.total else 1, width=24, finished_style="green" if full else "yellow")
            table.add_row(Text(plain(stage.name)), bar, *_figures(stage, now_s))
        return table

    def _start(self) -> None:
        from rich.live import Live

        if self._live is None and self._console.is_terminal:
            self._live = Live(
                get_renderable=self.table, console=self._console, refresh_per_second=REFRESH_PER_S, redirect_stdout=False, transient=False
            )
            self._live.start()

    def _count(self, event: BlocksDone) -> None:
        if stage := self._stages.get(event.stage):
            stage.done += event.count
            stage.rate.add(self._clock(), stage.done)

    def _fail(self, event: BlockFailed) -> None:
        if stage := self._stages.get(event.stage):
            stage.failed += 1
        self._failures += 1
        if self._failures <= MAX_FAILURE_LINES:
            self._say(*event_lines(event), style="red")
        if self._failures == MAX_FAILURE_LINES:
            self._say("further failed blocks are only counted", style="red")

    def _finish(self, event: StageFinished) -> None:
        if stage := self._stages.get(event.stage):
            stage.done, stage.failed, stage.seconds = event.done, event.failed, event.seconds
        if line := figures_line(event.stage, event.figures):
            self._say(line)

    def _say(self, *lines: str, style: str = "") -> None:
        from rich.text import Text

        for line in lines:
            self._console.print(Text(line, style), soft_wrap=True)


def _figures(stage: StageProgress, now_s: float) -> tuple[str, ...]:
    share = percent(stage.done / stage.total if stage.total else 1.0)
    counts = f"{stage.done:,}/{stage.total:,}"
    failed = f"[red]{stage.failed:,} failed[/red]" if stage.failed else ""
    if stage.seconds is not None:
        return share, counts, "", f"in {human_seconds(stage.seconds)}", failed
    per_s = stage.rate.per_s(now_s, stage.done)
    return share, counts, f"{human_rate(per_s)} blocks/s", f"ETA {human_seconds(stage.eta_s(per_s))}", failed


def event_lines(event: Event) -> tuple[str, ...]:
    """What a person reads of an event that is worth a line of its own."""
    match event:
        case Message():
            return (plain(event.text if event.level == "info" else f"{event.level}: {event.text}"),)
        case RunStarted():
            head = f"{event.run} ({event.task}) on {plural(event.workers, 'worker')}"
            where = (("run folder", event.folder), ("live page", event.page), ("dask dashboard", event.dashboard))
            return (plain(head), *(f"  {name:<16}{plain(value)}" for name, value in where if value))
        case WorkerLost():
            return (f"worker {plain(event.worker)} lost: {first_line(event.reason)} ({plural(event.suspects, 'suspected block')})",)
        case BlockFailed(final=True):
            where_ = f"{plain(event.stage)}: block {event.block:,} of {plain(event.domain)}"
            return (f"{where_} failed after {plural(event.attempt, 'attempt')} ({event.kind}): {first_line(event.error)}",)
        case _:
            return ()


def _style(event: Event) -> str:
    if isinstance(event, WorkerLost):
        return "yellow"
    return {"warning": "yellow", "error": "red"}.get(event.level, "") if isinstance(event, Message) else ""


class Quiet:
    """Passes on only what needs a person: warnings, lost workers, quarantined blocks and how the run ended."""

    def __init__(self, show: ProgressBar | JsonLines) -> None:
        self._show = show

    def __call__(self, event: Event) -> None:
        match event:
            case Message(level="warning" | "error") | WorkerLost() | BlockFailed(final=True) | RunFinished():
                self._show(event)

    def close(self) -> None:
        self._show.close()


def subscriber_for(stream: TextIO, *, quiet: bool = False) -> ProgressBar | JsonLines | Quiet:
    """The subscriber that suits `stream`: live lines on a terminal, else JSON lines. Close it after the run.

    quiet : only warnings, lost workers, quarantined blocks and the end.
    """
    show = ProgressBar(stream) if stream.isatty() else JsonLines(stream)
    return Quiet(show) if quiet else show
