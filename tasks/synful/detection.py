"""Synaptic partners of predictions held in arrays, as the original's detection finds them (spec 6)."""

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from blockwise.errors import BlockwiseWarning, InputError
from tasks.synful.blobs import find_blobs, partners_of, require_choices
from tasks.synful.labelling import require_volume
from tasks.synful.partners import points

if TYPE_CHECKING:
    import pyarrow as pa


def detect(
    mask: npt.ArrayLike,
    vectors: npt.ArrayLike,
    voxel_size: Sequence[float],
    *,
    method: str = "cc",
    threshold: float,
    score: str = "sum",
    location: str = "edt",
    min_score: float | None = None,
    nms_radius: Sequence[float] | None = None,
    offset: Sequence[float] = (0, 0, 0),
) -> "pa.Table":
    """Find post-synaptic sites in a probability and the pre-synaptic sites that vectors at them point to.

    Parameters
    ----------
    mask : (z, y, x) of float32, float64 or integers: how likely a voxel is post-synaptic, 0..1, or scaled, e.g. uint8 of 0..255. NaN is
        background. It is not copied.
    vectors : (3, z, y, x), floats or integers: from each voxel to its pre-synaptic partner, z y x, nm. Stored vectors that have a `scale`
        must be divided by it first.
    voxel_size : z y x, nm.
    method : "cc", each 6-connected component above the threshold is a partner's site (spec 6.1), or "nms", each local maximum (spec 6.2).
    threshold : in the units of `mask`, strict: what equals it is background. It is compared in the mask's type, as NumPy does.
    score : for "cc", over the voxels of the component: "sum", "mean", "max" or "count". For "nms" the score is the maximum itself.
    location : for "cc", where in the component the site is: "edt", the voxel farthest from boundaries, as the original; "edt_padded", the
        same where the faces of the component's box are boundaries too; "centroid", its voxel nearest to the centre of mass; "peak", that of
        the highest value.
    min_score : only partners of a larger score are kept (strict; `evaluate` includes its `min_score`).
    nms_radius : z y x, nm, for "nms": no other maximum within this ellipsoid.
    offset : world coordinates of voxel 0, nm.

    Returns
    -------
    A table of partners (`tasks.synful.partners`): id, pre_z, pre_y, pre_x, post_z, post_y, post_x (int64 nm, world), score; in the raster
    order of the components' first voxels. Pre sites are rounded, half to even, to voxels; they may lie outside the volume. The id is the
    Cantor number of floor(post / voxel_size).

    Raises
    ------
    InputError : arrays whose shapes, types or values do not fit, a voxel size that is not positive, a negative offset.
    ConfigError : an unknown method, score or location, or "nms" without a radius.

    Warns
    -----
    BlockwiseWarning : a threshold that looks as if it were in other units than the mask.

    Source: Buhmann et al. 2021, Nature Methods 18, 771, and the code published with it.
    """
    mask, vectors = np.asarray(mask), np.asarray(vectors)
    require_choices(method, score, location, nms_radius)
    require_volume(mask, "mask")
    _require_vectors(mask, vectors)
    _require_geometry(voxel_size, offset)
    _warn_of_units(mask, threshold)
    blobs = find_blobs(
        mask,
        method=method,
        threshold=threshold,
        score=score,
        location=location,
        voxel_size=voxel_size,
        nms_radius=nms_radius,
        min_score=min_score,
    )
    return partners_of(blobs, vectors, voxel_size, offset)


def remove_close(partners: "pa.Table", min_distance_nm: float) -> "pa.Table":
    """Partners whose two sites are at least so far apart; the scores of those that go, go with them (spec 6.3, bug 10)."""
    apart = np.linalg.norm((points(partners, "pre") - points(partners, "post")).astype(np.float64), axis=1)
    return partners.filter(apart >= min_distance_nm)


def _require_vectors(mask: npt.NDArray[Any], vectors: npt.NDArray[Any]) -> None:
    if vectors.shape != (3, *mask.shape):
        last = vectors.shape == (*mask.shape, 3)
        fix = "its components stand last: use numpy.moveaxis(vectors, -1, 0)" if last else "both must cover the same voxels"
        raise InputError(f"vectors of shape {vectors.shape} for a mask of shape {mask.shape}: {(3, *mask.shape)} is wanted; {fix}")


def _require_geometry(voxel_size: Sequence[float], offset: Sequence[float]) -> None:
    if len(voxel_size) != 3 or not all(0 < s < math.inf for s in voxel_size):
        raise InputError(f"voxel_size {tuple(voxel_size)}: three positive numbers are wanted, z y x in nm, e.g. (40, 4, 4)")
    if len(offset) != 3 or not all(0 <= o < math.inf for o in offset):
        raise InputError(f"offset {tuple(offset)}: three numbers >= 0 are wanted, z y x in nm; ids are made of coordinates >= 0")


def _warn_of_units(mask: npt.NDArray[Any], threshold: float) -> None:
    """A fraction for a mask of whole numbers, or the reverse: certain enough to say, not to refuse."""
    if mask.dtype.kind in "iu" and 0 < threshold < 1 and mask.size and mask.max() > 1:
        full = np.iinfo(mask.dtype).max
        said = f"threshold {threshold} for a mask of {mask.dtype} that reaches {mask.max()}: thresholds are in the mask's units"
        warnings.warn(f"{said}; {threshold} of the full scale is {threshold * full:g}", BlockwiseWarning, stacklevel=3)
    if mask.dtype.kind == "f" and threshold > 1 and mask.size and (reached := np.fmax.reduce(mask, axis=None)) <= 1:
        said = f"threshold {threshold} for a mask of {mask.dtype} that reaches {reached:g}: thresholds are in the mask's units"
        warnings.warn(f"{said}; {threshold:g} of 255 is {threshold / 255:.3g}", BlockwiseWarning, stacklevel=3)
