from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockwise.errors import ConfigError, InputError
from tasks.synful.edges import edge_list, merge_edge_lists
from tests.synful.mapped import mapped

LARGE = 2**63 + 1


def partners(pre, post, score=None, name="body"):
    n = len(pre)
    sites = np.zeros((n, 3))
    return mapped(sites, sites, np.ones(n) if score is None else score, **{f"{name}_pre": pre, f"{name}_post": post})


def test_counts_and_scores():
    got = edge_list(partners([LARGE, 1, LARGE, None, 0, 1, 2], [2, LARGE, 2, 2, 2, 0, 2], [1, 2, 4, 8, 8, 8, 16]))
    assert got.to_pydict() == {"pre": [1, 2, LARGE], "post": [LARGE, 2, 2], "count": [1, 1, 2], "score": [2, 16, 5]}
    assert got.schema.types == [pa.uint64(), pa.uint64(), pa.int64(), pa.float64()]


def test_few_contacts_make_no_edge():
    assert edge_list(partners([1, 1, 2], [2, 2, 1]), min_count=2).to_pylist() == [{"pre": 1, "post": 2, "count": 2, "score": 2.0}]


def test_skeletons_too_far_do_not_count():
    got = edge_list(partners([-2, 3, 3], [3, -2, 4], name="skeleton"), by="skeleton")
    assert got["post"].to_pylist() == [4]
    everything = edge_list(partners([-2, 0], [3, 3], name="skeleton"), by="skeleton", ignore_ids=())
    assert everything["pre"].to_pylist() == [-2, 0]


def test_empty():
    empty = edge_list(partners([], []))
    assert empty.num_rows == 0
    assert empty.column_names == ["pre", "post", "count", "score"]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_lists_of_parts_make_the_whole(seed, min_count):
    rng = np.random.default_rng(seed)
    whole = partners(rng.integers(1, 5, 60), rng.integers(1, 5, 60), rng.random(60))
    cuts = [0, *sorted(rng.integers(0, 60, 2)), 60]
    parts = [edge_list(whole.slice(a, b - a)) for a, b in pairwise(cuts)]
    got, want = merge_edge_lists(parts, min_count=min_count), edge_list(whole, min_count=min_count)
    assert got.drop(["score"]).equals(want.drop(["score"]))
    np.testing.assert_allclose(got["score"].to_numpy(), want["score"].to_numpy())
    assert edge_list(whole.take(pa.array(rng.permutation(60)))).equals(edge_list(whole))


def test_refusals():
    with pytest.raises(ConfigError, match="min_count = 0"):
        edge_list(partners([1], [1]), min_count=0)
    with pytest.raises(InputError, match="segment_pre, segment_post"):
        edge_list(partners([1], [1]), by="segment")
