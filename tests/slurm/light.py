"""A light run on SLURM, as a program of its own: `python -m tests.slurm.light FOLDER [BLOCKS] [PAUSE_S] [KEY=VALUE ...]`.

Keys are those of `[cluster]`; it exits as `blockwise run` does, 2 with the error's sentence included.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from blockwise.config import ClusterConfig, FolderConfig, RunConfig, overridden
from blockwise.errors import BlockwiseError
from blockwise.folder import RunFolder
from blockwise.geometry import Domain, Region
from blockwise.grid import Grid, GridSpec
from blockwise.ledger import open_ledger
from blockwise.monitor.progress import subscriber_for
from blockwise.storage import OutputArray
from blockwise.testing import Faulty, MapTask
from tests.slurm.server import ROOT, Site, wait_for

CLUSTER = {"kind": "slurm", "host": "127.0.0.1", "memory": "1GB", "walltime": "00:10:00", "max_jobs": 2, "device": "cpu"}


def light(folder: Path, blocks: int, pause_s: float) -> MapTask:
    """Blocks of one voxel that take `pause_s` each and count how often they were computed."""
    (folder / "count").mkdir(parents=True, exist_ok=True)
    function = Faulty({}, str(folder / "count"), pause_s=pause_s)
    return MapTask(str(folder / "out.zarr"), [Domain("line", ("x",), (blocks,))], GridSpec((1,)), function)


def config_of(folder: Path, *keys: str) -> RunConfig:
    """The configuration of a run in `folder` / run, with keys of `[cluster]`."""
    config = RunConfig(task="map", cluster=ClusterConfig(**CLUSTER), run=FolderConfig(folder=str(folder / "run"), lease_s=0.5))
    return overridden(config, [f"cluster.{key}" for key in keys])


class Light:
    """Such a run as a test sees it, in a process of its own each time it is started."""

    def __init__(self, site: Site, folder: Path, *keys: str, blocks: int = 60, pause_s: float = 0.02) -> None:
        self.site, self.folder, self.blocks, self.pause_s, self.keys = site, folder, blocks, pause_s, keys
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "tests.slurm.light", str(self.folder), str(self.blocks), str(self.pause_s), *self.keys]
        with (self.folder / "said.log").open("ab") as log:
            self.processes.append(
                subprocess.Popen(command, cwd=ROOT, env=self.site.environment, stdout=log, stderr=log, start_new_session=True)
            )
        return self.processes[-1]

    def ends(self, seconds: float = 90) -> int:
        """The exit code of the last start."""
        return self.processes[-1].wait(seconds)

    @property
    def said(self) -> str:
        return (self.folder / "said.log").read_text()

    @property
    def name(self) -> str:
        """Of its jobs; empty before the run has an id."""
        run = RunFolder(self.folder / "run").run
        return f"bw-{run}" if run else ""

    def jobs(self, *states: str) -> dict[int, str]:
        """Its jobs in the queue, in any or in certain states."""
        found = self.site.jobs(self.name) if self.name else {}
        return {id: state for id, state in found.items() if not states or state in states}

    def runs(self, count: int = 1, seconds: float = 40) -> bool:
        """Whether so many of its jobs came to run."""
        return wait_for(lambda: len(self.jobs("RUNNING")) >= count or self.processes[-1].poll() is not None, seconds)

    @property
    def counted(self) -> np.ndarray:
        """How often each block was computed."""
        return np.array([light(self.folder, self.blocks, 0).function.attempts(i) for i in range(self.blocks)])

    def computes(self, blocks: int = 1, seconds: float = 60) -> bool:
        """Whether so many blocks were begun."""
        return wait_for(lambda: (self.counted > 0).sum() >= blocks or self.processes[-1].poll() is not None, seconds)

    @property
    def marked(self) -> np.ndarray:
        """Which blocks the ledger calls done."""
        task = light(self.folder, self.blocks, 0)
        grid, done = Grid(task.domains(), task.spec()), np.zeros(self.blocks, bool)
        ledger = open_ledger(self.folder / "run" / "ledger.sqlite")
        for _, bits in ledger.pages(task.name, grid.domains[0].digest):
            done[np.flatnonzero(bits)] = True
        ledger.close()
        return done

    @property
    def values(self) -> np.ndarray:
        """What was written, a number per block."""
        array = OutputArray.open(str(self.folder / "out.zarr"), "line")
        return np.asarray(array.read(Region((0,), (self.blocks,))))

    @property
    def right(self) -> bool:
        """Whether every block is marked, and holds the bytes of a run that nothing disturbed."""
        return bool(self.marked.all() and np.array_equal(self.values, np.arange(self.blocks) + 1))

    @property
    def failed(self) -> int:
        """Failed attempts, of any block."""
        ledger = open_ledger(self.folder / "run" / "ledger.sqlite")
        attempts = ledger.attempts()
        ledger.close()
        return len(attempts)

    @property
    def certificates(self) -> list[Path]:
        """Folders of certificates that lie there."""
        return list((self.folder / "run" / "jobs").glob("certificates.*"))

    def end(self) -> None:
        """Kill what still runs."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait(30)


def main(folder: Path, blocks: int, pause_s: float, *keys: str) -> Any:
    from blockwise.run import run_task

    try:
        outcome = run_task(light(folder, blocks, pause_s), config_of(folder, *keys), subscribers=[subscriber_for(sys.stderr)])
    except BlockwiseError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return outcome.exit_code


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:]))
