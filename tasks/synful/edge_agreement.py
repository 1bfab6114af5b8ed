"""Whether two neurons are connected: edges of enough synapses, compared instead of the synapses (spec 9.4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from blockwise.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.synful.columns import Identity


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
    by: "Identity" = "skeleton",
    ids: Sequence[int] | None = None,
    min_synapses: int = 5,
) -> EdgeAccuracy:
    """Compare the edges of two tables of partners.

    Parameters
    ----------
    predicted, truth : tables of partners with `<by>_pre` and `<by>_post`, already filtered as wanted; rows that `edge_list` leaves out
        (an id null, 0 or -2) belong to no pair.
    ids : compare only pairs of which both are among these; negative ones are nobody's.
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


def pair_counts(predicted: "pa.Table", truth: "pa.Table", *, by: "Identity" = "skeleton", ids: Sequence[int] | None = None) -> "pa.Table":
    """Synapses of every ordered pair that has any: columns pre, post (uint64), predicted, truth (int64), ordered by pre and post."""
    tables = [_edges(table, by, ids).rename_columns(["pre", "post", name]) for table, name in ((predicted, "predicted"), (truth, "truth"))]
    joined = tables[0].join(tables[1], ["pre", "post"], join_type="full outer", use_threads=False)
    for at, name in ((2, "predicted"), (3, "truth")):
        joined = joined.set_column(at, name, joined[name].fill_null(0))
    return joined.sort_by([("pre", "ascending"), ("post", "ascending")])


def _edges(partners: "pa.Table", by: "Identity", ids: Sequence[int] | None) -> "pa.Table":
    """The edge list without scores, which true partners may lack, in one type of ids."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from tasks.synful.edges import edge_list

    scored = partners if "score" in partners.schema.names else partners.append_column("score", pa.nulls(partners.num_rows, pa.float64()))
    kinds = {"pre": pa.uint64(), "post": pa.uint64(), "count": pa.int64()}
    edges = edge_list(scored, by=by).select(list(kinds)).cast(pa.schema(kinds.items()))
    for end in ("pre", "post") if ids is not None else ():
        edges = edges.filter(pc.is_in(edges[end], pa.array([i for i in ids if i >= 0], pa.uint64())))
    return edges
