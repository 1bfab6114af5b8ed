"""A run's state as plain text: what `blockwise status` prints and what the progress lines are made of.

Error texts and tracebacks come from other people's code: `plain` takes terminal control characters out of everything shown.
"""

import json
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from blockwise.events import RunFinished
from blockwise.status import Counts, FailureStatus, Status, WorkerStatus

if TYPE_CHECKING:
    from rich.text import Text

SILENT_S: float = 10.0
"""A driver whose beat stood still this long, by the reader's own clock, is probably dead."""

BAR_CELLS: int = 40
WORKERS_SHOWN: int = 16
FAILURES_SHOWN: int = 20


def human_bytes(nbytes: float) -> str:
    """Decimal units, three digits at most: `0 B`, `999 B`, `1.4 GB`, `23 MB`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(nbytes) < 999.5:
            return f"{nbytes:.0f} {unit}" if unit == "B" or nbytes >= 9.95 else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:,.1f} PB"


def human_seconds(seconds: float | None) -> str:
    """Two units at most: `23 ms`, `0.4 s`, `12 s`, `3 min 05 s`, `2 h 13 min`, `4 d 06 h`; None is a dash."""
    if seconds is None:
        return "–"
    if seconds < 0.0995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600:02d} h"


def human_rate(per_s: float) -> str:
    """A rate with three digits or so: `12,345`, `12.3`, `0.050`."""
    digits = 0 if per_s >= 100 or per_s == 0 else 1 if per_s >= 1 else 3
    return f"{per_s:,.{digits}f}"


def plural(count: int, noun: str) -> str:
    """A count with its noun: 1 block, 2 blocks."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def plain(text: str) -> str:
    """`text` without terminal control characters; line ends and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


def first_line(text: str, width: int = 100) -> str:
    """The first line that says something, cut to `width` characters."""
    line = next((line for line in plain(text).splitlines() if line.strip()), "").strip()
    return line if len(line) <= width else line[: width - 1] + "…"


def columns(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Rows (the first is the header) as aligned text; `right` names the columns set flush right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True))) for r in rows]
    return "\n".join(line.rstrip() for line in lines)


def status_text(status: Status, *, silent_s: float = 0.0) -> str:
    """A run in a dozen lines: stages, progress, workers, failures, addresses.

    silent_s : seconds since the driver's beat last moved, where the reader has watched it.
    """
    parts = [_head(status), _stages(status), _progress(status)]
    if status.state == "running" and silent_s >= SILENT_S:
        parts.append(f"no sign of the driver for {human_seconds(silent_s)}: it may be dead; `blockwise run` on this folder continues")
    if status.message:
        parts.append(plain(status.message))
    if status.workers and status.state == "running":
        parts.append(_workers(status.workers))
    if status.failures:
        parts.append(failure_text(status.failures))
    return "\n\n".join(parts)


def _head(status: Status) -> str:
    where = (("folder", status.folder), ("output", status.output))
    live = (("page", status.page), ("dashboard", status.dashboard)) if status.state == "running" else ()
    lines = [f"{status.run}  {status.state}  ({status.task})"]
    return plain("\n".join([*lines, *(f"{name:<10}{value}" for name, value in (*where, *live) if value)]))


def _stages(status: Status) -> str:
    header = ("stage", "state", "done", "total", "failed", "running", "masked", "orphans")
    rows = [[plain(s.name), s.state, *_counts(s.blocks)] for s in status.stages]
    shown = len(header) if any(s.blocks.orphans for s in status.stages) else len(header) - 1
    return columns([line[:shown] for line in (header, *rows)], right=range(2, shown))


def _counts(blocks: Counts) -> list[str]:
    return [f"{n:,}" for n in (blocks.done, blocks.total, blocks.failed, blocks.running, blocks.masked, blocks.orphans)]


def _progress(status: Status) -> str:
    share = share_done(status)
    full = int(share * BAR_CELLS)
    words = [f"{'█' * full}{'░' * (BAR_CELLS - full)} {percent(share)}"]
    if status.state == "running":
        words += [
            f"{human_rate(status.blocks_per_s)} blocks/s",
            f"{human_bytes(status.bytes_per_s)}/s",
            f"ETA {human_seconds(status.eta_s)}",
        ]
    return "   ".join([*words, f"elapsed {human_seconds(status.elapsed_s)}"])


def share_done(status: Status) -> float:
    """Done blocks of the main stage, 0 to 1; a run without blocks is done."""
    return status.blocks.done / status.blocks.total if status.blocks.total else float(status.state == "done")


def percent(share: float) -> str:
    """Never 100 % before the last block."""
    return f"{int(share * 1000) / 10:.1f} %"


def _workers(workers: Sequence[WorkerStatus]) -> str:
    header = ("worker", "reading", "computing", "writing", "busy", "GPU", "memory", "done")
    rows = [
        (
            plain(w.name),
            f"{w.reading}",
            f"{w.computing}",
            f"{w.writing}",
            f"{w.busy:.0%}",
            "none" if w.gpu is None else f"{w.gpu:.0%}",
            human_bytes(w.rss_mb * 1e6),
            f"{w.blocks_done:,}",
        )
        for w in workers[:WORKERS_SHOWN]
    ]
    return columns([header, *rows], right=range(1, 8)) + _more(len(workers) - WORKERS_SHOWN, "more worker")


def failure_text(failures: Sequence[FailureStatus]) -> str:
    """The quarantined blocks, one line each: stage, domain, block, attempts, kind, first line of the error."""
    header = ("stage", "domain", "failed block", "attempts", "kind", "error")
    rows = [
        (plain(f.stage), plain(f.domain), f"{f.block:,}", f"{f.attempts}", plain(f.kind), first_line(f.error, 80))
        for f in failures[:FAILURES_SHOWN]
    ]
    return columns([header, *rows], right=(2, 3)) + _more(len(failures) - FAILURES_SHOWN, "more failed block")


def value_text(value: object) -> str:
    """A figure as a person reads it."""
    if isinstance(value, bool | str) or value is None:
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value, default=str)


def figures_line(stage: str, figures: Mapping[str, object]) -> str:
    """The numbers that a stage found, in one line; empty where it found none."""
    shown = [f"{plain(name)} {value_text(value)}" for name, value in figures.items() if isinstance(value, int | float)]
    return f"{plain(stage)}: {', '.join(shown)}" if shown else ""


def _more(count: int, noun: str) -> str:
    return f"\nand {plural(count, noun)}" if count > 0 else ""


def summary(event: RunFinished) -> tuple[str, str]:
    """How a run ended and what to do next, in two lines."""
    failed = f", {event.failed:,} failed" if event.failed else ""
    head = f"run {event.state}: {plural(event.done, 'block')} done{failed} in {human_seconds(event.seconds)}"
    folder = plain(event.folder)
    if event.failed:
        return head, f"see `blockwise status {folder}`; try the failed blocks again with `blockwise retry {folder}`"
    if event.state == "done":
        output = f"output {plain(event.output)}; " if event.output else ""
        return head, f"{output}run folder {folder}; pictures with `blockwise report {folder}`"
    return head, f"run folder {folder}; the same `blockwise run` continues where it stopped"


class Heart:
    """Seconds since a beat last moved, by the reader's own monotonic clock: clocks of two machines are never compared."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beat: int | None = None
        self._moved_s = clock()

    def silent_s(self, beat: int) -> float:
        if beat != self._beat:
            self._beat, self._moved_s = beat, self._clock()
        return self._clock() - self._moved_s


def watch(
    read_status: Callable[[], Status],
    stop: Callable[[float], bool] | None = None,
    *,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Status:
    """Draw a run's status once a second until the run ends, `stop` says so, or Ctrl-C; returns the last status.

    stop : waits up to so many seconds and says whether to stop, e.g. `threading.Event().wait`.
    stream : where to draw, default stdout; not a terminal: the last status is printed once, at the end.
    """
    from rich.console import Console
    from rich.live import Live

    wait, heart = stop or threading.Event().wait, Heart(clock)
    status = read_status()
    with Live(console=Console(file=stream), auto_refresh=False, redirect_stdout=False) as live, suppress(KeyboardInterrupt):
        while True:
            live.update(_unwrapped(status_text(status, silent_s=heart.silent_s(status.beat))), refresh=True)
            if status.state not in ("planned", "running") or wait(1.0):
                break
            status = read_status()
    return status


def _unwrapped(text: str) -> "Text":
    from rich.text import Text

    return Text(text, no_wrap=True, overflow="ellipsis")
