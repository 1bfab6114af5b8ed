"""`python -m benchmarks.scale`: 1,000 simulated workers, 10^8 blocks, the real driver and its SQLite ledger; one JSON object last.

blocks, workers       as simulated; $BLOCKS makes it smaller
driver_us_per_block   CPU time of this process, simulated workers included, over blocks
driver_rss_mb         of this process at 10, 50 and 100 % of the blocks
ledger_mb             the SQLite file at the end, log included
lost                  blocks that the ledger, opened anew, does not hold as done
blocks_per_lease, messages, deaths, redone   leases in the mean, messages from workers, workers killed, blocks begun twice
simulated_s           how long those workers would have taken, at `block_s` seconds per block
cores_busy            CPU time over simulated time: what of one core the driver would need

What is not in it: Dask itself. Its client and scheduler take 2.6 ms of CPU per lease.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.scale_simulation import Client, Clock, Inbox, SimulatedWorkers, stage_spec
from blockwise.books import Books
from blockwise.config import FolderConfig
from blockwise.desk import Control
from blockwise.dispatch import Dispatch, OneStage
from blockwise.driver import StageDriver
from blockwise.events import BlocksDone, Event, Events
from blockwise.geometry import Domain
from blockwise.grid import Grid, GridSpec
from blockwise.ledger import open_ledger

BLOCKS = int(os.environ.get("BLOCKS", "100000000"))
WORKERS = int(os.environ.get("WORKERS", "1000"))
BLOCK_S: float = 0.1
DEATH_EVERY_S: float = 60.0
MARKS = (0.1, 0.5, 1.0)
"""Shares of the blocks at which memory is looked at."""


class Memory:
    """Takes this process's memory once each share of the blocks is done, and tells of progress."""

    def __init__(self, blocks: int) -> None:
        self._left = [int(share * blocks) for share in MARKS]
        self._blocks, self._done, self._began_s = blocks, 0, time.monotonic()
        self.rss_mb: list[float] = []

    def __call__(self, event: Event) -> None:
        if not isinstance(event, BlocksDone):
            return
        self._done += event.count
        while self._left and self._done >= self._left[0]:
            self._left.pop(0)
            self.rss_mb.append(round(psutil.Process().memory_info().rss / 1e6, 1))
            took_s = time.monotonic() - self._began_s
            print(f"{self._done / self._blocks:.0%} after {took_s:.0f} s, {self.rss_mb[-1]} MB", file=sys.stderr)


def simulate(folder: Path, blocks: int = BLOCKS, workers: int = WORKERS) -> dict[str, object]:
    """Drive one stage of empty blocks to its end and look at what it cost and left behind."""
    grid = Grid(Domain("line", ("x",), (blocks,)), GridSpec((1,)))
    ledger, clock, memory = open_ledger(folder / "ledger.sqlite"), Clock(), Memory(blocks)
    client = Client(clock, workers, block_s=BLOCK_S, death_every_s=DEATH_EVERY_S)
    began_s = time.process_time()
    with clock.instead_of_time():
        books = Books("scale", grid, ledger)
        driver = StageDriver(
            SimulatedWorkers(client), books, stage_spec("scale"), settings=FolderConfig(), events=Events(memory), control=Control()
        )
        driver.desk.inbox = Inbox(clock)
        state = Dispatch(driver.desk, OneStage(driver)).run()
    cpu_s = time.process_time() - began_s
    size = sum(file.stat().st_size for file in folder.iterdir())
    ledger.close()
    client.close()
    return {
        "state": state,
        "blocks": blocks,
        "workers": workers,
        "block_s": BLOCK_S,
        "driver_us_per_block": round(1e6 * cpu_s / blocks, 3),
        "driver_ms_per_lease": round(1e3 * cpu_s / client.leases, 3),
        "driver_rss_mb": memory.rss_mb,
        "ledger_mb": round(size / 1e6, 2),
        "lost": blocks - _marked(folder, grid),
        "redone": books.executed - blocks,
        "blocks_per_lease": round(blocks / client.leases, 1),
        "messages": client.messages,
        "deaths": client.deaths,
        "simulated_s": round(clock.now_s),
        "cores_busy": round(cpu_s / clock.now_s, 3),
    }


def _marked(folder: Path, grid: Grid) -> int:
    ledger = open_ledger(folder / "ledger.sqlite")
    try:
        return ledger.count("scale", grid.domains[0].digest)
    finally:
        ledger.close()


def main() -> None:
    """The simulation in a temporary folder, in memory where the system has one: fsync takes its time of a disk, not of the CPU."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        figures = simulate(Path(folder))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
