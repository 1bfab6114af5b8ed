"""Distances along traced neurons: between two sites, the length of the path on the skeleton between the nodes nearest to them."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from blockwise.errors import InputError
from tasks.synful.columns import Ints, values_and_valid
from tasks.synful.nearest import NearestInGroup
from tasks.synful.partners import AXES, points, require

Floats = npt.NDArray[np.float64]


def along_skeletons(partners: pa.Table, nodes: pa.Table, *, site: Literal["pre", "post"] = "post") -> Callable[[Ints, Ints], Floats]:
    """A distance for `cluster_duplicates(..., by="skeleton", distance=...)`: the path between rows along the skeleton of that site.

    Parameters
    ----------
    partners : sites and `skeleton_<site>`; rows are counted in this table.
    nodes : columns neuron_id, z, y, x (nm), id and parent: the id of the next node towards the root, null or below 0 at a root.

    Returns
    -------
    Function of rows a and b, both (m,), to nm: 0 between sites at one node, infinite between trees or without a skeleton.

    Raises
    ------
    InputError : a column is missing, a parent that is no node of the neuron, or parents in a circle.
    """
    require(nodes, ("neuron_id", *AXES, "id", "parent"), "a distance along skeletons")
    require(partners, (f"skeleton_{site}",), "a distance along skeletons")
    from tasks.synful.paths import path_lengths, to_roots

    places = np.stack([nodes[a].to_numpy().astype(np.float64) for a in AXES], axis=1)
    parents = _parent_rows(nodes)
    steps = np.where(parents >= 0, np.linalg.norm(places - places[parents], axis=1), 0.0)
    depths, lengths = to_roots(parents, steps)
    if len(depths) and depths.min() < 0:
        raise InputError(f"skeleton {nodes['neuron_id'][int(depths.argmin())]} has parents in a circle: it is no tree")
    skeletons, valid = values_and_valid(partners[f"skeleton_{site}"])
    node, _ = NearestInGroup(nodes["neuron_id"].to_numpy().astype(np.int64), places).query(
        skeletons.astype(np.int64), points(partners, site)
    )
    node[~valid] = -1
    return lambda a, b: path_lengths(node[a], node[b], parents, depths, lengths)


def _parent_rows(nodes: pa.Table) -> Ints:
    """The row of every node's parent, -1 at a root."""
    parent, valid = values_and_valid(nodes["parent"])
    valid = valid & (parent >= 0)
    neuron = np.unique(nodes["neuron_id"].to_numpy(), return_inverse=True)[1]
    ids = np.unique(np.r_[nodes["id"].to_numpy(), parent], return_inverse=True)[1]
    own, wanted = (neuron * (ids.max(initial=0) + 1) + i for i in (ids[: len(neuron)], ids[len(neuron) :]))
    order = np.argsort(own, kind="stable")
    at = order[np.minimum(np.searchsorted(own[order], wanted), len(own) - 1)] if len(own) else own
    missing = np.flatnonzero(valid & (own[at] != wanted))
    if len(missing):
        first = int(missing[0])
        raise InputError(
            f"node {nodes['id'][first]} of skeleton {nodes['neuron_id'][first]} has the parent {parent[first]}, which is none of its nodes"
        )
    return np.where(valid, at, -1)
