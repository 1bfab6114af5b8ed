"""Boxes of voxels against NumPy's own slicing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockwise.geometry import Domain, Region

SIDES = st.tuples(st.integers(-5, 5), st.integers(-5, 5))


@st.composite
def regions(draw, rank=2):
    sides = [draw(SIDES) for _ in range(rank)]
    return Region(tuple(min(s) for s in sides), tuple(max(s) for s in sides))


def voxels(region):
    return {(y, x) for y in range(region.begin[0], region.end[0]) for x in range(region.begin[1], region.end[1])}


@given(regions(), regions())
def test_intersection_holds_the_common_voxels(a, b):
    assert voxels(a.intersect(b)) == voxels(a) & voxels(b)
    assert a.intersect(b).size == len(voxels(a) & voxels(b))


@given(regions(), regions())
def test_a_box_contains_another_whose_voxels_are_all_its_own(a, b):
    assert not b.size or a.contains(b) == (voxels(b) <= voxels(a))


@given(regions(), SIDES)
def test_shift_and_back_changes_nothing(region, by):
    assert region.shift(by).shift([-n for n in by]) == region
    assert region.shift(by).shape == region.shape


def test_grow_adds_on_both_sides():
    assert Region((2, 3), (5, 7)).grow((1, 0), (2, 4)) == Region((1, 3), (7, 11))


@pytest.mark.parametrize(("begin", "end", "size"), [((0,), (4,), 4), ((2, 2), (2, 5), 0), ((3, 1), (1, 5), 0), ((0, 0), (3, 5), 15)])
def test_size_of_empty_and_reversed_boxes_is_zero(begin, end, size):
    assert Region(begin, end).size == size


def test_slices_cut_the_box_out_of_an_array():
    cut = np.arange(20).reshape(4, 5)[Region((1, 2), (3, 5)).slices]
    assert cut.tolist() == [[7, 8, 9], [12, 13, 14]]


def test_a_domain_fills_in_its_world():
    domain = Domain("d", ("z", "y"), (3, 4))
    assert (domain.voxel_size, domain.offset, domain.units) == ((1.0, 1.0), (0.0, 0.0), ("", ""))
    assert domain.region == Region((0, 0), (3, 4))


@pytest.mark.parametrize("wrong", [{"shape": (3,)}, {"voxel_size": (1.0,)}, {"offset": (0.0, 0.0, 0.0)}, {"units": ("nm",)}])
def test_a_domain_whose_ranks_differ_is_refused(wrong):
    values = {"name": "d", "axes": ("z", "y"), "shape": (3, 4), **wrong}
    with pytest.raises(ValueError, match="2 axes"):
        Domain(**values)


@pytest.mark.parametrize("change", [{"name": "e"}, {"shape": (3, 5)}, {"voxel_size": (2.0, 1.0)}, {"offset": (0.0, 9.0)}])
def test_the_digest_tells_domains_apart(change):
    values = {"name": "d", "axes": ("z", "y"), "shape": (3, 4)}
    assert Domain(**values).digest != Domain(**{**values, **change}).digest
    assert Domain(**values).digest == Domain(**values).digest
