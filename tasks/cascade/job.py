"""What all stages of one Cascade run share: the recordings, their models, the options and the output."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from blockwise.config import RunConfig
from blockwise.errors import ConfigError, DependencyError
from blockwise.geometry import Domain
from blockwise.task import TaskOptions
from tasks.cascade.inference import Inference
from tasks.cascade.model import Model, load_model
from tasks.cascade.noise import noise_levels
from tasks.spikes import suite2p
from tasks.spikes.quality import Quality, check_recording
from tasks.spikes.recordings import Recording, find_recordings, open_recording
from tasks.spikes.suite2p import Correction
from tasks.spikes.traces import Traces

ROW_BYTES: int = 64 << 20
"""Most bytes of whole rows held at once while their noise is measured."""

FRAMES_AT_ONCE: int = 1 << 17
"""Frames of one read while noise is measured."""

NOISE_ROWS: int = 64
DISCRETE_ROWS: int = 8
"""Rows of a block of the stages that take whole rows."""

Levels = npt.NDArray[np.float64]


class CascadeOptions(TaskOptions):
    """`[options]` of the task `cascade`; the defaults reproduce the published numbers.

    threshold : 0 (negative rates become 0), 1 (rates below a spike's become 0), false (as they are).
    padding : value of the frames at both ends that no window fits around.
    alignment : place in the window of the frame a rate belongs to, 0 the first; the training's by default (32 of 64).
    discrete, seed : also infer discrete spikes, one random stream per row.
    engine : "torch" or "tensorflow".
    export : files beside the output; "auto" writes .npy and .mat of sessions up to `export_max_mb`.
    write_back : put the rates into the Suite2p folder or, as a copy, the NWB file they came from.
    neuropil, baseline_percentile, cells_only : how Suite2p fluorescence becomes dF/F.
    check_percent : refuse traces that look like dF/F in percent.
    """

    threshold: bool | int = 0
    padding: float = float("nan")
    alignment: int | None = None
    discrete: bool = False
    seed: int = 0
    engine: Literal["torch", "tensorflow"] = "torch"
    export: Literal["auto"] | tuple[Literal["npy", "mat"], ...] = "auto"
    export_max_mb: float = Field(1000.0, ge=0)
    write_back: bool = False
    neuropil: float = 0.7
    baseline_percentile: float = Field(8.0, ge=0, le=100)
    cells_only: bool = True
    check_percent: bool = True

    @property
    def correction(self) -> Correction:
        return Correction(self.neuropil, self.baseline_percentile, self.cells_only)


@dataclass(frozen=True, slots=True)
class Job:
    """Recordings with their models, in the order of the domains."""

    recordings: tuple[Recording, ...]
    models: tuple[Model, ...]
    qualities: tuple[Quality, ...]
    options: CascadeOptions
    output: str
    rows: int
    frames: int

    @classmethod
    def from_config(cls, config: RunConfig) -> "Job":
        """Find and check everything a configuration names; reads samples of each recording and writes nothing.

        Raises
        ------
        ConfigError, DependencyError, InputError, MissingError, ModelError
        """
        options = config.options_as(CascadeOptions)
        _check_blocks(config)
        if options.engine == "tensorflow" and find_spec("tensorflow") is None:
            raise DependencyError("[options] engine = \"tensorflow\" needs TensorFlow: pip install -e '.[tensorflow]' in the checkout")
        if config.output.path is None:
            raise ConfigError("[output] path is not set: it names the zarr group that the rates go into")
        recordings = find_recordings(config.input, config.model.path, correction=options.correction)
        if options.write_back and all(r.kind == "array" for r in recordings):
            raise ConfigError("[options] write_back: rates go back into Suite2p folders and NWB files only, and [input] has neither")
        for r in recordings:
            if r.model is None:
                raise ConfigError(
                    f"{r.name}: no model: set [model] path, `blockwise models suggest --frame-rate {r.frame_rate:g}` names one"
                )
        loaded = {name: load_model(name) for name in {r.model for r in recordings if r.model}}
        models = tuple(loaded[r.model or ""] for r in recordings)
        for recording, model in zip(recordings, models, strict=True):
            model.check_frame_rate(recording.frame_rate, recording.name)
        qualities = tuple(_quality(r, m, options) for r, m in zip(recordings, models, strict=True))
        rows, frames = _block_shape(config, [cls.inference_with(m, options) for m in models])
        return cls(recordings, models, qualities, options, config.output.path, rows, frames)

    @staticmethod
    def inference_with(model: Model, options: CascadeOptions) -> Inference:
        return Inference(model, options.threshold, options.padding, options.alignment)

    def inference(self, session: int) -> Inference:
        """How rates of one session are inferred."""
        return self.inference_with(self.models[session], self.options)

    def row_domains(self) -> list[Domain]:
        """A domain of neurons per session, for what is computed on whole rows."""
        return [Domain(r.name, ("neuron",), (r.shape[0],)) for r in self.recordings]

    def domains(self) -> list[Domain]:
        """A domain (neuron, time) per session."""
        return [Domain(r.name, ("neuron", "time"), r.shape, voxel_size=(1.0, 1.0 / r.frame_rate), units=("", "s")) for r in self.recordings]

    def open(self) -> list[Traces]:
        """All recordings, opened for reading in this process."""
        return [open_recording(r) for r in self.recordings]

    def input_fingerprint(self, session: int) -> dict[str, object]:
        """Digests of what one session's results depend on: its model and its files."""
        with closing(open_recording(self.recordings[session])) as traces:
            files = {f"input.{k}": v for k, v in traces.identity().items()}
        return {"model": self.models[session].digest, "frame_rate": self.recordings[session].frame_rate, **files}

    def input_places(self, session: int) -> dict[str, str]:
        """Where the files lie that `input_fingerprint` identifies."""
        recording = self.recordings[session]
        if recording.kind == "suite2p":
            return {f"input.{name}": str(Path(recording.path) / name) for name in suite2p.FILES}
        return {"input.traces": recording.path}


def _quality(recording: Recording, model: Model, options: CascadeOptions) -> Quality:
    with closing(open_recording(recording)) as traces:
        if options.check_percent:
            return check_recording(recording, traces, tuple(model.levels))
        from tasks.spikes.quality import assess

        about = {"name": recording.name, "frame_rate": recording.frame_rate, "remarks": recording.warnings}
        return assess(traces, levels=tuple(model.levels), **about)


AUTO_SHAPE: tuple[int, int] = (32, 8_192)
"""Neurons x frames of a block where none is given: about a second of work for five members on one core, 1 MB of rates. It does not
depend on the recordings, so that one that joins a set leaves the blocks of the others as they are."""

WHOLE: int = 1 << 40
"""Frames of a block that takes whole rows, whatever their length."""

WHOLE_ROWS: int = 4
"""Neurons of a block of whole rows where no shape is given: 24 h at 30 Hz take 1.2 GB."""

VOXEL_BYTES: int = 5 * 8 + 18 * 4
"""Bytes of a worker per neuron-frame of a block: inputs in the pipeline and rates being written."""


def _block_shape(config: RunConfig, inferences: Sequence[Inference]) -> tuple[int, int]:
    from dask.utils import parse_bytes

    given, whole = config.blocks.shape, any(i.whole_rows for i in inferences)
    if given != "auto":
        return given[0], WHOLE if whole else given[1]
    if whole:
        return WHOLE_ROWS, WHOLE
    rows, frames = AUTO_SHAPE
    while rows * frames * VOXEL_BYTES > parse_bytes(config.blocks.memory) and frames > 1024:
        frames //= 2
    return rows, frames


def _check_blocks(config: RunConfig) -> None:
    """Refuse what a user may not choose here, rather than ignore it."""
    blocks = config.blocks
    if blocks.shape != "auto" and len(blocks.shape) != 2:
        raise ConfigError(f"[blocks] shape {list(blocks.shape)}: a block of recordings has 2 sides, [neurons, frames]")
    if blocks.context is not None or blocks.edge not in (None, "shrink"):
        raise ConfigError("[blocks] context and edge follow from the model's window and are not to be set for Cascade: remove them")


def rows_noise(traces: Traces, rows: slice, frame_rate: float) -> Levels:
    """Noise levels of whole rows, read a few at a time: (rows,) float64."""
    step = max(1, ROW_BYTES // max(1, traces.shape[1] * 8))
    pieces = [slice(r, min(r + step, rows.stop)) for r in range(rows.start, rows.stop, step)]
    return np.concatenate([np.asarray(noise_levels(_whole_rows(traces, piece), frame_rate), np.float64) for piece in pieces])


def _whole_rows(traces: Traces, rows: slice) -> npt.NDArray[Any]:
    """Traces of whole rows, read in pieces of time: a chunk holds many more rows than are wanted, and a read decodes all it touches."""
    frames, first = traces.shape[1], traces.read(rows, slice(0, FRAMES_AT_ONCE))
    if frames <= FRAMES_AT_ONCE:
        return first
    found = np.empty((first.shape[0], frames), first.dtype)
    found[:, :FRAMES_AT_ONCE] = first
    for begin in range(FRAMES_AT_ONCE, frames, FRAMES_AT_ONCE):
        piece = slice(begin, min(begin + FRAMES_AT_ONCE, frames))
        found[:, piece] = traces.read(rows, piece)
    return found


def row_stream(seed: int, session: str, row: int) -> np.random.RandomState:
    """The random stream of one row: the same whatever block or worker computes it."""
    entropy: Any = [seed, *session.encode(), row]
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(entropy)))
