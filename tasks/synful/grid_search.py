"""Which extraction parameters find the partners best: each combination on stored predictions, against true partners.

Thresholds are probabilities and scores those of probabilities, however predictions are stored; `min_score` is strict, as in `detect`: the
row of highest F-score can be written into `[options.extract]` as it stands. Minimum scores cost no extraction, so a combination tries many.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from blockwise.errors import ConfigError
from tasks.synful.curves import best, thresholds_of
from tasks.synful.evaluation import evaluate
from tasks.synful.partners import AXES

if TYPE_CHECKING:
    from blockwise.storage import Source
    from tasks.synful.lookup import Rounding

Array = npt.NDArray[Any]
Lengths = tuple[float, float, float]

SCHEMA = pa.schema(
    [
        pa.field("method", pa.string(), nullable=False),
        pa.field("threshold", pa.float64(), nullable=False),
        ("score", pa.string()),
        ("location", pa.string()),
        *((f"nms_radius_{axis}", pa.float64()) for axis in AXES),
        ("min_score", pa.float64()),
        *(pa.field(n, pa.int64(), nullable=False) for n in ("true_positives", "false_positives", "false_negatives", "merged")),
        *(pa.field(n, pa.float64(), nullable=False) for n in ("precision", "recall", "f_score")),
    ]
)
"""A row per combination and minimum score; parameters that a method does not have are null, as is the minimum score that drops nothing."""


@dataclass(frozen=True, slots=True)
class Combination:
    """Parameters of one extraction, see `detect`; thresholds as probabilities."""

    method: Literal["cc", "nms"]
    threshold: float
    score: str | None = None
    location: str | None = None
    nms_radius: Lengths | None = None

    def columns(self) -> dict[str, Any]:
        """Its columns of the table of results."""
        radius = self.nms_radius or (None, None, None)
        given = {k: v for k, v in asdict(self).items() if k != "nms_radius"}
        return {**given, **{f"nms_radius_{a}": r for a, r in zip(AXES, radius, strict=True)}}


def combinations(
    *,
    methods: Sequence[Literal["cc", "nms"]] = ("cc",),
    thresholds: Sequence[float],
    scores: Sequence[str] = ("sum",),
    locations: Sequence[str] = ("edt",),
    nms_radii: Sequence[Lengths] = ((40.0, 40.0, 40.0),),
) -> tuple[Combination, ...]:
    """All combinations of parameters that a method has: scores and locations are those of "cc", radii (nm, z y x) those of "nms"."""
    return tuple(_combined(methods, thresholds, scores, locations, nms_radii))


def _combined(methods: Any, thresholds: Any, scores: Any, locations: Any, nms_radii: Any) -> Iterator[Combination]:
    for method in dict.fromkeys(methods):
        if method == "cc":
            yield from (Combination("cc", *values) for values in product(thresholds, scores, locations))
        else:
            yield from (Combination("nms", threshold, nms_radius=tuple(radius)) for threshold, radius in product(thresholds, nms_radii))


@dataclass(frozen=True)
class Trials:
    """What every combination is tried on.

    Parameters
    ----------
    mask : (z, y, x), probability times `mask_scale`.  vectors : (3, z, y, x) nm.
    voxel_size, offset : nm, z y x, of the predictions.
    truth : a table of partners.
    segmentation : where partners get their segments, predicted and true ones; an array of the predictions' geometry, or an open source.
    min_scores : to try, or how many: so many that part the predictions found in equal shares. None of them drops nothing.
    options : of `evaluate`, other than `min_score`.
    """

    mask: Array
    vectors: Array
    voxel_size: tuple[float, ...]
    truth: pa.Table
    offset: tuple[float, ...] = (0.0, 0.0, 0.0)
    mask_scale: float = 1.0
    segmentation: "Array | Source | None" = None
    rounding: "Rounding" = "truncate"
    min_scores: Sequence[float] | int = 20
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.options.get("by", "none") != "none" and self.segmentation is None:
            raise ConfigError(f"a search by {self.options['by']} needs a segmentation; give one, or search by 'none'")
        object.__setattr__(self, "truth", self._mapped(self.truth))

    def rows(self, combination: Combination) -> pa.Table:
        """Extract once, and evaluate for every minimum score; columns of SCHEMA."""
        found = self._mapped(self._extracted(combination))
        rows = [self._row(combination, found, minimum) for minimum in self._minima(found)]
        return pa.Table.from_pylist(rows, schema=SCHEMA)

    def _extracted(self, combination: Combination) -> pa.Table:
        from tasks.synful.detection import detect

        given = {k: v for k, v in asdict(combination).items() if v is not None}
        given["threshold"] *= self.mask_scale
        found = detect(self.mask, self.vectors, self.voxel_size, offset=self.offset, **given)
        if combination.score == "count":
            return found
        at = found.schema.get_field_index("score")
        return found.set_column(at, "score", pc.divide(found["score"], self.mask_scale))

    def _mapped(self, partners: pa.Table) -> pa.Table:
        from tasks.synful.segments import map_to_segments

        if self.segmentation is None:
            return partners
        place = {"voxel_size": self.voxel_size, "offset": self.offset} if isinstance(self.segmentation, np.ndarray) else {}
        return map_to_segments(partners, self.segmentation, rounding=self.rounding, **place)

    def _minima(self, found: pa.Table) -> Sequence[float | None]:
        """Minimum scores to try, none first."""
        wanted = thresholds_of(found, self.min_scores).tolist() if isinstance(self.min_scores, int) else self.min_scores
        return [None, *wanted]

    def _row(self, combination: Combination, found: pa.Table, minimum: float | None) -> dict[str, Any]:
        kept = found if minimum is None else found.filter(pc.greater(found["score"], minimum))
        figures = evaluate(kept, self.truth, **{"by": "none", **self.options}).figures()
        return {**combination.columns(), "min_score": minimum, **figures}


def search(trials: Trials, combinations: Sequence[Combination]) -> pa.Table:
    """Try every combination, one after the other; rows in their order, columns of SCHEMA. `best` tells the row of highest F-score."""
    return pa.concat_tables([SCHEMA.empty_table(), *(trials.rows(c) for c in combinations)])


__all__ = ["SCHEMA", "Combination", "Trials", "best", "combinations", "search"]
