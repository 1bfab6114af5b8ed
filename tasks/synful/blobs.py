"""Blobs of a post-synaptic probability: components or local maxima with their boxes, sites and scores, and the partners they point to.

What stands here is in voxels of an array, which may be a block of a data set. `partners_of` places it in the data set: the same blob
read in two blocks, or in the whole volume, gives the same row.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import numpy.typing as npt

from blockwise.errors import ConfigError, InputError
from tasks.synful import partners
from tasks.synful.labelling import Components, Floats, Ints, components_above, extents, frozen, mass_sums, require_volume, voxels_within
from tasks.synful.location import LOCATIONS, locate
from tasks.synful.maxima import Box, maxima_above, radius_voxels

if TYPE_CHECKING:
    import pyarrow as pa

METHODS = ("cc", "nms")
SCORES = ("sum", "mean", "max", "count")

ROUNDING = 1e-6
"""Voxels: what a quotient of floats may be off."""


@dataclass(frozen=True)
class Blobs:
    """n blobs in the raster order of their first voxels; coordinates z y x in voxels of the array.

    Attributes
    ----------
    begin, end : (n, 3) int64, the tight box, half-open. Of a local maximum the box of its plateau: what decided it lies up to the
        radius around, so a block that must be sure of it grows the box by the radius.
    first : (n, 3) int64, the first voxel in raster order.
    voxel : (n, 3) int64, the post-synaptic site: where vectors are read.
    post_nm : (n, 3) int64, the site in nm from the array's first voxel; of a plateau its centre of mass, truncated.
    score : (n,) float64.
    voxels : (n,) int64, how many there are.
    """

    begin: Ints
    end: Ints
    first: Ints
    voxel: Ints
    post_nm: Ints
    score: Floats
    voxels: Ints

    def __len__(self) -> int:
        return len(self.score)

    def take(self, index: npt.ArrayLike) -> "Blobs":
        """Those of an index or a mask, as NumPy takes rows."""
        return Blobs(*(getattr(self, f.name)[np.asarray(index)] for f in fields(self)))


def find_blobs(
    mask: npt.NDArray[Any],
    *,
    method: str = "cc",
    threshold: float,
    score: str = "sum",
    location: str = "edt",
    voxel_size: Sequence[float],
    nms_radius: Sequence[float] | None = None,
    min_score: float | None = None,
    box: Box | None = None,
) -> Blobs:
    """Blobs of an array.

    Parameters
    ----------
    mask : (z, y, x) of float32, float64 or integers, not copied; NaN is background.
    method : "cc", 6-connected components above the threshold (spec 6.1), or "nms", local maxima above it (spec 6.2).
    threshold : in the units of `mask`, strict.
    score : over the component's voxels: "sum", "mean", "max" or "count". A local maximum's score is its value, whatever is said here.
    location : "edt", "edt_padded", "centroid" or "peak", see `tasks.synful.location.locate`. A local maximum stands at its centre.
    voxel_size : z y x, nm.
    nms_radius : z y x, nm, for "nms".
    min_score : only blobs of a larger score are returned.
    box : where voxels may be local maxima; what lies around it is looked at all the same.

    Raises
    ------
    ConfigError : an unknown method, score or location, or "nms" without a radius.
    InputError : a mask of another rank or type, a threshold that is not finite, a radius that is not positive.
    """
    require_choices(method, score, location, nms_radius)
    require_volume(mask, "mask")
    if method == "nms" and nms_radius is not None:
        found = _local_maxima(mask, threshold, voxel_size, nms_radius, box)
    else:
        found = _components(mask, threshold, score, location, voxel_size)
    return found if min_score is None else found.take(found.score > min_score)


def voxels_of(blobs: Blobs, index: int, mask: npt.NDArray[Any], threshold: float, radius: tuple[int, int, int] | None = None) -> Ints:
    """All voxels of a blob, (n, 3), in raster order.

    Parameters
    ----------
    mask, threshold : as for `find_blobs`, which found it.  radius : of local maxima, voxels.
    """
    around = (0, 0, 0) if radius is None else radius
    low = np.maximum(blobs.begin[index] - around, 0)
    crop = mask[tuple(slice(b, e) for b, e in zip(low, blobs.end[index] + around, strict=True))]
    box = tuple(slice(b, e) for b, e in zip(blobs.begin[index] - low, blobs.end[index] - low, strict=True))
    found = components_above(crop, threshold) if radius is None else maxima_above(crop, threshold, radius, box)
    own = np.flatnonzero((extents(found)[2] == blobs.first[index] - low).all(axis=1))
    return voxels_within(found, int(own[0])) + low


def partners_of(
    blobs: Blobs,
    vectors: npt.NDArray[Any],
    voxel_size: Sequence[float],
    offset: Sequence[float] = (0, 0, 0),
    begin: Sequence[int] = (0, 0, 0),
    *,
    vectors_scale: float = 1.0,
) -> "pa.Table":
    """The blobs and what they point to, in world coordinates.

    The pre-synaptic site is rounded, half to even, to voxels of the data set (spec 6.4), whatever block the array is.

    Parameters
    ----------
    blobs : of an array.
    vectors : (3, z, y, x), the array's vectors from post to pre, z y x, nm times `vectors_scale`; floats or integers.
    voxel_size : z y x, nm.
    offset : world coordinates of the data set's voxel 0, nm.
    begin : where the array begins in the data set, voxels.
    vectors_scale : what nm were multiplied by where vectors are stored, e.g. 0.25 in int8.

    Returns
    -------
    A table of partners (`tasks.synful.partners`), a row per blob, in their order.

    Raises
    ------
    InputError : a vector that is not finite at a site; a site of negative world coordinates, which has no id.
    """
    size, origin = np.asarray(voxel_size, np.float64), np.asarray(offset, np.float64)
    voxel = blobs.voxel + np.asarray(begin, np.int64)
    inside = blobs.post_nm - whole_nm(blobs.voxel * size)  # how far a plateau's centre lies in its voxel
    pre = np.rint((voxel * size + inside + _vectors_at(vectors, blobs.voxel) / vectors_scale) / size)
    post_nm = np.minimum(whole_nm(origin + voxel * size) + inside, whole_nm(origin + (voxel + 1) * size) - 1)
    ids = partners.cantor_ids(np.floor(post_nm / size + ROUNDING).astype(np.int64))
    return partners.table(whole_nm(origin + pre * size), post_nm, blobs.score, ids)


def require_choices(method: str, score: str, location: str, nms_radius: Sequence[float] | None) -> None:
    """Refuse options that `find_blobs` does not know.

    Raises
    ------
    ConfigError : an unknown method, score or location, with the nearest known one, or "nms" without a radius.
    """
    _require_choice("method", method, METHODS)
    _require_choice("score", score, SCORES)
    _require_choice("location", location, LOCATIONS)
    if method == "nms" and nms_radius is None:
        raise ConfigError('method "nms" needs nms_radius, z y x in nm, e.g. nms_radius=(40, 40, 40)')


def _require_choice(what: str, given: str, known: Sequence[str]) -> None:
    if given not in known:
        near = difflib.get_close_matches(str(given), known, 1, 0.3)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{what} {given!r} is not one of {', '.join(known)}{hint}")


def whole_nm(position: npt.NDArray[Any]) -> Ints:
    """Voxel corners in whole nm: exact where voxel sizes are whole, else rounded up, so that floor(nm / voxel size) is still the voxel."""
    return np.ceil(position - ROUNDING).astype(np.int64)


def _vectors_at(vectors: npt.NDArray[Any], voxel: Ints) -> Floats:
    found = np.asarray(vectors[:, voxel[:, 0], voxel[:, 1], voxel[:, 2]], np.float64).T
    if not np.isfinite(found).all():
        place = voxel[~np.isfinite(found).all(axis=1)][0]
        raise InputError(
            f"the vector at voxel {place.tolist()} is not finite; vectors are wanted in nm wherever the mask exceeds the threshold"
        )
    return found


def _components(mask: npt.NDArray[Any], threshold: float, score: str, location: str, voxel_size: Sequence[float]) -> Blobs:
    found = components_above(mask, threshold)
    begin, end, first, voxels = extents(found)
    voxel = locate(mask, threshold, found, (begin, end), voxel_size=voxel_size, kind=location)
    scores = _scores(mask, found, voxels, score)
    return Blobs(begin, end, first, voxel, whole_nm(voxel * np.asarray(voxel_size, np.float64)), scores, voxels)


def _scores(mask: npt.NDArray[Any], found: Components, voxels: Ints, kind: str) -> Floats:
    if kind == "count":
        return voxels.astype(np.float64)
    sums, maxima = _sums_and_maxima(frozen(mask), found)
    return {"sum": sums, "mean": sums / voxels, "max": maxima}[kind]


def _local_maxima(mask: npt.NDArray[Any], threshold: float, voxel_size: Sequence[float], radius: Sequence[float], box: Box | None) -> Blobs:
    found = maxima_above(mask, threshold, radius_voxels(voxel_size, radius), box)
    begin, end, first, voxels = extents(found)
    size, sums = np.asarray(voxel_size, np.float64), mass_sums(found)
    voxel = np.floor(sums / voxels[:, None]).astype(np.int64)
    inside = np.floor((sums - voxel * voxels[:, None]) * size / voxels[:, None]).astype(np.int64)
    values = np.asarray(mask[tuple(first.T)], np.float64)
    return Blobs(begin, end, first, voxel, whole_nm(voxel * size) + inside, values, voxels)


@numba.njit(cache=True, nogil=True)
def _sums_and_maxima(volume: npt.NDArray[Any], components: Components) -> tuple[Floats, Floats]:
    _, offsets, row, begin, end = components
    sums, maxima = np.zeros(len(offsets) - 1), np.full(len(offsets) - 1, -np.inf)
    height = volume.shape[1]
    for c in range(len(sums)):
        for run in range(offsets[c], offsets[c + 1]):
            values = volume[row[run] // height, row[run] % height]
            for x in range(begin[run], end[run]):
                sums[c] += values[x]
                maxima[c] = max(maxima[c], np.float64(values[x]))
    return sums, maxima
