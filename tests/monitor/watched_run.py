"""A small run to be watched, as a program of its own: `python -m tests.monitor.watched_run FOLDER`; exits as `blockwise run` does.

Its later blocks wait at gates until the test opens them, so that a page can be looked at while the run stands still.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blockwise.config import ClusterConfig, FolderConfig, RunConfig
from blockwise.geometry import Domain
from blockwise.grid import Block, GridSpec
from blockwise.jsonlines import JsonLines
from blockwise.run import run_task
from blockwise.testing import MapTask, ramp

BLOCKS, SIDE = 400, 20
POISON = 7
FIRST_GATE, SECOND_GATE = 120, 260
GATES = {"first": FIRST_GATE, "second": SECOND_GATE}


@dataclass(frozen=True)
class Gated:
    """A function of blocks: so many are let through a gate, the others wait there until its file is in `folder`; one block always fails."""

    folder: str
    pause_s: float = 0.01

    def __call__(self, block: Block) -> np.ndarray:
        ticket = self._ticket()
        for name, let_through in GATES.items():
            while ticket > let_through and not Path(self.folder, name).exists():
                time.sleep(0.02)
        if block.id == POISON:
            raise ValueError(f"section {block.id} has no contrast")
        time.sleep(self.pause_s)
        return ramp(block)

    def _ticket(self) -> int:
        """How many have come here, over all processes; by count, for the order of blocks is nobody's promise."""
        with Path(self.folder, "tickets").open("ab", buffering=0) as file:
            file.write(b"x")
            return file.tell()


def watched(folder: Path, function: Callable[[Block], np.ndarray] | None = None) -> MapTask:
    """One volume of 20 x 20 blocks."""
    domain = Domain("sections", ("y", "x"), (SIDE * 8, SIDE * 8))
    return MapTask(str(folder / "out.zarr"), [domain], GridSpec((8, 8)), function or Gated(str(folder)))


if __name__ == "__main__":
    where = Path(sys.argv[1])
    config = RunConfig(
        task="map",
        cluster=ClusterConfig(workers=2, device="cpu", threads=1),
        run=FolderConfig(folder=str(where / "run"), retries=0, drain_s=5, lease_s=0.2),
    )
    sys.exit(run_task(watched(where), config, subscribers=[JsonLines(sys.stdout)]).exit_code)
