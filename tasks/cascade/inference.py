"""Spike rates from calcium traces: on arrays, and on the parts of rows that a block reads. One path serves both (Cascade spec 4).

A part of a row gives the rates of every frame whose window lies in it; `Inference.context` says what to read around the frames one
wants, and what is read beyond is cut off. Deviations from the original, each warned of once:

- a row without a finite noise level becomes NaN (the original: 0),
- a model of one level serves every row (the original: rows noisier than level + 0.5 become 0),
- a row in a gap between levels takes the nearest (the original: 0),

and, silently, a frame whose window holds a NaN is NaN: the original drops two of those 64 frames by an accident of its pooling.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blockwise.errors import BlockwiseWarning, ConfigError, InputError
from tasks.cascade.checkpoint import Float32
from tasks.cascade.engines import Ensemble, frames_at_once, load_ensemble, stream
from tasks.cascade.model import Model, load_model
from tasks.cascade.noise import looks_like_percent, noise_levels
from tasks.cascade.threshold import apply_threshold, check_threshold, dilation

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Inference:
    """How rates are inferred: a model and the options of `predict`, without weights.

    Parameters
    ----------
    threshold : 0, 1 or False, as `predict` takes it.
    padding : value of the frames at both ends that no window fits around.
    alignment : place in the window of the frame that a rate belongs to; None takes the training's (32 of 64).
    """

    model: Model
    threshold: Any = 0
    padding: float = float("nan")
    alignment: int | None = None

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        if not 0 <= self.position < self.model.windowsize:
            raise ConfigError(f"alignment {self.alignment}: a place in a window of {self.model.windowsize} frames is wanted, 0 the first")

    @property
    def position(self) -> int:
        return self.model.position if self.alignment is None else self.alignment

    @property
    def context(self) -> tuple[int, int]:
        """Frames to read before and after those wanted: the window, and what threshold 1 looks at around a frame; (32, 31) or more."""
        margin = dilation(self.model.sigma) if check_threshold(self.threshold) == 1 else 0
        return self.position + margin, self.model.windowsize - 1 - self.position + margin

    @property
    def whole_rows(self) -> bool:
        """Whether a rate depends on its whole row, so that no part of it will do: threshold 1 with less than a frame of smoothing."""
        return check_threshold(self.threshold) == 1 and dilation(self.model.sigma) == 0

    @property
    def ends(self) -> tuple[int, int]:
        """Frames at the beginning and the end of a recording that get the padding."""
        before, after = self.model.ends
        return max(before, self.position), max(after, self.model.windowsize - 1 - self.position)

    def rates(self, traces: Floats, noise: Floats, ensembles: "Ensembles", *, begin: int = 0, frames: int | None = None) -> Float32:
        """Rates of a part of some rows, with threshold and padding applied.

        Parameters
        ----------
        traces : (neurons, n) dF/F, frames `begin` to `begin + n` of the recording.
        noise : (neurons,) noise levels of the whole rows.
        frames : length of the recording; None: the part is all of it.

        Returns
        -------
        (neurons, n) float32, expected spikes per frame; right where `context` is inside the part or cut by an end of the recording.
        """
        rates, _ = self.rates_and_std(traces, noise, ensembles, begin=begin, frames=frames)
        return rates

    def rates_and_std(
        self, traces: Floats, noise: Floats, ensembles: "Ensembles", *, begin: int = 0, frames: int | None = None
    ) -> tuple[Float32, Float32]:
        """`rates`, and the standard deviation of the raw rates over the members, NaN where no window fits."""
        total = traces.shape[1] if frames is None else frames
        rates, std = (np.full(traces.shape, np.nan, np.float32) for _ in range(2))
        levels = self.model.levels_for(noise)
        for level in np.unique(levels[levels >= 0]):
            rows = np.flatnonzero(levels == level)
            self._infer(traces, rows, ensembles, int(level), (rates, std))
        apply_threshold(rates, check_threshold(self.threshold), self.model.sigma)
        rates[levels < 0] = np.nan
        before, after = self.ends
        for values, end in ((rates, self.padding), (std, np.nan)):
            values[:, : max(0, before - begin)] = end
            values[:, max(0, total - after - begin) :] = end
        return rates, std

    def _infer(self, traces: Floats, rows: npt.NDArray[np.int64], ensembles: "Ensembles", level: int, out: tuple[Float32, Float32]) -> None:
        """Raw rates of rows of one level, wherever a window fits, tile by tile."""
        window = self.model.windowsize
        places = list(_tiles(rows, traces.shape[1] - window + 1, ensembles.frames))

        def tile(part: npt.NDArray[np.int64], start: int, stop: int) -> Float32:
            return np.asarray(traces[part, start : stop + window - 1], np.float32)

        every = stream(ensembles[level], (_one_stretch(tile(*place)) for place in places))
        for (part, start, stop), outputs in zip(places, every, strict=True):
            frames = slice(start + self.position, stop + self.position)
            out[0][part, frames], out[1][part, frames] = _over_members(outputs, tile(part, start, stop), window)


def _tiles(rows: npt.NDArray[np.int64], windows: int, size: int) -> Iterator[tuple[npt.NDArray[np.int64], int, int]]:
    """Rows and the range of window starts of tiles of about `size` frames, all of nearly one size."""
    if windows < 1:
        return
    cuts = np.linspace(0, windows, -(-windows // size) + 1).astype(int).tolist()
    count = max(1, size // cuts[1])
    for first in range(0, len(rows), count):
        for start, stop in pairwise(cuts):
            yield rows[first : first + count], start, stop


def _one_stretch(tile: Float32) -> Float32:
    """The rows of a tile in one piece, one after the other, with 0 for what is not finite."""
    missing = ~np.isfinite(tile)
    return np.where(missing, np.float32(0), tile).reshape(-1) if missing.any() else tile.reshape(-1)


def _over_members(outputs: npt.NDArray[Any], tile: Float32, window: int) -> tuple[Floats, Floats]:
    """Mean and standard deviation over the members, NaN where a window holds a value that is not finite.

    tile : (rows, n + window - 1) -> (rows, n) each. Windows across two rows are left out.
    """
    rows, length = tile.shape
    missing = ~np.isfinite(tile)
    any_missing = bool(missing.any())
    full = np.zeros((len(outputs), rows * length), np.float32)
    full[:, : outputs.shape[1]] = outputs
    values = full.reshape(len(outputs), rows, length)[:, :, : length - window + 1].astype(np.float64)
    mean, std = values.mean(axis=0), values.std(axis=0)
    if any_missing:
        count = np.cumsum(np.pad(missing, ((0, 0), (1, 0))), axis=1)
        mean[count[:, window:] > count[:, :-window]] = np.nan
        std[np.isnan(mean)] = np.nan
    return mean, std


@dataclass(frozen=True, slots=True)
class Ensembles:
    """The ensembles of a model by noise level, loaded when first used.

    Parameters
    ----------
    device : for torch, e.g. cpu or cuda:0; None takes a GPU where there is one.
    engine : torch or tensorflow.
    """

    model: Model
    device: str | None = None
    engine: str = "torch"
    _loaded: dict[int, Ensemble] = field(default_factory=dict, repr=False, compare=False)
    _frames: list[int] = field(default_factory=list, repr=False, compare=False)

    @property
    def frames(self) -> int:
        """Frames to evaluate at once."""
        if not self._frames:
            self._frames.append(frames_at_once(self.engine, self.device))
        return self._frames[0]

    def __getitem__(self, level: int) -> Ensemble:
        if level not in self._loaded:
            self._loaded[level] = load_ensemble(self.model.members(level), self.engine, self.device)
        return self._loaded[level]


def predict(
    traces: npt.ArrayLike,
    model: str | Path | Model,
    *,
    frame_rate: float | None = None,
    threshold: Any = 0,
    padding: float = float("nan"),
    device: str | None = None,
    return_std: bool = False,
    engine: str = "torch",
    noise: npt.ArrayLike | None = None,
    alignment: int | None = None,
    check: bool = True,
) -> Any:
    """Infer spike rates from dF/F traces with a Cascade ensemble.

    Rupprecht et al., Nature Neuroscience 24, 1324 (2021). Memory does not grow with the size of the traces, which may be a memory map.

    Parameters
    ----------
    traces : (neurons, frames) or (frames,) dF/F as fraction, NaN where missing.
    model : a model folder, a name of the registry, or a loaded model.
    frame_rate : Hz, of the traces; checked against the model's where given.
    threshold : 0 sets negative rates to 0, 1 sets rates below those of a spike to 0, False leaves them.
    padding : value of the frames at both ends that no window fits around (32 each for windows of 64).
    device : where torch computes; None takes a GPU where there is one.
    return_std : also return the standard deviation of the raw rates over the ensemble's members.
    engine : torch or tensorflow.
    noise : (neurons,) noise levels in % s^1/2 to use instead of the measured ones.
    alignment : place in the window of the frame that a rate belongs to; None is the training's, 32 of 64. Later releases of the
        original use one less, and so give rates one frame earlier.
    check : refuse traces that look like percent.

    Returns
    -------
    float32 of the traces' shape: expected spikes per frame (times the frame rate: spikes per second). With `return_std` a pair of such.

    Raises
    ------
    InputError : not one or two axes, not real numbers, frame rate more than 5 % off the model's, traces in percent.
    MissingError, ModelError : the model cannot be used.  ConfigError : threshold, alignment or engine is none of those above.
    """
    rows = _as_rows(traces)
    inference = Inference(load_model(model), threshold, padding, alignment)
    if frame_rate is not None:
        inference.model.check_frame_rate(frame_rate)
    if check and looks_like_percent(rows):
        raise InputError("the traces look like dF/F in percent: divide them by 100, or pass check=False if they are fractions")
    levels = noise_levels(rows, inference.model.frame_rate) if noise is None else np.asarray(noise, np.float64).reshape(-1)
    if len(levels) != len(rows):
        raise InputError(f"noise has {len(levels)} values for {len(rows)} rows of traces: one per row is wanted")
    for note in noise_notes(levels, inference.model):
        warnings.warn(note, BlockwiseWarning, stacklevel=2)
    rates, std = _predict_rows(rows, levels, inference, Ensembles(inference.model, device, engine), return_std)
    shape = np.shape(traces)
    return (rates.reshape(shape), std.reshape(shape)) if return_std else rates.reshape(shape)


def _as_rows(traces: npt.ArrayLike) -> Floats:
    rows = traces if isinstance(traces, np.ndarray) else np.asarray(traces)
    if rows.ndim not in (1, 2) or rows.dtype.kind not in "fiub":
        raise InputError(f"traces of shape {rows.shape} and dtype {rows.dtype}: (neurons, frames) or (frames,) of real numbers is wanted")
    return rows.reshape(1, -1) if rows.ndim == 1 else rows


def noise_notes(noise: Floats, model: Model) -> Sequence[str]:
    """What is special about how a model serves these noise levels, one sentence each; empty where the original does the same."""
    levels = np.array(list(model.levels))
    finite = noise[np.isfinite(noise)]
    off = np.abs(finite - model.levels_for(finite)) > 0.5
    gaps = off & (finite > levels[0]) & (finite < levels[-1])
    notes = []
    if len(finite) < len(noise):
        notes.append(f"{len(noise) - len(finite)} of {len(noise)} rows have no finite noise level: their rates are NaN")
    if len(levels) == 1 and (finite >= levels[0] + 0.5).any():
        notes.append(f"{model.name} has noise level {levels[0]} only: it serves every row, also those up to {finite.max():.1f}")
    if gaps.any():
        notes.append(f"{gaps.sum()} rows lie between the noise levels of {model.name} ({levels.tolist()}): each takes the nearest")
    return notes


def _predict_rows(rows: Floats, noise: Floats, inference: Inference, ensembles: Ensembles, return_std: bool) -> tuple[Float32, Float32]:
    """All rows, in parts whose memory is bounded, rows of one level together."""
    rates = np.empty(rows.shape, np.float32)
    std = np.empty(rows.shape if return_std else (0, 0), np.float32)
    for part, core, read in _parts(inference.model.levels_for(noise), rows.shape[1], inference, ensembles.frames):
        inner = slice(core.start - read.start, core.stop - read.start)
        result = inference.rates_and_std(rows[part, read], noise[part], ensembles, begin=read.start, frames=rows.shape[1])
        rates[part, core] = result[0][:, inner]
        if return_std:
            std[part, core] = result[1][:, inner]
    return rates, std


def _parts(
    levels: npt.NDArray[np.int64], frames: int, inference: Inference, at_once: int
) -> Iterator[tuple[npt.NDArray[np.int64], slice, slice]]:
    """Rows of one level, the frames wanted, and the frames read for them; about `at_once` of them in all."""
    before, after = inference.context
    parts = 1 if inference.whole_rows else max(1, -(-frames // at_once))
    size = max(1, -(-frames // parts))
    count = max(1, at_once // size)
    for level in np.unique(levels):
        members = np.flatnonzero(levels == level)
        for first in range(0, len(members), count):
            for begin in range(0, frames, size):
                core = slice(begin, min(begin + size, frames))
                yield members[first : first + count], core, slice(max(0, begin - before), min(frames, core.stop + after))
