"""What every block sees when it extracts, and which block reports a component, so that each is reported exactly once.

A block sees its core grown by a halo, clipped to the data set: its view. A component is complete in a view when its box, grown by a
margin, does not cross a border of the view inside the data set; then the block knows of it what the whole volume would tell. The block
that owns the post site (its core holds it) reports the component if it sees it completely. Otherwise, the block that owns the
component's first voxel in raster order hands in a seed, and a later stage looks again with a larger box. Both owners are decided by
arithmetic alone, so blocks agree without talking. Where a mask or a region of interest leaves blocks out, the first voxel may lie in one of
these, so every block that a component may reach hands it in, and the later stage keeps it for the owner of its post site alone.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from blockwise.geometry import Region
from blockwise.grid import Block, Grid

Points = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Views:
    """The views of a grid over one data set.

    Parameters
    ----------
    grid : cores in voxels.
    halo : voxels per axis that a view shows beyond its core.
    margin : voxels per axis around a component that decide it: 1 for components, the radius for maxima.
    sparse : whether some blocks are left out.
    """

    grid: Grid
    halo: tuple[int, int, int]
    margin: tuple[int, int, int] = (1, 1, 1)
    sparse: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.grid.domains[0].shape

    def view(self, block: Block) -> Region:
        """What a block sees."""
        return self.grown(block.core)

    def grown(self, core: Region) -> Region:
        return core.grow(self.halo, self.halo).intersect(self.grid.domains[0].region)

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

    def verdicts(self, core: Region, begin: Points, end: Points, first: Points, post: Points) -> tuple[Bools, Bools]:
        """Of the components in a block's view, those that it reports and those that it hands in as seeds.

        Parameters
        ----------
        begin, end : boxes of what the view shows of each.  first : first voxel in raster order.  post : post site.
            All (n, 3) voxels of the data set.
        """
        view = self.grown(core)
        complete = self.complete(begin, end, np.array(view.begin), np.array(view.end))
        mine = complete & inside(post, core)
        known = complete & self.seen_by_owner(begin, end, post)
        handed = ((begin < core.end) & (end > core.begin)).all(axis=1) if self.sparse else inside(first, core)
        return mine, ~known & ~mine & handed


def inside(points: Points, region: Region) -> Bools:
    """Which points, (n, 3) voxels, lie in a region."""
    return np.asarray(((points >= region.begin) & (points < region.end)).all(axis=1), np.bool_)
