"""The state of a large run, made up: 10^6 blocks on 500 workers with GPUs; and a server that shows such states without a run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dask
import numpy as np
from distributed import LocalCluster

from blockwise.audience import Audience
from blockwise.cluster.settings import http_routes
from blockwise.ledger.contract import Driver
from blockwise.monitor.page import EXTENSION
from blockwise.status import MAP_CELLS, Counts, FailureStatus, Spent, StageStatus, Status, WorkerStatus

BLOCKS, WORKERS = 1_000_000, 500
TRACEBACK = (
    "Traceback (most recent call last):\n"
    '  File "blockwise/pipeline.py", line 268, in _compute\n'
    "    results = [self.task.compute(batch[0].data, self._state[0])]\n"
    '  File "tasks/synful/task.py", line 214, in compute\n'
    "    raise InputError(why)\n"
    "InputError: raw voxels are not finite"
)


def large_status(beat: int = 5_123) -> Status:
    """Two thirds of a large run."""
    random = np.random.default_rng(1)
    done = 655_360
    shade = np.clip(np.arange(MAP_CELLS) * -0.5 + 760 + random.normal(0, 25, MAP_CELLS), 0, 100).astype(int)
    shade[random.choice(np.flatnonzero((shade > 5) & (shade < 95)), 40, replace=False)] = 200
    shade[[212, 871]] = 255
    counts = Counts(total=BLOCKS, done=done, failed=3, running=1_940, executed=done + 1_990, masked=1_204)
    return Status(
        run="20260921-081320-5cde41",
        task="synful",
        folder="/scratch/lab/fafb.run",
        output="/scratch/lab/fafb.zarr",
        state="running",
        blocks=counts,
        stages=(
            StageStatus("blocks", "running", True, counts, Spent(2_600_000_000_000, 310_000.0, 2_450_000.0, 96_000.0, 9)),
            StageStatus("labels", "running", False, Counts(total=31_250, done=19_002, running=211), Spent(0, 9_000.0, 41_000.0, 700.0)),
            StageStatus("partners", "planned", False, Counts(total=31_250)),
        ),
        workers=tuple(sorted((made_worker(i, random) for i in range(WORKERS)), key=lambda w: w.name)),
        lost=2,
        failures=tuple(failure(b) for b in (103_551, 103_552, 425_210)),
        blocks_per_s=412.6,
        bytes_per_s=1.61e9,
        eta_s=835.0,
        elapsed_s=1_700.0,
        dashboard="http://127.0.0.1:8787/status",
        page="http://127.0.0.1:8787/blockwise",
        map=tuple(int(v) for v in shade),
        driver=Driver("a1", "login1", "boot", 4242, 0.0),
        beat=beat,
        at_s=1.79e9,
    )


def made_worker(index: int, random: np.random.Generator) -> WorkerStatus:
    """A worker with a GPU; one in 25 idles."""
    idle = index % 25 == 3
    reading, computing, writing = (
        (0, 0, 0) if idle else (int(random.integers(0, 3)), int(random.random() < 0.92), int(random.integers(0, 4)))
    )
    busy = 0.0 if idle else float(random.uniform(0.85, 1.0))
    return WorkerStatus(
        name=f"tls://10.12.{index // 8}.{11 + index % 8}:{40_000 + 7 * index}",
        reading=reading,
        computing=computing,
        writing=writing,
        rss_mb=float(random.uniform(5_200, 6_100)),
        busy=busy,
        blocks_done=int(random.integers(1_250, 1_390)) - 900 * idle,
        gpu=max(0.0, busy - 0.03),
        gpu_mb=31_700.0,
        gpu_total_mb=85_500.0,
    )


def failure(block: int) -> FailureStatus:
    return FailureStatus("blocks", "fafb", block, 2, "poison", "InputError: raw voxels are not finite", TRACEBACK, "tls://10.12.4.13:40231")


class Shown:
    """What stands in the driver's place."""

    def __init__(self, status: Status) -> None:
        self.status, self.audience = status, Audience()

    def snapshot(self) -> Status:
        return self.status


@contextmanager
def served() -> Iterator[tuple[Callable[[Status], None], str]]:
    """A scheduler without workers: a function that sets what its page shows, and the page's address."""
    with dask.config.set({"distributed.scheduler.http.routes": http_routes()}):
        with LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as cluster:
            address = f"http://127.0.0.1:{cluster.scheduler.http_server.port}/blockwise"
            yield lambda status: cluster.scheduler.extensions.update({EXTENSION: Shown(status)}), address
