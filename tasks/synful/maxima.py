"""Local maxima in an ellipsoid around them (non-maximum suppression, spec 6.2), looked for among voxels above a threshold only.

A voxel is a maximum where no other within the radius is larger; neighbours are asked nearest first, so that almost every voxel is done
after a few. The original reflects the volume at its borders: a reflected voxel is always nearer than the one it mirrors, hence
never adds a neighbour, and leaving the outside out is the same. Maxima that touch by faces (plateaus) are one.
"""

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from blockwise.errors import InputError
from tasks.synful.labelling import Components, Floats, Indices, Ints, Runs, connected, extents, frozen, grown, mass_sums, runs_above

Box = tuple[slice, ...]


def find_maxima(
    probability: npt.NDArray[Any],
    voxel_size: Sequence[float],
    radius: Sequence[float],
    *,
    threshold: float = 0,
    sigma: Sequence[float] | None = None,
) -> tuple[Floats, npt.NDArray[Any]]:
    """Centres and values of the local maxima of a volume.

    Parameters
    ----------
    probability : (z, y, x) of float32, float64 or integers.
    voxel_size, radius : z y x, nm; the radii are those of the ellipsoid, rounded up to voxels.
    threshold : only values above it, and above 0, are maxima.
    sigma : z y x, nm, of a Gaussian that smooths the volume first, zeros taken for what lies outside.

    Returns
    -------
    centres : (n, 3) float64, z y x, voxels: centres of mass of the plateaus, in the raster order of their first voxels.
    values : (n,) of the (smoothed) volume.

    Raises
    ------
    InputError : a radius that is not positive, a threshold that is not finite.
    """
    volume = probability if sigma is None else smoothed(probability, voxel_size, sigma)
    plateaus = maxima_above(volume, threshold, radius_voxels(voxel_size, radius))
    *_, first, voxels = extents(plateaus)
    return mass_sums(plateaus) / voxels[:, None], volume[tuple(first.T)]


def maxima_above(volume: npt.NDArray[Any], threshold: float, radius: tuple[int, int, int], box: Box | None = None) -> Components:
    """Plateaus of local maxima above a threshold and 0, the radius in voxels; those in a box of the volume, if one is given."""
    looked_at = volume if box is None else np.zeros_like(volume)
    if box is not None:
        looked_at[box] = volume[box]
    candidates = runs_above(looked_at, max(threshold, 0))
    first, begin, end = _maximal(frozen(volume), candidates, neighbours(radius))
    return connected(Runs(candidates.shape, first, begin, end))


def radius_voxels(voxel_size: Sequence[float], radius: Sequence[float]) -> tuple[int, int, int]:
    """Radii rounded up to voxels.

    Raises
    ------
    InputError : not three positive radii.
    """
    if len(radius) != 3 or not all(0 < r < np.inf for r in radius):
        raise InputError(f"radius {tuple(radius)}: three positive numbers are wanted, z y x in nm, e.g. (40, 40, 40)")
    z, y, x = (int(np.ceil(r / s)) for r, s in zip(radius, voxel_size, strict=True))
    return z, y, x


def neighbours(radius: tuple[int, int, int]) -> Indices:
    """Offsets (n, 3) of the ellipsoid sum((d / r)^2) <= 1 without its centre, nearest first in voxels."""
    offsets = np.stack(np.meshgrid(*[np.arange(-r, r + 1) for r in radius], indexing="ij"), -1).reshape(-1, 3)
    distances = (offsets**2).sum(axis=1)
    within = (((offsets / radius) ** 2).sum(axis=1) <= 1) & (distances > 0)
    return offsets[within][np.argsort(distances[within], kind="stable")].astype(np.int32)


def smoothed(volume: npt.NDArray[Any], voxel_size: Sequence[float], sigma: Sequence[float]) -> npt.NDArray[Any]:
    """A volume after a Gaussian, sigma z y x in nm."""
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(volume, [s / v for s, v in zip(sigma, voxel_size, strict=True)], mode="constant"))


@numba.njit(cache=True, nogil=True)
def _maximal(volume: npt.NDArray[Any], runs: Runs, offsets: Indices) -> tuple[Ints, Indices, Indices]:
    """What of the runs is a maximum."""
    height, width = volume.shape[1:]
    first = runs.first
    kept = np.zeros_like(first)
    begins, ends = np.empty(width + 1024, np.int32), np.empty(width + 1024, np.int32)
    n = 0
    for row in range(len(first) - 1):
        if n + width > len(begins):
            begins, ends = grown(begins), grown(ends)
        for run in range(first[row], first[row + 1]):
            n = _keep(volume, (row // height, row % height), runs.begin[run], runs.end[run], offsets, begins, ends, n)
        kept[row + 1] = n
    return kept, begins[:n].copy(), ends[:n].copy()


@numba.njit(cache=True, nogil=True)
def _keep(
    volume: npt.NDArray[Any], row: tuple[int, int], start: int, stop: int, offsets: Indices, begins: Indices, ends: Indices, n: int
) -> int:
    """Append the maxima of one run to the n found so far; their number."""
    x = start
    while x < stop:
        if _is_maximum(volume, row[0], row[1], x, offsets):
            begins[n] = x
            while x < stop and _is_maximum(volume, row[0], row[1], x, offsets):
                x += 1
            ends[n] = x
            n += 1
        x += 1
    return n


@numba.njit(cache=True, nogil=True)
def _is_maximum(volume: npt.NDArray[Any], z: int, y: int, x: int, offsets: Indices) -> bool:
    depth, height, width = volume.shape
    value = volume[z, y, x]
    for i in range(len(offsets)):
        v, w, u = z + offsets[i, 0], y + offsets[i, 1], x + offsets[i, 2]
        if 0 <= v < depth and 0 <= w < height and 0 <= u < width and volume[v, w, u] > value:
            return False
    return True
