"""What a block needs of an earlier stage, held against a search over all voxels."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockwise import graph
from blockwise.errors import ConfigError
from blockwise.geometry import Domain
from blockwise.graph import Graph, Under, any_in
from blockwise.grid import Grid, GridSpec
from blockwise.task import Dependency
from tests.steps import Steps

AXES = ("z", "y", "x")


@st.composite
def two_grids(draw):
    """A grid that reads and one that it reads, over ragged domains of one extent in world units, and a reach."""
    rank = draw(st.integers(1, 3))
    sizes = st.sampled_from([1.0, 2.0, 0.5, 3.0, 0.1])
    voxels = [[draw(sizes) for _ in range(rank)] for _ in range(2)]
    offsets = [[draw(st.integers(-3, 3)) * v for v in voxels[side]] for side in range(2)]
    own_axis = draw(st.booleans())  # the upper grid has a further axis
    domains = []
    for side in range(2):
        found = []
        for i in range(2):
            shape = [draw(st.integers(1, 9)) for _ in range(rank)]
            domain = Domain(f"d{i}", AXES[:rank], tuple(shape), tuple(voxels[side]), tuple(offsets[side]))
            if side and own_axis:
                domain = Domain(f"d{i}", ("t", *AXES[:rank]), (3, *shape), (1.0, *voxels[1]), (0.0, *offsets[1]))
            found.append(domain)
        domains.append(found)
    below, above = (
        GridSpec(
            tuple(draw(st.integers(1, 4)) for _ in range(n)),
            tuple((draw(st.integers(0, 3)), draw(st.integers(0, 3))) for _ in range(n)),
            draw(st.sampled_from(["overhang", "shrink", "snap"])),
        )
        for n in (rank, rank + own_axis)
    )
    reach = tuple(draw(st.integers(0, 2)) for _ in range(rank)) if draw(st.booleans()) else ()
    return Grid(domains[0], below), Grid(domains[1][::-1], above), reach


def needed(below, above, reach, id):
    """Ids of the upper blocks whose core shares some of the world with what a block reads, by looking at every one of them."""
    block = below.block(id)
    mine = below.domains[block.domain]
    read = block.read.grow(reach, reach) if reach else block.read
    found = set()
    for other in above.blocks(np.arange(len(above))):
        domain = above.domains[other.domain]
        if domain.name != mine.name:
            continue
        shared = True
        for axis, name in enumerate(domain.axes):
            if name in mine.axes:
                i = mine.axes.index(name)
                a = [mine.offset[i] + v * mine.voxel_size[i] for v in (read.begin[i], read.end[i])]
                b = [domain.offset[axis] + v * domain.voxel_size[axis] for v in (other.core.begin[axis], other.core.end[axis])]
                shared &= a[0] < b[1] - 1e-7 and b[0] < a[1] - 1e-7
        if shared:
            found.add(other.id)
    return found


@given(two_grids(), st.randoms(use_true_random=False), st.sampled_from([graph.WINDOW, 7, 1]))
@settings(max_examples=150, deadline=None)
def test_a_block_needs_what_it_reads_and_nothing_else(grids, dice, window):
    below, above, reach = grids
    under = Under(below, above, reach)
    marked = {i for i in range(len(above)) if dice.random() < 0.3}
    before, graph.WINDOW = graph.WINDOW, window
    try:
        for domain, other in enumerate(under.counterparts):
            first = int(above.starts[other])
            bits = np.array([first + i in marked for i in range(int(above.starts[other + 1]) - first)])
            ids = np.arange(below.starts[domain], below.starts[domain + 1])
            found = under.any_under(domain, ids, lambda wanted, bits=bits: bits[wanted])
            for id, any_marked in zip(ids.tolist(), found.tolist(), strict=True):
                want = needed(below, above, reach, id)
                assert any_marked == bool(want & marked), (id, sorted(want), sorted(marked))
                low, high = under.span(domain, np.array([id]))
                assert (low, high) == ((min(want) - first, max(want) + 1 - first) if want else (0, 0))
    finally:
        graph.WINDOW = before


def test_a_page_is_looked_at_in_milliseconds():
    import time

    grid = Grid(Domain("d", AXES, (464 * 8,) * 3), GridSpec((8,) * 3, ((3, 3),) * 3))
    under, ids = Under(grid, grid), np.arange(40_000_000, 40_000_000 + 16_384)
    began = time.process_time()
    found = under.any_under(0, ids, lambda wanted: wanted == 40_000_500)
    assert time.process_time() - began < 0.5  # measured 8 ms
    assert found.any()
    assert not found.all()


@pytest.mark.parametrize(("boxes", "found"), [([[0, 5]], [True]), ([[0, 2], [3, 3], [2, 3]], [False, False, True]), ([], [])])
def test_empty_boxes_hold_nothing(boxes, found):
    pairs = np.array(boxes, np.int64).reshape(-1, 2)
    assert any_in(lambda ids: ids == 2, (5,), pairs[:, :1], pairs[:, 1:]).tolist() == found


def other(**changes):
    return Grid(replace(Domain("d", ("x",), (10,), units=("nm",)), **changes), GridSpec((2,)))


@pytest.mark.parametrize(
    ("grids", "reach", "what"),
    [
        ((other(), other(name="e")), (), "not among"),
        ((other(), other(units=("um",))), (), "same unit"),
        ((other(), other()), (1, 1), "2 axes"),
    ],
)
def test_what_does_not_belong_together_is_refused(grids, reach, what):
    with pytest.raises(ConfigError, match=what):
        Under(*grids, reach)


class Named(Steps):
    def __init__(self, name, upstream):
        super().__init__(4)
        self.name, self._upstream = name, upstream

    def upstream(self):
        return self._upstream


def test_stages_that_say_nothing_need_all_that_is_before():
    graph_ = Graph([Named("a", None), Named("b", [Dependency("a")]), Named("c", None)])
    assert graph_.dependencies == {
        "a": (),
        "b": (Dependency("a", "region"),),
        "c": (Dependency("a", "stage"), Dependency("b", "stage")),
    }
    assert list(graph_.under) == [("b", "a")]


@pytest.mark.parametrize(
    ("stages", "together"),
    [
        ([("a", None), ("b", None)], [[0], [1]]),
        ([("a", None), ("b", [Dependency("a")]), ("c", None)], [[0, 1], [0, 1], [2]]),
        ([("a", None), ("b", []), ("c", [Dependency("b", "stage")])], [[0, 1, 2], [0, 1], [0, 2]]),
        ([("a", None), ("b", [Dependency("a")]), ("c", [Dependency("b", "stage")])], [[0, 1], [0, 1], [2]]),
    ],
)
def test_stages_that_may_meet_in_a_worker_are_known(stages, together):
    assert Graph([Named(*s) for s in stages]).together() == together


@pytest.mark.parametrize(
    ("stages", "what"),
    [
        ([("a", None), ("b", [Dependency("c")]), ("c", None)], r"'b' reads 'c', which does not come before it; before it: a"),
        ([("a", None), ("a", None)], "two stages of the run are called 'a'"),
    ],
)
def test_what_is_no_graph_is_refused(stages, what):
    with pytest.raises(ConfigError, match=what):
        Graph([Named(*s) for s in stages])
