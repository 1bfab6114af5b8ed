"""Runs whose later stages begin before the earlier ones have ended: order, orphans, resuming, several drivers; on real workers."""

import os
import signal
import threading
from contextlib import closing, contextmanager

import numpy as np
import pytest

from blockwise.errors import ConfigError
from blockwise.events import BlocksDone, Message, StageFinished, StageStarted
from blockwise.folder import RunFolder
from blockwise.geometry import Domain
from blockwise.ledger import open_ledger
from blockwise.run import run_task
from blockwise.task import Dependency, FrozenResult
from blockwise.testing import Faulty, run_in, run_serially
from tests.cluster import workers  # noqa: F401
from tests.ledger.conftest import database, mongodb  # noqa: F401
from tests.two_stages import Reading, Writing, both, stored, whole


@pytest.fixture(autouse=True)
def shared_workers(workers, monkeypatch):  # noqa: F811
    """Runs of this module work on the module's cluster instead of starting one each."""

    @contextmanager
    def running(config, context):
        yield workers

    monkeypatch.setattr("blockwise.run.open_cluster", running)


@pytest.fixture
def count(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    return tmp_path


def computed(folder, name):
    return {int(f.name): f.stat().st_size for f in (folder / name).iterdir()}


def counts(outcome):
    return {s.name: (s.state, s.blocks.done, s.blocks.failed, s.blocks.orphans) for s in outcome.status.stages}


def test_a_later_stage_begins_before_the_earlier_one_ends(count):
    events = []
    task = both(count, pause_s=0.004)
    outcome = run_in(count / "run", task, subscribers=[events.append], lease_s=0.2)
    assert (outcome.exit_code, counts(outcome)) == (0, {"first": ("done", 300, 0, 0), "second": ("done", 150, 0, 0)})
    order = [(type(e), e.stage) for e in events if isinstance(e, (StageStarted, StageFinished))]
    assert order == [(StageStarted, "first"), (StageStarted, "second"), (StageFinished, "first"), (StageFinished, "second")]
    done = [e.stage for e in events if isinstance(e, BlocksDone)]
    assert "first" in done[done.index("second") :]
    assert set(computed(count, "first").values()) == set(computed(count, "second").values()) == {1}
    assert np.array_equal(stored(count, task), whole(task))


def test_a_barrier_is_kept_where_a_stage_says_nothing(count):
    events = []
    outcome = run_in(count / "run", both(count, reads=None), subscribers=[events.append])
    order = [(type(e), e.stage) for e in events if isinstance(e, (StageStarted, StageFinished))]
    assert order == [(StageStarted, "first"), (StageFinished, "first"), (StageStarted, "second"), (StageFinished, "second")]
    assert outcome.exit_code == 0


@pytest.mark.parametrize(("reads", "orphans"), [("region", 3), ("domain", 100), (None, 100)])
def test_blocks_that_read_what_failed_are_orphans_until_a_retry(count, reads, orphans):
    """Block 9 of the first stage is voxel 9; blocks of two voxels with one around them read it: 8-9 and 10-11, and with reach 6-7."""
    events = []
    poison = Faulty({9: "raise"}, str(count / "first"))
    task = both(count, poison, reads=reads, reach=(1,) if reads == "region" else ())
    outcome = run_in(count / "run", task, subscribers=[events.append], retries=0)
    assert (outcome.exit_code, outcome.state) == (1, "failed")
    assert counts(outcome) == {"first": ("failed", 299, 1, 0), "second": ("failed", 150 - orphans, 0, orphans)}
    if reads == "region":
        assert set(range(150)) - computed(count, "second").keys() == {3, 4, 5}
    assert any("orphans" in e.text for e in events if isinstance(e, Message))
    assert RunFolder.find(count / "run").read_status().stages[1].blocks.orphans == orphans
    again = run_in(count / "run", task, retries=0)
    assert (again.exit_code, again.status.blocks.orphans) == (1, orphans)
    config = RunFolder.find(count / "run").load_config()
    healed = run_task(both(count, reads=reads), config, retry_failed=True)
    assert (healed.exit_code, counts(healed)) == (0, {"first": ("done", 300, 0, 0), "second": ("done", 150, 0, 0)})
    assert np.array_equal(stored(count, task), whole(task))
    assert set(computed(count, "second").values()) == {1}


class Last(Reading):
    name = "last"

    def __init__(self, folder, first, second):
        super().__init__(folder, first)
        self.second, self._name = second, "third"

    def stages(self):
        return (self.first, self.second, self)

    def upstream(self):
        return (Dependency("second"),)


def test_orphans_have_orphans(count):
    """What reads an orphan is one; each further stage loses what its context reaches."""
    (count / "third").mkdir()
    first = Writing(count, Faulty({9: "raise"}, str(count / "first")))
    outcome = run_in(count / "run", Last(count, first, Reading(count, first)), retries=0)
    assert counts(outcome) == {"first": ("failed", 299, 1, 0), "second": ("failed", 148, 0, 2), "last": ("failed", 146, 0, 4)}
    assert set(range(150)) - computed(count, "third").keys() == {3, 4, 5, 6}


@pytest.mark.parametrize(("deeds", "made"), [({}, ["first", "second"]), ({9: "raise"}, [])])
def test_stages_finish_in_order_and_not_while_blocks_are_missing(count, deeds, made):
    finished = []
    task = both(count, Faulty(deeds, str(count / "first")))
    task.first.finish = lambda: finished.append("first") or FrozenResult({"n": 1}, ("look here",))
    task.finish = lambda: finished.append("second")
    events = []
    run_in(count / "run", task, retries=0, subscribers=[events.append])
    assert finished == made
    assert any(isinstance(e, Message) and e.text == "look here" for e in events) == bool(made)
    with closing(open_ledger(count / "run" / "ledger.sqlite")) as ledger:
        assert ledger.get("figures.first") == ({"n": 1} if made else None)


def test_an_error_after_the_last_block_ends_the_run_and_the_next_one_goes_on(count):
    task, bad = both(count), both(count)
    bad.first.finish = lambda: 1 // 0
    with pytest.raises(ZeroDivisionError):
        run_in(count / "run", bad)
    assert RunFolder.find(count / "run").read_status().state == "interrupted"
    assert run_in(count / "run", task).exit_code == 0
    assert set(computed(count, "first").values()) == {1}


def test_a_drained_graph_goes_on_where_it_was(count):
    task, asked = both(count, pause_s=0.004), []

    def interrupt(event):
        if isinstance(event, BlocksDone) and event.stage == "second" and not asked:
            asked.append(os.kill(os.getpid(), signal.SIGINT))

    outcome = run_in(count / "run", task, subscribers=[interrupt], lease_s=0.2)
    assert (outcome.exit_code, outcome.state) == (3, "interrupted")
    assert 0 < outcome.status.blocks.done < 150
    assert run_in(count / "run", task).exit_code == 0
    assert set(computed(count, "first").values()) == set(computed(count, "second").values()) == {1}
    assert np.array_equal(stored(count, task), whole(task))


def test_a_block_that_kills_its_worker_is_the_only_one_blamed_in_both_stages(count):
    task = both(count, Faulty({61: "kill"}, str(count / "first"), pause_s=0.002))
    outcome = run_in(count / "run", task, retries=0, lease_s=0.2)
    assert [(f.stage, f.block, f.kind) for f in outcome.status.failures] == [("first", 61, "died")]
    assert counts(outcome) == {"first": ("failed", 299, 1, 0), "second": ("failed", 148, 0, 2)}


def test_a_stage_that_reads_what_is_not_there_is_refused_before_anything_is_written(tmp_path):
    task = Reading(tmp_path, Writing(tmp_path))
    task.reads_stage = "third"
    with pytest.raises(ConfigError, match="third"):
        run_in(tmp_path / "run", task)
    assert not (tmp_path / "run").exists()


def test_two_drivers_share_a_graph_through_mongodb(count, database):  # noqa: F811
    domains = [Domain(n, ("x",), (40,)) for n in "abcd"]
    task = both(count, pause_s=0.003, domains=domains)
    outcomes, meet = {}, threading.Barrier(2, timeout=60)

    def at_first(event):
        if isinstance(event, StageStarted) and event.stage == "first":
            meet.wait()

    def go(name):
        outcomes[name] = run_in(count / "run", task, ledger=database, subscribers=[at_first])

    RunFolder.make(count / "run")
    threads = [threading.Thread(target=go, args=(n,)) for n in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    want = {"first": ("done", 160, 0, 0), "second": ("done", 80, 0, 0)}
    assert {n: (o.exit_code, counts(o)) for n, o in outcomes.items()} == {"one": (0, want), "two": (0, want)}
    assert set(computed(count, "first").values()) == set(computed(count, "second").values()) == {1}
    assert np.array_equal(stored(count, task), whole(task))


def test_a_graph_run_equals_the_serial_one(count, tmp_path_factory):
    other = tmp_path_factory.mktemp("serial")
    for name in ("first", "second"):
        (other / name).mkdir()
    run_in(count / "run", both(count))
    run_serially(both(other))
    files = [{f.relative_to(d): f.read_bytes() for f in d.rglob("c.*")} for d in (count / "out.zarr", other / "out.zarr")]
    assert files[0] == files[1]
    assert files[0]
