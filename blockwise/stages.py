"""The stages of a run as they begin and end: what each waits for, what its workers are told, what is made after its last block.

A stage begins when the stages have ended that it needs whole, and then when the first of its blocks has all that it reads. It ends after
them too. What follows its last block (`Task.finish`) is made in a thread of its own, for other stages may be at work; it is left out
where blocks are missing. Blocks whose inputs failed are orphans: counted, never computed, pending again after `retry`.
Written to the ledger at the end of a stage: its figures and its slowest blocks. A crash repeats `finish`, which is idempotent.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from blockwise.books import Books
from blockwise.desk import Desk
from blockwise.driver import Source, StageDriver
from blockwise.events import StageFinished, StageStarted
from blockwise.graph import Graph
from blockwise.ledger.contract import Booking
from blockwise.readiness import Need, Readiness
from blockwise.task import FrozenResult, Task
from blockwise.worker import StageSpec


@dataclass(slots=True)
class Finish:
    """`Task.finish` in a thread."""

    task: Task
    result: FrozenResult | None = None
    error: BaseException | None = None
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._make, name="blockwise-finish", daemon=True)
        self.thread.start()

    def _make(self) -> None:
        try:
            self.result = self.task.finish()
        except BaseException as error:  # raised again in the driver's thread
            self.error = error


@dataclass(slots=True)
class StageRun:
    """One stage of a run. `whole`: stages that must have ended first; `needs`: those of which regions or domains are needed."""

    task: Task
    books: Books
    main: bool
    whole: frozenset[str]
    needs: tuple[Need, ...]
    driver: StageDriver | None = None
    began_s: float | None = None
    finish: Finish | None = None
    over: bool = False

    @property
    def upstream(self) -> frozenset[str]:
        """Names of all stages that it reads."""
        return self.whole | {need.books.stage for need in self.needs}


class RunStages:
    """The stages of one run.

    Parameters
    ----------
    tasks : in order.  main : the one that the run is about.  accounts : books by name of stage.  device : of the workers.
    """

    def __init__(self, tasks: Sequence[Task], main: Task, accounts: Mapping[str, Books], desk: Desk, device: str) -> None:
        self.desk, self._device = desk, device
        graph = Graph(tasks)
        self.stages = [_stage_run(graph, task, accounts, main) for task in tasks]

    @property
    def over(self) -> bool:
        """Whether all have ended."""
        return all(stage.over for stage in self.stages)

    @property
    def finishing(self) -> bool:
        """Whether a `finish` is at work."""
        return any(stage.finish is not None and stage.finish.thread.is_alive() for stage in self.stages)

    @property
    def _ended(self) -> frozenset[str]:
        return frozenset(stage.task.name for stage in self.stages if stage.over)

    def ready(self) -> list[StageDriver]:
        """Drivers of the stages that may begin since the last call."""
        for stage in self.stages:
            if stage.finish is not None and not stage.over and not stage.finish.thread.is_alive():
                self._close(stage)
        ended = self._ended
        return [self._made(stage) for stage in self.stages if stage.driver is None and stage.whole <= ended]

    def _made(self, stage: StageRun) -> StageDriver:
        self._hold_back(stage)
        spec = StageSpec.of(stage.task.name, stage.task, self._device, self.desk.settings.block_timeout_s)
        source: Source = Readiness(stage.books, stage.needs) if stage.needs else stage.books
        desk = self.desk
        about = {"settings": desk.settings, "events": desk.events, "control": desk.control}
        stage.driver = StageDriver(desk.cluster, stage.books, spec, **about, desk=desk, source=source)  # type: ignore[arg-type]
        return stage.driver

    def _hold_back(self, stage: StageRun) -> None:
        """Give up the domains in which a stage that is needed whole has lost blocks; all where the domains are not the same."""
        lost = {name for other in self.stages if other.task.name in stage.whole for name in _lost_domains(other.books)}
        names = [d.name for d in stage.books.grid.domains]
        held = sorted(lost if lost <= set(names) else names)
        for domain, name in enumerate(names):
            for page in range(stage.books.grid.pages(domain) if name in held else 0):
                stage.books.orphan(stage.books.todo(domain, page))
        if held:
            which = ", ".join(held[:5]) + (", ..." if len(held) > 5 else "")
            self.desk.events.message(f"Stage {stage.task.name} leaves out {which}: blocks of an earlier stage failed there.", "warning")

    def _of(self, driver: StageDriver) -> StageRun:
        return next(stage for stage in self.stages if stage.driver is driver)

    def begun(self, driver: StageDriver) -> None:
        """The first block of a stage is about to be leased."""
        stage = self._of(driver)
        stage.began_s = time.monotonic()
        books = stage.books
        self.desk.events.emit(StageStarted(stage=stage.task.name, main=stage.main, total=len(books.grid), done=books.done))

    def may_end(self, driver: StageDriver) -> bool:
        """Whether the stages that it reads have ended."""
        return self._of(driver).upstream <= self._ended

    def ended(self, driver: StageDriver) -> None:
        """Nothing of a stage is left: make what follows, unless blocks are missing."""
        stage = self._of(driver)
        if stage.books.failed:
            self._close(stage)
        else:
            stage.finish = Finish(stage.task)

    def abandon(self) -> None:
        """The run stops: what has begun ends where it is."""
        for stage in self.stages:
            if stage.began_s is not None and not stage.over:
                self._close(stage)

    def _close(self, stage: StageRun) -> None:
        """Write down what came of a stage, and tell it."""
        stage.over = True
        values: dict[str, object] = {}
        figures: Mapping[str, object] = {}
        if stage.driver is not None:
            values[f"slowest.{stage.task.name}"] = [asdict(s) for s in stage.driver.slowest]
        if stage.finish is not None and stage.finish.error is not None:
            raise stage.finish.error
        if stage.finish is not None and stage.finish.result is not None:
            figures = values[f"figures.{stage.task.name}"] = dict(stage.finish.result.figures)
            values[f"warnings.{stage.task.name}"] = list(stage.finish.result.warnings)
            for warning in stage.finish.result.warnings:
                self.desk.events.message(warning, "warning")
        books = stage.books
        books.ledger.commit(Booking(values=values))
        if books.orphans:
            self.desk.events.message(
                f"Stage {stage.task.name}: {books.orphans:,} blocks are orphans, for what they read failed.", "warning"
            )
        took_s = time.monotonic() - (stage.began_s or time.monotonic())
        counts = {"done": books.done, "failed": len(books.quarantined), "orphans": books.orphans}
        self.desk.events.emit(StageFinished(stage=stage.task.name, **counts, seconds=took_s, figures=figures))


def _stage_run(graph: Graph, task: Task, accounts: Mapping[str, Books], main: Task) -> StageRun:
    wanted, needs = graph.dependencies[task.name], []
    for dependency in wanted:
        if dependency.reads != "stage":
            under = graph.under[task.name, dependency.stage]
            needs.append(Need(accounts[dependency.stage], under.counterparts, under if dependency.reads == "region" else None))
    whole = frozenset(d.stage for d in wanted if d.reads == "stage")
    return StageRun(task, accounts[task.name], task is main, whole, tuple(needs))


def _lost_domains(books: Books) -> set[str]:
    """Names of the domains in which a block will not be done."""
    return {domain.name for i, domain in enumerate(books.grid.domains) if books.has_dead(i)}
