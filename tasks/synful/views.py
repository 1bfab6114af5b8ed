"""What every block sees when it extracts, and which block reports a component, so that each is reported exactly once.

A block sees its core grown by a halo, clipped to the data set: its view. A component is complete in a view when its box, grown by a
margin, does not cross a border of the view inside the data set; then the block knows of it what the whole volume would tell. The block
that owns the post site (its core holds it) reports the component if it sees it completely. Otherwise, the block that owns the
component's entry hands in a seed, and a later stage looks again with a larger box. The entry is the first voxel in raster order; where a
mask or a region of interest leaves blocks out, the first of those voxels that lie in blocks that are computed. Whatever part of a
component a block sees, if it holds the entry, the entry is the part's too: so owners are decided by arithmetic alone, and blocks agree
without talking. Local maxima near the border of a view may have a larger voxel beyond it, so a view shows those alone that are farther
from it than their radius.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from blockwise.geometry import Region
from blockwise.grid import Block, Grid, Ids

Points = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Views:
    """The views of a grid over one data set.

    Parameters
    ----------
    grid : cores in voxels.
    halo : voxels per axis that a view shows beyond its core.
    margin : voxels per axis around a component that decide whether it ends there: 1, of local maxima their radius more.
    computed : which blocks are, by their ids; None: all.
    """

    grid: Grid
    halo: tuple[int, int, int]
    margin: tuple[int, int, int] = (1, 1, 1)
    computed: Callable[[Ids], Bools] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.grid.domains[0].shape

    def view(self, block: Block) -> Region:
        """What a block sees."""
        return self.grown(block.core)

    def grown(self, core: Region) -> Region:
        return core.grow(self.halo, self.halo).intersect(self.grid.domains[0].region)

    def certain(self, region: Region) -> tuple[slice, ...] | None:
        """The part of a box in which local maxima of the box are those of the data set; None: all of it."""
        if region == self.grid.domains[0].region:
            return None
        low = [(m - 1) * (b > 0) for m, b in zip(self.margin, region.begin, strict=True)]
        high = [n - (m - 1) * (e < limit) for m, n, e, limit in zip(self.margin, region.shape, region.end, self.shape, strict=True)]
        return tuple(slice(b, e) for b, e in zip(low, high, strict=True))

    def of_owners(self, voxels: Points) -> tuple[Points, Points]:
        """Begin and end, (n, 3) each, of the views of the blocks that own voxels of the data set."""
        side, shape = np.array(self.grid.spec.shape), np.array(self.shape)
        core = voxels // side * side
        return np.maximum(core - self.halo, 0), np.minimum(np.minimum(core + side, shape) + self.halo, shape)

    def complete(self, begin: Points, end: Points, view_begin: Any, view_end: Any) -> Bools:
        """Which boxes (begin, end: (n, 3) voxels of the data set, half-open) are complete in a view, or each in its own."""
        low = (begin - self.margin >= view_begin) | (np.asarray(view_begin) == 0)
        high = (end + self.margin <= view_end) | (np.asarray(view_end) == np.array(self.shape))
        return np.asarray((low & high).all(axis=1), np.bool_)

    def seen_by_owner(self, begin: Points, end: Points, post: Points) -> Bools:
        """Which components are complete in the view of the block that owns their post site."""
        return self.complete(begin, end, *self.of_owners(post))

    def is_computed(self, voxels: Points) -> Bools:
        """Which voxels, (n, 3), lie in a block that is computed."""
        if self.computed is None:
            return np.ones(len(voxels), np.bool_)
        return np.asarray(self.computed(self.grid.owner(0, voxels)), np.bool_)

    def verdicts(self, core: Region, begin: Points, end: Points, post: Points) -> tuple[Bools, Bools]:
        """Of the components in a block's view, those that it reports and those of which it does not know who would.

        Parameters
        ----------
        begin, end : boxes of what the view shows of each.  post : post site. All (n, 3) voxels of the data set.
        """
        view = self.grown(core)
        complete = self.complete(begin, end, np.array(view.begin), np.array(view.end))
        mine = complete & inside(post, core)
        settled = complete & self.is_settled(begin, end, post)
        return mine, ~settled & ~mine

    def is_settled(self, begin: Points, end: Points, post: Points) -> Bools:
        """Which complete components need no seed: the owner of the post site sees them whole, or is left out and wants none."""
        return self.seen_by_owner(begin, end, post) | ~self.is_computed(post)


def inside(points: Points, region: Region) -> Bools:
    """Which points, (n, 3) voxels, lie in a region."""
    return np.asarray(((points >= region.begin) & (points < region.end)).all(axis=1), np.bool_)
