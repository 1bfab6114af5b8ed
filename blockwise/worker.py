"""The worker's side of Dask: a plugin that knows a stage, and the one function that Dask runs, `run_lease`.

The plugin only stores what a stage is; the task is unpickled, its sources opened and its model loaded by other threads when the first
lease comes, never in the event loop (a slow model would stop the heartbeats). State lives on the worker object, one `Station` per
driven stage, so that drivers which share a scheduler, or follow each other on it, never meet another's task.
"""

import os
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import cloudpickle
from distributed import Worker, get_worker
from distributed.core import Status
from distributed.diagnostics.plugin import WorkerPlugin
from tornado.ioloop import PeriodicCallback

from blockwise.gpu import check_visible
from blockwise.gpu_use import meter_of
from blockwise.lease import Lease, Progress, Receipt
from blockwise.leaving import departure
from blockwise.pipeline import Pipeline
from blockwise.task import Task
from blockwise.versions import check_versions, guard, guard_name
from blockwise.work import Occupancy

TIMEOUT_EXIT: int = 70
"""Exit code of a worker that ended itself because a block hung."""
ACTIVITY_MS: int = 500
INTRODUCTIONS: int = 5
ROOM = "blockwise"
OCCUPANCY = "blockwise-occupancy"
GPU = "blockwise-gpu"


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One stage as the workers need it.

    key : names this driving of the stage on the workers, and the topic of its messages.
    payload : the pickled task, made by the driver of this run.
    """

    key: str
    stage: str
    payload: bytes
    device: str
    block_timeout_s: float
    batch_size: int = 1

    @classmethod
    def of(cls, stage: str, task: Task, device: str, block_timeout_s: float) -> "StageSpec":
        key = f"blockwise-{stage}-{uuid.uuid4().hex[:12]}"
        return cls(key, stage, cloudpickle.dumps(task), device, block_timeout_s, task.batch_size)


@dataclass(slots=True)
class Station:
    """What one worker keeps for one stage: what it was told, and the pipeline once a lease came."""

    spec: StageSpec
    pipeline: Pipeline | None = None
    draining: bool = False
    tell_s: float = 0.0
    busy: tuple[float, float] = (0.0, 0.0)
    guard: threading.Lock = field(default_factory=threading.Lock)


class StagePlugin(WorkerPlugin):
    """Tells every worker, present and future, what a stage is; at its end, ends the pipeline."""

    def __init__(self, spec: StageSpec) -> None:
        self.spec = spec
        self.name = spec.key

    def setup(self, worker: Worker) -> None:
        key = self.spec.key
        stations(worker).setdefault(key, Station(self.spec))
        worker.extensions.setdefault(GPU, meter_of(self.spec.device))
        tell = PeriodicCallback(lambda: tell_activity(worker, key), ACTIVITY_MS)
        worker.periodic_callbacks[key] = tell
        tell.start()
        leaving = departure(worker)
        leaving.longest_s = lambda: longest_s(worker)
        leaving.tell = lambda why: tell_leaving(worker, why)
        leaving.watch()

    def teardown(self, worker: Worker) -> None:
        worker.periodic_callbacks.pop(self.spec.key).stop()
        station = stations(worker).pop(self.spec.key)
        station.draining = True
        if station.pipeline is not None:
            station.pipeline.close(wait=False)


def introduce(client: Any, spec: StageSpec) -> None:
    """Tell the workers what a stage is; again where one of them died meanwhile.

    Raises
    ------
    BlockwiseError : a worker is on another version of blockwise.
    """
    check_versions(client)
    for left in reversed(range(INTRODUCTIONS)):
        try:
            guard(client, spec.key)
            client.register_plugin(StagePlugin(spec), name=spec.key)
            return
        except OSError:
            if not left:
                raise


def dismiss(client: Any, spec: StageSpec) -> None:
    """Let the workers forget a stage; one that dies meanwhile has, one that refused it never knew."""
    for name in (guard_name(spec.key), spec.key):
        with suppress(OSError, ValueError):
            client.unregister_worker_plugin(name)


def stations(worker: Worker) -> dict[str, Station]:
    """The worker's stations by key."""
    found: dict[str, Station] = worker.extensions.setdefault(ROOM, {})
    return found


def run_lease(lease: Lease) -> Receipt:
    """Work off one lease in this worker's pipeline; what Dask runs."""
    worker = get_worker()
    stations(worker)[lease.key].tell_s = lease.tell_s
    return pipeline_of(worker, lease.key).run(lease)


def pipeline_of(worker: Worker, key: str) -> Pipeline:
    """The pipeline of a stage, made at the first lease."""
    station = stations(worker)[key]
    with station.guard:
        if station.pipeline is None:
            station.pipeline = _make(worker, station)
        return station.pipeline


def _make(worker: Worker, station: Station) -> Pipeline:
    spec = station.spec
    check_visible(spec.device, str(worker.name))

    def alive() -> bool:
        return worker.status in (Status.running, Status.paused) and not station.draining

    def tell(progress: Progress) -> None:
        worker.log_event(spec.key, {"worker": worker.address, "progress": progress.encode()})

    def overdue(block: int | None) -> None:
        worker.log_event(spec.key, {"worker": worker.address, "overdue": block})
        time.sleep(0.3)  # let the event loop send it: a thread cannot be killed, so the process goes
        os._exit(TIMEOUT_EXIT)

    return Pipeline(
        cloudpickle.loads(spec.payload),
        name=worker.address,
        device=spec.device,
        alive=alive,
        tell=tell,
        overdue=overdue,
        block_timeout_s=spec.block_timeout_s,
        occupancy=worker.extensions.setdefault(OCCUPANCY, Occupancy()),
    )


def drain(key: str, dask_worker: Worker) -> None:
    """Start no further block of a stage on this worker; run by the driver through `Client.run`."""
    station = stations(dask_worker).get(key)
    if station is not None:
        station.draining = True
        if station.pipeline is not None:
            station.pipeline.drain()


def longest_s(worker: Worker) -> float:
    """Seconds of the longest block of this worker so far, each of its steps taken at its longest."""
    return max((s.pipeline.longest_s for s in tuple(stations(worker).values()) if s.pipeline is not None), default=0.0)


def tell_leaving(worker: Worker, why: str) -> None:
    """Tell the drivers that this worker leaves, and let its pipelines stop at once."""
    for key, station in tuple(stations(worker).items()):
        worker.log_event(key, {"worker": worker.address, "leaving": why})
        if station.pipeline is not None:
            station.pipeline.drain()


def tell_activity(worker: Worker, key: str) -> None:
    """Send `activity`, unless that was done less than `tell_s` ago."""
    station = stations(worker)[key]
    if time.monotonic() - station.busy[0] >= station.tell_s:
        worker.log_event(key, activity(worker, key))


def activity(worker: Worker, key: str) -> dict[str, Any]:
    """What the worker does now, for status and page."""
    station = stations(worker)[key]
    pipeline, now = station.pipeline, time.monotonic()
    spent = pipeline.computing_s if pipeline else 0.0
    (then, before), station.busy = station.busy, (now, spent)
    busy = min(1.0, max(0.0, (spent - before) / (now - then))) if then else 0.0
    steps = pipeline.activity() if pipeline else {"reading": 0, "computing": 0, "writing": 0}
    memory = {"rss_mb": worker.monitor.get_process_memory() / 1e6, "busy": busy}
    gpu = worker.extensions[GPU].now()
    return {"worker": worker.address, "activity": {**steps, **memory, **gpu, "blocks_done": pipeline.blocks_done if pipeline else 0}}
