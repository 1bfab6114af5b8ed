"""`python -m benchmarks.graph`: what a barrier between two stages costs; one JSON object last, kept in benchmarks/results/graph.json.

Two stages over a volume on 2 local workers. The second reads the first with a context of half a block. Blocks are uneven, as those of
tissue and of resin are: most take some 10 ms, and one in forty a hundred times as long. A block computes by sleeping, so that what is
measured does not depend on what else the machine does.

busy_without_barrier   share of the workers' time, from the first lease to the last mark, in which a block was being computed
busy_with_barrier      the same where the second stage waits for the whole first one
ratio                  the first over the second, of the same run of this program; the median over ROUNDS
began_after            share of the first stage that was done when the second had its first block done, without and with barrier
look_us_per_block      the driver's CPU time to find out what may begin, per block, on a grid of 128 x 128 x 128 blocks; it looks after
                       every lease of 2,048 blocks here, while a run looks for at most a tenth of its driver's time
"""

import json
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from blockwise.books import Books
from blockwise.events import BlocksDone, Event, StageFinished, StageStarted
from blockwise.geometry import Domain
from blockwise.graph import Under
from blockwise.grid import Block, Grid, GridSpec
from blockwise.ledger import open_ledger
from blockwise.readiness import Need, Readiness
from blockwise.storage import Write
from blockwise.task import Dependency, Task
from blockwise.testing import run_in

WORKERS, ROUNDS = 2, 3
SHAPE = (32, 32, 32)
SIDE = 4
USUAL_S, LONG_S, ONE_IN = 0.008, 0.8, 40


class Uneven(Task):
    """The first stage: blocks that take as long as a stream of their own says."""

    name = "first"
    seed = 1

    def domains(self) -> Sequence[Domain]:
        return [Domain("volume", ("z", "y", "x"), SHAPE)]

    def spec(self) -> GridSpec:
        return GridSpec((SIDE,) * 3)

    def read(self, block: Block) -> int:
        return block.id

    def compute(self, inputs: int, state: None) -> None:
        stream = np.random.default_rng([self.seed, inputs])
        time.sleep(LONG_S if stream.random() < 1 / ONE_IN else USUAL_S * stream.uniform(0.5, 1.5))

    def write(self, block: Block, result: None) -> Sequence[Write]:
        return ()


class Second(Uneven):
    """Reads half a block around its own."""

    name = "second"
    seed = 2

    def __init__(self, barrier: bool) -> None:
        self.barrier = barrier

    def stages(self) -> Sequence[Task]:
        return (Uneven(), self)

    def spec(self) -> GridSpec:
        return GridSpec((SIDE,) * 3, ((SIDE // 2,) * 2,) * 3)

    def upstream(self) -> Sequence[Dependency]:
        return (Dependency("first", "stage" if self.barrier else "region"),)


class Watch:
    """Adds up what events tell."""

    def __init__(self) -> None:
        self.computed_s, self.began_s, self.ended_s = 0.0, math.inf, 0.0
        self.done = {"first": 0, "second": 0}
        self.began_after = math.nan

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageStarted | StageFinished):
            self.began_s, self.ended_s = min(self.began_s, event.at_s), max(self.ended_s, event.at_s)
        if isinstance(event, BlocksDone):
            if event.stage == "second" and not self.done["second"]:
                self.began_after = self.done["first"] / len(Grid(Uneven().domains(), Uneven().spec()))
            self.done[event.stage] += event.count
            self.computed_s += event.compute_s

    @property
    def busy(self) -> float:
        return self.computed_s / (WORKERS * (self.ended_s - self.began_s))


def one_run(folder: Path, barrier: bool) -> Watch:
    """Both stages to their end."""
    watch = Watch()
    outcome = run_in(folder, Second(barrier), workers=WORKERS, subscribers=[watch], lease_s=0.3)
    assert outcome.exit_code == 0, outcome
    return watch


def look_us() -> float:
    """Microseconds per block to find what may begin while an earlier stage of 2 million blocks is booked lease by lease."""
    with tempfile.TemporaryDirectory() as folder:
        domain = Domain("volume", ("z", "y", "x"), (128 * SIDE,) * 3)
        first, second = Grid(domain, GridSpec((SIDE,) * 3)), Grid(domain, GridSpec((SIDE,) * 3, ((SIDE // 2,) * 2,) * 3))
        ledger = open_ledger(Path(folder) / "ledger.sqlite")
        upper, lower = Books("first", first, ledger), Books("second", second, ledger)
        under = Under(second, first)
        ready = Readiness(lower, [Need(upper, under.counterparts, under)])
        pending, found, spent_s = ready.pending(), 0, 0.0
        for page in upper.pending():
            for lease in np.array_split(page, 8):
                upper.book(lease)
                ready._rest_until_s = 0.0
                began_s = time.process_time()
                while (ids := next(pending, None)) is not None and ids.size:
                    found += len(ids)
                spent_s += time.process_time() - began_s
        ledger.close()
        assert found == len(second), (found, len(second))
        return 1e6 * spent_s / found


def main() -> None:
    """Measure, print, keep."""
    with tempfile.TemporaryDirectory() as folder:
        rounds = [(one_run(Path(folder) / f"graph{i}", False), one_run(Path(folder) / f"barrier{i}", True)) for i in range(ROUNDS)]
    without, barrier = ([pair[i] for pair in rounds] for i in (0, 1))
    found = {
        "busy_without_barrier": round(statistics.median(w.busy for w in without), 3),
        "busy_with_barrier": round(statistics.median(w.busy for w in barrier), 3),
        "ratio": round(statistics.median(a.busy / b.busy for a, b in rounds), 3),
        "began_after": [round(statistics.median(w.began_after for w in ws), 3) for ws in (without, barrier)],
        "seconds": [round(statistics.median(w.ended_s - w.began_s for w in ws), 2) for ws in (without, barrier)],
        "look_us_per_block": round(look_us(), 2),
        "workers": WORKERS,
        "rounds": ROUNDS,
    }
    Path(__file__).with_name("results").joinpath("graph.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
