"""A log for each worker, logs/ADDRESS.log in the run folder: a line per batch of blocks, a line per failed block. A subscriber.

    2026-11-21T08:00:01.250Z stage=rates blocks=128 mb=12.3 read_s=0.412 compute_s=1.204 write_s=0.311
    2026-11-21T08:00:01.251Z stage=rates failed=17 domain=session_2 attempt=1 kind=poison error="ValueError: bad shape"
    2026-11-21T08:00:09.310Z lost: KilledWorker (2 suspected blocks)

The driver writes them, from receipts: so they lie in one place whatever kind of cluster it is, hold only what was booked, and the death of
a worker loses nothing. Workers share no file and need no shared folder. Bounded: a log of `FILE_BYTES` is renamed to ADDRESS.log.1, over
the one before, and beyond `FILES` workers the logs written to longest ago go. A crash loses at most the lines of the last `EVERY_S`; a
full disk loses lines and stops nothing.
"""

import json
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue

from blockwise.events import BlockFailed, BlocksDone, Event, WorkerLost

FOLDER = "logs"
EVERY_S: float = 1.0
FILE_BYTES: int = 1_000_000
FILES: int = 2_000


class WorkerLogs:
    """Appends to the logs below `folder`; lines are written by a thread of its own, so that a slow disk delays no lease."""

    def __init__(self, folder: Path, *, file_bytes: int = FILE_BYTES, files: int = FILES) -> None:
        self._folder, self._file_bytes, self._files = folder, file_bytes, files
        self._lines: SimpleQueue[tuple[str, str]] = SimpleQueue()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="blockwise-worker-logs", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        if isinstance(event, BlocksDone | BlockFailed | WorkerLost) and event.worker:
            self._lines.put((log_name(event.worker), line(event)))

    def close(self) -> None:
        """Write what is left and stop."""
        self._over.set()
        self._thread.join(timeout=10)

    def _loop(self) -> None:
        over = False
        while not over:
            over = self._over.wait(EVERY_S)
            with suppress(OSError):
                self._write()

    def _write(self) -> None:
        texts: dict[str, list[str]] = {}
        while not self._lines.empty():
            name, text = self._lines.get()
            texts.setdefault(name, []).append(text)
        if texts:
            self._folder.mkdir(exist_ok=True)
        new = False
        for name, lines in texts.items():
            file = self._folder / name
            new |= not file.exists()
            with file.open("a", encoding="utf-8") as out:
                out.writelines(lines)
            if file.stat().st_size > self._file_bytes:
                file.replace(file.with_name(f"{name}.1"))
        if new:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        logs = sorted(self._folder.glob("*.log*"), key=lambda f: f.stat().st_mtime)
        for file in logs[: max(0, len(logs) - self._files)]:
            file.unlink(missing_ok=True)


def log_name(worker: str) -> str:
    """`tls://10.0.0.7:43121` -> `10.0.0.7-43121.log`."""
    return re.sub(r"[^\w.]+", "-", worker.partition("://")[2] or worker).strip("-.") + ".log"


def line(event: BlocksDone | BlockFailed | WorkerLost) -> str:
    """One event as one line."""
    when = datetime.fromtimestamp(event.at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    return f"{when} {_said[type(event)](event)}\n"


def _done(event: BlocksDone) -> str:
    times = f"read_s={event.read_s:.3f} compute_s={event.compute_s:.3f} write_s={event.write_s:.3f}"
    return f"stage={event.stage} blocks={event.count} mb={event.nbytes / 1e6:.3f} {times}"


def _failed(event: BlockFailed) -> str:
    where = f"stage={event.stage} failed={event.block} domain={event.domain} attempt={event.attempt} kind={event.kind}"
    return f"{where} error={json.dumps(event.error, ensure_ascii=False)}" + (" given up" if event.final else "")


def _lost(event: WorkerLost) -> str:
    return f"lost: {event.reason.splitlines()[0] if event.reason else 'unknown'} ({event.suspects} suspected blocks)"


_said: dict[type[Event], Callable[..., str]] = {BlocksDone: _done, BlockFailed: _failed, WorkerLost: _lost}
