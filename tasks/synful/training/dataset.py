"""Samples as a torch data set, made ahead by worker processes (spec 5.2 point 12) and always in order."""

import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tasks.synful.training.cubes import Cube, cube_options, open_cube
from tasks.synful.training.parameters import TrainingParameters
from tasks.synful.training.samples import Geometry, Sampler

if TYPE_CHECKING:
    from torch import Tensor

Batch = Mapping[str, "Tensor"]
STOPPING = (signal.SIGINT, signal.SIGTERM)
"""Signals that ask a training to write its checkpoint and end."""


@dataclass(eq=False)
class Samples:
    """A map-style data set: item i is the batch of iteration i, stacked, as torch tensors by the names of `Sample`.

    Cubes are opened in the process that makes samples, at its first one, unless they are given.
    """

    parameters: TrainingParameters
    geometry: Geometry
    cubes: Sequence[Cube] | None = None

    def __post_init__(self) -> None:
        self._sampler: Sampler | None = None if self.cubes is None else Sampler(self.cubes, self.parameters, self.geometry)

    def __len__(self) -> int:
        return self.parameters.max_iteration

    def __getitem__(self, iteration: int) -> Batch:
        import torch

        made = [self.sampler.sample(iteration, n).arrays() for n in range(self.parameters.batch_size)]
        stacked = {name: np.stack([m[name] for m in made]) for name in made[0]}
        return {name: torch.from_numpy(v.astype(np.int64) if v.dtype == np.uint64 else v) for name, v in stacked.items()}

    @property
    def sampler(self) -> Sampler:
        """Of the opened cubes."""
        if self._sampler is None:
            self._sampler = Sampler(open_cubes(self.parameters), self.parameters, self.geometry)
        return self._sampler

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Batches of iterations first ... last - 1, made ahead by `parameters.workers` processes (0: by this one), one per core at most."""
        if self.parameters.workers == 0:
            return (self[i] for i in range(first, last))
        from dask.system import CPU_COUNT
        from torch.utils.data import DataLoader

        loader = DataLoader(
            Samples(self.parameters, self.geometry, self.cubes),  # type: ignore[arg-type]
            batch_size=None,
            sampler=range(first, last),
            num_workers=min(self.parameters.workers, max(1, int(CPU_COUNT))),
            prefetch_factor=self.parameters.prefetch,
            worker_init_fn=_begin_worker,
            multiprocessing_context="fork" if self.cubes is not None else "spawn",
        )
        with _ignored_signals():  # which workers inherit until they can say so themselves
            return iter(loader)


def open_cubes(parameters: TrainingParameters) -> list[Cube]:
    """The cubes of a run.

    Raises
    ------
    MissingError, InputError : see `open_cube`.
    """
    return [open_cube(options, parameters.voxel_size) for options in cube_options(parameters)]


def _begin_worker(worker: int) -> None:
    """One thread; and a signal to the whole group (Ctrl-C, a scheduler's) is the trainer's to answer, which ends its workers itself."""
    import torch

    torch.set_num_threads(1)
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _ignored_signals() -> Iterator[None]:
    """Processes that are started meanwhile ignore what asks to stop; signals are set in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
