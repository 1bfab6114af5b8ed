"""One run: a run folder, its ledger, a cluster, and the stages, each worked off as soon as what it reads is there.

Order at the start, so that bad input fails before anything is written: read the configuration and the inputs, plan, look at the output,
make the run folder, open the ledger, refuse a second driver, compare fingerprints, claim the output, prepare the outputs, start the
cluster. A run whose stages are all done stops before the claim and writes nothing.
A block that fails costs the later stages the blocks that read it, or, where a stage needs all of the earlier one, its domain; no other:
those are worked off, the rest are orphans until `retry`.
A crash at any point is resumed by the same call. Exit codes: 0 done, 1 failed blocks, 3 interrupted.
"""

import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

from blockwise.audience import Audience
from blockwise.books import Books
from blockwise.chain import load_task as load_task
from blockwise.chain import task_class as task_class
from blockwise.claim import STARTED, check_claim, check_exports, check_same_output, check_same_task, claim_output, refuse_lost
from blockwise.cluster import open_cluster
from blockwise.cluster.context import RunContext
from blockwise.cluster.preview import preview
from blockwise.cluster.security import http_warning
from blockwise.config import RunConfig
from blockwise.desk import Control, Desk, within_its_job
from blockwise.dispatch import Dispatch
from blockwise.errors import BlockwiseError, ConfigError, LedgerError
from blockwise.events import Events, RunFinished, RunStarted, State, Subscriber
from blockwise.fingerprint import check, fingerprint
from blockwise.folder import RunFolder
from blockwise.geometry import Domain
from blockwise.grid import Grid
from blockwise.heartbeat import Heartbeat, drop_dead, refuse_second, this_driver
from blockwise.history import HistoryRecorder
from blockwise.jsonlines import JsonLines
from blockwise.ledger import Driver, Ledger, open_ledger
from blockwise.ledger.contract import Booking
from blockwise.outage import PATIENCE_S, Outage, first_of, is_away
from blockwise.plan import Plan, make_plan
from blockwise.snapshot import Rates, snapshot
from blockwise.stages import RunStages
from blockwise.status import Status
from blockwise.storage import check_makeable, check_writable, make_folders
from blockwise.task import Task, TaskOptions
from blockwise.threads import threads_per_worker
from blockwise.totals import Totals
from blockwise.worker_logs import FOLDER, WorkerLogs

EXIT_CODES: dict[State, int] = {"done": 0, "failed": 1, "interrupted": 3}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    state: State
    status: Status

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.state]


def plan(config: RunConfig, *, pilot_blocks: int = 20, pilot_s: float = inf) -> Plan:
    """Plan a run without writing anything; after `pilot_s` seconds no further pilot block is begun.

    Its refusals include what differs from the output's last start, which `run` may adopt.
    """
    task = load_task(config)
    made = plan_of(task, config, pilot_blocks=pilot_blocks, pilot_s=pilot_s)
    return replace(made, refusals=(*made.refusals, *_differences(task)))


def _differences(task: Task) -> Iterator[str]:
    """Why a task cannot go on with the output that is there."""
    try:
        if path := task.output_path():
            check_same_task(task, path)
    except BlockwiseError as error:
        yield str(error)


def plan_of(task: Task, config: RunConfig, *, pilot_blocks: int = 0, pilot_s: float = inf) -> Plan:
    """Plan a run of a task that is already made; its refusals include places that cannot be written or belong to another run."""
    folder = RunFolder(Path(config.run.folder)) if config.run.folder else None
    cluster = preview(config.cluster, folder.run if folder else "", config.run.folder)
    threads = threads_per_worker(config.cluster, cluster.workers)
    made = make_plan(
        task,
        workers=cluster.workers,
        memory_bytes=cluster.memory_bytes,
        place=cluster.place,
        threads=threads,
        device=cluster.device,
        pilot_blocks=pilot_blocks,
        pilot_s=pilot_s,
    )
    places = {"run folder": config.run.folder or "not set", "output": task.output_path() or "none"}
    refusals = (*made.refusals, *_refused_places(task, config), *cluster.refusals)
    details = {**places, **made.details, **cluster.details}
    return replace(made, refusals=refusals, warnings=(*made.warnings, *cluster.warnings), details=details)


def _refused_places(task: Task, config: RunConfig) -> Iterator[str]:
    """Why the run folder or the output cannot be this run's, one sentence each."""
    folder, path = config.run.folder, task.output_path()
    try:
        if folder is not None:
            RunFolder(Path(folder)).check_place()
        if path is not None:
            (check_makeable if config.output.make_folders else check_writable)(path)
            if folder is not None:
                check_same_output(RunFolder(Path(folder)), path)
            check_claim(path, RunFolder(Path(folder)).run if folder is not None else "")
            check_exports(_exports(task), path, RunFolder(Path(folder)) if folder is not None else None)
    except BlockwiseError as error:
        yield str(error)


def _exports(task: Task) -> list[Path]:
    return [file for stage in task.stages() for file in stage.exports()]


def run(config: RunConfig, *, adopt: Collection[str] = (), subscribers: Sequence[Subscriber] = (), retry_failed: bool = False) -> Outcome:
    """Run a configuration to its end, or go on with it.

    Parameters
    ----------
    adopt : fingerprint keys that may differ from those the run was made with.
    subscribers : called with every event.
    retry_failed : try quarantined blocks anew.

    Raises
    ------
    BlockwiseError : the configuration, inputs or plan are refused, or another driver has the run; nothing was changed.
    """
    return run_task(load_task(config), config, adopt=adopt, subscribers=subscribers, retry_failed=retry_failed)


def run_task(
    task: Task, config: RunConfig, *, adopt: Collection[str] = (), subscribers: Sequence[Subscriber] = (), retry_failed: bool = False
) -> Outcome:
    """Like `run`, for a task object; `config` says where and how."""
    if config.run.folder is None:
        raise ConfigError("[run] folder is not set: it holds the ledger and everything that is known of the run")
    plan_of(task, config).check()
    folder = RunFolder.make(config.run.folder)
    ledger_url = config.ledger.url or folder.ledger
    ledger = open_ledger(ledger_url, folder.run, patience_s=PATIENCE_S)
    try:
        return Run(task, config, folder, ledger, ledger_url, Events(*subscribers)).work(adopt, retry_failed)
    finally:
        ledger.close()


@dataclass(slots=True)
class Run:
    """A run being driven by this process; `snapshot` may be called from any thread."""

    task: Task
    config: RunConfig
    folder: RunFolder
    ledger: Ledger
    ledger_url: str
    events: Events
    state: State = "running"
    message: str = ""
    dashboard: str = ""
    page: str = ""
    driver: Driver | None = None
    dispatch: Dispatch | None = None
    stages: tuple[Task, ...] = ()
    accounts: dict[str, Books] = field(default_factory=dict)
    rates: Rates = field(default_factory=Rates)
    totals: Totals = field(default_factory=Totals)
    begun_s: float = field(default_factory=time.monotonic)
    cluster: Any = None
    control: Control = field(default_factory=Control)
    outage: Outage = field(init=False)
    audience: Audience = field(default_factory=Audience)

    def __post_init__(self) -> None:
        self.outage = self.ledger.waiting = Outage(self.ledger.url, self.events, self._gives_up)

    def work(self, adopt: Collection[str], retry_failed: bool) -> Outcome:
        """Everything from the first check to the last status."""
        me = this_driver()
        living = drop_dead(self.ledger)
        if not self.ledger.shared:
            refuse_second(str(self.folder.path), living)
        self.stages, self.driver = tuple(self.task.stages()), me
        prints = {(s.name, d.name): (s, d, fingerprint(s, i)) for s in self.stages for i, d in enumerate(s.domains())}
        adopted = self._check_fingerprints(prints.values(), adopt)
        if retry_failed:
            self._forget_failures()
        self._open_accounts()
        begun = any(books.done for books in self.accounts.values())
        if not begun:
            refuse_lost(self.folder, self.ledger)
        if path := self.task.output_path():
            check_claim(path, self.folder.run, begun=begun)
        if not adopted and self.ledger.get("finished") == self._signature():
            return self._end("done")
        self.ledger.join(me)
        with ExitStack() as stack:
            stack.callback(self._leave, me.id)
            self.folder.keep_resolved(self.task.resolved())
            if path and self.config.output.make_folders:
                make_folders(Path(path).parent)
            claim_output(path, self.folder, {f"{s}/{d}": p[2] for (s, d), p in prints.items()}, _exports(self.task))
            for stage, domain, now in prints.values():
                if self.ledger.fingerprint(stage.name, domain.digest) != now:
                    self.ledger.set_fingerprint(stage.name, domain.digest, now)
            self.ledger.commit(Booking(values={STARTED: self.folder.run}))
            self.folder.save_config(self.config)
            self.folder.note_start(adopted=adopted, ledger=self.ledger.url, driver=me.id)
            self._record(stack)
            stack.enter_context(Heartbeat(self.folder, self.ledger_url, me, self.snapshot, self._taken_over))
            return self._end(self._worked_off(me.id))

    def _record(self, stack: ExitStack) -> None:
        """Events into run.log and progress into history.jsonl, from here on."""
        log = stack.enter_context((self.folder.path / "run.log").open("a"))
        self.events.subscribe(stack.enter_context(closing(JsonLines(log))))
        self.events.subscribe(HistoryRecorder(self.folder))
        self.events.subscribe(stack.enter_context(closing(WorkerLogs(self.folder.path / FOLDER))))
        self.events.subscribe(self.totals)

    def snapshot(self) -> Status:
        return snapshot(self)

    # --- before anything runs --------------------------------------------------------------------------------------------------

    def _check_fingerprints(self, prints: Iterable[tuple[Task, Domain, dict[str, str]]], adopt: Collection[str]) -> dict[str, list[str]]:
        adopted: dict[str, list[str]] = {}
        for stage, domain, now in prints:
            then = self.ledger.fingerprint(stage.name, domain.digest)
            if then is not None:
                where = f"{self.folder.path}, stage {stage.name!r}, {domain.name!r}"
                places = stage.places(list(stage.domains()).index(domain)) if then != now else {}
                if keys := check(where, then, now, adopt, places=places):
                    adopted[f"{stage.name}/{domain.name}"] = keys
        return adopted

    def _forget_failures(self) -> None:
        for stage in self.stages:
            for domain in stage.domains():
                self.ledger.forget_attempts(stage.name, domain.digest)

    def _signature(self) -> list[list[str]]:
        """The domains of every stage, and all options: a run is finished for these and no others."""
        asked = [getattr(task, "options", None) for task in (self.stages if self.config.stages else (self.task,))]
        wishes = [options.model_dump_json() if isinstance(options, TaskOptions) else "" for options in asked]
        return [wishes, *([stage.name, *(d.digest for d in stage.domains())] for stage in self.stages)]

    def _open_accounts(self, driver: str = "") -> None:
        for stage in self.stages:
            grid = Grid(stage.domains(), stage.spec())
            masks = [stage.mask(i) for i in range(len(grid.domains))]
            self.accounts[stage.name] = Books(stage.name, grid, self.ledger, driver=driver, masks=masks)

    # --- working -----------------------------------------------------------------------------------------------------------------

    def _worked_off(self, driver: str) -> State:
        """`_work_off`; where the driver itself fails, the last status says so."""
        try:
            return self._work_off(driver)
        except BaseException as error:
            self.state, self.message, self.dispatch = "interrupted", f"{type(error).__name__}: {error}", None
            self.outage.message = ""
            if not is_away(error):
                raise
            self.message = str(first_of(error))
            self.events.message(f"Stopped: {self.message}", "error")
            return "interrupted"

    def _work_off(self, driver: str) -> State:
        for books in self.accounts.values():
            books.driver = driver
        with _signals(self.control.interrupt):
            for stage in self.stages:
                stage.prepare()
            with open_cluster(self.config.cluster, self._context()) as self.cluster:
                self._announce()
                state = self._dispatched()
                self._show_end(state)
            if state == "done":
                self.ledger.commit(Booking(values={"finished": self._signature()}))
        return state

    def _context(self) -> RunContext:
        return RunContext(self.folder.run, self.folder.path, alone=not self.ledger.shared, tell=self.events.message)

    def _dispatched(self) -> State:
        """All stages worked off on the cluster, as far as they go."""
        desk = Desk(self.cluster, self.config.run, self.events, self.control)
        stages = RunStages(self.stages, self.task, self.accounts, desk, self.cluster.device)
        self.dispatch = Dispatch(desk, stages)
        with within_its_job(desk):
            state = self.dispatch.run()
        self.message, self.dispatch = desk.message, None
        stages.abandon()
        return state

    def _show_end(self, state: State) -> None:
        """Let those who have the page open see how the run ended, before its server goes."""
        self.state = state
        if not self.control.stop:
            self.audience.see_off(state)

    def _announce(self) -> None:
        self.cluster.show(self)
        self.dashboard, self.page = self.cluster.dashboard, self.cluster.page
        self.events.emit(
            RunStarted(
                run=self.folder.run,
                task=self.task.name,
                folder=str(self.folder.path),
                dashboard=self.dashboard,
                page=self.page,
                workers=self.cluster.count(),
            )
        )
        if told := http_warning(self.config.cluster, self.page):
            self.events.message(told, "warning")

    def _gives_up(self, waited_s: float) -> bool:
        """Whether a person no longer waits for a ledger that does not answer."""
        return self.control.stop or (self.control.drain and waited_s > self.config.run.drain_s)

    def _leave(self, driver: str) -> None:
        """Take this driver's row out of the ledger, if that can be reached; else the next driver finds it dead."""
        try:
            self.ledger.leave(driver)
        except LedgerError as error:
            if not is_away(error):
                raise

    def _taken_over(self, why: str) -> None:
        """Another driver has the run: stop at once, what is booked stays booked."""
        self.events.message(why, "error")
        self.control.drain = self.control.stop = True

    def _end(self, state: State) -> Outcome:
        self.state = state
        status = self.snapshot()
        failed = sum(s.blocks.failed for s in status.stages)
        self.events.emit(
            RunFinished(
                state=state,
                exit_code=EXIT_CODES[state],
                done=status.blocks.done,
                failed=failed,
                seconds=time.monotonic() - self.begun_s,
                folder=str(self.folder.path),
                output=self.task.output_path() or "",
            )
        )
        return Outcome(state, status)


@contextmanager
def _signals(interrupt: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call `interrupt` meanwhile; nothing changes outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(n, lambda *_: interrupt()) for n in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
