from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.synful.halves import part_in_two


@pytest.mark.parametrize(("sites", "sides"), [([0, 1, 9, 10], [1, 1, 0, 0]), ([5, 5, 5], [0, 0, 0]), ([4], [0]), ([], [])])
def test_two_means(sites, sides):
    places = np.array([[0, 0, x] for x in sites], float).reshape(-1, 3)
    starts = np.array([0, len(sites)] if sites else [0])
    got = part_in_two(places, starts)
    assert got.tolist() in (sides, [1 - s for s in sides])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 12), min_size=1, max_size=6))
def test_groups_do_not_meet_and_centres_rest(seed, sizes):
    rng = np.random.default_rng(seed)
    starts = np.cumsum([0, *sizes])
    sites = rng.integers(0, 20, (starts[-1], 3)).astype(float)
    side = part_in_two(sites, starts)
    for begin, end in pairwise(starts):
        own, half = sites[begin:end], side[begin:end]
        assert part_in_two(own, np.array([0, end - begin])).tolist() == half.tolist()
        if 0 < half.sum() < len(half):
            one, two = (own[half == h].mean(axis=0) for h in (0, 1))
            nearer = np.linalg.norm(own - two, axis=1) < np.linalg.norm(own - one, axis=1)
            assert (nearer == half).all()
