"""Worker processes that die at the worst time: before they have connected. A run must get its workers back."""

import threading
import time

import psutil
import pytest

from blockwise import presence
from blockwise.cluster import local
from blockwise.cluster.address import AddressWorkers
from blockwise.cluster.local import LocalWorkers
from blockwise.config import ClusterConfig
from blockwise.errors import BlockwiseError
from blockwise.events import BlocksDone, Message
from blockwise.testing import Faulty
from tests.cluster import drive, map_task

pytestmark = pytest.mark.slow


def spawned(besides):
    """Worker processes of this process that are not among `besides`; Python's helper for semaphores is none."""
    children = [p for p in psutil.Process().children(recursive=True) if p.pid not in besides]
    found = []
    for process in children:
        try:
            if "spawn_main" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def test_a_worker_that_dies_while_it_starts_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "ASK_EVERY_S", 0.5)
    (tmp_path / "count").mkdir()
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    with LocalWorkers(ClusterConfig(workers=1, device="cpu")) as workers:
        (first,) = spawned(before)
        killed, pause = [], threading.Event()

        def kill_twice():
            first.kill()
            end = time.monotonic() + 60
            while len(killed) < 2 and time.monotonic() < end:
                for process in spawned(before | {first.pid, *killed}):
                    process.kill()  # it imports still, and has told nobody that it is there
                    killed.append(process.pid)
                pause.wait(0.01)

        threads = []

        def at_first(event, driver):
            if isinstance(event, BlocksDone) and not threads:
                threads.append(threading.Thread(target=kill_twice))
                threads[0].start()

        task = map_task(tmp_path, 500, Faulty({}, str(tmp_path / "count"), pause_s=0.005))
        run = drive(workers, tmp_path, task, on_event=at_first)
        threads[0].join(60)
    assert len(killed) == 2
    assert (run.state, run.books.done, run.attempts) == ("done", 500, [])


def test_a_cluster_that_is_closed_while_a_worker_restarts_closes(tmp_path):
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    with LocalWorkers(ClusterConfig(workers=2, device="cpu")):
        for process in spawned(before):
            process.kill()
    _, alive = psutil.wait_procs(spawned(before), timeout=20)
    assert alive == []


@pytest.mark.parametrize("anew", [False, True], ids=["restarted", "made anew"])
def test_a_cluster_that_is_closed_leaves_no_worker_that_is_slow_to_start(anew, monkeypatch):
    """Python waits at its end for its children: a worker left behind would keep the command from ever returning."""
    monkeypatch.setattr(local, "ASK_EVERY_S", 0.1)
    monkeypatch.setattr(local, "CLOSE_S", 3.0)
    before, pause = {p.pid for p in psutil.Process().children(recursive=True)}, threading.Event()
    with LocalWorkers(ClusterConfig(workers=1, device="cpu")) as workers:
        (first,) = spawned(before)
        (keeper,) = workers.cluster.workers.values()
        workers.client.sync(keeper.close) if anew else first.kill()
        end = time.monotonic() + 60
        while not (second := spawned(before | {first.pid})):
            assert workers.count() <= 1
            assert time.monotonic() < end, "no second worker"
            pause.wait(0.01)
        second[0].suspend()
    assert psutil.wait_procs(second, timeout=5)[1] == []


def test_a_worker_that_dask_has_given_up_is_asked_for_again(monkeypatch):
    monkeypatch.setattr(local, "ASK_EVERY_S", 0.1)
    with LocalWorkers(ClusterConfig(workers=1, device="cpu")) as workers:
        (keeper,) = workers.cluster.workers.values()
        workers.client.sync(keeper.close)
        end, pause = time.monotonic() + 60, threading.Event()
        while not workers.count() or keeper in workers.cluster.workers.values():
            assert time.monotonic() < end, "no worker came back"
            pause.wait(0.05)
        assert workers.client.submit(sum, [1, 2]).result(30) == 3


def test_a_worker_whose_death_its_keeper_missed_is_replaced(monkeypatch):
    from distributed.core import Status

    monkeypatch.setattr(local, "ASK_EVERY_S", 0.1)
    monkeypatch.setattr(local, "DOWN_S", 1.0)
    with LocalWorkers(ClusterConfig(workers=1, device="cpu")) as workers:
        (keeper,) = workers.cluster.workers.values()
        end, pause = time.monotonic() + 60, threading.Event()
        keeper.status = Status.starting  # as it is between the connection of its process and the end of its own start
        psutil.Process(keeper.pid).kill()
        while keeper.is_alive():
            assert time.monotonic() < end
            pause.wait(0.01)
        pause.wait(0.2)  # the death is handled: nothing is restarted in this state
        keeper.status = Status.running
        while not workers.count() or keeper in workers.cluster.workers.values():
            assert time.monotonic() < end, "no worker came back"
            pause.wait(0.05)
        assert workers.client.submit(sum, [1, 2]).result(30) == 3


def test_a_run_whose_workers_do_not_come_back_says_so_and_stops_and_can_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "ASK_EVERY_S", float("inf"))  # nobody asks for another
    monkeypatch.setattr(presence, "MISSED_S", 0.2)
    monkeypatch.setattr(presence, "GIVEN_UP_S", 1.0)
    (tmp_path / "count").mkdir()
    task = map_task(tmp_path, 300, Faulty({}, str(tmp_path / "count"), pause_s=0.005))
    with LocalWorkers(ClusterConfig(workers=1, device="cpu")) as workers:
        keepers = list(workers.cluster.workers.values())

        def at_first(event, driver):
            if isinstance(event, BlocksDone) and keepers:
                workers.client.sync(keepers.pop().close)

        run = drive(workers, tmp_path, task, on_event=at_first)
        assert (run.state, run.attempts) == ("interrupted", [])
        assert [m.level for m in run.told(Message)] == ["warning", "error"]
        assert "no worker was connected for 1 s" in run.driver.message
        monkeypatch.setattr(local, "ASK_EVERY_S", 0.1)
        monkeypatch.setattr(presence, "GIVEN_UP_S", 60.0)
        run = drive(workers, tmp_path, task)
        assert (run.state, run.books.done) == ("done", 300)


def test_a_scheduler_that_is_gone_ends_the_run_with_an_error_of_ours():
    with LocalWorkers(ClusterConfig(workers=1, device="cpu")) as workers:
        config = ClusterConfig(kind="address", address=workers.client.scheduler.address, device="cpu")
        with AddressWorkers(config) as elsewhere:
            assert elsewhere.count() == 1
            workers.cluster.close()
            with pytest.raises(BlockwiseError, match="is gone"):
                elsewhere.count()
