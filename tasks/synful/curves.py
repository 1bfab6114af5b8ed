"""Precision and recall against the score a prediction must have, where truth is known; where it is not, how many predictions are left.

Every point is an evaluation of its own: duplicates are merged among the predictions that reach the score, as they would be in use.
"""

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from blockwise.errors import InputError
from tasks.synful.evaluation import evaluate
from tasks.synful.partners import require

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

POINTS: int = 40
"""Of a curve, unless its thresholds are given."""


def thresholds_of(predicted: "pa.Table", points: int = POINTS) -> npt.NDArray[np.float64]:
    """Scores that part the predictions in equal shares, the lowest first, (points or fewer,); none where there are no scores.

    Raises
    ------
    InputError : the table has no scores.
    """
    require(predicted, ["score"], "a curve over scores")
    scores = np.sort(predicted["score"].drop_null().to_numpy().astype(np.float64))
    return np.unique(scores[np.arange(points) * len(scores) // points]) if len(scores) else scores


def precision_recall(predicted: "pa.Table", truth: "pa.Table", *, thresholds: Sequence[float] | None = None, **options: Any) -> "pa.Table":
    """One evaluation per threshold.

    Parameters
    ----------
    thresholds : least scores; None: those that part the predictions in 40 equal shares.
    options : of `evaluate`, other than `min_score`.

    Returns
    -------
    Columns min_score, true_positives, false_positives, false_negatives, merged, precision, recall, f_score; a row per threshold.
    """
    import pyarrow as pa

    chosen = np.asarray(thresholds_of(predicted) if thresholds is None else thresholds, np.float64)
    if not len(chosen):
        raise InputError("a curve over scores needs at least one threshold: the predictions have no scores, and none is given")
    found = [evaluate(predicted, truth, min_score=float(t), **options).figures() for t in chosen]
    return pa.Table.from_pylist([{"min_score": float(t), **figures} for t, figures in zip(chosen, found, strict=True)])


def best(curve: "pa.Table") -> dict[str, Any]:
    """The row of highest F-score; of equals, that of the lowest threshold, null being the lowest."""

    def rank(row: dict[str, Any]) -> tuple[float, float]:
        return -row["f_score"], -math.inf if row["min_score"] is None else row["min_score"]

    return dict(min(curve.to_pylist(), key=rank))


def counts(predicted: "pa.Table", *, thresholds: Sequence[float] | None = None) -> "pa.Table":
    """How many predictions reach each threshold: what there is to look at without truth.

    Returns
    -------
    Columns min_score, predictions; a row per threshold.
    """
    import pyarrow as pa

    chosen = np.asarray(thresholds_of(predicted) if thresholds is None else thresholds, np.float64)
    require(predicted, ["score"], "counts against a threshold")
    scores = np.sort(predicted["score"].drop_null().to_numpy().astype(np.float64))
    return pa.table({"min_score": chosen, "predictions": len(scores) - np.searchsorted(scores, chosen)})


def plot_curves(curves: Mapping[str, "pa.Table"]) -> bytes:
    """Precision against recall, and F-score against the threshold, each curve with its best point marked; a PNG.

    Parameters
    ----------
    curves : what `precision_recall` gave, by the name for the legend.
    """
    figure, (left, right) = _axes(2)
    for name, curve in curves.items():
        top = best(curve)
        values = {column: curve[column].to_numpy() for column in ("recall", "precision", "min_score", "f_score")}
        (line,) = left.plot(values["recall"], values["precision"], ".-", ms=4, label=name)
        right.plot(values["min_score"], values["f_score"], ".-", ms=4, color=line.get_color())
        left.plot(top["recall"], top["precision"], "o", ms=9, mfc="none", color=line.get_color())
        right.plot(top["min_score"], top["f_score"], "o", ms=9, mfc="none", color=line.get_color())
        right.annotate(
            f"{top['f_score']:.3f} at {top['min_score']:.4g}", (top["min_score"], top["f_score"]), (6, 6), textcoords="offset points"
        )
    left.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    right.set(xlabel="least score", ylabel="F-score", ylim=(0, 1.02))
    left.legend(frameon=False)
    return _png(figure)


def plot_counts(curve: "pa.Table") -> bytes:
    """Predictions left against the threshold, on a logarithmic axis; a PNG."""
    figure, (axes,) = _axes(1)
    axes.step(curve["min_score"].to_numpy(), curve["predictions"].to_numpy(), where="post")
    axes.set(xlabel="least score", ylabel="predictions", yscale="log" if max(curve["predictions"].to_pylist(), default=0) > 0 else "linear")
    return _png(figure)


def _axes(columns: int) -> tuple["Figure", Sequence[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * columns, 3.6), layout="constrained")
    axes = [figure.add_subplot(1, columns, i + 1) for i in range(columns)]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
