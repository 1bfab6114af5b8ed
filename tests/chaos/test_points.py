"""kill -9 of a worker at exactly the points where data could be lost, one lease on two workers at once, blocks of every poison.

What comes out has the bytes of a run left alone, every block is booked once, and no innocent is blamed.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path

import numpy as np
import pytest

from blockwise.books import Books
from blockwise.cluster.local import LocalWorkers
from blockwise.config import ClusterConfig
from blockwise.grid import Grid, GridSpec
from blockwise.lease import Lease
from blockwise.ledger import open_ledger
from blockwise.storage import OutputArray
from blockwise.testing import Faulty, run_in, run_serially
from blockwise.upkeep import report
from blockwise.worker import StageSpec, introduce, run_lease
from tests.chaos.gates import GatedTask
from tests.cluster import drive, line, map_task

pytestmark = pytest.mark.slow

BLOCKS = 120
GATED = 61
WORKER_BYTES = 400 << 20
"""Memory of a worker, beyond which Dask ends it."""


@pytest.fixture(scope="module")
def workers() -> Iterator[LocalWorkers]:
    """Two worker processes that may be killed, and may not grow; whole runs work on them too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distributed.system.MEMORY_LIMIT", 2 * WORKER_BYTES)
        with LocalWorkers(ClusterConfig(workers=2, device="cpu")) as cluster:
            cluster.memory_limit_mb = WORKER_BYTES / 1e6
            patch.setattr("blockwise.run.open_cluster", lambda config, context: nullcontext(cluster))
            yield cluster


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> dict[str, bytes]:
    """Chunk files of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("calm")
    run_serially(map_task(folder, BLOCKS))
    return chunks(folder)


def chunks(folder: Path) -> dict[str, bytes]:
    output = folder / "out.zarr"
    return {str(f.relative_to(output)): f.read_bytes() for f in output.rglob("c.*") if not f.name.endswith(".__lock")}


@pytest.fixture
def place(tmp_path):
    """A folder with the folders that count computations and hold gates."""
    (tmp_path / "count").mkdir()
    (tmp_path / "gates").mkdir()
    return tmp_path


def gated(place: Path, point: str, blocks: int = BLOCKS) -> GatedTask:
    function = Faulty({}, str(place / "count"))
    return GatedTask(str(place / "out.zarr"), line(blocks), GridSpec((1,)), function, block=GATED, point=point, gates=place / "gates")


def computed(place: Path) -> list[int]:
    return [(place / "count" / str(i)).stat().st_size for i in range(BLOCKS)]


def killing(task: GatedTask) -> tuple[threading.Thread, list[bool]]:
    """A thread that kills the worker which comes to the task's gate, and whether the block's chunk was there then."""
    there: list[bool] = []

    def kill() -> None:
        pid = task.gate.wait()
        there.append(OutputArray.open(task.path, "line").complete(Grid(task.domains(), task.spec()).block(GATED).core))
        os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread, there


@pytest.mark.parametrize(("point", "stored"), [("read", False), ("compute", False), ("durable", True)])
def test_a_worker_killed_at_this_point_costs_nothing(workers, place, calm, point, stored):
    task = gated(place, point)
    thread, there = killing(task)
    run = drive(workers, place, task)
    thread.join(60)
    assert there == [stored], "the kill did not hit where it should"
    assert (run.state, run.books.done, run.attempts) == ("done", BLOCKS, [])
    assert chunks(place) == calm
    assert computed(place)[GATED] == (1 if point in ("read", "compute") else 2)


def test_workers_killed_between_receipt_and_commit_cost_nothing(workers, place, calm, monkeypatch):
    """Their data is durable and the driver knows it: the marks follow, nothing of it is computed again."""
    flush, known = Books.flush, []

    def flush_once_they_are_dead(books):
        if books._marks and not known:
            for pid in workers.client.run(os.getpid).values():
                os.kill(pid, signal.SIGKILL)
            known.extend(i for marks in books._marks for i in marks.positions.tolist())
        flush(books)

    monkeypatch.setattr(Books, "flush", flush_once_they_are_dead)
    run = drive(workers, place, map_task(place, BLOCKS, Faulty({}, str(place / "count"), pause_s=0.002)))
    assert 0 < len(known) < BLOCKS
    assert {computed(place)[id] for id in known} == {1}
    assert (run.state, run.books.done, run.attempts) == ("done", BLOCKS, [])
    assert chunks(place) == calm


def test_one_lease_on_two_workers_at_once_counts_once(workers, place, calm):
    """Both hold the same block at the same moment; both receipts say the same, the second brings nothing new."""
    task = map_task(place, BLOCKS, Meeting(str(place / "gates"), GATED, 2))
    task.prepare()
    client, spec = workers.client, StageSpec.of("map", task, "cpu", 600.0)
    introduce(client, spec)
    lease = Lease(1, spec.key, np.arange(BLOCKS))
    futures = [client.submit(run_lease, lease, workers=[w], pure=False) for w in client.nthreads()]
    receipts = client.gather(futures)
    client.unregister_worker_plugin(spec.key)
    assert len({r.worker for r in receipts}) == len(receipts) == 2
    assert all(np.array_equal(r.ids, lease.ids) and np.array_equal(r.checksums, receipts[0].checksums) for r in receipts)
    with closing(open_ledger(place / "ledger.sqlite")) as ledger:
        books = Books("map", Grid(task.domains(), task.spec()), ledger)
        list(books.pending())
        assert [books.book(r.ids, r.checksums) for r in receipts] == [BLOCKS, 0]
        books.flush()
        assert (books.done, ledger.count("map", line(BLOCKS)[0].digest)) == (BLOCKS, BLOCKS)
    assert chunks(place) == calm


class Meeting:
    """A function of blocks that, at one block, waits until so many processes are there."""

    def __init__(self, folder: str, block: int, processes: int) -> None:
        self.folder, self.block, self.processes = folder, block, processes

    def __call__(self, block):
        from blockwise.testing import ramp
        from tests.chaos.gates import wait_for

        if block.id == self.block:
            Path(self.folder, f"here.{os.getpid()}").touch()
            wait_for(lambda: len(list(Path(self.folder).glob("here.*"))) >= self.processes)
        return ramp(block)


@pytest.mark.parametrize(("deed", "kind"), [("raise", "poison"), ("segfault", "died"), ("outgrow", "memory"), ("hang", "timeout")])
def test_a_poison_block_costs_one_block_and_is_named(workers, place, calm, deed, kind):
    """A whole run: exit code 1, one block quarantined, its lease mates done, the report names it with what it did."""
    task = map_task(place, BLOCKS, Faulty({GATED: deed}, str(place / "count")))
    outcome = run_in(place / "run", task, retries=0, block_timeout_s=2.0 if deed == "hang" else 60.0)
    assert (outcome.exit_code, outcome.state) == (1, "failed")
    assert (outcome.status.blocks.done, outcome.status.blocks.failed) == (BLOCKS - 1, 1)
    (failure,) = outcome.status.failures
    assert (failure.stage, failure.domain, failure.block, failure.kind) == ("map", "line", GATED, kind)
    left = chunks(place)
    assert left == {name: data for name, data in calm.items() if name in left}
    assert len(calm) - len(left) == 1
    page = report(place / "run").read_text()
    assert f"map · line · block {GATED}" in page
    assert f"{kind}, 1 attempt" in page
