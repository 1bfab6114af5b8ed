"""The light run of the chaos tests with a clock that jumps: `python -m tests.chaos.jumpy FOLDER`.

The clock of this process, and with $JUMP_ALL of its workers, is off by the seconds that the file `jump` in the folder says.
"""

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

FOLDER = Path(sys.argv[1])
WORKER_TTL = "5s"
"""Short, so that heartbeats that a jump delays have their effect while the test looks."""


class Clock:
    """Stands in for `time.time` from before anything else is imported, so that Dask and tornado take it too."""

    def __init__(self) -> None:
        self.real, self.off_s = time.time, 0.0
        threading.Thread(target=self._follow, daemon=True).start()

    def time(self) -> float:
        return self.real() + self.off_s

    def _follow(self) -> None:
        pause = threading.Event()
        while not pause.wait(0.02):
            with suppress(OSError, ValueError):
                self.off_s = float((FOLDER / "jump").read_text())


if __name__ == "__main__" or os.environ.get("JUMP_ALL"):  # a worker imports this module, too, under another name
    time.time = Clock().time

if __name__ == "__main__":
    from blockwise.cluster import local
    from blockwise.testing import run_in
    from tests.chaos.light import light

    settings = local.dask_settings
    local.dask_settings = lambda *a, **k: {**settings(*a, **k), "distributed.scheduler.worker-ttl": WORKER_TTL}
    sys.exit(run_in(FOLDER / "run", light(FOLDER, pause_s=0.02), workers=2).exit_code)
