"""Partners mapped to traced skeletons: of the neurons with nodes in a site's segment, the one with the nearest node (spec 8.2)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from blockwise.errors import ConfigError
from tasks.synful.columns import Ints, check_identities, is_named, nullable, values_and_valid, with_columns
from tasks.synful.nearest import NearestInGroup
from tasks.synful.partners import AXES, POST, PRE, points, require

TOO_FAR: int = -2
"""The skeleton of a site whose nearest node lies beyond the bound."""

SYNAPSE_TYPES = ("connector", "post_tree_node")
"""Types of nodes that mark a known synapse: a neuron that owns one in a segment is a candidate however few nodes it has there."""

ROWS_AT_ONCE: int = 1 << 19
NODE_COLUMNS = ("neuron_id", *AXES, "type", "id", "segment")


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
    check_identities(partners, by, "map_to_skeletons", (*PRE, *POST))
    require(nodes, NODE_COLUMNS, "a table of skeleton nodes")
    if num_skel_nodes_ignore < 0 or (distance_upper_bound_nm or 0) < 0:
        raise ConfigError(f"num_skel_nodes_ignore = {num_skel_nodes_ignore} and the bound {distance_upper_bound_nm} must be 0 or more")
    accepted = _accepted(nodes, num_skel_nodes_ignore, seg_ids_ignore)
    tree = NearestInGroup(accepted["segment"].to_numpy().astype(np.uint64), np.stack([accepted[a].to_numpy() for a in AXES], axis=1))
    neurons = np.append(accepted["neuron_id"].to_numpy().astype(np.int64), 0)
    bound = np.inf if distance_upper_bound_nm is None else distance_upper_bound_nm
    parts = [partners.slice(i, ROWS_AT_ONCE) for i in range(0, max(1, partners.num_rows), ROWS_AT_ONCE)]
    columns = {f"skeleton_{end}": pa.chunked_array([_nearest(p, by, end, tree, neurons, bound) for p in parts]) for end in ("pre", "post")}
    return with_columns(partners, {name: column.combine_chunks() for name, column in columns.items()})


def _nearest(partners: pa.Table, by: str, end: str, tree: NearestInGroup, neurons: Ints, bound: float) -> pa.Array:
    """The skeletons of one end."""
    segments, valid = values_and_valid(partners[f"{by}_{end}"])
    node, distance = tree.query(segments.astype(np.uint64), points(partners, end))
    return nullable(np.where(distance <= bound, neurons[node], TOO_FAR), valid & (node >= 0))


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
    parts: list[pa.Table] = []
    for end, kind in zip(("pre", "post"), SYNAPSE_TYPES, strict=True):
        rows = truth.filter(pa.array(is_named(truth[f"skeleton_{end}"]) & is_named(truth[f"{by}_{end}"])))
        ids = np.arange(rows.num_rows) + first_id + sum(p.num_rows for p in parts)
        columns = [rows[f"skeleton_{end}"].cast(pa.int64()), *(rows[f"{end}_{a}"].cast(pa.float64()) for a in AXES)]
        columns += [pa.array([kind] * rows.num_rows, pa.string()), pa.array(ids), rows[f"{by}_{end}"].cast(pa.uint64())]
        parts.append(pa.table(columns, names=list(NODE_COLUMNS)))
    return pa.concat_tables(parts)
