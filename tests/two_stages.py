"""Two stages of which the second reads what the first wrote, with one voxel around each of its blocks of two."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blockwise.geometry import Domain
from blockwise.grid import Block, GridSpec
from blockwise.storage import OutputArray
from blockwise.task import Dependency, OutputLayout, Task
from blockwise.testing import Faulty, MapTask

LINES = (Domain("long", ("x",), (200,)), Domain("short", ("x",), (100,)))


class Writing(MapTask):
    """The first stage: blocks of one voxel."""

    name = "first"

    def __init__(self, folder: Path, function: Any = None, domains: Sequence[Domain] = LINES) -> None:
        super().__init__(str(folder / "out.zarr"), domains, GridSpec((1,)), function or Faulty({}, str(folder / "first")))
        self._array = "first"

    def array(self, domain: Domain) -> str:
        return f"{domain.name}-{self._array}"

    def outputs(self) -> Sequence[OutputLayout]:
        return [OutputLayout(f"{self.path}/{self.array(d)}", i, d.shape, self._spec.shape, 8, (0,)) for i, d in enumerate(self._domains)]

    def prepare(self) -> None:
        for d in self._domains:
            OutputArray.create(self.path, self.array(d), shape=d.shape, dtype="int64", chunks=self._spec.shape, axes=d.axes)

    def open(self) -> None:
        self.arrays = [OutputArray.open(self.path, self.array(d)) for d in self._domains]

    def stored(self, block: Block) -> Any:
        array = OutputArray.open(self.path, self.array(self._domains[block.domain]))
        return [array.read(block.core)] if array.complete(block.core) else None


class Reading(Writing):
    """The main stage: sums of what it reads, -1 where a voxel was not there yet."""

    name = "second"
    reads_stage = "first"

    def __init__(self, folder: Path, first: Writing, *, reads: str | None = "region", reach: tuple[int, ...] = ()) -> None:
        super().__init__(folder, domains=first.domains())
        self._spec = GridSpec((2,), ((1, 1),))
        self.first, self._reads, self._reach, self.folder, self._name = first, reads, reach, folder, "second"
        self._array = self.name

    def stages(self) -> Sequence[Task]:
        return (self.first, self)

    def upstream(self) -> Sequence[Dependency] | None:
        return None if self._reads is None else (Dependency(self.reads_stage, self._reads, self._reach),)  # type: ignore[arg-type]

    def open(self) -> None:
        super().open()
        self.first.open()

    def read(self, block: Block) -> Any:
        values = self.first.arrays[block.domain].read(block.read)
        return block, values

    def compute(self, inputs: Any, state: None) -> Any:
        block, values = inputs
        Faulty({}, str(self.folder / self._name))(block)
        inner = values[block.inner]
        return inner * 0 + (values.sum() if (values > 0).all() else -1)


def both(folder: Path, function: Any = None, *, pause_s: float = 0.0, domains: Sequence[Domain] = LINES, **dependency: Any) -> Reading:
    """The two stages; the first takes `pause_s` per block and counts computations in `folder`/first, the second in `folder`/second."""
    return Reading(folder, Writing(folder, function or Faulty({}, str(folder / "first"), pause_s=pause_s), domains), **dependency)


def stored(folder: Path, task: Reading) -> np.ndarray:
    """What the second stage wrote, all domains in a row."""
    return np.concatenate([OutputArray.open(str(folder / "out.zarr"), task.array(d)).read(d.region) for d in task.domains()])


def whole(task: Reading) -> np.ndarray:
    """What it must have written."""
    found = []
    for index, domain in enumerate(task.domains()):
        first = np.arange(domain.shape[0]) + index + 1
        sums = [first[max(0, i - 1) : i + 3].sum() for i in range(0, len(first), 2)]
        found.append(np.repeat(sums, 2)[: len(first)])
    return np.concatenate(found)
