"""Several detections of one synaptic contact, made one (spec 8.3).

Rows of the same ordered pair (pre identity, post identity) whose sites lie within a distance, directly or over others of that pair, are
one cluster. Rows where either identity is null or ignored stay as they are. The outcome does not depend on the order of the rows.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from blockwise.errors import ConfigError
from tasks.synful.columns import Identity, Ints, Mask, check_identities, pair_codes, scores_of, with_columns
from tasks.synful.partners import AXES, POST, PRE, points

Site = Literal["pre", "post"]
Distance = Callable[[Ints, Ints], npt.NDArray[np.float64]]
"""Distance in nm of rows a and rows b of the table, both (m,): for paths along a neuron instead of straight lines."""

PAIRS_AT_ONCE: int = 1 << 20
"""Of rows, given to a `Distance` in one call."""


def cluster_duplicates(
    partners: pa.Table,
    distance_nm: float,
    *,
    by: Identity = "segment",
    keep: Literal["max_score", "mean"] = "max_score",
    ignore_ids: Sequence[int] = (),
    site: Site = "post",
    link_coincident: bool = True,
    distance: Distance | None = None,
) -> pa.Table:
    """One row per cluster of duplicates, in the order of the table.

    Parameters
    ----------
    partners : columns id, sites, score, and `<by>_pre`, `<by>_post`.
    distance_nm : inclusive.
    keep : "max_score" keeps the row of the highest score (then the smallest id); "mean" keeps the row of the smallest id and moves both
        its sites to the mean of its cluster, rounded to whole nm (half to even).
    ignore_ids : identities that are none, e.g. 0 for no segment, -2 for a skeleton too far.
    site : the end whose distance counts.
    link_coincident : False: two sites at the same place do not make their rows duplicates, as in the original.
    distance : another distance than the straight line, e.g. `geodesic.along_skeletons`; every pair of rows of a group is asked for.

    Raises
    ------
    InputError : a column is missing.  ConfigError : a distance below 0, or an unknown `keep`.
    """
    if keep not in ("max_score", "mean"):
        raise ConfigError(f"keep = {keep!r}: it is 'max_score' or 'mean'")
    labels = duplicate_labels(
        partners, distance_nm, by=by, ignore_ids=ignore_ids, site=site, link_coincident=link_coincident, distance=distance
    )
    kept = _kept(partners, labels, by_score=keep == "max_score")
    merged = _means(partners, labels, kept) if keep == "mean" else partners
    return merged.filter(pa.array(kept))


def duplicate_mask(
    partners: pa.Table,
    distance_nm: float,
    *,
    by: Identity = "segment",
    ignore_ids: Sequence[int] = (),
    site: Site = "post",
    link_coincident: bool = True,
    distance: Distance | None = None,
) -> Mask:
    """Which rows `cluster_duplicates` keeps by highest score; (n,) bool. Parameters and errors as there."""
    labels = duplicate_labels(
        partners, distance_nm, by=by, ignore_ids=ignore_ids, site=site, link_coincident=link_coincident, distance=distance
    )
    return _kept(partners, labels, by_score=True)


def duplicate_labels(
    partners: pa.Table,
    distance_nm: float,
    *,
    by: Identity = "segment",
    ignore_ids: Sequence[int] = (),
    site: Site = "post",
    link_coincident: bool = True,
    distance: Distance | None = None,
) -> Ints:
    """The cluster of every row, as the least row number in it; (n,) int64. Parameters and errors as `cluster_duplicates`."""
    check_identities(partners, by, "cluster_duplicates", ("id", "score", *(f"{site}_{a}" for a in AXES)))
    if not distance_nm >= 0:
        raise ConfigError(f"distance_nm = {distance_nm}: a distance is 0 or more")
    rows, groups = _several(pair_codes(partners, by, ignore_ids))
    if not len(rows):
        return np.arange(partners.num_rows)
    if distance is None:
        from tasks.synful.proximity import components

        axes = [partners[f"{site}_{a}"].to_numpy().astype(np.int64, copy=False) for a in AXES]
        within = components(axes, rows, groups, distance_nm, link_coincident=link_coincident)
    else:
        within = _components_by(distance, rows, groups, distance_nm)
    labels = np.arange(partners.num_rows)
    labels[rows] = rows[within]
    return labels


def _several(codes: Ints) -> tuple[Ints, Ints]:
    """Rows whose code is not -1 and not theirs alone, and their codes: sorted by code, then by row."""
    order = np.argsort(codes, kind="stable")
    order = order[np.count_nonzero(codes < 0) :]
    codes = codes[order]
    same = codes[1:] == codes[:-1]
    several = np.r_[same, False] | np.r_[False, same] if len(codes) else np.zeros(0, np.bool_)
    return order[several], codes[several]


def _kept(partners: pa.Table, labels: Ints, *, by_score: bool) -> Mask:
    """One row per label: of the highest score if so asked, then of the smallest id, then of the least sites."""
    kept = np.ones(len(labels), np.bool_)
    rows = np.flatnonzero(np.bincount(labels, minlength=len(labels))[labels] > 1)
    few = partners.select(["id", "score", *PRE, *POST]).take(pa.array(rows))
    ranks = [*points(few, "post").T, *points(few, "pre").T, few["id"].to_numpy()]
    order = np.lexsort((*ranks, *([-scores_of(few)] if by_score else []), labels[rows]))
    first = np.diff(labels[rows][order], prepend=-1) != 0
    kept[rows] = False
    kept[rows[order[first]]] = True
    return kept


def _means(partners: pa.Table, labels: Ints, kept: Mask) -> pa.Table:
    """Kept rows moved to the mean of their cluster's sites."""
    sizes = np.bincount(labels, minlength=len(labels))
    alone = sizes[labels] == 1
    columns = {}
    for name in (*PRE, *POST):
        values = partners[name].to_numpy()
        sums = np.bincount(labels, weights=values, minlength=len(labels))
        moved = np.rint(sums[labels] / sizes[labels]).astype(values.dtype)
        columns[name] = pa.array(np.where(kept & ~alone, moved, values))
    return with_columns(partners, columns).cast(partners.schema)


def _components_by(distance: Distance, rows: Ints, groups: Ints, distance_nm: float) -> Ints:
    """Like `proximity.components`, by a distance of the caller's between all pairs of a group."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    linked = [np.zeros((2, 0), np.int64)]
    for a, b in _pairs(groups):
        near = distance(rows[a], rows[b]) <= distance_nm
        linked.append(np.stack([a[near], b[near]]))
    a, b = np.concatenate(linked, axis=1)
    graph = coo_array((np.ones(len(a), np.bool_), (a, b)), shape=(len(rows), len(rows)))
    _, labels = connected_components(graph, directed=False)
    _, first = np.unique(labels, return_index=True)
    return np.asarray(first[labels], np.int64)


def _pairs(groups: Ints) -> Iterator[tuple[Ints, Ints]]:
    """All pairs of positions of equal group, of groups that are sorted; at most about PAIRS_AT_ONCE at a time."""
    later = np.searchsorted(groups, groups, side="right") - np.arange(len(groups)) - 1
    batch = (np.cumsum(later) - later) // PAIRS_AT_ONCE
    for begin, end in pairwise(np.flatnonzero(np.r_[True, np.diff(batch) > 0, True])):
        yield _pairs_of(later, begin, end)


def _pairs_of(later: Ints, begin: int, end: int) -> tuple[Ints, Ints]:
    """Each of the positions begin..end with all those of its group that follow it."""
    counts = later[begin:end]
    first = np.repeat(np.arange(begin, end), counts)
    offset = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
    return first, first + 1 + offset
