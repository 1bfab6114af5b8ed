"""Partners mapped to traced skeletons: of the neurons with nodes in a site's segment, the one with the nearest node (spec 8.2)."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from blockwise.errors import ConfigError
from tasks.synful.columns import Ints, Mask, check_identities, is_named, nullable, values_and_valid, with_columns
from tasks.synful.partners import AXES, POST, PRE, points, require

TOO_FAR: int = -2
"""The skeleton of a site whose nearest node lies beyond the bound."""

SYNAPSE_TYPES = ("connector", "post_tree_node")
"""Types of nodes that mark a known synapse: a neuron that owns one in a segment is a candidate however few nodes it has there."""

NODE_COLUMNS = ("neuron_id", *AXES, "type", "id", "segment")
ROUNDED_UP: float = 1 + 1e-12
"""A node at exactly a distance lies within it, whatever the root's last bit."""
SITES_AT_ONCE: int = 1 << 18

Floats = npt.NDArray[np.float64]


def map_to_skeletons(
    partners: pa.Table,
    nodes: pa.Table,
    *,
    by: Literal["segment", "body"] = "segment",
    num_skel_nodes_ignore: int = 0,
    seg_ids_ignore: Sequence[int] = (),
    distance_upper_bound_nm: float | None = None,
) -> pa.Table:
    """Add `skeleton_pre` and `skeleton_post` (int64): null without a candidate, -2 where the nearest node is too far.

    Parameters
    ----------
    partners : sites in nm, and `<by>_pre`, `<by>_post`.
    nodes : columns neuron_id, z, y, x (nm), type, id, and `segment`, the segment (or body, for by = "body") each lies in; see
        `skeleton_files.read_skeletons` and `segments.segments_at`. Nodes without a segment are left out.
    num_skel_nodes_ignore : a neuron with at most so many distinct nodes in a segment is no candidate there, unless it owns a connector or
        post_tree_node in it. The original removes from the list it iterates over and so spares the neuron after a removed one; here every
        one is judged.
    seg_ids_ignore : segments whose nodes do not count.
    distance_upper_bound_nm : inclusive.

    Of neurons whose nearest nodes are equally near, the smallest id.

    Raises
    ------
    InputError : a column is missing.  ConfigError : a number below 0.
    """
    names = check_identities(partners, by, "map_to_skeletons", (*PRE, *POST))
    require(nodes, NODE_COLUMNS, "a table of skeleton nodes")
    if num_skel_nodes_ignore < 0 or (distance_upper_bound_nm or 0) < 0:
        raise ConfigError(f"num_skel_nodes_ignore = {num_skel_nodes_ignore} and the bound {distance_upper_bound_nm} must be 0 or more")
    candidates = _Candidates(_accepted(nodes, num_skel_nodes_ignore, seg_ids_ignore))
    bound = np.inf if distance_upper_bound_nm is None else distance_upper_bound_nm
    columns = {}
    for end, name in zip(("pre", "post"), names, strict=True):
        segments, valid = values_and_valid(partners[name])
        neurons, found = candidates.nearest(segments.astype(np.uint64), valid, points(partners, end), bound)
        columns[f"skeleton_{end}"] = nullable(neurons, found)
    return with_columns(partners, columns)


def _accepted(nodes: pa.Table, ignore: int, seg_ids_ignore: Sequence[int]) -> pa.Table:
    """Nodes of candidates, sorted by segment and neuron."""
    nodes = nodes.filter(pa.array(is_named(nodes["segment"], seg_ids_ignore)))
    order = np.lexsort([nodes[n].to_numpy() for n in ("id", "neuron_id", "segment")])
    nodes = nodes.take(pa.array(order))
    segment, neuron, node = (nodes[n].to_numpy() for n in ("segment", "neuron_id", "id"))
    if not len(node):
        return nodes
    new_group = np.r_[True, (segment[1:] != segment[:-1]) | (neuron[1:] != neuron[:-1])]
    distinct = new_group | np.r_[True, node[1:] != node[:-1]]
    group = np.cumsum(new_group) - 1
    synapse = pc.is_in(nodes["type"], pa.array(SYNAPSE_TYPES)).to_numpy()
    stays = (np.bincount(group, weights=distinct) > ignore) | (np.bincount(group, weights=synapse) > 0)
    return nodes.filter(pa.array(stays[group]))


class _Candidates:
    """Nodes to choose from, in one tree of four dimensions: segments are apart by more than any distance within one."""

    def __init__(self, nodes: pa.Table) -> None:
        self.sites = np.stack([nodes[a].to_numpy().astype(np.float64) for a in AXES], axis=1)
        self.neurons = nodes["neuron_id"].to_numpy().astype(np.int64)
        self.segments, self.codes = np.unique(nodes["segment"].to_numpy().astype(np.uint64), return_inverse=True)

    def nearest(self, segments: npt.NDArray[np.uint64], valid: Mask, sites: Ints, bound: float) -> tuple[Ints, Mask]:
        """Neuron of the nearest node in each site's segment, `TOO_FAR` beyond the bound; and where there is a candidate."""
        from scipy.spatial import cKDTree

        neurons = np.zeros(len(sites), np.int64)
        if not (len(self.segments) and len(sites)):
            return neurons, np.zeros(len(sites), np.bool_)
        codes = np.minimum(np.searchsorted(self.segments, segments), len(self.segments) - 1)
        found = valid & (self.segments[codes] == segments)
        apart = _beyond(self.sites, sites)
        tree = cKDTree(_with_code(self.codes, self.sites, apart))
        for rows in np.array_split(np.flatnonzero(found), max(1, len(sites) // SITES_AT_ONCE)):
            queries = _with_code(codes[rows], sites[rows], apart)
            neurons[rows] = self._query(tree, queries, bound)
        return neurons, found

    def _query(self, tree: Any, queries: Floats, bound: float) -> Ints:
        distance, node = tree.query(queries, k=[1, 2])
        neurons = self.neurons[node[:, 0]]
        tied = np.flatnonzero(distance[:, 0] == distance[:, 1])
        for row, near in zip(tied, tree.query_ball_point(queries[tied], distance[tied, 0] * ROUNDED_UP), strict=True):
            neurons[row] = self.neurons[near].min()
        return np.where(distance[:, 0] <= bound, neurons, TOO_FAR)


def _beyond(*sites: npt.NDArray[Any]) -> float:
    """A power of two above any distance between sites."""
    extent = max(s.max() for s in sites) - min(s.min() for s in sites)
    return float(2.0 ** (np.ceil(np.log2(float(extent) + 1)) + 2))


def _with_code(codes: Ints, sites: npt.NDArray[Any], apart: float) -> Floats:
    return np.column_stack([codes * apart, sites])


def synapse_nodes(truth: pa.Table, *, by: Literal["segment", "body"] = "segment", first_id: int = 0) -> pa.Table:
    """Known synapses as nodes: a connector at every pre site, a post_tree_node at every post site, of rows that have skeleton and segment.

    Parameters
    ----------
    truth : columns of sites, skeleton_pre, skeleton_post and `<by>_pre`, `<by>_post`.
    first_id : nodes are numbered from here; beyond the ids of the nodes they are put together with.

    Returns
    -------
    Table of NODE_COLUMNS, to be concatenated with those of the skeletons.
    """
    check_identities(truth, "skeleton", "synapse_nodes", (*PRE, *POST, f"{by}_pre", f"{by}_post"))
    parts = []
    for end, kind in zip(("pre", "post"), SYNAPSE_TYPES, strict=True):
        rows = truth.filter(pa.array(is_named(truth[f"skeleton_{end}"]) & is_named(truth[f"{by}_{end}"])))
        ids = np.arange(rows.num_rows) + first_id + sum(p.num_rows for p in parts)
        columns = [rows[f"skeleton_{end}"].cast(pa.int64()), *(rows[f"{end}_{a}"].cast(pa.float64()) for a in AXES)]
        columns += [pa.array([kind] * rows.num_rows, pa.string()), pa.array(ids), rows[f"{by}_{end}"].cast(pa.uint64())]
        parts.append(pa.table(columns, names=list(NODE_COLUMNS)))
    return pa.concat_tables(parts)
