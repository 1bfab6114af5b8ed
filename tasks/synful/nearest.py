"""The nearest of many nodes within one's own group, all groups in one tree."""

from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

APART: float = 2.0**36
"""nm between groups in the tree's fourth dimension, more than any volume measures."""
ROUNDED_UP: float = 1 + 1e-12
"""A node at exactly a distance lies within it, whatever the root's last bit."""


class NearestInGroup:
    """Nodes in a tree of four dimensions, where groups are apart by more than any distance within one.

    Parameters
    ----------
    groups : (n,) integers of any size.  nodes : (n, 3) nm.
    """

    def __init__(self, groups: npt.NDArray[Any], nodes: npt.NDArray[Any]) -> None:
        from scipy.spatial import cKDTree

        self.groups, codes = np.unique(groups, return_inverse=True)
        self.tree = cKDTree(_with_code(codes, nodes)) if len(codes) else None

    def query(self, groups: npt.NDArray[Any], sites: Ints) -> tuple[Ints, Floats]:
        """The nearest node of each site's group, the first of several as near, -1 where the group has none; and its distance in nm.

        Parameters
        ----------
        groups : (m,) of the same type.  sites : (m, 3) nm.
        """
        found, distances = np.full(len(sites), -1, np.int64), np.full(len(sites), np.inf)
        if self.tree is None or not len(sites):
            return found, distances
        codes = np.minimum(np.searchsorted(self.groups, groups), len(self.groups) - 1)
        rows = np.flatnonzero(self.groups[codes] == groups)
        found[rows], distances[rows] = _query(self.tree, _with_code(codes[rows], sites[rows]))
        return found, distances


def _query(tree: Any, queries: Floats) -> tuple[Ints, Floats]:
    distance, node = tree.query(queries, k=[1, 2])
    nearest = node[:, 0]
    tied = np.flatnonzero(distance[:, 0] == distance[:, 1])
    for row, near in zip(tied, tree.query_ball_point(queries[tied], distance[tied, 0] * ROUNDED_UP), strict=True):
        nearest[row] = min(near)
    return nearest, distance[:, 0]


def _with_code(codes: Ints, sites: npt.NDArray[Any]) -> Floats:
    return np.column_stack([codes * APART, sites])
