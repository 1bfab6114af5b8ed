"""The tiling: cores cover every domain once, reads lie inside and hold what context there is, in every edge mode and rank."""

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockwise.errors import ConfigError
from blockwise.geometry import Domain, Region
from blockwise.grid import PAGE_BLOCKS, Grid, GridSpec
from blockwise.testing import assert_exact_cover

EDGES = ("overhang", "shrink", "snap")
MOST = {1: 60, 2: 14, 3: 7, 4: 5}
"""Largest side of a domain per rank, so that a property test stays small."""


@st.composite
def grids(draw, edge=None):
    """A ragged set of one to three domains of rank 1 to 4, and a spec whose blocks may be larger than they are."""
    rank = draw(st.integers(1, 4))
    side = st.integers(1, MOST[rank])
    shapes = draw(st.lists(st.tuples(*[side] * rank), min_size=1, max_size=3))
    context = st.tuples(st.integers(0, 3), st.integers(0, 3))
    spec = GridSpec(draw(st.tuples(*[side] * rank)), draw(st.tuples(*[context] * rank)), edge or draw(st.sampled_from(EDGES)))
    axes = tuple("abcd"[:rank])
    return Grid([Domain(f"d{i}", axes, s) for i, s in enumerate(shapes)], spec)


def every(grid):
    return list(grid.blocks(np.arange(len(grid))))


@given(grids())
@settings(max_examples=150, deadline=None)
def test_cores_cover_every_domain_exactly_once(grid):
    assert_exact_cover(grid)


@given(grids())
@settings(max_examples=150, deadline=None)
def test_reads_lie_inside_and_hold_the_core_with_all_context_there_is(grid):
    for block in every(grid):
        whole = grid.domains[block.domain].region
        assert whole.contains(block.read)
        assert block.read.contains(block.core.grow(grid.spec.before, grid.spec.after).intersect(whole))


@given(grids())
@settings(max_examples=100, deadline=None)
def test_ids_run_over_the_domains_in_row_major_order(grid):
    blocks = every(grid)
    assert [b.id for b in blocks] == list(range(len(grid)))
    assert [(b.domain, b.position) for b in blocks] == sorted((b.domain, b.position) for b in blocks)
    assert all(grid.block(b.id) == b for b in blocks[:: max(1, len(blocks) // 7)])


@given(grids(), st.randoms())
@settings(max_examples=60, deadline=None)
def test_blocks_come_in_the_order_asked_for(grid, dice):
    ids = [dice.randrange(len(grid)) for _ in range(9)]
    assert [b.id for b in grid.blocks(np.array(ids))] == ids


@given(grids())
@settings(max_examples=100, deadline=None)
def test_the_owner_of_a_point_is_the_block_whose_core_holds_it(grid):
    for block in every(grid)[:40]:
        corners = np.array([block.core.begin, [e - 1 for e in block.core.end]])
        assert grid.owner(block.domain, corners).tolist() == [block.id, block.id]


@given(grids(), st.data())
@settings(max_examples=100, deadline=None)
def test_ids_meeting_a_region_are_those_whose_core_meets_it(grid, data):
    domain = data.draw(st.integers(0, len(grid.domains) - 1))
    ends = [sorted(data.draw(st.tuples(st.integers(-2, n + 2), st.integers(-2, n + 2)))) for n in grid.domains[domain].shape]
    region = Region(*(tuple(e) for e in zip(*ends, strict=True)))
    meets = [b.id for b in every(grid) if b.domain == domain and b.core.intersect(region).size]
    assert sorted(grid.ids_meeting(domain, region).tolist()) == meets


@given(grids())
@settings(max_examples=100, deadline=None)
def test_inner_finds_the_core_in_the_padded_input(grid):
    for block in every(grid)[:40]:
        domain = grid.domains[block.domain]
        index = np.stack(np.meshgrid(*map(np.arange, domain.shape), indexing="ij"), -1)
        padded = np.pad(index[block.read.slices], (*block.pad, (0, 0)), constant_values=-1)
        assert padded.shape[:-1] == block.input_shape
        assert np.array_equal(padded[block.inner], index[block.core.slices])


@given(grids(edge="overhang"))
@settings(max_examples=60, deadline=None)
def test_overhang_pads_every_input_to_the_full_size(grid):
    full = tuple(n + b + a for n, (b, a) in zip(grid.spec.shape, grid.spec.context, strict=True))
    assert {b.input_shape for b in every(grid)} == {full}


@given(grids(edge="snap"))
@settings(max_examples=60, deadline=None)
def test_snap_reads_have_the_full_size_where_the_domain_allows(grid):
    full = [n + b + a for n, (b, a) in zip(grid.spec.shape, grid.spec.context, strict=True)]
    for block in every(grid):
        extent = grid.domains[block.domain].shape
        assert block.read.shape == tuple(min(f, n) for f, n in zip(full, extent, strict=True))
        assert block.input_shape == tuple(full)


@given(grids(edge="shrink"))
@settings(max_examples=60, deadline=None)
def test_shrink_never_pads(grid):
    assert all(not any(map(any, b.pad)) for b in every(grid))


@pytest.mark.parametrize(
    ("edge", "core", "read", "pad"),
    [
        ("overhang", (8, 10), (6, 10), (0, 5)),  # core 4, context 2 before and 3 after: an input of 9
        ("shrink", (8, 10), (6, 10), (0, 0)),
        ("snap", (8, 10), (1, 10), (0, 0)),
    ],
)
def test_the_last_block_of_ten_voxels(edge, core, read, pad):
    block = Grid(Domain("d", ("x",), (10,)), GridSpec((4,), ((2, 3),), edge)).block(2)
    assert (block.core, block.read, block.pad) == (Region(*((v,) for v in core)), Region(*((v,) for v in read)), (pad,))


def test_a_hundred_million_blocks_cost_nothing():
    tracemalloc.start()
    began = time.process_time()
    grid = Grid(Domain("d", ("z", "y", "x"), (100_000, 1_000, 1_000)), GridSpec((1_000, 1, 1_000)))
    huge = Grid([Domain(f"d{i}", ("z", "y", "x"), (10_000, 10_000, 1)) for i in range(3)], GridSpec((1, 1, 1)))
    assert (len(grid), len(huge), huge.pages(0)) == (100_000, 300_000_000, -(-(10**8) // PAGE_BLOCKS))
    assert huge.block(250_000_001).position == (5_000, 1, 0)
    assert time.process_time() - began < 0.5
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("id", [-1, 3, 10**12])
def test_an_id_outside_the_grid_is_refused(id):
    with pytest.raises(IndexError, match=r"not in 0\.\.2"):
        Grid(Domain("d", ("x",), (10,)), GridSpec((4,))).block(id)


@pytest.mark.parametrize(
    ("shape", "context", "where"),
    [((0, 4), (), "at least 1"), ((4, 4), ((1, 1),), "does not fit"), ((4,), ((-1, 0),), "does not fit")],
)
def test_a_spec_that_cannot_tile_is_refused(shape, context, where):
    with pytest.raises(ConfigError, match=where):
        GridSpec(shape, context)


@pytest.mark.parametrize(("shape", "where"), [((4, 4, 4), "3 axes"), ((4, 4), "empty")])
def test_a_domain_that_does_not_fit_is_refused(shape, where):
    with pytest.raises(ConfigError, match=where):
        Grid(Domain("d", ("y", "x"), (0, 5)), GridSpec(shape))
