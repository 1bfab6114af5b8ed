"""Whole runs of a task object: stages, refusals, interrupts, resuming, drivers that died or join, the live page."""

import json
import os
import signal
import threading
import urllib.request
from contextlib import closing, contextmanager
from dataclasses import replace

import numpy as np
import psutil
import pytest

from blockwise.errors import FingerprintMismatch, PlanRefused, RunActive
from blockwise.events import BlocksDone, RunFinished, RunStarted, StageFinished, StageStarted
from blockwise.folder import RunFolder
from blockwise.geometry import Domain
from blockwise.grid import GridSpec
from blockwise.heartbeat import this_driver
from blockwise.ledger import open_ledger
from blockwise.task import FrozenResult
from blockwise.testing import Faulty, MapTask, run_in, run_serially
from tests.cluster import line, map_task, workers  # noqa: F401
from tests.ledger.conftest import database, mongodb  # noqa: F401
from tests.runs import stamps

BLOCKS = 120


@pytest.fixture(autouse=True)
def shared_workers(workers, monkeypatch):  # noqa: F811
    """Runs of this module work on the module's cluster instead of starting one each."""

    @contextmanager
    def running(config, context):
        yield workers

    monkeypatch.setattr("blockwise.run.open_cluster", running)


@pytest.fixture
def count(tmp_path):
    (tmp_path / "count").mkdir()
    return tmp_path / "count"


def computed(count):
    return sum(f.stat().st_size for f in count.iterdir())


def content(path):
    return {f.relative_to(path): f.read_bytes() for f in path.rglob("c.*")}


def at_first_blocks(do):
    """A subscriber that calls `do` when the first blocks are done."""
    seen = []

    def subscriber(event):
        if isinstance(event, BlocksDone) and not seen:
            seen.append(event)
            do()

    return subscriber


# --- a run and its events


def test_a_run_equals_the_serial_one_and_says_what_it_does(tmp_path, count):
    events = []
    outcome = run_in(tmp_path / "run", map_task(tmp_path, BLOCKS, Faulty({}, str(count))), subscribers=[events.append])
    assert (outcome.exit_code, outcome.state) == (0, "done")
    blocks = outcome.status.blocks
    assert (blocks.total, blocks.done, blocks.executed, blocks.failed, blocks.running) == (BLOCKS, BLOCKS, BLOCKS, 0, 0)
    assert [type(e) for e in events if not isinstance(e, BlocksDone)] == [RunStarted, StageStarted, StageFinished, RunFinished]
    assert sum(e.count for e in events if isinstance(e, BlocksDone)) == BLOCKS
    run_serially(map_task(tmp_path / "serial", BLOCKS))
    assert content(tmp_path / "out.zarr") == content(tmp_path / "serial" / "out.zarr")


def test_the_status_on_disk_is_that_of_the_run(tmp_path):
    outcome = run_in(tmp_path / "run", map_task(tmp_path, 20))
    stored = RunFolder.find(tmp_path / "run").read_status()
    assert (stored.state, stored.blocks) == ("done", outcome.status.blocks)
    assert set(stored.map) == {100}


def test_a_finished_run_writes_nothing(tmp_path):
    run_in(tmp_path / "run", map_task(tmp_path, 20))
    before = stamps(tmp_path)
    assert run_in(tmp_path / "run", map_task(tmp_path, 20)).exit_code == 0
    assert {f: t for f, t in stamps(tmp_path).items() if "ledger" not in f.name} == {
        f: t for f, t in before.items() if "ledger" not in f.name
    }


def test_the_live_page_shows_the_run_while_it_works(tmp_path, count):
    pages, answers = [], []

    def look():
        with urllib.request.urlopen(pages[0]) as page, urllib.request.urlopen(f"{pages[0]}/status.json") as status:
            answers.append((page.status, json.load(status)))

    note = lambda e: pages.append(e.page) if isinstance(e, RunStarted) else None  # noqa: E731
    run_in(tmp_path / "run", map_task(tmp_path, 400, Faulty({}, str(count), pause_s=0.002)), subscribers=[note, at_first_blocks(look)])
    ((code, status),) = answers
    assert pages[0].startswith("http://127.0.0.1:")
    assert (code, status["state"], status["blocks"]["total"]) == (200, "running", 400)
    assert status["stages"][0]["state"] == "running"


# --- stages


class First(MapTask):
    name = "first"

    def finish(self):
        return FrozenResult({"sum": 3})


class Second(MapTask):
    """A main stage that reads what the first one wrote."""

    name = "second"

    def __init__(self, folder, first):
        super().__init__(str(folder / "second.zarr"), line(BLOCKS), GridSpec((2,)))
        self.first = first

    def stages(self):
        return (self.first, self)

    def open(self):
        super().open()
        self.first.open()

    def compute(self, inputs, state):
        return 2 * self.first.arrays[0].read(inputs.core)


def test_stages_run_one_after_the_other(tmp_path):
    events = []
    first = First(str(tmp_path / "first.zarr"), line(BLOCKS), GridSpec((1,)))
    outcome = run_in(tmp_path / "run", Second(tmp_path, first), subscribers=[events.append])
    assert [(s.name, s.state, s.main, s.blocks.total) for s in outcome.status.stages] == [
        ("first", "done", False, BLOCKS),
        ("second", "done", True, BLOCKS // 2),
    ]
    order = [(type(e), e.stage) for e in events if isinstance(e, (StageStarted, StageFinished))]
    assert order == [(StageStarted, "first"), (StageFinished, "first"), (StageStarted, "second"), (StageFinished, "second")]
    task = MapTask(str(tmp_path / "second.zarr"), line(BLOCKS), GridSpec((2,)))
    task.open()
    assert np.array_equal(task.arrays[0].read(line(BLOCKS)[0].region), 2 * (np.arange(BLOCKS) + 1))
    with closing(open_ledger(tmp_path / "run" / "ledger.sqlite")) as ledger:
        assert ledger.get("figures.first") == {"sum": 3}


class Halved(MapTask):
    def mask(self, domain):
        return lambda ids: ids % 2 == 0


def test_masked_blocks_are_reported_and_the_run_is_done(tmp_path):
    outcome = run_in(tmp_path / "run", Halved(str(tmp_path / "out.zarr"), line(50), GridSpec((1,))))
    blocks = outcome.status.blocks
    assert (outcome.exit_code, blocks.done, blocks.masked, blocks.executed) == (0, 25, 25, 25)
    assert outcome.status.stages[0].state == "done"


# --- failures and resuming


def test_failed_blocks_end_with_1_are_named_and_not_tried_again_by_themselves(tmp_path, count):
    bad = Faulty({7: "raise"}, str(count))
    outcome = run_in(tmp_path / "run", map_task(tmp_path, 30, bad), retries=1)
    assert (outcome.exit_code, outcome.status.blocks.done, outcome.status.blocks.failed) == (1, 29, 1)
    (failure,) = outcome.status.failures
    assert (failure.block, failure.attempts, failure.error) == (7, 2, "ValueError: this block is poison")
    assert run_in(tmp_path / "run", map_task(tmp_path, 30, bad)).exit_code == 1
    assert bad.attempts(7) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains_and_the_next_run_computes_only_the_rest(tmp_path, count, number):
    task = map_task(tmp_path, 400, Faulty({}, str(count), pause_s=0.002))
    before = signal.getsignal(number)
    outcome = run_in(tmp_path / "run", task, subscribers=[at_first_blocks(lambda: os.kill(os.getpid(), number))])
    assert (outcome.exit_code, outcome.state) == (3, "interrupted")
    assert signal.getsignal(number) is before
    done = outcome.status.blocks.done
    assert 0 < done < 400
    again = run_in(tmp_path / "run", task)
    assert (again.exit_code, again.status.blocks.executed, computed(count)) == (0, 400, 400)


def test_a_set_that_grows_computes_what_joined(tmp_path, count):
    three = [Domain(n, ("x",), (10,)) for n in "abc"]
    for n, executed in ((2, 20), (3, 30)):
        task = MapTask(str(tmp_path / "out.zarr"), three[:n], GridSpec((1,)), Faulty({}, str(count)))
        assert run_in(tmp_path / "run", task).status.blocks.executed == executed
    assert computed(count) == 30


class Salted(MapTask):
    salt = 1

    def relevant_options(self):
        return {"salt": self.salt}


def test_other_settings_are_refused_until_they_are_adopted(tmp_path):
    task = Salted(str(tmp_path / "out.zarr"), line(10), GridSpec((1,)))
    run_in(tmp_path / "run", task)
    task.salt = 2
    before = content(tmp_path)
    with pytest.raises(FingerprintMismatch, match=r"options\.salt: was 1, now 2"):
        run_in(tmp_path / "run", task)
    assert content(tmp_path) == before
    assert run_in(tmp_path / "run", task, adopt=("options.salt",)).exit_code == 0
    assert RunFolder.find(tmp_path / "run").starts()[-1]["adopted"] == {"map/line": ["options.salt"]}
    assert run_in(tmp_path / "run", task).exit_code == 0


# --- other drivers


def refused(call, *args, **options):
    """What a second run is refused with, tried while the first one works."""
    answers = []

    def do():
        try:
            call(*args, **options)
        except Exception as error:
            answers.append(error)

    return do, answers


def test_a_second_driver_and_a_second_run_on_one_output_are_refused(tmp_path, count):
    task = map_task(tmp_path, 300, Faulty({}, str(count), pause_s=0.002))
    twice, active = refused(run_in, tmp_path / "run", map_task(tmp_path, 300))
    other, claimed = refused(run_in, tmp_path / "other", map_task(tmp_path, 300))
    assert run_in(tmp_path / "run", task, subscribers=[at_first_blocks(twice), at_first_blocks(other)]).exit_code == 0
    assert [type(e) for e in (*active, *claimed)] == [RunActive, PlanRefused]
    assert f"process {os.getpid()}" in str(active[0])
    assert not (tmp_path / "other").exists()


def test_the_row_of_a_dead_driver_stops_nobody(tmp_path):
    folder = RunFolder.make(tmp_path / "run")
    with closing(open_ledger(folder.ledger)) as ledger:
        ledger.join(replace(this_driver(), id="dead", started_s=1.0))
    assert run_in(tmp_path / "run", map_task(tmp_path, 10)).exit_code == 0
    with closing(open_ledger(folder.ledger)) as ledger:
        assert ledger.drivers() == []


def test_a_driver_that_is_held_for_dead_stops(tmp_path, count, monkeypatch):
    monkeypatch.setattr("blockwise.heartbeat.STATUS_S", 0.05)
    task = map_task(tmp_path, 600, Faulty({}, str(count), pause_s=0.01))

    def take_over():
        with closing(open_ledger(tmp_path / "run" / "ledger.sqlite")) as ledger:
            for driver in ledger.drivers():
                ledger.leave(driver.id)

    said = []
    outcome = run_in(tmp_path / "run", task, subscribers=[at_first_blocks(take_over), said.append])
    assert outcome.exit_code == 3
    assert any("took the run over" in getattr(e, "text", "") for e in said)
    assert run_in(tmp_path / "run", task).exit_code == 0


def test_two_drivers_share_a_run_through_mongodb(tmp_path, count, database):  # noqa: F811
    domains = [Domain(n, ("x",), (60,)) for n in "abcd"]
    task = MapTask(str(tmp_path / "out.zarr"), domains, GridSpec((1,)), Faulty({}, str(count), pause_s=0.005))
    outcomes, both = {}, threading.Barrier(2, timeout=60)

    def meet(event):
        if isinstance(event, StageStarted):
            both.wait()

    def go(name):
        outcomes[name] = run_in(tmp_path / "run", task, ledger=database, subscribers=[meet])

    RunFolder.make(tmp_path / "run")
    threads = [threading.Thread(target=go, args=(n,)) for n in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert {n: (o.exit_code, o.status.blocks.done) for n, o in outcomes.items()} == {"one": (0, 240), "two": (0, 240)}
    assert computed(count) == 240


def test_pages_of_a_driver_that_died_are_taken_over(tmp_path, database):  # noqa: F811
    task = map_task(tmp_path, 40)
    folder = RunFolder.make(tmp_path / "run")
    with closing(open_ledger(database, folder.run)) as ledger:
        from blockwise.ledger import PageKey

        dead = replace(this_driver(), id="dead")
        ledger.join(dead)
        ledger.claim(PageKey("map", line(40)[0].digest, 0), "dead")

    def die(event):
        if isinstance(event, StageStarted):
            with closing(open_ledger(database, folder.run)) as ledger:
                ledger.beat(replace(dead, started_s=1.0))  # its process is not there any more

    outcome = run_in(tmp_path / "run", task, ledger=database, subscribers=[die])
    assert (outcome.exit_code, outcome.status.blocks.done) == (0, 40)


# --- processes of its own


def test_no_worker_outlives_a_run(tmp_path, monkeypatch):
    monkeypatch.undo()
    mine = psutil.Process()
    before = {p.pid for p in mine.children(recursive=True)}
    seen = set()
    watch = lambda e: seen.update(p.pid for p in mine.children(recursive=True)) if isinstance(e, StageStarted) else None  # noqa: E731
    assert run_in(tmp_path / "run", map_task(tmp_path, 10), subscribers=[watch]).exit_code == 0
    assert len(seen - before) >= 2
    ours = [psutil.Process(p) for p in seen - before if psutil.pid_exists(p)]
    _, alive = psutil.wait_procs([p for p in ours if "resource_tracker" not in " ".join(p.cmdline())], timeout=10)
    assert alive == []


def test_a_subscriber_that_fails_ends_no_run(tmp_path):
    said = []

    def broken(event):
        raise RuntimeError("no terminal")

    assert run_in(tmp_path / "run", map_task(tmp_path, 10), subscribers=[broken, said.append]).exit_code == 0
    assert any("no terminal" in getattr(e, "text", "") for e in said)
