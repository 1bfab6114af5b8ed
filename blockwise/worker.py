"""The worker's side of Dask: a plugin that knows the stages, and the one function that Dask runs, `run_lease`.

The plugin only stores what a stage is; the task is unpickled, its sources opened and its model loaded by the pipeline's own threads
when the first lease comes, never in the event loop (a slow model would stop the heartbeats). State lives on the worker object.
"""

import os
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import cloudpickle
from distributed import Worker, get_worker
from distributed.core import Status
from distributed.diagnostics.plugin import WorkerPlugin

from blockwise.lease import Lease, Progress, Receipt
from blockwise.pipeline import Pipeline
from blockwise.task import Task

TOPIC: str = "blockwise"
TIMEOUT_EXIT: int = 70
"""Exit code of a worker that ended itself because a block hung."""
ACTIVITY_MS: int = 500
ROOM = "blockwise"


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One stage as the workers need it; `payload` is the pickled task, made by the driver of this run."""

    stage: str
    payload: bytes
    device: str
    block_timeout_s: float

    @classmethod
    def of(cls, stage: str, task: Task, device: str, block_timeout_s: float) -> "StageSpec":
        return cls(stage, cloudpickle.dumps(task), device, block_timeout_s)


@dataclass(slots=True)
class Room:
    """What blockwise keeps on one worker: the stages it was told of and the pipeline of the one that runs."""

    specs: dict[str, StageSpec] = field(default_factory=dict)
    pipeline: Pipeline | None = None
    stage: str = ""
    draining: bool = False
    busy: tuple[float, float] = (0.0, 0.0)
    guard: threading.Lock = field(default_factory=threading.Lock)


class StagePlugin(WorkerPlugin):
    """Tells every worker, present and future, what a stage is."""

    def __init__(self, spec: StageSpec) -> None:
        self.spec = spec
        self.name = f"blockwise-{spec.stage}"

    def setup(self, worker: Worker) -> None:
        from tornado.ioloop import PeriodicCallback

        room = room_of(worker)
        room.specs[self.spec.stage] = self.spec
        if ROOM not in worker.periodic_callbacks:
            tell = PeriodicCallback(lambda: worker.log_event(TOPIC, activity(worker)), ACTIVITY_MS)
            worker.periodic_callbacks[ROOM] = tell
            tell.start()


def room_of(worker: Worker) -> Room:
    """The worker's room, made at the first call."""
    room: Room = worker.extensions.setdefault(ROOM, Room())
    return room


def run_lease(lease: Lease) -> Receipt:
    """Work off one lease in this worker's pipeline; what Dask runs."""
    worker = get_worker()
    return pipeline_of(worker, lease.stage).run(lease)


def pipeline_of(worker: Worker, stage: str) -> Pipeline:
    """The pipeline of a stage; the one of the stage before ends first."""
    room = room_of(worker)
    with room.guard:
        if room.pipeline is None or room.stage != stage:
            if room.pipeline is not None:
                room.pipeline.close()
            spec = room.specs[stage]
            room.pipeline, room.stage = _make(worker, room, spec), stage
    return room.pipeline


def _make(worker: Worker, room: Room, spec: StageSpec) -> Pipeline:
    def alive() -> bool:
        return worker.status in (Status.running, Status.paused) and not room.draining

    def tell(progress: Progress) -> None:
        worker.log_event(TOPIC, {"worker": worker.address, "progress": progress.encode()})

    def overdue(block: int) -> None:
        worker.log_event(TOPIC, {"worker": worker.address, "overdue": block})
        time.sleep(0.3)  # let the event loop send it: a thread cannot be killed, so the process goes
        os._exit(TIMEOUT_EXIT)

    task = cloudpickle.loads(spec.payload)
    return Pipeline(
        task,
        name=worker.address,
        device=spec.device,
        alive=alive,
        tell=tell,
        overdue=overdue,
        block_timeout_s=spec.block_timeout_s,
    )


def drain(dask_worker: Worker) -> None:
    """Start no further block on this worker; run by the driver through `Client.run`."""
    room = room_of(dask_worker)
    room.draining = True
    if room.pipeline is not None:
        room.pipeline.drain()


def activity(worker: Worker) -> dict[str, Any]:
    """What the worker does now, for status and page."""
    room = room_of(worker)
    pipeline, now = room.pipeline, time.monotonic()
    spent = pipeline.compute_s if pipeline else 0.0
    (then, before), room.busy = room.busy, (now, spent)
    busy = min(1.0, max(0.0, (spent - before) / (now - then))) if then else 0.0
    steps = pipeline.activity() if pipeline else {"reading": 0, "computing": 0, "writing": 0}
    memory = {"rss_mb": worker.monitor.get_process_memory() / 1e6, "busy": busy}
    return {"worker": worker.address, "activity": {**steps, **memory, "blocks_done": pipeline.blocks_done if pipeline else 0}}
