"""Blobs that grew together, parted at their saddles: an option of extraction."""

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from blockwise.errors import ConfigError, InputError
from tasks.synful.union_find import root_of

Labels = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]
Parents = npt.NDArray[np.int32] | Ints


def split_component(
    probability_crop: npt.NDArray[Any],
    member_crop: npt.NDArray[np.bool_],
    voxel_size: Sequence[float],
    *,
    min_distance_nm: float,
    prominence: float,
) -> Labels:
    """Part a component, or many at once, into its hills.

    Voxels are flooded from the highest downwards. Where two hills meet, they become one if the lower peak stands less than `prominence`
    above that saddle, or if the two peaks are less than `min_distance_nm` apart; otherwise both go on by themselves. A voxel between two
    goes to the one whose peak is higher. Hills are 6-connected, so what was one component stays one wherever it is not parted.

    Parameters
    ----------
    probability_crop : (z, y, x) of a component's box or of a whole block, in any units.
    member_crop : (z, y, x), the voxels of the component, or of all that lie above a threshold: what does not touch never becomes one.
    voxel_size : nm, z y x.
    min_distance_nm : 0 or more.  prominence : 0 or more, in the units of the probability.

    Returns
    -------
    (z, y, x) int32: 0 outside the component, hills numbered from 1 in the raster order of their first voxels.

    Raises
    ------
    InputError : crops of different shapes.  ConfigError : a bound below 0.
    """
    if probability_crop.shape != member_crop.shape or probability_crop.ndim != 3:
        raise InputError(f"probability {probability_crop.shape} and members {member_crop.shape} must be (z, y, x) and alike")
    if not (min_distance_nm >= 0 and prominence >= 0):
        raise ConfigError(f"min_distance_nm = {min_distance_nm} and prominence = {prominence} must be 0 or more")
    heights = np.ascontiguousarray(probability_crop).view()
    heights.flags.writeable = False  # one type for the compiler, whoever owns the crop
    voxels = np.flatnonzero(member_crop)
    order = voxels[np.argsort(-heights.reshape(-1)[voxels].astype(np.float64), kind="stable")]
    parents = np.full(heights.size, -1, np.int32 if heights.size < 2**31 else np.int64)
    return _flood(heights, order, parents, np.asarray(voxel_size, np.float64), (float(min_distance_nm) ** 2, float(prominence)))


@numba.njit(cache=True, nogil=True)
def _square(a: int, b: int, shape: tuple[int, int, int], size: npt.NDArray[np.float64]) -> float:
    """Squared distance in nm of two voxels, given by their place in raster order."""
    section = shape[1] * shape[2]
    z = (a // section - b // section) * size[0]
    y = (a % section // shape[2] - b % section // shape[2]) * size[1]
    x = (a % shape[2] - b % shape[2]) * size[2]
    return z * z + y * y + x * x


@numba.njit(cache=True, nogil=True)
def _flood(heights: npt.NDArray[Any], order: Ints, parents: Parents, size: npt.NDArray[np.float64], bounds: tuple[float, float]) -> Labels:
    """A root is the highest voxel of its hill, the first of several in raster order; `order` runs downwards."""
    square, prominence = bounds
    shape, flat = heights.shape, heights.reshape(-1)
    hills = np.empty(6, np.int64)
    for voxel in order:
        parents[voxel] = voxel
        met = _hills_around(voxel, shape, parents, hills)
        if met == 0:
            continue
        highest = _highest(hills[:met], flat)
        parents[voxel] = highest
        for hill in hills[:met]:
            low = float(flat[hill]) - float(flat[voxel]) < prominence
            if hill != highest and (low or _square(hill, highest, shape, size) < square):
                parents[hill] = highest
    return _numbered(parents, shape)


@numba.njit(cache=True, nogil=True)
def _hills_around(voxel: int, shape: tuple[int, int, int], parents: Parents, hills: Ints) -> int:
    """Write the roots of flooded neighbours into `hills`; how many."""
    section, row = shape[1] * shape[2], shape[2]
    z, y, x = voxel // section, voxel % section // row, voxel % row
    met = 0
    for step, there in (
        (-section, z > 0),
        (-row, y > 0),
        (-1, x > 0),
        (1, x + 1 < shape[2]),
        (row, y + 1 < shape[1]),
        (section, z + 1 < shape[0]),
    ):
        if there and parents[voxel + step] >= 0:
            hills[met] = root_of(parents, voxel + step)
            met += 1
    return met


@numba.njit(cache=True, nogil=True)
def _highest(hills: Ints, flat: npt.NDArray[Any]) -> int:
    best = hills[0]
    for hill in hills[1:]:
        if flat[hill] > flat[best] or (flat[hill] == flat[best] and hill < best):
            best = hill
    return best


@numba.njit(cache=True, nogil=True)
def _numbered(parents: Parents, shape: tuple[int, int, int]) -> Labels:
    """Hills in the raster order of their first voxels; a root's label is given with the first voxel of its hill."""
    labels = np.zeros(parents.size, np.int32)
    count = 0
    for voxel in range(parents.size):
        if parents[voxel] >= 0:
            root = root_of(parents, voxel)
            if labels[root] == 0:
                count += 1
                labels[root] = count
            labels[voxel] = labels[root]
    return labels.reshape(shape)
