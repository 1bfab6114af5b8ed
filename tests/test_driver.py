"""One stage on real worker processes, with blocks that fail in every way: who is blamed, what is done, what it costs."""

import os
import signal
import threading
import time

import numpy as np
import psutil
import pytest

from blockwise import desk
from blockwise import driver as driver_module
from blockwise.cluster.settings import LEASES_PER_WORKER
from blockwise.driver import BREAKER_BLOCKS, Control
from blockwise.errors import LedgerError
from blockwise.events import BlockFailed, BlocksDone, Message, WorkerLost
from blockwise.ledger import SqliteLedger
from blockwise.storage import OutputArray
from blockwise.testing import Faulty, MapTask
from tests.cluster import drive, line, map_task, workers  # noqa: F401

pytestmark = pytest.mark.usefixtures("workers")


@pytest.fixture
def count(tmp_path):
    """The folder in which `Faulty` counts computations."""
    (tmp_path / "count").mkdir()
    return str(tmp_path / "count")


def stored(folder, blocks):
    return OutputArray.open(str(folder / "out.zarr"), "line").read(line(blocks)[0].region)


def ramp(blocks):
    return np.arange(blocks) + 1


def computed(count, blocks):
    """How often each block was computed."""
    return [os.path.getsize(f"{count}/{i}") if os.path.exists(f"{count}/{i}") else 0 for i in range(blocks)]


def pids(workers):  # noqa: F811
    return list(workers.client.run(os.getpid).values())


# --- undisturbed


def test_every_block_is_computed_once_and_booked(workers, tmp_path, count):  # noqa: F811
    run = drive(workers, tmp_path, map_task(tmp_path, 300, Faulty({}, count)))
    assert (run.state, run.books.done, run.books.executed, run.attempts) == ("done", 300, 300, [])
    assert computed(count, 300) == [1] * 300
    assert np.array_equal(stored(tmp_path, 300), ramp(300))
    assert sum(e.count for e in run.told(BlocksDone)) == 300
    assert sum(e.nbytes for e in run.told(BlocksDone)) == run.driver.nbytes == 300 * 8
    assert len(run.driver.slowest) == driver_module.SLOWEST


def test_checksums_of_what_was_stored_are_in_the_ledger(workers, tmp_path):  # noqa: F811
    import zlib

    drive(workers, tmp_path, map_task(tmp_path, 50))
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    (key,) = [k for k in _keys(ledger)]
    assert ledger.checksums(key)[:50].tolist() == [zlib.crc32(np.array([i + 1]).tobytes()) for i in range(50)]
    ledger.close()


def _keys(ledger):
    from blockwise.ledger import PageKey

    yield PageKey("map", line(50)[0].digest, 0)


def test_few_leases_are_out_at_a_time(workers, tmp_path):  # noqa: F811
    most = []
    drive(workers, tmp_path, map_task(tmp_path, 400), on_event=lambda e, d: most.append(len(d._flying)))
    assert max(most) <= 2 * LEASES_PER_WORKER


def test_a_second_stage_of_the_same_name_meets_its_own_task(workers, tmp_path):  # noqa: F811
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert drive(workers, tmp_path / name, map_task(tmp_path / name, 20)).state == "done"
        assert np.array_equal(stored(tmp_path / name, 20), ramp(20))


def test_two_drivers_share_a_scheduler(workers, tmp_path):  # noqa: F811
    runs = {}

    def go(name):
        (tmp_path / name).mkdir()
        runs[name] = drive(workers, tmp_path / name, map_task(tmp_path / name, 200))

    threads = [threading.Thread(target=go, args=(n,)) for n in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {n: (r.state, r.books.done, r.books.executed) for n, r in runs.items()} == dict.fromkeys(("one", "two"), ("done", 200, 200))


def test_nothing_of_a_stage_is_left_on_the_workers(workers, tmp_path):  # noqa: F811
    drive(workers, tmp_path, map_task(tmp_path, 20))
    assert set(workers.client.run(lambda dask_worker: len(dask_worker.extensions["blockwise"])).values()) == {0}


def test_the_size_of_leases_is_kept_for_the_next_driver(workers, tmp_path):  # noqa: F811
    k = drive(workers, tmp_path, map_task(tmp_path, 600)).driver._pace.k
    assert k > 4
    assert drive(workers, tmp_path, map_task(tmp_path, 600)).driver._pace.k == k


# --- blocks that fail


@pytest.mark.parametrize(("deed", "kind", "tries"), [("raise", "poison", 2), ("transient", "transient", 2), ("memory", "memory", 2)])
def test_a_poison_block_costs_one_block(workers, tmp_path, count, deed, kind, tries):  # noqa: F811
    run = drive(workers, tmp_path, map_task(tmp_path, 60, Faulty({7: deed}, count)), retries=1)
    assert (run.state, run.books.done, list(run.books.quarantined)) == ("failed", 59, [7])
    assert [(a.block, a.kind, a.final) for a in run.attempts] == [(7, kind, i == tries) for i in range(1, tries + 1)]
    assert "misbehave" in run.attempts[0].traceback
    assert [e.final for e in run.told(BlockFailed)] == [False, True]
    assert computed(count, 60) == [tries if i == 7 else 1 for i in range(60)]


@pytest.mark.parametrize("deed", ["raise", "transient", "memory"])
def test_a_block_that_fails_once_is_retried_with_success(workers, tmp_path, count, deed):  # noqa: F811
    run = drive(workers, tmp_path, map_task(tmp_path, 40, Faulty({3: deed}, count, times=1)))
    assert (run.state, run.books.done, run.books.executed) == ("done", 40, 41)
    assert [(a.block, a.final) for a in run.attempts] == [(3, False)]
    assert np.array_equal(stored(tmp_path, 40), ramp(40))


def test_a_block_that_kills_its_worker_is_the_only_one_blamed(workers, tmp_path, count):  # noqa: F811
    run = drive(workers, tmp_path, map_task(tmp_path, 200, Faulty({61: "kill"}, count, pause_s=0.001)), retries=1)
    assert (run.state, run.books.done, list(run.books.quarantined), run.blamed) == ("failed", 199, [61], {61})
    assert [(a.kind, a.final) for a in run.attempts] == [("died", False), ("died", True)]
    assert np.array_equal(np.delete(stored(tmp_path, 200), 61), np.delete(ramp(200), 61))
    assert run.told(WorkerLost)


def test_killers_queue_behind_each_other_and_blame_no_innocent(workers, tmp_path, count):  # noqa: F811
    killers = {2: "kill", 3: "kill"}
    run = drive(workers, tmp_path, map_task(tmp_path, 60, Faulty(killers, count, pause_s=0.02)), retries=0)
    assert (run.books.done, set(run.books.quarantined), run.blamed) == (58, {2, 3}, {2, 3})
    assert np.array_equal(np.delete(stored(tmp_path, 60), [2, 3]), np.delete(ramp(60), [2, 3]))


def test_a_block_that_kills_once_is_done_alone(workers, tmp_path, count):  # noqa: F811
    run = drive(workers, tmp_path, map_task(tmp_path, 100, Faulty({50: "kill"}, count, times=1)))
    assert (run.state, run.books.done, run.attempts) == ("done", 100, [])


def test_a_hanging_block_is_ended_and_named(workers, tmp_path, count):  # noqa: F811
    run = drive(workers, tmp_path, map_task(tmp_path, 40, Faulty({9: "hang"}, count)), retries=0, block_timeout_s=1.0)
    assert (run.books.done, run.blamed) == (39, {9})
    assert [(a.kind, a.final) for a in run.attempts] == [("timeout", True)]
    assert "block_timeout_s" in run.attempts[0].error


def test_a_worker_killed_from_outside_costs_no_block(workers, tmp_path, count):  # noqa: F811
    victims = pids(workers)[:1]

    def kill(event, driver):
        if isinstance(event, BlocksDone) and victims:
            os.kill(victims.pop(), signal.SIGKILL)

    run = drive(workers, tmp_path, map_task(tmp_path, 300, Faulty({}, count, pause_s=0.003)), on_event=kill)
    assert (run.state, run.books.done, run.attempts, victims) == ("done", 300, [], [])
    assert run.told(WorkerLost)
    assert sum(computed(count, 300)) <= 300 + 60
    assert sum(e.count for e in run.told(BlocksDone)) == 300
    assert np.array_equal(stored(tmp_path, 300), ramp(300))


def test_blocks_that_all_fail_alike_stop_the_stage(workers, tmp_path, count):  # noqa: F811
    run = drive(workers, tmp_path, map_task(tmp_path, 5_000, Faulty(dict.fromkeys(range(5_000), "raise"), count)))
    assert (run.state, run.books.done, run.books.quarantined) == ("failed", 0, {})
    assert len(run.told(BlockFailed)) < 50 * BREAKER_BLOCKS
    (said,) = [m for m in run.told(Message) if m.level == "error"]
    assert "ValueError: this block is poison" in said.text
    assert run.driver.message in said.text


def test_a_mended_cause_lets_the_stage_go_on(workers, tmp_path, count):  # noqa: F811
    drive(workers, tmp_path, map_task(tmp_path, 200, Faulty(dict.fromkeys(range(200), "raise"), count)))
    run = drive(workers, tmp_path, map_task(tmp_path, 200))
    assert (run.state, run.books.done) == ("done", 200)


class Unloadable(MapTask):
    """A task that cannot be made again on a worker."""

    def __reduce__(self):
        return _refuse, (self.path,)


def _refuse(path):
    raise ImportError("no module named science")


def test_a_task_that_no_worker_can_load_stops_the_stage(workers, tmp_path):  # noqa: F811
    run = drive(workers, tmp_path, Unloadable(str(tmp_path / "out.zarr"), line(100), map_task(tmp_path, 1).spec()))
    assert (run.state, run.attempts) == ("failed", [])
    assert "no module named science" in run.driver.message


# --- a full disk


def test_a_full_disk_pauses_and_goes_on(workers, tmp_path, count, monkeypatch):  # noqa: F811
    monkeypatch.setattr(desk, "DISK_PAUSES_S", (0.1,) * 20)
    run = drive(workers, tmp_path, map_task(tmp_path, 60, Faulty(dict.fromkeys(range(20, 30), "full"), count, times=2)))
    assert (run.state, run.books.done, run.attempts) == ("done", 60, [])
    assert any("disk is full" in m.text for m in run.told(Message))


def test_a_disk_that_stays_full_stops_the_run_and_quarantines_nothing(workers, tmp_path, count, monkeypatch):  # noqa: F811
    monkeypatch.setattr(desk, "DISK_PAUSES_S", (0.05, 0.05))
    full = Faulty(dict.fromkeys(range(30), "full"), count)
    run = drive(workers, tmp_path, map_task(tmp_path, 30, full))
    assert (run.state, run.books.done, run.attempts, run.driver.message) == ("interrupted", 0, [], "the disk stayed full")
    assert drive(workers, tmp_path, map_task(tmp_path, 30)).state == "done"


def test_a_full_disk_under_the_ledger_loses_no_mark(workers, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(desk, "DISK_PAUSES_S", (0.1,) * 20)
    commit, refusals = SqliteLedger.commit, iter(range(3))

    def sometimes(self, booking):
        if next(refusals, None) is not None:
            raise LedgerError(28, "No space left on device")
        commit(self, booking)

    monkeypatch.setattr(SqliteLedger, "commit", sometimes)
    run = drive(workers, tmp_path, map_task(tmp_path, 50))
    assert (run.state, run.books.done) == ("done", 50)
    assert next(refusals, None) is None


# --- stopping


def test_a_drained_stage_is_resumed_where_it_was(workers, tmp_path, count):  # noqa: F811
    control = Control()
    task = map_task(tmp_path, 400, Faulty({}, count, pause_s=0.002))
    run = drive(
        workers,
        tmp_path,
        task,
        control=control,
        on_event=lambda e, d: setattr(control, "drain", control.drain or isinstance(e, BlocksDone)),
    )
    assert run.state == "interrupted"
    assert 0 < run.books.done < 400
    assert run.books.executed == run.books.done == sum(computed(count, 400))
    again = drive(workers, tmp_path, task)
    assert (again.state, again.books.done, again.books.executed) == ("done", 400, 400)
    assert computed(count, 400) == [1] * 400


@pytest.mark.parametrize("second", [False, True])
def test_a_stop_waits_no_longer_than_drain_s_and_not_at_all_the_second_time(workers, tmp_path, count, second):  # noqa: F811
    control, asked = Control(), []

    def interrupt(event, driver):
        if isinstance(event, BlocksDone) and not asked:
            asked.append(time.monotonic())
            control.interrupt()
            if second:
                control.interrupt()

    slow = Faulty({20: "slow", 21: "slow", 22: "slow"}, count)
    slow = _Slow(slow)
    run = drive(workers, tmp_path, map_task(tmp_path, 24, slow), control=control, on_event=interrupt, drain_s=60.0 if second else 1.0)
    assert run.state == "interrupted"
    assert time.monotonic() - asked[0] < 5
    assert drive(workers, tmp_path, map_task(tmp_path, 24)).state == "done"


class _Slow:
    """Blocks of 10 ms, the later half of 8 s."""

    def __init__(self, counted):
        self.counted = counted

    def __call__(self, block):
        time.sleep(8 if block.id > 11 else 0.01)
        self.counted.deeds = {}
        return self.counted(block)


def test_an_interrupt_asks_for_a_drain_and_a_second_one_for_a_stop():
    control = Control()
    control.interrupt()
    assert (control.drain, control.stop) == (True, False)
    control.interrupt()
    assert (control.drain, control.stop) == (True, True)


def test_what_workers_do_is_known_while_they_do_it(workers, tmp_path, count):  # noqa: F811
    seen = []
    task = map_task(tmp_path, 300, Faulty({}, count, pause_s=0.01))
    drive(workers, tmp_path, task, on_event=lambda e, d: seen.append((d.running, d.under_way(), d.workers())))
    assert any(running > 0 for running, _, _ in seen)
    assert any(under_way for _, under_way, _ in seen)
    assert {len(w) for _, _, w in seen} & {2}
    assert all(psutil.pid_exists(p) for p in pids(workers))
