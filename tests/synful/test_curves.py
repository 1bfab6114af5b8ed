"""Curves over scores, on partners whose score says whether they are real."""

import numpy as np
import pyarrow as pa
import pytest

from blockwise.errors import InputError
from tasks.synful.curves import best, counts, plot_counts, plot_curves, precision_recall, thresholds_of
from tasks.synful.evaluation import evaluate
from tasks.synful.partners import table

REAL = np.arange(50) * 1000


def partners(x, scores):
    sites = np.stack([np.zeros_like(x), np.zeros_like(x), x], axis=1)
    return table(sites, sites, scores, np.arange(len(x)))


@pytest.fixture(scope="module")
def predicted():
    """40 of 50 real partners with scores above 1, 60 false ones with scores below 2."""
    random = np.random.default_rng(0)
    return partners(np.r_[REAL[:40], 10**6 + 1000 * np.arange(60)], np.r_[random.uniform(1, 3, 40), random.uniform(0, 2, 60)])


@pytest.fixture(scope="module")
def truth():
    return partners(REAL, np.ones(50))


def test_a_curve_is_evaluations(predicted, truth):
    curve = precision_recall(predicted, truth, thresholds=[0, 1, 2.5], by="none")
    for row in curve.to_pylist():
        assert evaluate(predicted, truth, by="none", min_score=row.pop("min_score")).figures() == row
    assert curve["recall"].to_pylist()[0] == pytest.approx(0.8)
    assert curve["precision"].to_pylist()[0] == pytest.approx(0.4)


def test_thresholds_part_the_predictions_evenly(predicted):
    thresholds = thresholds_of(predicted, 10)
    assert counts(predicted, thresholds=thresholds)["predictions"].to_pylist() == list(range(100, 0, -10))
    assert thresholds_of(partners(np.arange(5), [2.0] * 5)).tolist() == [2.0]


def test_the_best_point_is_the_lowest_of_equals(predicted, truth):
    curve = precision_recall(predicted, truth, by="none")
    assert 0.9 < best(curve)["min_score"] < 1.4
    assert best(curve)["f_score"] == max(curve["f_score"].to_pylist())
    same = pa.table({"min_score": [3.0, 1.0, 2.0], "f_score": [0.5, 0.5, 0.1]})
    assert best(same)["min_score"] == 1


def test_scores_that_are_not_known_reach_no_threshold():
    unknown = partners(REAL[:3], [1.0, 2.0, 3.0])
    unknown = unknown.set_column(unknown.schema.get_field_index("score"), "score", pa.array([1.0, None, 3.0]))
    assert counts(unknown, thresholds=[0, 2])["predictions"].to_pylist() == [2, 1]
    assert precision_recall(unknown, partners(REAL[:3], [1.0] * 3), thresholds=[0], by="none")["true_positives"].to_pylist() == [2]


def test_pictures_are_png(predicted, truth):
    curve = precision_recall(predicted, truth, by="none", thresholds=[0, 1, 2])
    for picture in (plot_curves({"all": curve, "some": curve.slice(1)}), plot_counts(counts(predicted))):
        assert picture.startswith(b"\x89PNG")
        assert len(picture) > 5000


@pytest.mark.parametrize("work", [thresholds_of, counts, lambda t: precision_recall(t, t, by="none")])
def test_tables_without_scores_are_refused(work, truth):
    with pytest.raises(InputError, match="score"):
        work(truth.drop_columns(["score"]))


def test_no_threshold_makes_no_curve(truth):
    with pytest.raises(InputError, match="at least one threshold"):
        precision_recall(partners(REAL[:0], []), truth, by="none")
