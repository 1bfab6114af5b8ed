"""Each component is reported by exactly one block, or handed in by exactly one, whatever the blocks."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from blockwise.geometry import Domain
from blockwise.grid import Grid, GridSpec
from tasks.synful.views import Views

SHAPE = (12, 20, 20)


def boxes(labels):
    """begin, end, first, last voxel of every component of a view."""
    n = labels.max()
    found = ndimage.find_objects(labels)
    begin = np.array([[s.start for s in box] for box in found], np.int64).reshape(-1, 3)
    end = np.array([[s.stop for s in box] for box in found], np.int64).reshape(-1, 3)
    places = [np.argwhere(labels == i + 1) for i in range(n)]
    first, last = (np.array([p[k] for p in places], np.int64).reshape(-1, 3) for k in (0, -1))
    return begin, end, first, last


def components(volume, region):
    labels, _ = ndimage.label(volume[region.slices])
    return [b + np.array(region.begin) for b in boxes(labels)]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10_000),
    st.floats(0.02, 0.3),
    st.tuples(st.integers(2, 7), st.integers(3, 12), st.integers(3, 12)),
    st.tuples(*[st.integers(1, 4)] * 3),
)
def test_every_component_has_one_reporter(seed, density, core, halo):
    volume = np.random.default_rng(seed).random(SHAPE) < density
    views = Views(Grid(Domain("volume", ("z", "y", "x"), SHAPE), GridSpec(core)), halo)
    begin, end, first, last = components(volume, views.grid.domains[0].region)  # the last voxel stands for the post site
    whole = {tuple(f): (b, e, p) for b, e, f, p in zip(begin, end, first, last, strict=True)}
    reported, seeds = [], []
    for block in views.grid.blocks(np.arange(len(views.grid))):
        b, e, f, p = components(volume, views.view(block))
        mine, seed = views.verdicts(block.core, b, e, f, p)
        reported += [tuple(x) for x in f[mine]]
        seeds += [tuple(x) for x in f[seed] if tuple(x) in whole]
    for key in seeds:
        b, e, p = (np.array([v]) for v in whole[key])
        if not views.seen_by_owner(b, e, p)[0]:
            reported.append(key)
    assert sorted(reported) == sorted(whole)


def test_a_view_ends_at_the_data_set():
    views = Views(Grid(Domain("volume", ("z", "y", "x"), SHAPE), GridSpec((6, 10, 10))), (2, 3, 4))
    assert views.view(views.grid.block(0)) == ((0, 0, 0), (8, 13, 14))
    begin, end = views.of_owners(np.array([[11, 19, 0]]))
    assert (begin.tolist(), end.tolist()) == ([[4, 7, 0]], [[12, 20, 14]])
