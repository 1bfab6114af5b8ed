"""Counts of partners, against counting by hand and per neuron."""

import numpy as np
import pyarrow as pa
import pytest

from blockwise.errors import ConfigError, InputError
from tasks.synful.evaluation import Evaluation, evaluate
from tasks.synful.partners import table


def partners(post, skeletons, scores=None, segments=None) -> pa.Table:
    """Partners at x = `post`, pre 50 nm before it."""
    post = np.asarray(post)
    sites = [np.stack([post * 0, post * 0, post + dx], axis=1) for dx in (-50, 0)]
    names = {"skeleton": skeletons, **({"segment": segments} if segments else {})}
    more = {f"{n}_{e}": pa.array([p[i] for p in pairs], pa.int64()) for n, pairs in names.items() for i, e in enumerate(("pre", "post"))}
    return table(*sites, [1.0] * len(post) if scores is None else scores, np.arange(len(post)), more=more)


def counts(found: Evaluation):
    return found.true_positives, found.false_positives, found.false_negatives


def random_partners(random, size):
    ids = [[None if i < 0 else int(i) for i in pair] for pair in random.integers(-1, 4, (size, 2))]
    return partners(random.integers(0, 3000, size), ids, random.uniform(0, 10, size))


TRUTH = partners([1000, 2000, 3000], [(1, 2), (1, 2), (2, 3)])


@pytest.mark.parametrize(
    ("post", "skeletons", "expected"),
    [
        ([1000, 2000, 3000], [(1, 2), (1, 2), (2, 3)], (3, 0, 0)),
        ([1000, 2000, 3000], [(2, 1), (1, 2), (2, 3)], (2, 1, 1)),  # the order of the two matters
        ([1000, 1010, 3000], [(1, 2), (1, 2), (2, 3)], (2, 1, 1)),
        ([1000, 2000, 3000], [(1, None), (-2, 2), (2, 3)], (1, 2, 2)),
        ([1401, 2400, 3400], [(1, 2), (1, 2), (2, 3)], (2, 1, 1)),
        ([], [], (0, 0, 3)),
    ],
)
def test_counts(post, skeletons, expected):
    assert counts(evaluate(partners(post, skeletons), TRUTH, by="skeleton")) == expected


@pytest.mark.parametrize(
    ("tp", "fp", "fn", "scores"), [(3, 1, 2, (0.75, 0.6, 2 / 3)), (0, 2, 0, (0, 1, 0)), (0, 0, 0, (1, 1, 1)), (0, 1, 1, (0, 0, 0))]
)
def test_scores(tp, fp, fn, scores):
    found = Evaluation(tp, fp, fn)
    assert (found.precision, found.recall, found.f_score) == pytest.approx(scores)
    assert list(found.figures())[:3] == ["true_positives", "false_positives", "false_negatives"]


@pytest.mark.parametrize("side", ["both", "inputs", "outputs"])
@pytest.mark.parametrize("seed", range(3))
def test_ids_sum_over_neurons(side, seed):
    """Each neuron's synapses picked out and evaluated alone, then added."""
    random = np.random.default_rng(seed)
    predicted, truth = random_partners(random, 200), random_partners(random, 150)
    together = evaluate(predicted, truth, by="skeleton", ids=[0, 1, 7], side=side, merge_within_nm=20)
    ends = {"both": ("pre", "post"), "inputs": ("post",), "outputs": ("pre",)}[side]
    for i, row in zip((0, 1, 7), together.per_id.to_pylist(), strict=True):
        tables = [t.filter(np.any([t[f"skeleton_{e}"].fill_null(-1).to_numpy() == i for e in ends], axis=0)) for t in (predicted, truth)]
        alone = evaluate(*tables, by="skeleton", merge_within_nm=20)
        assert tuple(row.values()) == (i, *counts(alone))
    assert counts(together) == tuple(sum(together.per_id[n].to_pylist()) for n in together.per_id.schema.names[1:])


def test_rows_tell_what_was_counted():
    found = evaluate(partners([2010, 500, 990], [(1, 2)] * 3), TRUTH, by="skeleton", min_score=0.5)
    assert found.matches.tolist() == [[0, 1], [2, 0]]
    assert (found.false_positive_rows.tolist(), found.false_negative_rows.tolist()) == ([1], [2])


@pytest.mark.parametrize(("min_score", "left"), [(None, 3), (1.0, 3), (2.0, 2), (3.5, 0)])
def test_the_least_score_stays(min_score, left):
    predicted = partners([1000, 2000, 3000], [(1, 2), (1, 2), (2, 3)], [1.0, 2.0, 3.0])
    assert evaluate(predicted, TRUTH, by="skeleton", min_score=min_score).true_positives == left


def test_rows_within_one_id_are_dropped():
    predicted = partners([1000, 1000, 1000], [(1, 2), (2, 2), (None, None)], segments=[(5, 6), (5, 6), (8, 8)])
    assert counts(evaluate(predicted, TRUTH, by="skeleton")) == (1, 2, 2)
    assert counts(evaluate(predicted, TRUTH, by="skeleton", drop_same_id=True)) == (1, 1, 2)
    assert counts(evaluate(predicted, TRUTH, by="skeleton", drop_same_id="segment")) == (1, 1, 2)
    assert evaluate(predicted, TRUTH, by="none", drop_same_id="segment").matches.tolist() == [[0, 0]]


@pytest.mark.parametrize(("dropped", "left"), [((0,), 1), ((), 3), ((0, 6), 0), ((7,), 1)])
def test_rows_on_segments_that_are_none_are_dropped(dropped, left):
    predicted = partners([1000, 2000, 3000], [(1, 2), (1, 2), (2, 3)], segments=[(0, 7), (7, 0), (6, None)])
    found = evaluate(predicted, TRUTH, by="skeleton", drop_segments=dropped)
    assert found.true_positives + found.false_positives == left


@pytest.mark.parametrize(("within", "left"), [(None, 4), (0, 3), (9.9, 3), (10, 2), (1000, 1)])
def test_duplicates_are_merged_to_the_best(within, left):
    predicted = partners([1000, 1010, 1010, 1500], [(1, 2)] * 4, [1.0, 3.0, 2.0, 0.5])
    found = evaluate(predicted, TRUTH, by="skeleton", merge_within_nm=within)
    assert (found.true_positives + found.false_positives, found.merged) == (left, 4 - left)
    if within == 1000:
        assert found.matches.tolist() == [[1, 0]]


def test_without_ids_only_places_count():
    assert counts(evaluate(partners([1000, 5000], [(8, 9)] * 2), TRUTH, by="none")) == (1, 1, 2)


def test_columns_without_any_id_match_nothing():
    empty = pa.nulls(3)
    predicted = (
        TRUTH.drop_columns(["skeleton_pre", "skeleton_post"]).append_column("skeleton_pre", empty).append_column("skeleton_post", empty)
    )
    assert counts(evaluate(predicted.append_column("segment_pre", empty), TRUTH, by="skeleton", merge_within_nm=9)) == (0, 3, 3)


def test_large_segment_ids_keep_apart():
    ids = pa.array([2**63 + 1, 2**63 + 2, 2**64 - 1], pa.uint64())
    truth = TRUTH.append_column("segment_pre", ids).append_column("segment_post", ids)
    swapped = truth.set_column(truth.schema.get_field_index("segment_pre"), "segment_pre", ids.take([1, 0, 2]))
    assert counts(evaluate(truth, truth, by="segment")) == (3, 0, 0)
    assert counts(evaluate(swapped, truth, by="segment")) == (1, 2, 2)
    assert counts(evaluate(truth, truth, by="segment", ids=[2**63 + 2, 2**64 - 1])) == (2, 0, 0)


def test_an_id_given_twice_counts_once():
    assert counts(evaluate(TRUTH, TRUTH, by="skeleton", ids=np.array([3, 3, 1]))) == (3, 0, 0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"by": "body"}, InputError, "body_pre, body_post"),
        ({"by": "skeleton", "match_on": "nearest"}, ConfigError, "match_on is 'nearest'"),
        ({"by": "skeleton", "side": "left", "ids": [1]}, ConfigError, "side is 'left'"),
        ({"by": "skeleton", "match_distance_nm": -1}, ConfigError, "match_distance_nm is -1"),
        ({"by": "skeleton", "merge_within_nm": float("nan")}, ConfigError, "merge_within_nm is nan"),
        ({"by": "none", "ids": [1]}, ConfigError, "say whose ids"),
        ({"by": "none", "merge_within_nm": 5}, ConfigError, "say whose ids"),
        ({"by": "none", "drop_same_id": True}, ConfigError, "say whose ids"),
        ({"by": "skeleton", "drop_same_id": "segment"}, InputError, "segment_pre, segment_post"),
        ({"by": "score"}, InputError, "score_pre"),
    ],
)
def test_what_cannot_be_evaluated(options, error, message):
    with pytest.raises(error, match=message):
        evaluate(TRUTH, TRUTH, **options)


def test_ids_that_are_no_integers_are_refused():
    fractions = TRUTH.set_column(TRUTH.schema.get_field_index("skeleton_pre"), "skeleton_pre", pa.array([1.0, 1.0, 2.0]))
    with pytest.raises(InputError, match="skeleton_pre holds double"):
        evaluate(fractions, TRUTH, by="skeleton")
