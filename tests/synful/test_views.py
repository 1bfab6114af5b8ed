"""Each component is reported by exactly one block, or handed in by exactly one, whatever the blocks."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from blockwise.geometry import Domain
from blockwise.grid import Grid, GridSpec
from tasks.synful.views import Views, inside

SHAPE = (12, 20, 20)


def components(volume, region, views):
    """begin, end, entry, last voxel of every component of a view."""
    labels, n = ndimage.label(volume[region.slices])
    found = ndimage.find_objects(labels)
    places = [np.argwhere(labels == i + 1) + region.begin for i in range(n)]
    entries = [p[views.is_computed(p).argmax()] for p in places]
    begin, end = ([[s.start for s in box] for box in found], [[s.stop for s in box] for box in found])
    rows = (np.array(begin) + region.begin if n else [], np.array(end) + region.begin if n else [], entries, [p[-1] for p in places])
    return [np.array(r, np.int64).reshape(-1, 3) for r in rows]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10_000),
    st.floats(0.02, 0.3),
    st.tuples(st.integers(2, 7), st.integers(3, 12), st.integers(3, 12)),
    st.tuples(*[st.integers(1, 4)] * 3),
    st.sampled_from([1.0, 0.7, 0.3]),
)
def test_every_component_has_one_reporter(seed, density, core, halo, share):
    """Of those whose post site, here the last voxel, lies in a block that is computed."""
    random = np.random.default_rng(seed)
    volume = random.random(SHAPE) < density
    grid = Grid(Domain("volume", ("z", "y", "x"), SHAPE), GridSpec(core))
    chosen = random.random(len(grid)) < share
    views = Views(grid, halo, computed=None if share == 1 else chosen.__getitem__)
    begin, end, entry, last = components(volume, grid.domains[0].region, views)
    whole = {tuple(f): (b, e, p) for b, e, f, p in zip(begin, end, entry, last, strict=True)}
    reported, seeds = [], []
    for block in grid.blocks(np.flatnonzero(chosen)):
        b, e, f, p = components(volume, views.view(block), views)
        mine, unsettled = views.verdicts(block.core, b, e, p)
        reported += [tuple(x) for x in p[mine]]
        seeds += [tuple(x) for x in f[unsettled & inside(f, block.core)] if tuple(x) in whole]
    for key in seeds:
        b, e, p = (np.array([v]) for v in whole[key])
        reported += [] if views.is_settled(b, e, p)[0] else [tuple(p[0])]
    assert sorted(reported) == sorted(map(tuple, last[views.is_computed(last)]))


def test_a_view_ends_at_the_data_set():
    views = Views(Grid(Domain("volume", ("z", "y", "x"), SHAPE), GridSpec((6, 10, 10))), (2, 3, 4))
    assert views.view(views.grid.block(0)) == ((0, 0, 0), (8, 13, 14))
    begin, end = views.of_owners(np.array([[11, 19, 0]]))
    assert (begin.tolist(), end.tolist()) == ([[4, 7, 0]], [[12, 20, 14]])
