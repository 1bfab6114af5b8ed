"""Edges of enough synapses, against counting pair by pair."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from blockwise.errors import BlockwiseError
from tasks.synful.edge_agreement import EdgeAccuracy, edge_accuracy, pair_counts


def edges(pairs, kind=None):
    kind = kind or pa.int64()
    return pa.table({f"skeleton_{e}": pa.array([p[i] for p in pairs], kind) for i, e in enumerate(("pre", "post"))})


def counted(pairs, least, ids=None):
    """By the definition: every pair with a synapse in either table."""
    found, real = (Counter(p for p in t if None not in p and min(p) > 0 and (ids is None or set(p) <= set(ids))) for t in pairs)
    told = [(found[p] >= least, real[p] >= least) for p in found.keys() | real.keys() if max(found[p], real[p]) >= least or real[p]]
    return EdgeAccuracy(*(told.count(t) for t in ((True, True), (False, False), (True, False), (False, True))))


@pytest.mark.parametrize("least", [1, 2, 5])
@pytest.mark.parametrize("ids", [None, [1, 2, 3], [1, 2, -2]])
@pytest.mark.parametrize("seed", range(3))
def test_random_edges(least, ids, seed):
    random = np.random.default_rng(seed)
    pairs = [[tuple(None if i == -1 else i for i in p) for p in random.integers(-2, 6, (n, 2)).tolist()] for n in (90, 80)]
    assert edge_accuracy(edges(pairs[0]), edges(pairs[1]), ids=ids, min_synapses=least) == counted(pairs, least, ids)


def test_pairs_without_true_synapses_are_not_counted_as_right():
    found = edge_accuracy(edges([(1, 2)] * 6 + [(2, 1)] * 4 + [(3, 1)] * 7), edges([(1, 2)] * 5 + [(2, 3)]))
    assert found == EdgeAccuracy(true_positives=1, true_negatives=1, false_positives=1, false_negatives=0)
    assert found.accuracy == pytest.approx(2 / 3)


def test_counts_of_pairs_are_listed():
    counts = pair_counts(edges([(2, 1), (2, 1)]), edges([(1, 2), (2, 1)], pa.uint64()))
    assert [tuple(row.values()) for row in counts.to_pylist()] == [(1, 2, 0, 1), (2, 1, 2, 1)]


def test_nothing_is_all_right():
    assert edge_accuracy(edges([]), edges([])).accuracy == 1


@pytest.mark.parametrize(
    ("table", "options"), [(edges([]), {"min_synapses": 0}), (edges([]), {"by": "body"}), (edges([("a", "b")], pa.string()), {})]
)
def test_what_cannot_be_compared(table, options):
    with pytest.raises(BlockwiseError):
        edge_accuracy(table, edges([]), **options)
