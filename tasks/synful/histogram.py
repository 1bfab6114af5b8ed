"""Grey values of a raw volume: counts per block that add up, percentiles from counts, a cheap sample, and how it compares with training.

Counts of two blocks are added, so a stage over blocks finds the global percentiles in any order. Zeros are not counted: they are padding,
missing sections and what was masked, and a volume that is half black has no other contrast. The reference, `raw_percentiles` of a
model, maps percents to values of the network's scale: 0 to 1, before they become -1 to 1.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from blockwise.errors import InputError
from blockwise.geometry import Region

BINS: int = 4096
"""Of values that are not uint8."""

REPORTED = (1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0)
"""Percents that are shown and matched."""

SAMPLES: int = 64
SAMPLE_SHAPE = (1, 256, 256)
SAMPLE_BYTES: int = 2**30
"""Most bytes that a sample reads from a source, whole chunks or pages counted."""

SPREAD: float = 1.2207440846057596
"""Root of x^4 = x + 1: multiples of its negative powers, modulo 1, fill a cube evenly (Roberts 2018)."""

WARN_OFF, REFUSE_OFF = 0.10, 0.30
"""Relative deviation of a voxel side from training that is warned of, and refused."""

MEDIAN_OFF, SPREAD_OFF = 0.1, 1.5
"""Distance of medians, and ratio of the 5 to 95 % ranges, above which another normalisation is advised."""

FULL_SCALE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
"""What is divided by before the network sees it (spec 1.5)."""

BARS = " ▁▂▃▄▅▆▇█"

Array = npt.NDArray[Any]
Counts = npt.NDArray[np.int64]
Percentiles = Mapping[float, float]


@dataclass(frozen=True, slots=True)
class Bins:
    """`count` bins of equal width from `low` to `high`; values outside count in the first and last."""

    low: float
    high: float
    count: int

    @property
    def width(self) -> float:
        return (self.high - self.low) / self.count

    def places(self, values: Array) -> npt.NDArray[np.int64]:
        """The bin of every value."""
        scaled = np.floor((values.astype(np.float64) - self.low) / self.width)
        return np.clip(scaled, 0, self.count - 1).astype(np.int64)


def bins_for(dtype: npt.DTypeLike, extent: tuple[float, float]) -> Bins:
    """Bins for grey values of a dtype: one per value of uint8, else `BINS` over the extent of a sample and half of it on either side."""
    if np.dtype(dtype) == np.uint8:
        return Bins(-0.5, 255.5, 256)
    low, high = extent
    margin = (high - low) / 2 or 1.0
    return Bins(low - margin, high + margin, BINS)


def section_counts(raw: Array, bins: Bins) -> Counts:
    """Counts of a block by section, (z, bins); zeros and NaN are left out. The sum over the sections is the block's.

    Parameters
    ----------
    raw : (z, y, x), as it lies in the volume: no padding.
    """
    return np.stack([_counts(section, bins) for section in raw]) if len(raw) else np.zeros((0, bins.count), np.int64)


def block_counts(raw: Array, bins: Bins) -> Counts:
    """Counts of a block, (bins,); see `section_counts`."""
    return _counts(raw, bins)


def _counts(raw: Array, bins: Bins) -> Counts:
    if raw.dtype == np.uint8 and bins.count == 256:
        counts = np.bincount(raw.reshape(-1), minlength=256)
        counts[0] = 0
        return counts.astype(np.int64)
    values = raw[(raw != 0) & (raw == raw)]
    return np.bincount(bins.places(values), minlength=bins.count).astype(np.int64)


def combine(counts: Iterable[Counts]) -> Counts:
    """Counts of many blocks as one."""
    total: Counts | None = None
    for block in counts:
        total = block.copy() if total is None else np.add(total, block, out=total)
    if total is None:
        raise InputError("no block was counted: there are no grey values to take percentiles of")
    return total


def percentiles(counts: Counts, bins: Bins, percents: Sequence[float]) -> npt.NDArray[np.float64]:
    """Values below which the given percents of what was counted lie, linear within a bin; NaN where nothing was counted."""
    total = counts.sum()
    if not total:
        return np.full(len(percents), np.nan)
    filled = np.flatnonzero(counts)
    after = np.cumsum(counts)[filled]
    ranks = np.stack([after - counts[filled], after], axis=1)
    values = bins.low + bins.width * np.stack([filled, filled + 1], axis=1)
    return np.asarray(np.interp(np.asarray(percents) / 100 * total, ranks.ravel(), values.ravel()))


class Readable(Protocol):
    """What a sample is taken of; `tasks.synful.raw.RawReader` is one."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def chunks(self) -> tuple[int, ...] | None: ...
    def inside(self, region: Region) -> Array: ...


@dataclass(frozen=True, slots=True, eq=False)
class RawHistogram:
    """Counts of a sample.

    extent : least and largest value found, zeros included.  full_scale : the value that is 1 to the network, None for dtypes without one.
    voxels, places : how much was read, and at how many places.
    """

    bins: Bins
    counts: Counts
    extent: tuple[float, float]
    full_scale: float | None
    voxels: int
    places: int

    def percentiles(self, percents: Sequence[float] = REPORTED) -> dict[float, float]:
        """On the network's scale, 0 to 1; on the extent of the sample for dtypes without one."""
        low, high = (0.0, self.full_scale) if self.full_scale else self.extent
        values = (percentiles(self.counts, self.bins, percents) - low) / ((high - low) or 1.0)
        return dict(zip(percents, map(float, values), strict=True))


def sample_regions(shape: Sequence[int], itemsize: int, chunks: Sequence[int] | None = None) -> list[Region]:
    """Up to `SAMPLES` small regions, evenly spread and the same every time, that touch at most `SAMPLE_BYTES` (but at least 4 regions)."""
    box = tuple(min(n, b) for n, b in zip(shape, SAMPLE_SHAPE, strict=True))
    touched = itemsize * prod(min(n, (b // c + 2) * c) if c > 1 else b for n, b, c in zip(shape, box, chunks or (1, 1, 1), strict=True))
    count = min(SAMPLES, max(4, SAMPLE_BYTES // touched))
    spread = np.arange(1, count + 1)[:, None] * SPREAD ** -np.arange(1, len(shape) + 1) % 1
    begins = np.unique(np.floor(spread * (np.subtract(shape, box) + 1)).astype(int), axis=0)
    return [Region(tuple(b), tuple(np.add(b, box).tolist())) for b in begins.tolist()]


def sample_histogram(raw: Readable) -> RawHistogram:
    """Grey values at a few places of a volume, in seconds whatever its size.

    Raises
    ------
    InputError : every sampled voxel is 0.
    """
    regions = sample_regions(raw.shape, raw.dtype.itemsize, raw.chunks)
    values = np.concatenate([raw.inside(r).reshape(-1) for r in regions])
    if not values.any():
        raise InputError(f"all of {values.size} voxels sampled at {len(regions)} places are 0: is this the raw volume?")
    extent = float(np.nanmin(values)), float(np.nanmax(values))
    bins = bins_for(raw.dtype, extent)
    return RawHistogram(bins, block_counts(values, bins), extent, FULL_SCALE.get(raw.dtype.name), values.size, len(regions))


def histogram_text(found: RawHistogram, trained: Percentiles | None) -> list[str]:
    """Lines for the plan: the grey values of the volume as bars from 0 to 1 and as percentiles, those of the training below."""
    figures = found.percentiles()
    fine = found.percentiles(tuple(range(101)))
    lines = [f"raw      {sparkline(fine)}  {_figures(figures)}  ({found.voxels:,} voxels at {found.places} places)"]
    if not trained:
        return [*lines, "trained  no raw_percentiles are stored with the model, so contrast cannot be compared"]
    return [*lines, f"trained  {sparkline(trained)}  {_figures(trained)}"]


def _figures(values: Percentiles) -> str:
    return "  ".join(f"{p:g} % {values[p]:.2f}" for p in sorted(values) if p in REPORTED)


def sparkline(values: Percentiles, bars: int = 32) -> str:
    """How much lies where between 0 and 1, as one line of bars, from percentiles."""
    percents = sorted(values)
    edges = np.linspace(0, 1, bars + 1)
    below = np.interp(edges, [values[p] for p in percents], percents, left=0, right=100)
    heights = np.diff(below) / max(np.diff(below).max(), 1e-9) * (len(BARS) - 1)
    return "".join(BARS[int(np.ceil(h - 1e-9))] for h in heights)


def contrast_remarks(found: RawHistogram, trained: Percentiles | None) -> list[str]:
    """Sentences to warn with where the grey values are far from those of the training; empty where they are near or nothing is known."""
    if not trained or not {5.0, 50.0, 95.0} <= set(trained):
        return []
    ours = found.percentiles((5.0, 50.0, 95.0))
    advice = 'set normalize = "match" in [options.volume], and look at a proof sheet'
    remarks = []
    if abs(ours[50.0] - trained[50.0]) > MEDIAN_OFF:
        remarks.append(f"the median grey value is {ours[50.0]:.2f}, the network was trained at {trained[50.0]:.2f}: {advice}")
    ratio = (ours[95.0] - ours[5.0]) / (trained[95.0] - trained[5.0])
    if not 1 / SPREAD_OFF <= ratio <= SPREAD_OFF:
        remarks.append(f"the contrast (5 to 95 %) is {ratio:.2f} times that of the training: {advice}")
    return remarks


def check_voxel_size(found: Sequence[float], trained: Sequence[float], *, resample: bool = False) -> list[str]:
    """Whether a network fits a volume's voxels.

    Parameters
    ----------
    found, trained : nm, z y x.
    resample : whether the volume is resampled to the trained size when it is read.

    Returns
    -------
    Sentences to warn with, empty within 10 %.

    Raises
    ------
    InputError : a side is off by more than 30 % and the volume is not resampled; gives both sizes.
    """
    off = max(abs(f / t - 1) for f, t in zip(found, trained, strict=True))
    sizes = f"the volume's voxels are {_sides(found)} nm, the network was trained at {_sides(trained)} nm"
    if off <= WARN_OFF:
        return []
    if resample:
        return [f"{sizes}: the volume is resampled when it is read"]
    if off > REFUSE_OFF:
        raise InputError(f"{sizes}, {off:.0%} off: set [input] resample = true, or correct [input] voxel_size")
    return [f"{sizes}, {off:.0%} off: results may suffer; [input] resample = true resamples when reading"]


def _sides(voxel_size: Sequence[float]) -> str:
    return " x ".join(f"{v:g}" for v in voxel_size)
