"""Targets of training, drawn from points after augmentation (spec 5.2 points 8 and 9, 5.3).

The indicator of post-synaptic sites, and the map of vectors to their partners.

A box is a `Region` in voxels of the cube's world: voxel v begins at v * voxel_size nm. Points are (n, 3) nm, z y x.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from blockwise.errors import InputError
from blockwise.geometry import Region

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Labels:
    """A segmentation and the voxel of the world where it begins.

    values : (z, y, x) integers.
    """

    values: Array
    begin: tuple[int, int, int] = (0, 0, 0)

    @property
    def region(self) -> Region:
        return Region(self.begin, tuple(b + n for b, n in zip(self.begin, self.values.shape, strict=True)))

    def within(self, region: Region) -> npt.NDArray[np.uint64]:
        """Labels of a region, (z, y, x) uint64 and contiguous; 0 where there are none."""
        common = region.intersect(self.region)
        if common == region:
            return np.ascontiguousarray(self.values[common.shift([-b for b in self.begin]).slices], np.uint64)
        found = np.zeros(region.shape, np.uint64)
        if common.size:
            found[common.shift([-b for b in region.begin]).slices] = self.values[common.shift([-b for b in self.begin]).slices]
        return found


def rasterize_points(
    points: npt.ArrayLike, region: Region, voxel_size: Sequence[float], *, radius: float, labels: Labels | None = None
) -> npt.NDArray[np.uint8]:
    """The indicator: 1 within `radius` of a point, 0 elsewhere.

    Parameters
    ----------
    points : (n, 3) nm.  A point just outside the region reaches into it.
    voxel_size : nm, z y x.
    radius : nm, reached included; distances are between voxels, a point is at the voxel it lies in.
    labels : a ball ends where the label at its point does, and a point on label 0 has none.

    Returns
    -------
    (z, y, x) uint8 of `region.shape`.
    """
    from tasks.synful.training.stamps import NOBODY, stamp_owners

    grown = _grown(region, voxel_size, radius)
    voxels = _voxels(points, voxel_size)
    if labels is not None:
        grown = grown.intersect(labels.region)
    voxels = voxels[_inside(voxels, grown)] - grown.begin
    bounds = _no_labels() if labels is None else labels.within(grown)
    if labels is not None:
        voxels = voxels[bounds[tuple(voxels.T)] != 0]
    owner = np.full(grown.shape, NOBODY, np.int32)
    stamp_owners(owner, voxels, np.square(voxel_size, dtype=np.float64), float(radius), bounds)
    return _cropped(owner != NOBODY, grown, region).view(np.uint8)


def rasterize_peaks(points: npt.ArrayLike, region: Region, voxel_size: Sequence[float], *, radius: float) -> npt.NDArray[np.float32]:
    """The indicator as Gaussian peaks, `blob_mode = "peak"`: sigma is `radius` nm, the largest value of the region 1.

    Returns
    -------
    (z, y, x) float32 of `region.shape`.
    """
    from scipy.ndimage import gaussian_filter

    grown = _grown(region, voxel_size, 2 * radius)
    voxels = _voxels(points, voxel_size)
    marks = np.zeros(grown.shape, np.float32)
    marks[tuple((voxels[_inside(voxels, grown)] - grown.begin).T)] = 1
    peaks = gaussian_filter(marks, [radius / n for n in voxel_size], mode="constant")
    highest = peaks.max(initial=0)
    return _cropped(peaks / highest if highest > 0 else peaks, grown, region)


def partner_vectors(
    post: npt.ArrayLike,
    pre: npt.ArrayLike,
    region: Region,
    voxel_size: Sequence[float],
    *,
    radius: float,
    target_context: float = 0.0,
    labels: Labels | None = None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Vectors from the voxels around each post-synaptic site to its partner (spec 5.3).

    Parameters
    ----------
    post, pre : (n, 3) nm, row i a pair; NaN in `pre` where the partner is not known: such a site is left out.
    radius : nm, of the ball around each post site.
    target_context : nm; a pair whose pre site lies further than this outside the region grown by `radius` is left out.
    labels : a ball ends where the label at its site does; label 0 counts as one.

    Returns
    -------
    vectors : (3, z, y, x) float32 nm, from the begin of each voxel to the pre site; 0 where no ball is.
    mask : (z, y, x) uint8, 1 in the balls.

    A voxel that several balls cover goes to the nearest site of all, whether its own ball covers it or not.
    """
    from tasks.synful.training.stamps import NOBODY, point_to, share_out, stamp_owners

    post, pre = _pairs(post, pre)
    sources, size = _grown(region, voxel_size, ceil(radius)), np.asarray(voxel_size, np.float64)
    if labels is not None:
        sources = sources.intersect(labels.region)
    voxels = _voxels(post, voxel_size)
    kept = _inside(voxels, sources) & _near(post, region, size, ceil(radius)) & _near(pre, region, size, ceil(radius) + target_context)
    centres = voxels[kept] - sources.begin
    owner = np.full(sources.shape, NOBODY, np.int32)
    stamp_owners(owner, centres, size**2, float(radius), _no_labels() if labels is None else labels.within(sources))
    boxes = _boxes(centres, size, radius, sources.shape)
    share_out(owner, boxes, centres, size**2)
    vectors, mask = np.zeros((3, *region.shape), np.float32), np.zeros(region.shape, np.uint8)
    corner = np.subtract(region.begin, sources.begin).astype(np.int64)
    point_to(vectors, mask, owner, corner, boxes, pre[kept] - np.multiply(region.begin, size), size)
    return vectors, mask


def _pairs(post: npt.ArrayLike, pre: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Both ends as (n, 3) float64.

    Raises
    ------
    InputError : not as many of one as of the other.
    """
    ends = [np.asarray(p, np.float64).reshape(-1, 3) for p in (post, pre)]
    if len(ends[0]) != len(ends[1]):
        raise InputError(f"{len(ends[0])} post sites and {len(ends[1])} pre sites: row i of one must be the partner of row i of the other")
    return ends[0], ends[1]


def _voxels(points: npt.ArrayLike, voxel_size: Sequence[float]) -> npt.NDArray[np.int64]:
    return np.trunc(np.asarray(points, np.float64).reshape(-1, 3) / np.asarray(voxel_size, np.float64)).astype(np.int64)


def _grown(region: Region, voxel_size: Sequence[float], by: float) -> Region:
    """A region with so many nm around it, in whole voxels."""
    voxels = [ceil(by / n) for n in voxel_size]
    return region.grow(voxels, voxels)


def _inside(voxels: npt.NDArray[np.int64], region: Region) -> npt.NDArray[np.bool_]:
    return np.asarray(((voxels >= region.begin) & (voxels < region.end)).all(axis=1))


def _near(points: npt.NDArray[np.float64], region: Region, size: npt.NDArray[np.float64], within: float) -> npt.NDArray[np.bool_]:
    """Whether points lie in a region grown by so many nm, a whole number of voxels or not; a NaN does not."""
    return np.asarray(((points >= region.begin * size - within) & (points < region.end * size + within)).all(axis=1))


def _no_labels() -> npt.NDArray[np.uint64]:
    return np.zeros((0, 0, 0), np.uint64)


def _cropped(values: Array, grown: Region, region: Region) -> Array:
    """The part of `values` (of `grown`) that is `region`; 0 where `grown` has none of it."""
    common = region.intersect(grown)
    found = values[common.shift([-b for b in grown.begin]).slices]
    if common == region:
        return np.ascontiguousarray(found)
    whole = np.zeros(region.shape, values.dtype)
    whole[common.shift([-b for b in region.begin]).slices] = found
    return whole


def _boxes(centres: npt.NDArray[np.int64], size: npt.NDArray[np.float64], radius: float, shape: Sequence[int]) -> npt.NDArray[np.int64]:
    """Begin and end of every ball's box, (n, 6), cut at the volume's faces."""
    reach = np.floor(radius / size).astype(np.int64)
    return np.concatenate([np.clip(centres - reach, 0, shape), np.clip(centres + reach + 1, 0, shape)], axis=1)
