"""Whether two neurons are connected: edges of enough synapses, compared instead of the synapses (spec 9.4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from blockwise.errors import ConfigError
from tasks.synful.columns import check_identities

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class EdgeAccuracy:
    """Pairs of neurons by whether they are connected, predicted and in truth.

    true_negatives : pairs that have true synapses, but too few for an edge, predicted and in truth. Pairs that have none, nearly all
        there are, would make any prediction accurate.
    """

    true_positives: int
    true_negatives: int
    false_positives: int
    false_negatives: int

    @property
    def accuracy(self) -> float:
        """Share of pairs that are told right; 1 where there are none."""
        right = self.true_positives + self.true_negatives
        total = right + self.false_positives + self.false_negatives
        return right / total if total else 1.0


def edge_accuracy(
    predicted: "pa.Table",
    truth: "pa.Table",
    *,
    by: str = "skeleton",
    ids: Sequence[int] | None = None,
    min_synapses: int = 5,
) -> EdgeAccuracy:
    """Compare the edges of two tables of partners.

    Parameters
    ----------
    predicted, truth : tables of partners with `<by>_pre` and `<by>_post`, already filtered as wanted; rows with a null or negative id
        belong to no pair.
    ids : compare only pairs of which both are among these.
    min_synapses : two neurons are connected from this number on, in one direction.

    Raises
    ------
    InputError : columns are missing or hold no integers.  ConfigError : `min_synapses` is below 1.
    """
    if min_synapses < 1:
        raise ConfigError(f"edge_accuracy: min_synapses is {min_synapses}; two neurons without a synapse are not connected: give 1 or more")
    counts = pair_counts(predicted, truth, by=by, ids=ids)
    found, real = (counts[name].to_numpy() for name in ("predicted", "truth"))
    edge, true_edge = found >= min_synapses, real >= min_synapses
    tells = (edge & true_edge, ~edge & ~true_edge & (real > 0), edge & ~true_edge, ~edge & true_edge)
    return EdgeAccuracy(*(int(np.count_nonzero(t)) for t in tells))


def pair_counts(predicted: "pa.Table", truth: "pa.Table", *, by: str = "skeleton", ids: Sequence[int] | None = None) -> "pa.Table":
    """Synapses of every ordered pair that has any: columns `<by>_pre`, `<by>_post`, predicted, truth, ordered by the ids."""
    keys = [f"{by}_pre", f"{by}_post"]
    tables = [_counted(table, by, ids).rename_columns([*keys, name]) for table, name in ((predicted, "predicted"), (truth, "truth"))]
    joined = tables[0].join(tables[1], keys, join_type="full outer", use_threads=False)
    filled = joined.set_column(2, "predicted", joined["predicted"].fill_null(0)).set_column(3, "truth", joined["truth"].fill_null(0))
    return filled.sort_by([(key, "ascending") for key in keys])


def _counted(partners: "pa.Table", by: str, ids: Sequence[int] | None) -> "pa.Table":
    """Rows per ordered pair of ids."""
    import pyarrow as pa
    import pyarrow.compute as pc

    keys = list(check_identities(partners, by, "edge_accuracy"))
    pairs = partners.select(keys).drop_null()
    for key in keys:
        pairs = pairs.filter(pc.greater_equal(pairs[key], pa.scalar(0, pairs[key].type)))
    pairs = pairs.cast(pa.schema([(key, pa.uint64()) for key in keys]))
    for key in keys if ids is not None else ():
        pairs = pairs.filter(pc.is_in(pairs[key], pa.array(ids, pa.uint64())))
    return pairs.group_by(keys, use_threads=False).aggregate([([], "count_all")])
