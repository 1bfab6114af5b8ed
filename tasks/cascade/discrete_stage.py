"""Discrete spikes of whole rows, after the rates: one random stream per row, so that blocks and workers do not matter."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from blockwise.geometry import Domain, Region
from blockwise.grid import Block, GridSpec
from blockwise.storage import OutputArray, Write
from blockwise.task import Dependency, FrozenResult, OutputLayout
from tasks.cascade.job import DISCRETE_ROWS, row_stream
from tasks.cascade.task import APPROXIMATION, COUNTS, RATES, Cascade, CascadeStage

Array = npt.NDArray[Any]


class DiscreteStage(CascadeStage):
    """Reads whole rows of rates, writes their discrete approximation and the spikes per frame."""

    name: ClassVar[str] = "discrete"

    def domains(self) -> Sequence[Domain]:
        return self.job.row_domains()

    def spec(self) -> GridSpec:
        return GridSpec((DISCRETE_ROWS,))

    def upstream(self) -> Sequence[Dependency]:
        """The rates of their rows, all frames."""
        return (Dependency(Cascade.name),)

    def relevant_options(self) -> Mapping[str, object]:
        deciding = {"threshold", "padding", "alignment", "engine", "seed"}
        return {k: str(v) for k, v in self.options.model_dump().items() if k in deciding}

    def _chunks(self, session: int) -> tuple[int, int]:
        neurons, frames = self.job.recordings[session].shape
        return min(DISCRETE_ROWS, neurons), min(self.job.frames, frames)

    def outputs(self) -> Sequence[OutputLayout]:
        chunks = [self._chunks(i) for i in range(len(self.job.recordings))]
        return [*self._layouts(APPROXIMATION, 4, chunks), *self._layouts(COUNTS, 2, chunks)]

    def memory(self) -> Mapping[str, int]:
        voxels = DISCRETE_ROWS * max(r.shape[1] for r in self.job.recordings)
        return {"rows of rates, 5 in the pipeline": 5 * 4 * voxels, "spikes, 3 blocks computed or written": 3 * 6 * voxels}

    def prepare(self) -> None:
        for i, domain in enumerate(self.job.domains()):
            for name, dtype in ((APPROXIMATION, "float32"), (COUNTS, "uint16")):
                OutputArray.create(
                    self.job.output,
                    f"{domain.name}/{name}",
                    shape=domain.shape,
                    dtype=dtype,
                    chunks=self._chunks(i),
                    axes=domain.axes,
                    voxel_size=domain.voxel_size,
                    units=domain.units,
                    attributes={**self._attributes(i), "seed": self.options.seed},
                )

    def open(self) -> None:
        self.rates, self.targets = self.open_outputs(RATES), [self.open_outputs(n) for n in (APPROXIMATION, COUNTS)]

    def _region(self, block: Block) -> Region:
        frames = self.job.recordings[block.domain].shape[1]
        return Region((block.core.begin[0], 0), (block.core.end[0], frames))

    def read(self, block: Block) -> tuple[Block, Array]:
        return block, self.rates[block.domain].read(self._region(block))

    def compute(self, inputs: tuple[Block, Array], state: None) -> tuple[Array, Array]:
        from tasks.cascade.discrete import discrete_row

        block, rates = inputs
        session, sigma = self.job.recordings[block.domain].name, self.job.models[block.domain].sigma
        approximation, counts = np.empty(rates.shape, np.float32), np.zeros(rates.shape, np.uint16)
        for i, row in enumerate(rates):
            smooth, frames = discrete_row(row, sigma, row_stream(self.options.seed, session, block.core.begin[0] + i))
            approximation[i] = smooth
            np.add.at(counts[i], np.asarray(frames, np.int64) + 1, 1)  # the original counts frames from -1
        return approximation, counts

    def write(self, block: Block, result: tuple[Array, Array]) -> Sequence[Write]:
        region = self._region(block)
        return [arrays[block.domain].write(region, data) for arrays, data in zip(self.targets, result, strict=True)]

    def stored(self, block: Block) -> Sequence[Array] | None:
        arrays, region = [self.open_outputs(n)[block.domain] for n in (APPROXIMATION, COUNTS)], self._region(block)
        return [a.read(region) for a in arrays] if all(a.complete(region) for a in arrays) else None

    def exports(self) -> Sequence[Path]:
        from tasks.cascade.results import discrete_exports

        return discrete_exports(self.job)

    def finish(self) -> FrozenResult:
        from tasks.cascade.results import export_discrete_spikes

        return export_discrete_spikes(self.job)
