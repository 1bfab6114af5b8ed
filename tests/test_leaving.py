"""Workers that leave while a stage runs: what is unfinished comes back as data, nothing is blamed, the others go on."""

import os
import signal
import time

import numpy as np
import pytest

from blockwise.deadline import Deadline
from blockwise.events import BlocksDone, WorkerLost
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


@pytest.mark.parametrize("number", [signal.SIGUSR1])
def test_a_signalled_worker_gives_back_what_it_has(workers, tmp_path, count, number):  # noqa: F811
    victims = pids(workers)[:1]
    gone = victims[0]

    def end(event, driver):
        if isinstance(event, BlocksDone) and victims:
            os.kill(victims.pop(), number)

    task = map_task(tmp_path, 400, Faulty({}, count, pause_s=0.01))
    run = drive(workers, tmp_path, task, on_event=end)
    assert (run.state, run.books.done, run.attempts, run.told(WorkerLost)) == ("done", 400, [], [])
    assert computed(count, 400) == [1] * 400
    assert np.array_equal(stored(tmp_path, 400), ramp(400))
    assert gone not in names(workers)


def test_a_worker_leaves_before_its_end(workers, tmp_path, count):  # noqa: F811
    (gone, *_) = workers.client.run(end_in, 3.0, workers=[next(iter(workers.client.nthreads()))]).values()
    task = map_task(tmp_path, 300, Faulty({}, count, pause_s=0.03))
    run = drive(workers, tmp_path, task)
    assert (run.state, run.books.done, run.attempts, run.told(WorkerLost)) == ("done", 300, [], [])
    assert computed(count, 300) == [1] * 300
    assert gone not in names(workers)
