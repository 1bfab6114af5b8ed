"""Pictures of recordings and rates. Every function returns a matplotlib Figure that no window shows; `png` turns it into bytes.

Colours are those of Okabe and Ito, which the colour-blind tell apart, and viridis for maps.
"""

import io
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Floats: TypeAlias = npt.NDArray[np.floating[Any]]

TRACE, RATE, SPIKE, LEVEL = "#0072B2", "#D55E00", "#000000", "#009E73"

EXCERPT_S = 50.0
"""Seconds of a trace that still show single transients."""

LEAST_RATE_HZ = 5.0
"""Full scale of the rates of a silent neuron, so that its noise is not drawn as large as another's spikes."""

MAP_COLUMNS = 1000
"""Columns of a heat map: longer recordings are averaged over time to fit."""


def plot_traces(
    traces: Floats,
    frame_rate: float,
    rates: Floats | None = None,
    spikes: Sequence[npt.NDArray[np.integer[Any]]] | None = None,
    *,
    start_s: float = 0.0,
    duration_s: float = EXCERPT_S,
    labels: Sequence[str] | None = None,
) -> Figure:
    """Excerpts of traces in a grid of two columns, with rates below and discrete spikes as ticks where they are given.

    Parameters
    ----------
    traces : (neurons, frames) dF/F; a panel each, so pass the few rows to show.
    frame_rate : Hz.
    rates : (neurons, frames) expected spikes per frame, drawn in Hz.
    spikes : frames of the spikes of each neuron, counted as `infer_discrete_spikes` does (a frame before the trace's).
    start_s, duration_s : the excerpt, seconds.
    """
    traces = np.atleast_2d(traces)
    rows = (len(traces) + 1) // 2
    figure = _figure(12, 0.9 + 1.5 * rows)
    grid = figure.subplots(rows, min(2, len(traces)), sharex=True, squeeze=False)
    first, last = (round(s * frame_rate) for s in (start_s, start_s + duration_s))
    panels = grid.T.reshape(-1)
    for i, axes in enumerate(panels[: len(traces)]):
        rate = None if rates is None else np.atleast_2d(rates)[i, first:last]
        _draw_trace(axes, traces[i, first:last], rate, frame_rate, first)
        axes.set_title(labels[i] if labels else f"neuron {i}", fontsize=9, loc="left")
        if spikes is not None:
            _draw_spikes(axes, (np.asarray(spikes[i]) + 1) / frame_rate, first / frame_rate, last / frame_rate)
        if i % rows == rows - 1 or i == len(traces) - 1:
            axes.set_xlabel("time (s)")
            axes.tick_params(labelbottom=True)
    for axes in panels[len(traces) :]:
        axes.set_axis_off()
    return figure


def _draw_trace(axes: Axes, trace: Floats, rate: Floats | None, frame_rate: float, first: int = 0) -> None:
    """A trace from frame `first` on; a rate (spikes per frame) goes below it, in Hz on an axis of its own."""
    time_s = (first + np.arange(trace.size)) / frame_rate
    axes.plot(time_s, trace, color=TRACE, linewidth=0.8)
    axes.set_ylabel("dF/F")
    axes.set_xlim(first / frame_rate, (first + max(1, trace.size)) / frame_rate)
    if rate is None:
        return
    low, high = axes.get_ylim()
    axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= high])
    axes.set_ylim(low - 0.7 * (high - low), high)
    twin = axes.twinx()
    twin.plot(time_s, rate * frame_rate, color=RATE, linewidth=0.8)
    top = max(LEAST_RATE_HZ, float(np.nan_to_num(rate).max(initial=0)) * frame_rate)
    twin.set_ylim(0, 2.5 * top)
    twin.set_yticks([0, top], ["0", f"{top:.0f}"])
    twin.set_ylabel("rate (Hz)", color=RATE)
    twin.tick_params(axis="y", colors=RATE)


def _draw_spikes(axes: Axes, times_s: Floats, begin_s: float, end_s: float) -> None:
    """Ticks between the trace and its rate."""
    inside = times_s[(times_s >= begin_s) & (times_s < end_s)]
    axes.plot(inside, np.full(inside.size, 0.44), "|", color=SPIKE, markersize=6, transform=axes.get_xaxis_transform())


def plot_noise_levels(noise: Floats, levels: Sequence[int] = ()) -> Figure:
    """Histogram of noise levels, one per neuron (% s^1/2), up to their 99.9th percentile, with the model's levels marked."""
    figure = _figure(6, 3.6)
    _draw_noise(figure.subplots(), noise, levels)
    return figure


def _draw_noise(axes: Axes, noise: Floats, levels: Sequence[int]) -> None:
    finite = np.asarray(noise)[np.isfinite(noise)]
    if finite.size:
        axes.hist(finite, bins=100, range=(0.0, float(finite.max())), color=TRACE)
        axes.axvline(float(np.median(finite)), color=SPIKE, linewidth=1, linestyle="--", label=f"median {np.median(finite):.2f}")
    for level in levels:
        label = f"levels of the model, {min(levels)} to {max(levels)}" if level == levels[0] else None
        axes.axvline(level, color=LEVEL, linewidth=1.5, linestyle=":", label=label)
    top = float(np.percentile(finite, 99.9)) if finite.size else 1.0
    axes.set_xlim(0, max(1.05 * top, min(levels, default=0) + 0.5))
    axes.set_xlabel("noise level (% s$^{1/2}$)")
    axes.set_ylabel("neurons")
    if finite.size or len(levels):
        axes.legend(fontsize=8, frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)


def plot_rates(rates: Floats, frame_rate: float) -> Figure:
    """Heat map of rates, (neurons, frames) expected spikes per frame, drawn in Hz; long recordings are averaged over time."""
    figure = _figure(10, 4)
    _draw_map(figure, figure.subplots(), rates, frame_rate)
    return figure


def _draw_map(figure: Figure, axes: Axes, rates: Floats, frame_rate: float) -> None:
    rates = np.atleast_2d(rates)
    shown = _shrink(rates) * frame_rate
    finite = shown[np.isfinite(shown)]
    top = float(np.percentile(finite, 99.5)) if finite.size else 1.0
    extent = (0, rates.shape[1] / frame_rate, len(rates), 0)
    image = axes.imshow(shown, aspect="auto", interpolation="nearest", cmap="viridis", vmin=0, vmax=top or 1.0, extent=extent)
    axes.set_facecolor("0.85")
    axes.set_xlabel("time (s)")
    axes.set_ylabel("neuron")
    figure.colorbar(image, ax=axes, label="rate (Hz)", extend="max", pad=0.01)


def _shrink(rates: Floats) -> Floats:
    """Means over equal runs of frames, at most `MAP_COLUMNS` of them; NaN where a whole run is NaN."""
    run = -(-rates.shape[1] // MAP_COLUMNS)
    padded = np.pad(rates, ((0, 0), (0, -rates.shape[1] % run)), constant_values=np.nan).reshape(len(rates), -1, run)
    known = np.isfinite(padded)
    count = known.sum(axis=2)
    return np.where(count, np.where(known, padded, 0).sum(axis=2) / np.maximum(count, 1), np.nan)


def plot_session(traces: Floats, rates: Floats, noise: Floats, frame_rate: float, *, levels: Sequence[int] = (), title: str = "") -> Figure:
    """One page of a session: three traces with rates, the noise levels, and the map of all rates given.

    Parameters
    ----------
    traces, rates : (neurons, frames), the same excerpt of both; the liveliest three rows are shown as traces.
    noise : noise levels of all neurons, % s^1/2.
    """
    figure = _figure(12, 8)
    names = ("first", "second", "third")
    layout = [[name, "noise"] for name in names] + [["map", "map"]]
    places: dict[str, Axes] = figure.subplot_mosaic(layout, width_ratios=(2, 1), height_ratios=(1, 1, 1, 2.2))
    liveliest = np.argsort(np.nan_to_num(rates).sum(axis=1))[::-1][: len(names)]
    last = int(EXCERPT_S * frame_rate)
    for name, row in zip(names, liveliest, strict=False):
        _draw_trace(places[name], traces[row, :last], rates[row, :last], frame_rate)
        places[name].set_title(f"neuron {row}", fontsize=9, loc="left")
        places[name].set_xlabel("time (s)" if row == liveliest[-1] else "")
    for name in names[len(liveliest) :]:
        places[name].set_axis_off()
    _draw_noise(places["noise"], noise, levels)
    _draw_map(figure, places["map"], rates, frame_rate)
    figure.suptitle(title)
    return figure


def _figure(width: float, height: float) -> Figure:
    """A figure of so many inches that renders without a display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
