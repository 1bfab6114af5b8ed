"""Workers that leave while a stage runs: what is unfinished comes back as data, nothing is blamed, the others go on."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from blockwise.deadline import Deadline
from blockwise.driver import JOB_ENDS
from blockwise.events import BlocksDone, Message, WorkerLost
from blockwise.leaving import departure
from blockwise.testing import Faulty
from tests.cluster import drive, line, map_task, workers  # noqa: F401
from tests.test_driver import computed, count, pids, ramp, stored  # noqa: F401

pytestmark = pytest.mark.usefixtures("workers")


def names(workers):  # noqa: F811
    return set(workers.client.run(os.getpid).values())


def end_in(seconds, dask_worker):
    """Let the job of a worker end soon; its process."""
    leaving = departure(dask_worker)
    leaving.deadline = Deadline(time.time() + seconds)
    leaving.watch()
    return os.getpid()


def signalled(workers, folder, count, processes, number):  # noqa: F811
    """What became of 400 blocks when processes were signalled after the first of them."""
    waiting = list(processes)

    def signal_them(event, driver):
        while isinstance(event, BlocksDone) and waiting:
            os.kill(waiting.pop(), number)

    return drive(workers, folder, map_task(folder, 400, Faulty({}, count, pause_s=0.01)), on_event=signal_them)


def assert_undisturbed(run, folder, count):  # noqa: F811
    """Every block was computed once, none was blamed, and no worker was lost."""
    assert (run.state, run.books.done, run.attempts, run.told(WorkerLost)) == ("done", 400, [], [])
    assert computed(count, 400) == [1] * 400
    assert np.array_equal(stored(folder, 400), ramp(400))


@pytest.mark.parametrize("number", [1, 2], ids=["others take over", "nobody is left but those that come anew"])
def test_a_signalled_worker_gives_back_what_it_has(workers, tmp_path, count, number):  # noqa: F811
    gone = pids(workers)[:number]
    run = signalled(workers, tmp_path, count, gone, signal.SIGUSR1)
    assert_undisturbed(run, tmp_path, count)
    assert not set(gone) & names(workers)
    assert run.driver._number < 100, "leases bounced off the workers that leave"


@pytest.fixture
def job_worker(workers, tmp_path):  # noqa: F811
    """The keeper of one more worker, started as jobs start it."""
    address = workers.client.scheduler.address
    preloads = ["--preload", "blockwise.cluster.job_worker", "--preload-nanny", "blockwise.cluster.job_nanny"]
    ports = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0", "--local-directory", str(tmp_path)]
    before = len(workers.client.nthreads())
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "3", "--name", "job", *preloads, *ports]
    log = (tmp_path / "keeper.log").open("w")
    keeper = subprocess.Popen(command, stderr=log)
    workers.client.wait_for_workers(before + 1, timeout=60)
    yield keeper
    keeper.kill()
    keeper.wait()
    log.close()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_signalled_job_gives_back_what_its_worker_has(workers, tmp_path, count, job_worker, number):  # noqa: F811
    run = signalled(workers, tmp_path, count, [job_worker.pid], number)
    assert_undisturbed(run, tmp_path, count)
    assert job_worker.wait(20) == 0, (tmp_path / "keeper.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_job_that_is_signalled_while_idle_ends(tmp_path, job_worker, number):
    os.kill(job_worker.pid, number)
    assert job_worker.wait(20) == 0, (tmp_path / "keeper.log").read_text()


def test_a_worker_leaves_before_its_end(workers, tmp_path, count):  # noqa: F811
    (gone, *_) = workers.client.run(end_in, 3.0, workers=[next(iter(workers.client.nthreads()))]).values()
    run = drive(workers, tmp_path, map_task(tmp_path, 400, Faulty({}, count, pause_s=0.02)))
    assert_undisturbed(run, tmp_path, count)
    assert gone not in names(workers)


class CutOff(Faulty):
    """A block that is longer than its job, so many times: its worker leaves, and is killed before it is done."""

    def __call__(self, block):
        cut = block.id in self.deeds and self.attempts(block.id) < self.times
        result = super().__call__(block) if not cut else None
        if cut:
            with open(f"{self.folder}/{block.id}", "a") as file:
                file.write("x")
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.5)  # the worker leaves meanwhile
            os.kill(os.getpid(), signal.SIGKILL)
        return result


@pytest.mark.parametrize(("times", "state", "kinds"), [(JOB_ENDS, "done", []), (JOB_ENDS + 1, "failed", ["died"])])
def test_a_block_that_a_job_cuts_off_is_not_blamed_at_once(workers, tmp_path, count, times, state, kinds):  # noqa: F811
    run = drive(workers, tmp_path, map_task(tmp_path, 20, CutOff({7: "cut"}, count, times=times)), retries=0)
    assert (run.state, run.books.done, [a.kind for a in run.attempts]) == (state, 20 - len(kinds), kinds)
    assert all("walltime" in a.error for a in run.attempts)
    said = [m.text for m in run.told(Message) if "leaves: it was sent SIGUSR1" in m.text]
    assert len(said) == times
