"""Synthetic states of a run for the monitor's tests."""

from dataclasses import replace

from blockwise.ledger.contract import Driver
from blockwise.status import Counts, FailureStatus, StageStatus, Status, WorkerStatus

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&\"'\x1b[2J"
"""Foreign text that must reach no page or terminal as code."""

TRACEBACK = 'Traceback (most recent call last):\n  File "model.py", line 3, in forward\n    raise ValueError(shape)\nValueError: bad shape'


class Clock:
    """A clock that moves when told."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def failure(block: int = 1234, **changes) -> FailureStatus:
    values = {"stage": "rates", "domain": "session_2", "block": block, "attempts": 3, "kind": "poison", "worker": "worker-1"}
    return FailureStatus(**{**values, "error": "ValueError: bad shape", "traceback": TRACEBACK, **changes})


def worker(index: int = 0) -> WorkerStatus:
    return WorkerStatus(f"worker-{index}", 2, 1, 3, 812.4, 0.934, 22_000 + index)


RUNNING = Status(
    run="demo.run",
    task="cascade",
    folder="/data/demo.run",
    output="/data/rates.zarr",
    state="running",
    blocks=Counts(total=100_000, done=45_200, failed=1, running=12, executed=45_300, masked=7),
    stages=(
        StageStatus("noise", "done", False, Counts(total=1200, done=1200, executed=1200)),
        StageStatus("rates", "running", True, Counts(total=100_000, done=45_200, failed=1, running=12, executed=45_300, masked=7)),
    ),
    workers=(worker(0), worker(1)),
    failures=(failure(),),
    blocks_per_s=1234.5,
    bytes_per_s=56.7e6,
    eta_s=44.4,
    elapsed_s=63.0,
    dashboard="http://127.0.0.1:8787/status",
    page="http://127.0.0.1:8787/blockwise",
    map=(100,) * 400 + (255, 60, 30) + (200,) * 6 + (0,) * 500,
    driver=Driver("a1", "host", "boot", 4242, 0.0),
    beat=63,
    at_s=1.79e9,
)

DONE = replace(
    RUNNING,
    state="done",
    blocks=Counts(total=100_000, done=100_000, executed=100_000),
    stages=tuple(replace(s, state="done", blocks=Counts(total=100_000, done=100_000)) for s in RUNNING.stages),
    workers=(),
    failures=(),
    eta_s=None,
    map=(100,) * 909,
)
