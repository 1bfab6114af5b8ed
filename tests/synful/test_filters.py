import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from blockwise.errors import InputError
from tasks.synful.filters import FilterOptions, add_counts, are_autapses, best_of_pairs, filter_partners
from tests.synful.mapped import mapped

OFF = {"require_segments": False, "drop_autapses": None}
FANC = FilterOptions(min_score=12, drop_autapses="body", one_per_segment_pair=True, merge_within_nm=150)


def partners():
    """(pre x, post x, score, segments, bodies); nothing on the other axes."""
    rows = [
        (0, 100, 20.0, (1, 2), (10, 20)),
        (10, 110, 30.0, (1, 2), (10, 20)),  # the best of its pair of segments
        (100, 900, 25.0, (3, 2), (10, 20)),  # near the one above in its pair of bodies
        (5000, 900, 25.0, (3, 4), (10, 20)),  # far from both
        (0, 0, 99.0, (5, 6), (30, 30)),  # an autapse of a body
        (0, 0, 99.0, (None, 6), (None, 30)),
        (0, 0, 99.0, (7, 0), (70, 0)),
        (0, 0, 12.0, (8, 9), (80, 90)),
    ]
    pre, post, score, segments, bodies = zip(*rows, strict=True)
    ids = {f"{n}_{e}": [p[i] for p in v] for n, v in (("segment", segments), ("body", bodies)) for i, e in enumerate(("pre", "post"))}
    return mapped([[0, 0, x] for x in pre], [[0, 0, x] for x in post], score, **ids)


def test_the_chain_of_fanc():
    kept, counts = filter_partners(partners(), FANC)
    assert kept["id"].to_pylist() == [1, 3]
    assert [tuple(r.values()) for r in counts.to_pylist()] == [
        ("require_segments", 8, 6),
        ("min_score", 6, 5),
        ("drop_autapses", 5, 4),
        ("one_per_segment_pair", 4, 3),
        ("merge_within_nm", 3, 2),
    ]


@pytest.mark.parametrize(
    ("options", "dropped"),
    [
        ({}, []),
        ({"require_segments": True}, [5, 6]),
        ({"min_score": 25}, [0, 2, 3, 7]),
        ({"drop_autapses": "body"}, [4]),
        ({"drop_autapses": "segment"}, []),
        ({"max_distance_nm": 800, "min_distance_nm": 100}, [3, 4, 5, 6, 7]),
        ({"one_per_segment_pair": True}, [0]),
        ({"merge_within_nm": 10, "merge_by": "segment"}, [0]),
        ({"merge_within_nm": 90}, [0, 2]),
        ({"merge_within_nm": 90, "merge_site": "post"}, [0, 3]),
    ],
)
def test_single_steps(options, dropped):
    kept, counts = filter_partners(partners(), FilterOptions(**OFF | options))
    assert sorted({*range(8)} - {*kept["id"].to_pylist()}) == dropped
    assert counts.num_rows == (1 if options else 0)


def test_an_autapse_on_an_identity_that_is_none_is_none():
    zero = mapped(np.zeros((2, 3)), np.zeros((2, 3)), [1.0, 1.0], segment_pre=[0, 4], segment_post=[0, 4])
    assert are_autapses(zero, "segment").tolist() == [False, True]


def test_ties_go_to_the_smallest_id():
    tied = mapped(np.zeros((3, 3)), np.zeros((3, 3)), [1.0, 2.0, 2.0], ids=[1, 9, 4], segment_pre=1, segment_post=2)
    assert best_of_pairs(tied, "segment").tolist() == [False, False, True]
    assert best_of_pairs(tied.slice(0, 0), "segment").tolist() == []


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_buckets_of_whole_pairs_give_what_the_whole_gives(seed):
    rng = np.random.default_rng(seed)
    n = 120
    segments = {f"segment_{e}": rng.integers(0, 9, n) for e in ("pre", "post")}
    bodies = {f"body_{e}": segments[f"segment_{e}"] // 3 for e in ("pre", "post")}
    whole = mapped(rng.integers(0, 400, (n, 3)), rng.integers(0, 400, (n, 3)), rng.integers(0, 40, n), **segments, **bodies)
    bucket = (bodies["body_pre"] * 3 + bodies["body_post"]) % 4
    parts = [filter_partners(whole.filter(pa.array(bucket == b)), FANC) for b in range(4)]
    kept, counts = filter_partners(whole, FANC)
    assert pa.concat_tables(p for p, _ in parts).sort_by("id").equals(kept)
    assert add_counts(c for _, c in parts).equals(counts)


def test_a_missing_column_is_told_before_anything_is_done():
    with pytest.raises(InputError, match="body_pre, body_post"):
        filter_partners(partners().drop(["body_pre", "body_post"]), FANC)


def test_options_are_frozen_and_checked():
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        FilterOptions(merge_within_nm=-1)
    with pytest.raises(ValidationError, match="Extra inputs"):
        FilterOptions(merge_within=1)
    with pytest.raises(ValidationError, match="frozen"):
        FANC.min_score = 3


def test_counts_of_nothing():
    assert add_counts([]).num_rows == 0
