"""Partners and other sites mapped to the segments of a segmentation, however large (spec 8.1)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from blockwise.storage import Source
from tasks.synful.bodies import Bodies, Unlisted, map_to_bodies
from tasks.synful.columns import nullable, with_columns
from tasks.synful.lookup import Rounding, placement_of, values_at, voxels_of
from tasks.synful.partners import POST, PRE, require

MEMORY: int = 256 * 2**20
"""Bytes of chunks under way, unless told otherwise."""


def map_to_segments(
    partners: pa.Table,
    segmentation: npt.NDArray[Any] | Source,
    *,
    voxel_size: Sequence[float] | None = None,
    offset: Sequence[float] | None = None,
    rounding: Rounding = "truncate",
    background: Sequence[int] = (),
    bodies: Bodies | None = None,
    unlisted: Unlisted = "null",
    memory: int = MEMORY,
) -> pa.Table:
    """Add `segment_pre` and `segment_post` (uint64, null outside the segmentation), and with `bodies` also `body_pre` and `body_post`.

    Columns that are there already are replaced, so that a new segmentation is a new call.

    Parameters
    ----------
    partners : sites in nm, world coordinates.
    segmentation : (z, y, x) integers, an array or an open source; a source is read chunk by chunk, each chunk once for both ends.
    voxel_size, offset : nm, z y x; the source's own where not given. An array needs a voxel size, its offset is 0 unless given.
    rounding : "truncate" (the voxel that holds the site) or "cremi" (the nearest corner); see `lookup.voxels_of`.
    background : ids that mean no segment, null too.
    bodies, unlisted : supervoxel -> body; see `bodies.map_to_bodies`.
    memory : bytes of chunks under way at once; one chunk is always allowed.

    Raises
    ------
    InputError : the volume is not one of ids, or has no voxel size.  StorageError : a chunk that cannot be read.
    """
    require(partners, (*PRE, *POST), "map_to_segments")
    size, begin = placement_of(segmentation, voxel_size, offset)
    n = partners.num_rows
    voxels = (
        np.concatenate([voxels_of(partners[name].to_numpy(), v, o, rounding) for name in ends])
        for *ends, v, o in zip(PRE, POST, size, begin, strict=True)
    )
    values, valid = values_at(segmentation, voxels, memory=memory)
    valid &= ~np.isin(values, np.array(background, np.uint64))
    mapped = with_columns(partners, {"segment_pre": nullable(values[:n], valid[:n]), "segment_post": nullable(values[n:], valid[n:])})
    return mapped if bodies is None else map_to_bodies(mapped, bodies, unlisted=unlisted)


def segments_at(
    positions_nm: npt.NDArray[Any],
    segmentation: npt.NDArray[Any] | Source,
    *,
    voxel_size: Sequence[float] | None = None,
    offset: Sequence[float] | None = None,
    rounding: Rounding = "truncate",
    memory: int = MEMORY,
) -> pa.Array:
    """Segments at positions (n, 3) nm, z y x: (n,) uint64, null outside. Parameters and errors as `map_to_segments`."""
    size, begin = placement_of(segmentation, voxel_size, offset)
    voxels = (voxels_of(p, v, o, rounding) for p, v, o in zip(positions_nm.T, size, begin, strict=True))
    return nullable(*values_at(segmentation, voxels, memory=memory))
