"""`python -m benchmarks.engine`: the engine's own figures, through the real driver, ledger and contract; one JSON object last.

blocks_per_s          no-op blocks through `run_task` on 2 local workers, from the first lease to the last mark (SQLite, FULL)
daisy_blocks_per_s    daisy 2 in the same run: one-argument function, tracking on; NaN where daisy is not installed
resume_skip_per_s     blocks per second passed over by the driver's books of a finished ledger
plan_1e8_s            plan of 10^8 blocks
driver_rss_over_import_mb   of the driver that ran the no-op blocks
write_durable_ratio   64^3 uint8 writes with fsync / without, 16 in flight, interleaved
compute_busy          share of time in compute with 20 ms reads, computes and writes and leases of 2 blocks
"""

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from blockwise.books import Books
from blockwise.events import Event, StageFinished, StageStarted
from blockwise.geometry import Domain
from blockwise.grid import PAGE_BLOCKS, Block, Grid, GridSpec
from blockwise.ledger import open_ledger
from blockwise.ledger.contract import Booking, Marks, PageKey
from blockwise.plan import make_plan
from blockwise.storage import Write
from blockwise.task import Task

BLOCKS = int(os.environ.get("BLOCKS", "200000"))


class Nothing(Task):
    """Reads, computes and writes nothing: what is left is the engine."""

    name = "nothing"

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks

    def domains(self) -> Sequence[Domain]:
        return [Domain("line", ("x",), (self.blocks,))]

    def spec(self) -> GridSpec:
        return GridSpec((1,))

    def read(self, block: Block) -> None:
        return None

    def compute(self, inputs: None, state: None) -> None:
        return None

    def write(self, block: Block, result: None) -> Sequence[Write]:
        return ()


class Slow(Nothing):
    """20 ms in each step; the write goes on in the background, as a storage system's would."""

    name = "slow"
    PAUSE_S = 0.02

    def open(self) -> None:
        self.pool = ThreadPoolExecutor(16)

    def read(self, block: Block) -> None:
        time.sleep(self.PAUSE_S)

    def compute(self, inputs: None, state: None) -> None:
        time.sleep(self.PAUSE_S)

    def write(self, block: Block, result: None) -> Sequence[Write]:
        future: Future[Any] = self.pool.submit(time.sleep, self.PAUSE_S)
        return [Write(np.zeros(1, np.uint8), future)]


class Clock:
    """Takes the time between the start and the end of the one stage."""

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageStarted):
            self.began = time.perf_counter()
        elif isinstance(event, StageFinished):
            self.took = time.perf_counter() - self.began


def no_op(folder: str) -> dict[str, float]:
    """Throughput and the driver's memory; in this process, which must be a fresh one."""
    import distributed  # noqa: F401  what the driver imports is not what it holds

    import blockwise.run  # noqa: F401
    from blockwise.testing import run_in

    before = psutil.Process().memory_info().rss
    clock = Clock()
    outcome = run_in(f"{folder}/no_op.run", Nothing(BLOCKS), workers=2, subscribers=[clock])
    assert outcome.status.blocks.done == BLOCKS
    rss_mb = (psutil.Process().memory_info().rss - before) / 1e6
    return {"blocks_per_s": BLOCKS / clock.took, "driver_rss_over_import_mb": rss_mb}


def busy(folder: str, blocks: int = 200) -> dict[str, float]:
    """Compute busy with leases of 2 blocks on one worker: computing time over the stage's time."""
    import blockwise.leasing

    blockwise.leasing.Pace.size = lambda self, remaining, workers: 2  # type: ignore[method-assign]
    from blockwise.testing import run_in

    clock = Clock()
    run_in(f"{folder}/busy.run", Slow(blocks), workers=1, subscribers=[clock])
    return {"compute_busy": blocks * Slow.PAUSE_S / clock.took}


def resume(folder: str, blocks: int = 20_000_000) -> dict[str, float]:
    """Blocks per second that the books of a finished stage pass over, ledger on disk."""
    grid = Grid(Domain("line", ("x",), (blocks,)), GridSpec((1,)))
    ledger = open_ledger(f"{folder}/resume.sqlite")
    digest = grid.domains[0].digest
    full = np.arange(PAGE_BLOCKS)
    pages = [PageKey("nothing", digest, p) for p in range(grid.pages(0))]
    ledger.commit(Booking(tuple(Marks(k, full[: min(PAGE_BLOCKS, blocks - k.page * PAGE_BLOCKS)]) for k in pages)))
    began = time.perf_counter()
    books = Books("nothing", grid, ledger)
    assert next(books.pending(), None) is None
    took = time.perf_counter() - began
    ledger.close()
    return {"resume_skip_per_s": blocks / took}


def plan(blocks: int = 10**8) -> dict[str, float]:
    """Seconds for the plan of a huge grid."""
    began = time.perf_counter()
    found = make_plan(Nothing(blocks), workers=2, memory_bytes=psutil.virtual_memory().total)
    assert found.stages[0].blocks == blocks
    return {"plan_1e8_s": time.perf_counter() - began}


def durable(folder: str, rounds: int = 6, writes: int = 200) -> dict[str, float]:
    """Durable writes through OutputArray as a ratio to the same writes without fsync, in turns, 16 in flight; median over rounds."""
    ratios = []
    for number in range(rounds):
        order = (True, False) if number % 2 else (False, True)
        rates = {sync: _write_rate(f"{folder}/w{number}{sync}", writes, sync) for sync in order}
        ratios.append(rates[True] / rates[False])
    return {"write_durable_ratio": float(np.median(ratios))}


def _write_rate(path: str, writes: int, sync: bool) -> float:
    """Blocks of 64^3 uint8 per second."""
    import tensorstore as ts

    from blockwise.geometry import Region
    from blockwise.storage import OutputArray

    array = OutputArray.create(path, "raw", shape=(64 * writes, 64, 64), dtype="uint8", chunks=(64, 64, 64), axes=("z", "y", "x"))
    context = None if sync else ts.Context({"file_io_sync": False, "cache_pool": {"total_bytes_limit": 0}})
    store = array.store if sync else ts.open(array.store.spec(), open=True, context=context).result()
    data = np.random.default_rng(0).integers(0, 64, (64, 64, 64), np.uint8)
    began, flight = time.perf_counter(), []
    for i in range(writes):
        region = Region((64 * i, 0, 0), (64 * i + 64, 64, 64))
        flight.append(array.write(region, data).future if sync else store[region.slices].write(data))
        if len(flight) > 16:
            flight.pop(0).result()
    for future in flight:
        future.result()
    rate = writes / (time.perf_counter() - began)
    shutil.rmtree(path)
    return rate


def _nothing(block: object) -> None:
    pass


def daisy(folder: str) -> dict[str, float]:
    """The peer in the same run: daisy 2, one-argument function, tracking on."""
    try:
        import daisy.v2 as peer
        from daisy import Roi
    except ImportError:
        return {"daisy_blocks_per_s": math.nan}
    os.chdir(folder)
    options: dict[str, Any] = {"read_write_conflict": False, "fit": "overhang", "max_workers": 2, "tracking_path": f"{folder}/track"}
    task = peer.Task("noop", Roi((0,), (BLOCKS,)), Roi((0,), (1,)), Roi((0,), (1,)), process_function=_nothing, **options)
    began = time.perf_counter()
    peer.run_blockwise(task, progress=False, summary=False)
    return {"daisy_blocks_per_s": BLOCKS / (time.perf_counter() - began)}


PARTS = {"no_op": no_op, "busy": busy, "resume": resume, "durable": durable, "daisy": daisy}


def main() -> None:
    """Each part in a process of its own, so that none sees another's memory or threads."""
    if len(sys.argv) == 3:
        print(json.dumps(PARTS[sys.argv[1]](sys.argv[2])))
        return
    figures: dict[str, float] = {**plan(), "blocks": BLOCKS}
    for part in PARTS:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            command = [sys.executable, "-m", "benchmarks.engine", part, folder]
            done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=Path(__file__).parent.parent)
            if done.returncode:
                sys.exit(f"{part} failed:\n{done.stderr[-2000:]}")
            figures |= json.loads(done.stdout.splitlines()[-1])
    print(json.dumps({k: round(v, 4) for k, v in figures.items()}))


if __name__ == "__main__":
    main()
