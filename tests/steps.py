"""A task made of plain functions, for tests of the pipeline: what each step does is given, nothing is stored."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from blockwise.geometry import Domain
from blockwise.grid import Block, GridSpec
from blockwise.storage.writes import Write
from blockwise.task import Task


class Steps(Task):
    """Blocks of one voxel each; by default the id of a block is read, doubled and written at once."""

    name = "steps"

    def __init__(self, blocks: int = 1_000, *, batch_size: int = 1, **steps: Callable[..., Any]):
        self._domains, self.batch_size = (Domain("d", ("x",), (blocks,)),), batch_size
        self.steps, self.log, self.lock = steps, [], threading.Lock()

    def domains(self) -> Sequence[Domain]:
        return self._domains

    def spec(self) -> GridSpec:
        return GridSpec((1,))

    def _do(self, step: str, id: int, default: Any) -> Any:
        with self.lock:
            self.log.append((step, id))
        return self.steps[step](id) if step in self.steps else default

    def done(self, step: str) -> list[int]:
        """Ids that came through a step, in order."""
        return [id for s, id in tuple(self.log) if s == step]

    def open(self) -> None:
        self._do("open", -1, None)

    def setup(self, device: str) -> str:
        return self._do("setup", -1, device)

    def read(self, block: Block) -> int:
        return self._do("read", block.id, block.id)

    def compute(self, inputs: int, state: Any) -> int:
        return self._do("compute", inputs, 2 * inputs)

    def compute_batch(self, inputs: Sequence[int], state: Any) -> Sequence[int]:
        with self.lock:
            self.log.append(("batch", tuple(inputs)))
        if "batch" in self.steps:
            return self.steps["batch"](inputs)
        return [2 * i for i in inputs]

    def write(self, block: Block, result: int) -> Sequence[Write]:
        data = np.array([result])
        future = self._do("write", block.id, None)
        return [Write(data, future)] if future is None or isinstance(future, Future) else future
