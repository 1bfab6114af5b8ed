"""Partners joined by the synaptic cleft that lies between their sites (spec 8.4)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from blockwise.errors import ConfigError, InputError
from blockwise.geometry import Region
from blockwise.storage import Source
from tasks.synful.columns import Ints, Mask, nullable, with_columns
from tasks.synful.halves import part_in_two
from tasks.synful.lookup import voxels_of
from tasks.synful.partners import AXES, POST, PRE, points, require

Array = npt.NDArray[Any]


class Clefts(NamedTuple):
    """What `assign_clefts` returns.

    Attributes
    ----------
    partners : the table with cleft_id (uint64; 0: no cleft on the line; null: a site outside), cleft_score (float64), the connector's
        connector_z, connector_y, connector_x (int64 nm) and cleft_area (int64 voxels).
    clefts : one row per connector: cleft_id, z, y, x (int64 nm), area (voxels of the cleft), partners (count), score (sum).
    """

    partners: pa.Table
    clefts: pa.Table


def assign_clefts(
    partners: pa.Table,
    clefts: Array | Source,
    voxel_size: Sequence[float],
    *,
    threshold: float = 130,
    offset: Sequence[float] = (0, 0, 0),
    split_above: int | None = None,
    roi: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Clefts:
    """Give every partner the cleft that most of the line between its sites runs through.

    Clefts are 6-connected components of voxels at or above the threshold, numbered from 1 in raster order. All partners of a cleft share
    a connector: the pre site nearest to the cleft's centre of mass. Without a cleft it is the partner's own pre site.

    Parameters
    ----------
    partners : sites in nm.
    clefts : (z, y, x) cleft scores, e.g. 0 to 255; a source is read whole.
    voxel_size, offset : nm, z y x, of the scores.
    split_above : voxels; the partners of a larger cleft are parted in two by where their pre sites lie, with one connector each at the
        mean of their pre sites, cut to whole nm. The original uses k-means from random starts here; this one starts at the extremes.
    roi : begin and end in nm, half-open; only partners with both sites inside take part. Default: the volume.

    The original gives the highest label met on a line instead of the most frequent, and never leaves the first voxel of a line whose
    longest axis is z; both are mended here.

    Raises
    ------
    InputError : not a volume.  ConfigError : a voxel size of 0 or below.
    """
    require(partners, ("score", *PRE, *POST), "assign_clefts")
    values = clefts if isinstance(clefts, np.ndarray) else clefts.read(Region((0,) * len(clefts.shape), tuple(clefts.shape)))
    if values.ndim != 3 or values.dtype.kind not in "uif":
        raise InputError(f"clefts of shape {values.shape} and dtype {values.dtype}: a (z, y, x) volume of scores is needed")
    if min(voxel_size) <= 0:
        raise ConfigError(f"voxel_size {tuple(voxel_size)}: sizes are above 0 nm")
    labels = label_clefts(values, threshold)
    inside, pre, post = _inside(partners, values.shape, voxel_size, offset, roi)
    from tasks.synful.cleft_lines import labels_on_lines

    cleft, score = labels_on_lines(pre, post, labels, values)
    areas, centres = _moments(labels, voxel_size, offset)
    sites = points(partners, "pre")[inside]
    connector = _connectors(cleft, sites, areas, centres, split_above)
    columns = {"cleft_id": cleft.astype(np.uint64), "cleft_score": score}
    columns |= {f"connector_{a}": connector[:, i] for i, a in enumerate(AXES)} | {"cleft_area": areas[cleft]}
    mapped = with_columns(partners, {name: _spread(column, inside) for name, column in columns.items()})
    return Clefts(mapped, _table(mapped))


def label_clefts(values: Array, threshold: float) -> npt.NDArray[np.uint32]:
    """6-connected components of voxels at or above the threshold, numbered from 1 in the raster order of their first voxels."""
    import cc3d

    labels = cc3d.connected_components(values >= threshold, connectivity=6, out_dtype=np.uint32)
    return np.asarray(labels, np.uint32)


def _inside(
    partners: pa.Table, shape: Sequence[int], voxel_size: Sequence[float], offset: Sequence[float], roi: Any
) -> tuple[Mask, Ints, Ints]:
    """Which rows have both sites in the volume and the region, and their voxels."""
    ends = [
        np.stack([voxels_of(p, v, o) for p, v, o in zip(points(partners, end).T, voxel_size, offset, strict=True)], axis=1)
        for end in ("pre", "post")
    ]
    inside = np.logical_and.reduce([((v >= 0) & (v < shape)).all(axis=1) for v in ends])
    if roi is not None:
        begin, end = roi
        for site in ("pre", "post"):
            inside &= ((points(partners, site) >= begin) & (points(partners, site) < end)).all(axis=1)
    pre, post = (v[inside].astype(np.int64) for v in ends)
    return inside, pre, post


def _moments(labels: npt.NDArray[np.uint32], voxel_size: Sequence[float], offset: Sequence[float]) -> tuple[Ints, npt.NDArray[np.float64]]:
    """Voxels and centre of mass (nm) of every label, that of 0 being 0 voxels."""
    flat = np.flatnonzero(labels)
    own = labels.reshape(-1)[flat].astype(np.int64)
    areas = np.bincount(own, minlength=1)
    sums = [np.bincount(own, weights=place, minlength=1) for place in np.unravel_index(flat, labels.shape)]
    centres = np.stack(sums, axis=1) / np.maximum(areas, 1)[:, None] * voxel_size + offset
    return areas, centres


def _connectors(cleft: Ints, sites: Ints, areas: Ints, centres: npt.NDArray[np.float64], split_above: int | None) -> Ints:
    """The connector of every row, (n, 3) nm."""
    found = sites.copy()
    order = np.lexsort((*sites.T[::-1], ((sites - centres[cleft]) ** 2).sum(axis=1), cleft))
    starts = _starts(cleft[order])
    found[order] = sites[order][np.repeat(starts[:-1], np.diff(starts))]
    found[cleft == 0] = sites[cleft == 0]
    if split_above is not None:
        rows = order[(areas[cleft[order]] > split_above) & (cleft[order] > 0)]
        found[rows] = _means_of_halves(sites[rows].astype(np.float64), cleft[rows])
    return found


def _starts(groups: Ints) -> Ints:
    """Where sorted groups begin, and the end of the last."""
    return np.flatnonzero(np.r_[groups[:1] >= 0, groups[1:] != groups[:-1], True])


def _means_of_halves(sites: npt.NDArray[np.float64], cleft: Ints) -> Ints:
    starts = _starts(cleft)
    half = np.repeat(np.arange(len(starts) - 1), np.diff(starts)) * 2 + part_in_two(sites, starts)
    sizes = np.bincount(half)
    sums = [np.bincount(half, weights=axis) for axis in sites.T]
    return np.stack([(s / np.maximum(sizes, 1))[half] for s in sums], axis=1).astype(np.int64)


def _spread(column: Array, inside: Mask) -> pa.Array:
    """A column of the rows inside, null for the others."""
    values = np.zeros(len(inside), column.dtype)
    values[inside] = column
    return nullable(values, inside)


def _table(mapped: pa.Table) -> pa.Table:
    """The connectors of the clefts that have partners."""
    keys = ["cleft_id", *(f"connector_{a}" for a in AXES), "cleft_area"]
    rows = mapped.select([*keys, "score"]).filter(pc.greater(mapped["cleft_id"], pa.scalar(0, pa.uint64())))
    found = (
        rows.group_by(keys, use_threads=False).aggregate([("score", "count"), ("score", "sum")]).select([*keys, "score_count", "score_sum"])
    )
    found = found.rename_columns(["cleft_id", *AXES, "area", "partners", "score"])
    return found.sort_by([(name, "ascending") for name in ("cleft_id", *AXES)])
