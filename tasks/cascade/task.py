"""Cascade on blocks: noise levels of whole rows first, frozen beside the rates, then rates by block, then, on demand, discrete spikes.

Output, a zarr group with one group per session:

    <session>/noise_levels            (neuron,) float64, % s^1/2
    <session>/spike_rates             (neuron, time) float32, expected spikes per frame
    <session>/discrete_approximation  (neuron, time) float32, the smoothed discrete spikes     [options] discrete
    <session>/spike_counts            (neuron, time) uint16, discrete spikes per frame          [options] discrete
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from blockwise.config import RunConfig
from blockwise.geometry import Domain, Region
from blockwise.grid import Block, GridSpec
from blockwise.storage import OutputArray, Write
from blockwise.task import Dependency, FrozenResult, OutputLayout, Picture, Task
from tasks.cascade.inference import Ensembles, Inference
from tasks.cascade.job import NOISE_ROWS, ROW_BYTES, CascadeOptions, Job, Levels, rows_noise

CITATION = "Rupprecht et al. 2021, Nature Neuroscience 24, 1324-1337, doi:10.1038/s41593-021-00895-5"
NOISE, RATES, APPROXIMATION, COUNTS = "noise_levels", "spike_rates", "discrete_approximation", "spike_counts"

Array = npt.NDArray[Any]


CONTEXT_STEP = 32
"""Contexts beyond a window's half are multiples of this, so that a session whose model looks a little further leaves the grid of the
others as it is."""


def _rounded(context: int) -> int:
    return context if context <= CONTEXT_STEP else -(-context // CONTEXT_STEP) * CONTEXT_STEP


class CascadeStage(Task):
    """What the stages share: the job, the output, one domain per session."""

    def __init__(self, job: Job) -> None:
        self.job, self.options = job, job.options

    def output_path(self) -> str:
        return self.job.output

    def fingerprint(self, domain: int) -> Mapping[str, object]:
        return self.job.input_fingerprint(domain)

    def places(self, domain: int) -> Mapping[str, str]:
        return self.job.input_places(domain)

    def open_outputs(self, name: str) -> list[OutputArray]:
        return [OutputArray.open(self.job.output, f"{r.name}/{name}") for r in self.job.recordings]

    def _layouts(self, name: str, itemsize: int, chunks: Sequence[tuple[int, ...]]) -> list[OutputLayout]:
        domains = self.job.row_domains() if len(chunks[0]) == 1 else self.job.domains()
        grid_axes = tuple(range(len(self.spec().shape)))
        return [
            OutputLayout(f"{self.job.output}/{d.name}/{name}", i, d.shape, chunks[i], itemsize, grid_axes) for i, d in enumerate(domains)
        ]

    def _attributes(self, session: int) -> dict[str, Any]:
        model, recording = self.job.models[session], self.job.recordings[session]
        about = {"model": model.name, "model_sha256": model.digest, "model_noise_levels": list(model.levels), "citation": CITATION}
        return {**about, "frame_rate_hz": recording.frame_rate, "source": recording.path, "variable": recording.variable}


class NoiseStage(CascadeStage):
    """Noise level of every whole row, exactly, before any rate: what chooses the ensemble cannot depend on the block (G7)."""

    name: ClassVar[str] = "noise"

    def domains(self) -> Sequence[Domain]:
        return self.job.row_domains()

    def spec(self) -> GridSpec:
        return GridSpec((NOISE_ROWS,))

    def relevant_options(self) -> Mapping[str, object]:
        return {}

    def outputs(self) -> Sequence[OutputLayout]:
        return self._layouts(NOISE, 8, [(min(NOISE_ROWS, r.shape[0]),) for r in self.job.recordings])

    def memory(self) -> Mapping[str, int]:
        row = 8 * max(r.shape[1] for r in self.job.recordings)
        return {"rows and their steps, two readers": 2 * 3 * min(NOISE_ROWS * row, max(ROW_BYTES, row))}

    def prepare(self) -> None:
        for i, domain in enumerate(self.domains()):
            attributes = {**self._attributes(i), "unit": "% s^1/2"}
            create = OutputArray.create
            create(
                self.job.output,
                f"{domain.name}/{NOISE}",
                shape=domain.shape,
                dtype="float64",
                chunks=(min(NOISE_ROWS, domain.shape[0]),),
                axes=domain.axes,
                fill_value=float("nan"),
                attributes=attributes,
            )

    def open(self) -> None:
        self.traces, self.arrays = self.job.open(), self.open_outputs(NOISE)

    def read(self, block: Block) -> Levels:
        """Measured while reading, so that no queue ever holds whole rows."""
        model = self.job.models[block.domain]
        return rows_noise(self.traces[block.domain], block.core.slices[0], model.frame_rate)

    def compute(self, inputs: Levels, state: None) -> Levels:
        return inputs

    def write(self, block: Block, result: Levels) -> Sequence[Write]:
        return [self.arrays[block.domain].write(block.core, result)]

    def stored(self, block: Block) -> Sequence[Array] | None:
        array = self.open_outputs(NOISE)[block.domain]
        return [array.read(block.core)] if array.complete(block.core) else None


class Cascade(CascadeStage):
    """Spike rates of every block; the main stage."""

    name: ClassVar[str] = "cascade"
    Options = CascadeOptions

    @classmethod
    def from_config(cls, config: RunConfig) -> "Cascade":
        return cls(Job.from_config(config))

    @classmethod
    def template(cls, source: str, frame_rate: float | None = None) -> str:
        """A commented configuration for a recording; see tasks.cascade.preset."""
        from tasks.cascade.preset import template

        return template(source, frame_rate)

    def stages(self) -> Sequence[Task]:
        from tasks.cascade.discrete_stage import DiscreteStage

        stages: list[Task] = [NoiseStage(self.job), self]
        return [*stages, DiscreteStage(self.job)] if self.options.discrete else stages

    def upstream(self) -> Sequence[Dependency]:
        """The noise levels of their rows."""
        return (Dependency(NoiseStage.name),)

    def domains(self) -> Sequence[Domain]:
        return self.job.domains()

    def spec(self) -> GridSpec:
        contexts = [i.context for i in self._inferences() if not i.whole_rows]
        before, after = (_rounded(max(c[k] for c in contexts)) if contexts else 0 for k in (0, 1))
        return GridSpec((self.job.rows, self.job.frames), ((0, 0), (before, after)), "shrink")

    def _inferences(self) -> list[Inference]:
        return [self.job.inference(i) for i in range(len(self.job.models))]

    def relevant_options(self) -> Mapping[str, object]:
        deciding = {"threshold", "padding", "alignment", "engine"}
        return {k: str(v) for k, v in self.options.model_dump().items() if k in deciding}

    def _chunks(self, domain: Domain) -> tuple[int, int]:
        rows, frames = (min(side, extent) for side, extent in zip(self.spec().shape, domain.shape, strict=True))
        return rows, frames

    def outputs(self) -> Sequence[OutputLayout]:
        return self._layouts(RATES, 4, [self._chunks(d) for d in self.domains()])

    def memory(self) -> Mapping[str, int]:
        spec = self.spec()
        frames = min(spec.shape[1], max(r.shape[1] for r in self.job.recordings))
        voxels = spec.shape[0] * (frames + sum(spec.context[1]))
        return {"inputs, 5 in the pipeline": 5 * 8 * voxels, "rates, 16 writes under way": 18 * 4 * voxels, "network": 64 << 20}

    def prepare(self) -> None:
        for i, domain in enumerate(self.domains()):
            OutputArray.create(
                self.job.output,
                f"{domain.name}/{RATES}",
                shape=domain.shape,
                dtype="float32",
                chunks=self._chunks(domain),
                axes=domain.axes,
                voxel_size=domain.voxel_size,
                units=domain.units,
                fill_value=float("nan"),
                attributes={**self._attributes(i), "unit": "expected spikes per frame", "noise_levels": NOISE},
            )

    def open(self) -> None:
        self.traces, self.arrays, self.noise = self.job.open(), self.open_outputs(RATES), self.open_outputs(NOISE)

    def setup(self, device: str) -> list[tuple[Inference, Ensembles]]:
        """Per session its inference and ensembles, loaded per level when first met; sessions of one model share them."""
        ensembles = {m.digest: Ensembles(m, device, self.options.engine) for m in self.job.models}
        return [(self.job.inference(i), ensembles[m.digest]) for i, m in enumerate(self.job.models)]

    def read(self, block: Block) -> tuple[Block, Array, Levels]:
        rows = Region(block.core.begin[:1], block.core.end[:1])
        return block, self.traces[block.domain].read(*block.read.slices), self.noise[block.domain].read(rows)

    def open_pilot(self) -> None:
        self.traces = self.job.open()

    def pilot_inputs(self, block: Block) -> tuple[Block, Array, Levels]:
        """Traces with the noise levels of their own rows, measured now: before a run there is no stage to take them from."""
        traces = self.traces[block.domain]
        noise = rows_noise(traces, block.core.slices[0], self.job.models[block.domain].frame_rate)
        return block, traces.read(*block.read.slices), noise

    def compute(self, inputs: tuple[Block, Array, Levels], state: list[tuple[Inference, Ensembles]]) -> Array:
        block, traces, noise = inputs
        inference, ensembles = state[block.domain]
        frames = self.job.recordings[block.domain].shape[1]
        rates = inference.rates(traces, noise, ensembles, begin=block.read.begin[1], frames=frames)
        return np.ascontiguousarray(rates[block.inner])

    def write(self, block: Block, result: Array) -> Sequence[Write]:
        return [self.arrays[block.domain].write(block.core, result)]

    def stored(self, block: Block) -> Sequence[Array] | None:
        array = OutputArray.open(self.job.output, f"{self.job.recordings[block.domain].name}/{RATES}")
        return [array.read(block.core)] if array.complete(block.core) else None

    def exports(self) -> Sequence[Path]:
        from tasks.cascade.results import rate_exports

        return rate_exports(self.job)

    def finish(self) -> FrozenResult:
        from tasks.cascade.results import export_rates

        return export_rates(self.job)

    def describe(self) -> Mapping[str, object]:
        from tasks.cascade.results import describe

        return describe(self.job)

    def pictures(self) -> Sequence[Picture]:
        from tasks.cascade.results import pictures

        return pictures(self.job)
