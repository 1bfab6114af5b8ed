"""Quality of recordings: one row of figures per session, and what they mean in sentences.

Figures come from a sample that is spread evenly over rows and frames, so that they cost the same for minutes and for days; the same
recording always gives the same sample. A noise level is 100 median |x[t+1] - x[t]| / sqrt(frame rate), in % s^1/2 (Cascade spec 2).
"""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from blockwise.errors import InputError
from tasks.spikes.recordings import Recording
from tasks.spikes.traces import Traces

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Verdict: TypeAlias = Literal["below", "within", "above", "unknown"]

SAMPLE_RUNS, SAMPLE_RUN_ROWS = 16, 16
"""Rows are sampled in runs of neighbours, for neighbours share a chunk of the file; up to 256 rows are read whole."""

SAMPLE_WINDOWS, SAMPLE_WINDOW_FRAMES = 8, 1024
"""Windows in time, and the frames of each at most: 2 million samples in all."""

PERCENT_STD = 2.0
"""Median standard deviation above which traces cannot be fractions: 200 % (Cascade spec 4)."""

DENOISED_LEVEL = 0.3
"""Noise level (% s^1/2) below which raw two-photon traces do not come; the quietest ground-truth set has 0.34."""

DENOISED_CORRELATION = 0.3
"""Correlation of successive differences above which traces were smoothed: white noise has -0.5, raw recordings -0.5 to 0, a Gaussian
of one frame 0.6. A plain moving average gives 0 and is not told apart from a raw recording."""

DRIFT_LIMIT = 5.0
"""Drift of the baseline over the recording, in standard deviations of the noise of one frame, that is worth a sentence."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Figures of one session.

    noise_median, noise_low, noise_high : median, 5th and 95th percentile over the sampled rows, % s^1/2; NaN where no row has one.
    verdict : the median noise level against the model's levels; `below` is served by the lowest level, `above` is not.
    share_above : of the sampled rows, those noisier than the model's highest level.
    drift : median over rows of the baseline's linear change over the recording, in standard deviations of one frame's noise.
    nan_share : of the sampled values.
    constant_rows, empty_rows : rows of the sample with one value only, or with none.
    correlation : median over rows of the correlation of successive differences, -0.5 for white noise.
    std : median over rows of the standard deviation, dF/F.
    warnings : what to look at, in sentences.
    """

    session: str
    neurons: int
    frames: int
    frame_rate: float
    sampled_rows: int
    sampled_frames: int
    noise_median: float
    noise_low: float
    noise_high: float
    verdict: Verdict
    share_above: float
    drift: float
    nan_share: float
    constant_rows: int
    empty_rows: int
    correlation: float
    std: float
    denoised: bool
    percent: bool
    warnings: tuple[str, ...] = ()


def check_recording(recording: Recording, traces: Traces, levels: Sequence[int] = ()) -> Quality:
    """The quality of an opened recording, its own warnings included, or an error where predictions would be worthless.

    Parameters
    ----------
    levels : noise levels of the model, % s^1/2; without them the verdict is `unknown`.

    Raises
    ------
    InputError : dF/F in percent (or raw fluorescence) instead of a fraction; not one finite value in the sample.
    """
    found = assess(traces, name=recording.name, frame_rate=recording.frame_rate, levels=levels, remarks=recording.warnings)
    if found.empty_rows == found.sampled_rows:
        sampled = f"{found.sampled_rows} rows x {found.sampled_frames} frames"
        raise InputError(f"{recording.path}: no finite value in {sampled} sampled: there is nothing to predict from")
    if found.percent:
        raise InputError(
            f"{recording.path}: the median standard deviation of a trace is {found.std:.3g}, that of dF/F as a fraction at most "
            f"{PERCENT_STD:g}: divide traces in percent by 100, and turn raw fluorescence into dF/F first"
        )
    return found


def assess(traces: Traces, *, name: str, frame_rate: float, levels: Sequence[int] = (), remarks: Iterable[str] = ()) -> Quality:
    """Figures of one session from a sample of its traces; `remarks` go before the warnings found here."""
    sample = _sample(traces)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        return _judge(sample, traces.shape, name, frame_rate, tuple(levels), tuple(remarks))


def _judge(
    sample: Floats, shape: tuple[int, int], name: str, frame_rate: float, levels: tuple[int, ...], remarks: tuple[str, ...]
) -> Quality:
    windows, rows, length = sample.shape
    steps = np.diff(sample, axis=2)
    median_step = np.nanmedian(np.abs(steps), axis=(0, 2))
    noise = 100 * median_step / np.sqrt(frame_rate)
    low, median, high = (float(v) for v in np.nanpercentile(noise, (5, 50, 95)))
    spread = np.nanmax(sample, axis=(0, 2)) - np.nanmin(sample, axis=(0, 2))
    correlation = float(np.nanmedian(np.nanmean(steps[..., 1:] * steps[..., :-1], axis=(0, 2)) / np.nanmean(steps**2, axis=(0, 2))))
    std = float(np.nanmedian(np.nanstd(sample, axis=(0, 2))))
    figures = Quality(
        session=name,
        neurons=shape[0],
        frames=shape[1],
        frame_rate=frame_rate,
        sampled_rows=rows,
        sampled_frames=windows * length,
        noise_median=median,
        noise_low=low,
        noise_high=high,
        verdict=_verdict(median, levels),
        share_above=float(np.mean(noise >= max(levels) + 0.5)) if levels else 0.0,
        drift=_drift(sample, median_step),
        nan_share=float(np.isnan(sample).mean()),
        constant_rows=int((spread == 0).sum()),
        empty_rows=int(np.isnan(spread).sum()),
        correlation=correlation,
        std=std,
        denoised=bool(np.nanmedian(noise[spread > 0]) < DENOISED_LEVEL) or correlation > DENOISED_CORRELATION,
        percent=std > PERCENT_STD,
    )
    return _with_warnings(figures, levels, remarks)


def _sample(traces: Traces) -> Floats:
    """Traces at evenly spread runs of rows and windows of frames: (windows, rows, frames) float32."""
    neurons, frames = traces.shape
    count = SAMPLE_WINDOWS if frames >= 8 * SAMPLE_WINDOWS else 1
    windows = _spread(frames, count, min(SAMPLE_WINDOW_FRAMES, frames // count))
    few = neurons <= SAMPLE_RUNS * SAMPLE_RUN_ROWS
    runs = [slice(0, neurons)] if few else _spread(neurons, SAMPLE_RUNS, SAMPLE_RUN_ROWS)
    return np.stack([np.concatenate([traces.read(rows, window).astype(np.float32) for rows in runs]) for window in windows])


def _spread(total: int, count: int, length: int) -> list[slice]:
    """`count` slices of one length, the first at the start of `total`, the last at its end."""
    return [slice(int(b), int(b) + length) for b in np.linspace(0, total - length, count).round()]


def _drift(sample: Floats, median_step: Floats) -> float:
    """Least-squares change of the 20th percentile from the first window to the last, over the noise; NaN with one window."""
    windows = len(sample)
    if windows < 2:
        return float("nan")
    baseline = np.nanpercentile(sample, 20, axis=2)
    position = np.arange(windows) - (windows - 1) / 2
    slope = position @ baseline / (position**2).sum()
    noise_std = median_step / (0.6745 * np.sqrt(2))
    change = np.abs(slope) * (windows - 1) / noise_std
    return float(np.median(change[np.isfinite(change)])) if np.isfinite(change).any() else float("nan")


def _verdict(noise: float, levels: tuple[int, ...]) -> Verdict:
    if not levels or not np.isfinite(noise):
        return "unknown"
    if noise < min(levels) - 0.5:
        return "below"
    return "above" if noise >= max(levels) + 0.5 else "within"


def _with_warnings(found: Quality, levels: tuple[int, ...], remarks: tuple[str, ...]) -> Quality:
    sampled = f"of {found.sampled_rows} rows sampled"
    sentences = (
        (
            found.share_above > 0.05,
            f"{found.share_above:.0%} {sampled} are noisier than the model's highest level {max(levels, default=0)}: "
            "take a model trained up to their noise, or expect missed spikes",
        ),
        (
            found.denoised,
            f"a noise level of {found.noise_median:.2g} and a correlation of {found.correlation:.2f} between successive differences look "
            "denoised or smoothed: the models know raw noise, so give them dF/F before denoising",
        ),
        (
            found.percent,
            f"a median standard deviation of {found.std:.3g} looks like percent or raw fluorescence: dF/F is wanted as a fraction",
        ),
        (
            found.drift > DRIFT_LIMIT,
            f"the baseline changes by {found.drift:.1f} standard deviations of the noise over the recording: "
            "recompute dF/F with a moving baseline",
        ),
        (
            found.nan_share > 0,
            f"{found.nan_share:.1%} of the values sampled are NaN, and a NaN costs the predictions of the window around it",
        ),
        (found.constant_rows > 0, f"{found.constant_rows} {sampled} are constant"),
        (found.empty_rows > 0, f"{found.empty_rows} {sampled} have no value at all"),
    )
    return replace(found, warnings=(*remarks, *(f"{found.session}: {text}" for holds, text in sentences if holds)))


COLUMNS = ("session", "neurons", "frames", "Hz", "noise 5-50-95 %", "verdict", "drift", "NaN", "flat rows", "denoised", "percent")


def quality_table(qualities: Iterable[Quality]) -> list[list[str]]:
    """One row of text per session below a row of headings."""
    return [list(COLUMNS), *(_row(q) for q in qualities)]


def _row(q: Quality) -> list[str]:
    noise = " - ".join(f"{v:.2f}" for v in (q.noise_low, q.noise_median, q.noise_high))
    figures = [q.session, str(q.neurons), str(q.frames), f"{q.frame_rate:g}", noise, q.verdict, f"{q.drift:.1f}", f"{q.nan_share:.1%}"]
    return [*figures, str(q.constant_rows + q.empty_rows), *("yes" if flag else "no" for flag in (q.denoised, q.percent))]


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
