"""Which extraction parameters find the partners best: each combination on stored predictions, against true partners.

Thresholds are probabilities and scores those of probabilities, however predictions are stored; `min_score` is strict, as in `detect`: the
row of highest F-score can be written into `[options.extract]` as it stands. Minimum scores cost no extraction, so a combination tries many.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from blockwise.config import validated
from blockwise.errors import ConfigError
from blockwise.geometry import Domain
from blockwise.grid import Grid, GridSpec
from tasks.synful.curves import thresholds_of
from tasks.synful.evaluation import evaluate
from tasks.synful.extraction import Extraction, Predictions
from tasks.synful.options import ExtractOptions, Lengths
from tasks.synful.partners import AXES
from tasks.synful.views import Views

if TYPE_CHECKING:
    from blockwise.storage import Source
    from tasks.synful.lookup import Rounding

Array = npt.NDArray[Any]

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


def combinations(
    *,
    methods: Sequence[Literal["cc", "nms"]] = ("cc",),
    thresholds: Sequence[float],
    scores: Sequence[str] = ("sum",),
    locations: Sequence[str] = ("edt",),
    nms_radii: Sequence[Lengths] = ((40.0, 40.0, 40.0),),
) -> tuple[ExtractOptions, ...]:
    """All combinations of parameters that a method has: scores and locations are those of "cc", radii (nm, z y x) those of "nms"."""
    keys = {"cc": ("threshold", "score", "location"), "nms": ("threshold", "nms_radius")}
    values = {"threshold": thresholds, "score": scores, "location": locations, "nms_radius": nms_radii}
    return tuple(
        validated(ExtractOptions, {"method": method, **dict(zip(keys[method], chosen, strict=True))}, "options.extract")
        for method in dict.fromkeys(methods)
        for chosen in product(*(values[k] for k in keys[method]))
    )


@dataclass(frozen=True)
class Trials:
    """What every combination is tried on.

    Parameters
    ----------
    predictions : of the whole domain, with their scales.
    domain : voxel size and offset in nm.
    truth : a table of partners.
    segmentation : where partners get their segments, predicted and true ones; an array of the domain's geometry, or an open source.
    min_scores : to try, or how many: so many that part the predictions found in equal shares. None of them drops nothing.
    options : of `evaluate`, other than `min_score`.
    """

    predictions: Predictions
    domain: Domain
    truth: pa.Table
    segmentation: "Array | Source | None" = None
    rounding: "Rounding" = "truncate"
    min_scores: Sequence[float] | int = 20
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.options.get("by", "none") != "none" and self.segmentation is None:
            raise ConfigError(f"a search by {self.options['by']} needs a segmentation; give one, or search by 'none'")
        object.__setattr__(self, "truth", self._mapped(self.truth))

    def rows(self, combination: ExtractOptions) -> pa.Table:
        """Extract once, and evaluate for every minimum score; columns of SCHEMA."""
        found = self._mapped(self._extracted(combination))
        rows = [self._row(combination, found, minimum) for minimum in self._minima(found)]
        return pa.Table.from_pylist(rows, schema=SCHEMA)

    def _extracted(self, combination: ExtractOptions) -> pa.Table:
        views = Views(Grid(self.domain, GridSpec(self.domain.shape)), (0, 0, 0))
        extraction = Extraction(combination, views, self.domain.voxel_size, self.domain.offset)
        return extraction.partners(extraction.components(self.predictions), self.predictions)

    def _mapped(self, partners: pa.Table) -> pa.Table:
        from tasks.synful.segments import map_to_segments

        if self.segmentation is None:
            return partners
        an_array = isinstance(self.segmentation, np.ndarray)
        place = {"voxel_size": self.domain.voxel_size, "offset": self.domain.offset} if an_array else {}
        return map_to_segments(partners, self.segmentation, rounding=self.rounding, **place)

    def _minima(self, found: pa.Table) -> Sequence[float | None]:
        """Minimum scores to try, none first."""
        wanted = thresholds_of(found, self.min_scores).tolist() if isinstance(self.min_scores, int) else self.min_scores
        return [None, *wanted]

    def _row(self, combination: ExtractOptions, found: pa.Table, minimum: float | None) -> dict[str, Any]:
        kept = found if minimum is None else found.filter(pc.greater(found["score"], minimum))
        figures = evaluate(kept, self.truth, **{"by": "none", **self.options}).figures()
        return {**columns(combination), "min_score": minimum, **figures}


def columns(combination: ExtractOptions) -> dict[str, Any]:
    """A combination as columns of SCHEMA."""
    o = combination
    if o.method == "nms":
        radius = zip(AXES, o.nms_radius or (), strict=True)
        return {"method": o.method, "threshold": o.threshold, **{f"nms_radius_{a}": r for a, r in radius}}
    return {"method": o.method, "threshold": o.threshold, "score": o.score, "location": o.location}


def search(trials: Trials, combinations: Sequence[ExtractOptions]) -> pa.Table:
    """Try every combination, one after the other: columns of SCHEMA. `curves.best` tells the row of highest F-score."""
    return pa.concat_tables([SCHEMA.empty_table(), *(trials.rows(c) for c in combinations)])
