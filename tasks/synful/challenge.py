"""The metric of the CREMI challenge for synaptic partners: ids are those of the true segmentation at the sites, nothing else is asked.

Sites are looked up at the voxel whose corner is nearest, as the challenge does. On the golden data the voxel that holds them gives an
F-score of .521 instead of .571, so a figure is comparable only if it says how it was looked up (spec 9.2).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from tasks.synful.evaluation import Evaluation, evaluate

if TYPE_CHECKING:
    import pyarrow as pa

    from blockwise.storage import Source


def cremi_metric(
    predicted: "pa.Table",
    truth: "pa.Table",
    segmentation: "npt.NDArray[Any] | Source",
    *,
    voxel_size: Sequence[float] | None = None,
    offset: Sequence[float] | None = None,
    match_distance_nm: float = 400,
) -> Evaluation:
    """Compare predicted with true partners by the true segmentation.

    Parameters
    ----------
    predicted, truth : tables of partners; segment columns they may have are not looked at.
    segmentation : (z, y, x) integers, an array or an open source. Every id is one, 0 too; a site outside matches nothing.
    voxel_size, offset : nm, z y x; a source's own where not given.

    Raises
    ------
    InputError : columns are missing, or the segmentation is not a volume of ids.
    """
    from tasks.synful.segments import map_to_segments

    mapped = [map_to_segments(t, segmentation, voxel_size=voxel_size, offset=offset, rounding="cremi") for t in (predicted, truth)]
    return evaluate(*mapped, by="segment", match_distance_nm=match_distance_nm, drop_segments=())
