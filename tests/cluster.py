"""A running local cluster for the tests of one module: starting one costs seconds, a stage on it milliseconds."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from blockwise.books import Books
from blockwise.cluster.local import LocalWorkers
from blockwise.config import ClusterConfig, FolderConfig
from blockwise.driver import Control, StageDriver
from blockwise.events import Event, Events
from blockwise.geometry import Domain
from blockwise.grid import Grid, GridSpec
from blockwise.ledger import Attempt, open_ledger
from blockwise.task import Task
from blockwise.testing import MapTask
from blockwise.worker import StageSpec


@pytest.fixture(scope="module")
def workers() -> Iterator[LocalWorkers]:
    """Two worker processes; a test may kill them, they are replaced."""
    with LocalWorkers(ClusterConfig(workers=2, device="cpu")) as cluster:
        yield cluster


def line(blocks: int) -> list[Domain]:
    """One domain of so many blocks of one voxel."""
    return [Domain("line", ("x",), (blocks,))]


def map_task(folder: Path, blocks: int, function: Any = None) -> MapTask:
    return MapTask(str(folder / "out.zarr"), line(blocks), GridSpec((1,)), function)


@dataclass
class Driven:
    """What became of a stage that was driven on the shared cluster."""

    state: str
    books: Books
    driver: StageDriver
    attempts: list[Attempt]
    events: list[Event] = field(default_factory=list)

    def told(self, kind: type) -> list[Any]:
        return [e for e in self.events if isinstance(e, kind)]

    @property
    def blamed(self) -> set[int]:
        """Blocks with a failed attempt."""
        return {a.block for a in self.attempts}


def drive(
    workers: LocalWorkers, folder: Path, task: Task, *, on_event: Any = None, control: Control | None = None, **limits: Any
) -> Driven:
    """Prepare a task and drive it as one stage, with a ledger in `folder` that a second call goes on with.

    `on_event(event, driver)` is called with every event.
    """
    task.prepare()
    ledger = open_ledger(folder / "ledger.sqlite")
    events: list[Event] = []
    books = Books(task.name, Grid(task.domains(), task.spec()), ledger)
    spec = StageSpec.of(task.name, task, limits.pop("device", "cpu"), limits.get("block_timeout_s", 600.0))
    bus = Events(events.append)
    driver = StageDriver(workers, books, spec, settings=FolderConfig(**limits), events=bus, control=control or Control())
    if on_event is not None:
        bus.subscribe(lambda event: on_event(event, driver))
    try:
        return Driven(driver.run(), books, driver, ledger.attempts(), events)
    finally:
        ledger.close()
