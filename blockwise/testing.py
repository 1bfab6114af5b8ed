"""The kit a task author needs to test resume, seams and crashes in five lines.

task = MapTask(str(tmp_path / "out.zarr"), domains, spec)           # or your own Task
outcome = run_in(tmp_path / "run", task, workers=2)
assert outcome.exit_code == 0
assert_exact_cover(Grid(task.domains(), task.spec()))
assert_blockwise_equals(task, whole)                                 # G7
"""

import ctypes
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blockwise.config import ClusterConfig, FolderConfig, LedgerConfig, RunConfig
from blockwise.geometry import Domain
from blockwise.grid import Block, Grid, GridSpec
from blockwise.storage import OutputArray, Write
from blockwise.task import OutputLayout, Task

Array = npt.NDArray[Any]

OUTGROWN: int = 8 << 30
"""Bytes at which a block that outgrows its worker gives up."""


class MapTask(Task):
    """A small real task: fills an output array per domain with a function of the voxel's index, block by block.

    Parameters
    ----------
    path : output container.  domains, spec : the grid.  function : block -> array of the core's shape.
    """

    name = "map"

    def __init__(self, path: str, domains: Sequence[Domain], spec: GridSpec, function: Callable[[Block], Array] | None = None) -> None:
        self.path, self._domains, self._spec, self.function = path, tuple(domains), spec, function or ramp

    def domains(self) -> Sequence[Domain]:
        return self._domains

    def spec(self) -> GridSpec:
        return self._spec

    def output_path(self) -> str:
        return self.path

    def outputs(self) -> Sequence[OutputLayout]:
        axes = tuple(range(len(self._spec.shape)))
        return [OutputLayout(f"{self.path}/{d.name}", i, d.shape, self._spec.shape, 8, axes) for i, d in enumerate(self._domains)]

    def prepare(self) -> None:
        for d in self._domains:
            OutputArray.create(self.path, d.name, shape=d.shape, dtype="int64", chunks=self._spec.shape, axes=d.axes)

    def open(self) -> None:
        self.arrays = [OutputArray.open(self.path, d.name) for d in self._domains]

    def open_pilot(self) -> None:
        """Nothing: a pilot reads no input here and writes no output."""

    def read(self, block: Block) -> Block:
        return block

    def compute(self, inputs: Block, state: None) -> Array:
        return self.function(inputs)

    def write(self, block: Block, result: Array) -> Sequence[Write]:
        return [self.arrays[block.domain].write(block.core, result)]

    def stored(self, block: Block) -> Sequence[Array] | None:
        array = OutputArray.open(self.path, self._domains[block.domain].name)
        return [array.read(block.core)] if array.complete(block.core) else None


def ramp(block: Block) -> Array:
    """Sum of the voxel's indices plus 1 + the domain's number, so that neighbours and domains differ and nothing is the fill value."""
    axes = np.meshgrid(*(np.arange(b, e) for b, e in zip(block.core.begin, block.core.end, strict=True)), indexing="ij")
    return np.asarray(sum(axes) + block.domain + 1, np.int64)


class Faulty:
    """A function of blocks that misbehaves on chosen ids, for `MapTask`.

    Parameters
    ----------
    deeds : block id -> "raise", "memory", "transient", "kill" (the process), "segfault", "outgrow" (memory), "hang", "full" (disk).
    folder : where attempts are counted, one file per block, across processes.
    times : how often a block misbehaves before it behaves; None: always.
    """

    def __init__(self, deeds: Mapping[int, str], folder: str, times: int | None = None, pause_s: float = 0.0) -> None:
        self.deeds, self.folder, self.times, self.pause_s = dict(deeds), folder, times, pause_s

    def __call__(self, block: Block) -> Array:
        with open(os.path.join(self.folder, f"{block.id}"), "a") as file:
            file.write("x")
        if self.pause_s:
            time.sleep(self.pause_s)
        if block.id in self.deeds and (self.times is None or self.attempts(block.id) <= self.times):
            misbehave(self.deeds[block.id])
        return ramp(block)

    def attempts(self, id: int) -> int:
        """Computations of one block so far."""
        path = Path(self.folder, f"{id}")
        return path.stat().st_size if path.exists() else 0


def misbehave(how: str) -> None:
    """Fail in one of the ways blocks fail."""
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "segfault":
        ctypes.string_at(0)
    if how == "hang":
        time.sleep(3600)
    if how == "outgrow":
        _outgrow()
    errors: dict[str, Exception] = {
        "raise": ValueError("this block is poison"),
        "memory": MemoryError("this block is too large"),
        "transient": ConnectionError("the server went away"),
        "full": OSError(28, "No space left on device"),
    }
    raise errors[how]


def _outgrow() -> None:
    """Take memory, 80 MB a second, until somebody ends the process or `OUTGROWN` is there."""
    hoard: list[Array] = []
    while sum(a.nbytes for a in hoard) < OUTGROWN:
        hoard.append(np.ones(16 << 20, np.uint8))
        time.sleep(0.2)
    raise MemoryError("nobody ended this process")


def run_in(folder: str | Path, task: Task, *, workers: int = 2, subscribers: Sequence[Callable[[Any], None]] = (), **limits: Any) -> Any:
    """Run a task object in a run folder on local workers; `limits` are keys of `[run]` (retries, block_timeout_s, ...), or `ledger`.

    Returns
    -------
    Outcome of blockwise.run.
    """
    from blockwise.run import run_task

    ledger, adopt = limits.pop("ledger", None), limits.pop("adopt", ())
    config = RunConfig(
        task=task.name,
        cluster=ClusterConfig(workers=workers, device="cpu"),
        ledger=LedgerConfig(url=ledger),
        run=FolderConfig(folder=str(folder), **limits),
    )
    return run_task(task, config, subscribers=subscribers, adopt=adopt)


def assert_exact_cover(grid: Grid) -> None:
    """Cores cover every voxel of every domain once; reads lie inside and hold their cores."""
    for index, domain in enumerate(grid.domains):
        seen = np.zeros(domain.shape, np.uint8)
        for block in grid.blocks(np.arange(grid.starts[index], grid.starts[index + 1])):
            seen[block.core.slices] += 1
            assert domain.region.contains(block.read), f"block {block.id} reads {block.read} outside {domain.shape}"
            assert block.read.contains(block.core), f"block {block.id} does not read its core {block.core}"
        assert (seen == 1).all(), f"domain {domain.name!r}: voxels covered {np.unique(seen)} times"


def run_serially(task: Task, device: str = "cpu") -> None:
    """All blocks of every stage in this process, in order, without cluster or ledger: what a run must equal."""
    for stage in task.stages():
        grid = Grid(stage.domains(), stage.spec())
        stage.prepare()
        stage.open()
        state = stage.setup(device)
        for block in grid.blocks(np.arange(len(grid))):
            for write in stage.write(block, stage.compute(stage.read(block), state)):
                if write.future is not None:
                    write.future.result()
        stage.finish()
