"""The pipeline of one process, without Dask: what becomes of every block of a lease, whatever its steps do."""

import threading
import time
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from blockwise.grid import Grid
from blockwise.lease import Lease
from blockwise.pipeline import ITEM_BLOCKS, WRITES_IN_FLIGHT, Pipeline
from blockwise.work import Occupancy
from tests.steps import Steps

WAIT_S = 30


@pytest.fixture
def start():
    """Makes pipelines and closes them."""
    made = []

    def make(task, **options):
        made.append(Pipeline(task, **options))
        return made[-1]

    yield make
    for pipeline in made:
        pipeline.close()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as pool:
        yield pool


def lease(*ids, number=1, solo=False):
    return Lease(number, "s", np.array(ids, np.int64), solo)


def raising(ids, error, then=None):
    """A step that raises for some ids and gives `then(id)` for others."""

    def step(id):
        if id in ids:
            raise error
        return then(id) if then else None

    return step


def doubled(id):
    return 2 * id


def same(id):
    return id


# --- receipts


def test_a_receipt_has_one_row_per_block_in_columns(start):
    receipt = start(Steps(), name="w-1").run(lease(*range(300), number=9))
    assert (receipt.lease, receipt.worker, receipt.ids.tolist()) == (9, "w-1", list(range(300)))
    assert receipt.checksums.tolist() == [zlib.crc32(np.array([2 * i]).tobytes()) for i in range(300)]
    assert receipt.nbytes.tolist() == [8] * 300
    assert {len(c) for c in (receipt.read_s, receipt.compute_s, receipt.write_s)} == {300}
    assert (receipt.errors, receipt.unfinished.size) == ((), 0)
    assert receipt.wall_s > 0


def test_times_are_those_of_the_step(start):
    gone = threading.Event()
    task = Steps(read=lambda id: gone.wait(0.01) or id, compute=lambda id: gone.wait(0.03) or id)
    receipt = start(task).run(lease(1, 2, 3))
    assert (receipt.read_s > 0.009).all()
    assert (receipt.compute_s > 0.029).all()
    assert (receipt.compute_s < 10).all()


def test_an_empty_lease_is_given_back_at_once_by_a_closed_pipeline(start):
    pipeline = start(Steps())
    pipeline.close()
    assert pipeline.run(lease(4, 5)).unfinished.tolist() == [4, 5]


def test_leases_are_worked_off_in_the_order_they_came(start, pool):
    blocked = threading.Event()
    task = Steps(compute=lambda id: blocked.wait(WAIT_S) and id)
    pipeline = start(task)
    running = [pool.submit(pipeline.run, lease(i, number=i)) for i in range(1)]
    for i in range(1, 4):
        running.append(pool.submit(pipeline.run, lease(i, number=i)))
        wait_until(lambda i=i: len(pipeline._works) == i + 1)
    blocked.set()
    assert [r.result(WAIT_S).lease for r in running] == [0, 1, 2, 3]
    assert sorted(task.done("write")) == [0, 1, 2, 3]


def wait_until(true, seconds=WAIT_S):
    end, pause = time.monotonic() + seconds, threading.Event()
    while not true():
        assert time.monotonic() < end, "it never became true"
        pause.wait(0.002)


# --- errors as data


@pytest.mark.parametrize("step", ["read", "compute", "write"])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("bad"), "poison"),
        (MemoryError(), "memory"),
        (ConnectionError("gone"), "transient"),
        (SystemExit(3), "poison"),
        (KeyboardInterrupt(), "poison"),
    ],
)
def test_an_exception_costs_one_block_and_is_data(start, step, error, kind):
    default = {"read": same, "compute": doubled, "write": lambda id: None}[step]
    receipt = start(Steps(**{step: raising([3], error, default)})).run(lease(*range(6)))
    assert sorted(receipt.ids.tolist()) == [0, 1, 2, 4, 5]
    (failed,) = receipt.errors
    assert (failed.id, failed.kind) == (3, kind)
    assert failed.error.startswith(type(error).__name__)
    assert "in step" in failed.traceback


def test_a_write_that_fails_after_it_was_started_costs_its_block(start):
    def write(id):
        future = Future()
        if id == 2:
            future.set_exception(OSError(28, "No space left on device"))
        else:
            future.set_result(None)
        return future

    receipt = start(Steps(write=write)).run(lease(1, 2, 3))
    assert sorted(receipt.ids.tolist()) == [1, 3]
    assert [(e.id, e.disk_full) for e in receipt.errors] == [(2, True)]


def test_an_exception_whose_text_raises_is_still_data(start):
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    receipt = start(Steps(compute=raising([0], Mute(), doubled))).run(lease(0, 1))
    assert receipt.ids.tolist() == [1]
    assert "cannot be shown" in receipt.errors[0].error


@pytest.mark.parametrize("step", ["open", "setup"])
def test_what_fails_before_the_first_block_is_tried_again_for_the_next(start, step):
    calls = []

    def flaky(_):
        calls.append(1)
        if len(calls) == 1:
            raise OSError("not yet")

    receipt = start(Steps(**{step: flaky})).run(lease(*range(20)))
    assert (len(receipt.errors), len(receipt.ids), len(calls)) == (1, 19, 2)


def test_a_flood_of_failures_keeps_a_small_receipt(start):
    receipt = start(Steps(compute=raising(range(1000), ValueError("all")))).run(lease(*range(1000)))
    assert len(receipt.errors) == 1000
    assert 0 < sum(bool(e.traceback) for e in receipt.errors) <= 60


# --- batches


def test_batches_are_full_even_where_reads_are_slow(start):
    gone = threading.Event()
    task = Steps(batch_size=4, read=lambda id: gone.wait(0.005) or id)
    receipt = start(task).run(lease(*range(16)))
    assert sorted(receipt.ids.tolist()) == list(range(16))
    assert [len(ids) for ids in task.done("batch")] == [4, 4, 4, 4]


def test_a_failing_batch_is_retried_singly(start):
    def batch(inputs):
        if 5 in inputs:
            raise ValueError("one of us")
        return [2 * i for i in inputs]

    task = Steps(batch_size=4, batch=batch, compute=raising([5], ValueError("me"), doubled))
    receipt = start(task).run(lease(*range(8)))
    assert sorted(receipt.ids.tolist()) == [0, 1, 2, 3, 4, 6, 7]
    assert [(e.id, e.error) for e in receipt.errors] == [(5, "ValueError: me")]
    assert sorted(task.done("compute")) == [4, 5, 6, 7]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")], ids=["host", "gpu"])
def test_a_batch_that_memory_does_not_hold_is_halved_for_good_and_costs_no_attempt(start, error):
    def batch(inputs):
        if len(inputs) > 3:
            raise error
        return [2 * i for i in inputs]

    task = Steps(batch_size=8, batch=batch)
    receipt = start(task).run(lease(*range(24)))
    assert (receipt.ids.tolist(), receipt.errors) == (list(range(24)), ())
    sizes = [len(ids) for ids in task.done("batch")]
    assert sizes == [8, 4, 2, 2, 4, 2, 2, *[2] * 8]
    assert sorted(task.done("write")) == list(range(24))


@pytest.mark.parametrize("answer", [lambda inputs: [0], lambda inputs: [0] * 9, lambda inputs: None])
def test_a_batch_with_the_wrong_number_of_results_falls_back_to_its_inputs(start, answer):
    receipt = start(Steps(batch_size=3, batch=answer)).run(lease(1, 2, 3))
    assert dict(zip(receipt.ids.tolist(), receipt.checksums.tolist(), strict=True)) == {
        i: zlib.crc32(np.array([2 * i]).tobytes()) for i in (1, 2, 3)
    }


def test_blocks_of_different_input_shapes_are_not_batched_together(start):
    task = Steps(10, batch_size=8)
    task.spec = lambda: type(Steps().spec())((4,))  # cores of 4, 4 and 2
    pipeline = start(task)
    assert len(Grid(task.domains(), task.spec())) == 3
    pipeline.run(lease(0, 1, 2))
    assert task.done("batch") == [(0, 1)]
    assert task.done("compute") == [2]


# --- solitude, draining, leaving


def test_a_solo_lease_meets_nothing_else_in_the_process(start, pool):
    inside, most = [], []

    def compute(id):
        inside.append(id)
        most.append((id, len(pipeline._works), pipeline._process.blocks))
        inside.remove(id)
        return id

    pipeline = start(Steps(compute=compute))
    several = [pool.submit(pipeline.run, lease(*range(100 * i, 100 * i + 50), number=i, solo=False)) for i in range(2)]
    alone = pool.submit(pipeline.run, lease(900, number=9, solo=True))
    more = pool.submit(pipeline.run, lease(*range(500, 550), number=10))
    assert all(len(r.result(WAIT_S).ids) == 50 for r in [*several, more])
    assert alone.result(WAIT_S).ids.tolist() == [900]
    assert [n for id, _, n in most if id == 900] == [1]


def test_a_solo_lease_of_one_stage_meets_no_block_of_another(start, pool):
    process, seen, most = Occupancy(), [], []

    def compute(id):
        seen.append((id, process.blocks))
        most.append(process.computing.locked())
        return id

    one, two = (start(Steps(compute=compute), occupancy=process) for _ in range(2))
    before = [pool.submit(p.run, lease(*range(100))) for p in (one, two)]
    alone = pool.submit(one.run, lease(900, number=2, solo=True))
    after = pool.submit(two.run, lease(*range(200, 300), number=3))
    assert [len(r.result(WAIT_S).ids) for r in (*before, alone, after)] == [100, 100, 1, 100]
    assert [n for id, n in seen if id == 900] == [1]
    assert all(most)
    assert process.blocks == 0


def test_a_solo_lease_that_is_given_back_keeps_nobody_waiting(start, pool):
    process, go = Occupancy(), threading.Event()
    one = start(Steps(), occupancy=process)
    two = start(Steps(compute=lambda id: go.wait(WAIT_S) and id), occupancy=process)
    held = pool.submit(two.run, lease(0))
    wait_until(lambda: two.task.done("compute"))
    alone = pool.submit(one.run, lease(900, solo=True))
    wait_until(lambda: process.waiting is one)
    one.drain()
    assert alone.result(WAIT_S).unfinished.tolist() == [900]
    go.set()
    assert held.result(WAIT_S).ids.tolist() == [0]
    assert two.run(lease(1, 2, number=2)).ids.tolist() == [1, 2]


def test_a_solo_lease_tells_its_start_before_it_begins(start):
    told, seen = [], []
    task = Steps(read=lambda id: seen.append([p.started.tolist() for p in told]) or id)
    start(task, tell=told.append).run(lease(7, solo=True))
    assert seen == [[[7]]]


def test_draining_gives_back_what_was_not_computed(start, pool):
    go = threading.Event()
    task = Steps(compute=lambda id: go.wait(WAIT_S) and id)
    pipeline = start(task)
    running = [pool.submit(pipeline.run, lease(*range(10 * i, 10 * i + 10), number=i)) for i in range(2)]
    wait_until(lambda: task.done("compute"))
    pipeline.drain()
    go.set()
    receipts = [r.result(WAIT_S) for r in running]
    done = [i for r in receipts for i in r.ids.tolist()]
    assert len(done) == 1  # the one under way
    assert sorted(done + [i for r in receipts for i in r.unfinished.tolist()]) == list(range(20))
    assert task.done("compute") == done


def test_a_lease_that_comes_while_draining_is_given_back(start):
    pipeline = start(Steps())
    pipeline.drain()
    receipt = pipeline.run(lease(1, 2))
    assert (receipt.ids.size, receipt.unfinished.tolist(), receipt.wall_s) == (0, [1, 2], 0.0)


def test_a_worker_that_left_the_cluster_computes_no_further_block(start, pool):
    alive = [True]
    task = Steps(compute=lambda id: alive.clear() or id if id == 5 else id)
    receipt = start(task, alive=lambda: bool(alive)).run(lease(*range(200)))
    assert task.done("compute")[-1] == 5
    assert sorted(receipt.ids.tolist() + receipt.unfinished.tolist()) == list(range(200))
    assert set(receipt.unfinished.tolist()).isdisjoint(task.done("compute"))


def test_an_open_that_takes_long_does_not_block_draining(start, pool):
    go = threading.Event()
    task = Steps(open=lambda _: go.wait(WAIT_S))
    pipeline = start(task)
    running = pool.submit(pipeline.run, lease(1))
    wait_until(lambda: task.done("open"))
    began = time.monotonic()
    pipeline.drain()  # called in a worker's event loop, which must not wait
    assert time.monotonic() - began < 1
    go.set()
    running.result(WAIT_S)


# --- hanging


@pytest.mark.parametrize("step", ["read", "compute", "write"])
def test_a_block_older_than_the_timeout_is_named(start, pool, step):
    go, named = threading.Event(), []

    def overdue(block):
        named.append(block)
        go.set()

    hang = {3: lambda: go.wait(WAIT_S)}
    default = {"read": same, "compute": doubled, "write": lambda id: None}[step]
    task = Steps(**{step: lambda id: (hang.get(id, bool)() and None) or default(id)})
    receipt = start(task, overdue=overdue, block_timeout_s=0.3).run(lease(1, 2, 3, 4))
    assert set(named) == {3}
    assert sorted(receipt.ids.tolist()) == [1, 2, 3, 4]


def test_a_write_that_never_becomes_durable_is_named(start, pool):
    futures, named = {i: Future() for i in range(3)}, []

    def overdue(block):
        named.append(block)
        futures[1].set_result(None)

    for i in (0, 2):
        futures[i].set_result(None)
    start(Steps(write=futures.get), overdue=overdue, block_timeout_s=0.3).run(lease(0, 1, 2))
    assert set(named) == {1}


def test_one_of_a_hanging_batch_is_not_named(start):
    go, named = threading.Event(), []

    def overdue(block):
        named.append(block)
        go.set()

    task = Steps(batch_size=3, batch=lambda inputs: go.wait(WAIT_S) and list(inputs))
    start(task, overdue=overdue, block_timeout_s=0.3).run(lease(0, 1, 2))
    assert set(named) == {None}


@pytest.mark.parametrize("step", ["open", "setup"])
def test_loading_a_model_is_no_hanging_block(start, step):
    gone, named = threading.Event(), []
    receipt = start(Steps(**{step: lambda _: gone.wait(0.8)}), overdue=named.append, block_timeout_s=0.3).run(lease(0, 1))
    assert (len(receipt.ids), named) == (2, [])


# --- writes in flight


def test_at_most_sixteen_writes_are_in_flight_and_they_overlap(start, pool):
    out, most, lock = [], [], threading.Lock()

    def write(id):
        future = Future()
        with lock:
            out.append(future)
            most.append(sum(not f.done() for f in out))
        if len(most) < WRITES_IN_FLIGHT:
            return future
        for f in out:  # the disk catches up once so many wait
            if not f.done():
                f.set_result(None)
        return future

    receipt = start(Steps(write=write)).run(lease(*range(WRITES_IN_FLIGHT * 5)))
    assert len(receipt.ids) == WRITES_IN_FLIGHT * 5
    assert max(most) == WRITES_IN_FLIGHT


def test_a_block_is_not_done_before_its_last_write_is_durable(start, pool):
    first, second, told = Future(), Future(), []
    first.set_result(None)
    task = Steps()
    task.write = lambda block, result: [write_of(first), write_of(second)]
    running = pool.submit(start(task, tell=told.append).run, lease(8))
    wait_until(lambda: told)
    assert not running.done()
    assert not any(p.done.size for p in told)
    second.set_result(None)
    assert running.result(WAIT_S).ids.tolist() == [8]


def write_of(future):
    from blockwise.storage.writes import Write

    return Write(np.zeros(1), future)


def test_blocks_that_write_nothing_do_not_pile_up(start):
    pipeline = start(Steps(5_000))
    assert len(pipeline.run(lease(*range(5_000))).ids) == 5_000
    assert len(pipeline._flights) <= ITEM_BLOCKS


# --- progress


def test_a_lease_is_told_of_no_more_often_than_its_driver_asks(start):
    told, gone = [], threading.Event()
    task = Steps(compute=lambda id: gone.wait(0.01) or id)
    receipt = start(task, tell=told.append).run(replace(lease(*range(20)), tell_s=60.0))
    assert len(receipt.ids) == 20
    assert len(told) <= 2, "the first blocks, and the end"


def test_progress_tells_every_block_started_and_done_once(start):
    told, gone = [], threading.Event()
    task = Steps(compute=lambda id: gone.wait(0.01) or id)
    receipt = start(task, tell=told.append).run(lease(*range(40)))
    wait_until(lambda: len(np.concatenate([p.started for p in told])) == 40)
    started = np.concatenate([p.started for p in told]).tolist()
    done = np.concatenate([p.done for p in told]).tolist()
    assert sorted(started) == list(range(40))
    assert len(done) == len(set(done))
    assert set(done) <= set(receipt.ids.tolist())
    assert len(done) > 20
    assert len(told) >= 4


def test_a_block_under_way_is_told_while_it_runs(start, pool):
    told, go, first = [], threading.Event(), threading.Lock()
    task = Steps(compute=lambda id: id if first.acquire(blocking=False) else go.wait(WAIT_S) and id)
    running = pool.submit(start(task, tell=told.append).run, lease(0, 1, 2, 3))
    wait_until(lambda: len({i for p in tuple(told) for i in p.started.tolist()}) > 1)
    wait_until(lambda: any(p.done.size for p in tuple(told)))
    assert not running.done()
    go.set()
    running.result(WAIT_S)


def test_activity_names_the_steps(start, pool):
    go = threading.Event()
    pipeline = start(Steps(compute=lambda id: go.wait(WAIT_S) and id))
    running = pool.submit(pipeline.run, lease(0, 1))
    wait_until(lambda: pipeline.activity()["computing"] == 1)
    go.set()
    running.result(WAIT_S)
    wait_until(lambda: not any(pipeline.activity().values()))


# --- overlap


def test_compute_stays_busy_across_the_borders_of_short_leases(start, pool):
    """20 ms reads, computes and writes in leases of two: waiting, not work, so that other processes cannot spoil it."""
    nothing = threading.Event()
    disk = ThreadPoolExecutor(WRITES_IN_FLIGHT)
    task = Steps(
        read=lambda id: nothing.wait(0.02) or id,
        compute=lambda id: nothing.wait(0.02) or id,
        write=lambda id: disk.submit(nothing.wait, 0.02),
    )
    pipeline = start(task)
    pipeline.run(lease(998))
    before, began = pipeline.compute_s, time.perf_counter()
    with ThreadPoolExecutor(3) as slots:
        receipts = list(slots.map(pipeline.run, [lease(2 * i, 2 * i + 1, number=i) for i in range(50)]))
    busy = (pipeline.compute_s - before) / (time.perf_counter() - began)
    assert sum(len(r.ids) for r in receipts) == 100
    assert busy >= 0.9
    disk.shutdown()


def test_a_fast_task_is_handed_on_in_many_blocks_at_once(start):
    pipeline = start(Steps(20_000))
    pipeline.run(lease(*range(1_000)))
    before = time.process_time()
    pipeline.run(lease(*range(1_000, 20_000)))
    assert (time.process_time() - before) / 19_000 < 150e-6
