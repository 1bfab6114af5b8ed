"""How many of the synaptic partners predicted are real: counts, precision, recall and F-score against true partners (spec 9.1, 9.3).

A pair can only match one between the same two neurons, so pairs are grouped by the ids at their ends before they are matched. A synapse
that touches two of the neurons asked for counts once for each, as sums over neurons do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from blockwise.errors import ConfigError, InputError
from tasks.synful.columns import is_named, values_and_valid, with_columns
from tasks.synful.matching import NO_GROUP, Integers, On, Sites, match
from tasks.synful.partners import POST, PRE, require

if TYPE_CHECKING:
    import pyarrow as pa

Side = Literal["both", "inputs", "outputs"]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Counts of one comparison.

    Attributes
    ----------
    matches : (m, 2) rows of the predicted and of the true table that are the same synapse.
    false_positive_rows, false_negative_rows : rows of the predicted and of the true table without a partner; each once, although the
        counts hold a row twice that touches two of the ids asked for. Rows that were dropped or merged are not among them.
    merged : predicted rows that were dropped as duplicates, counted like the others.
    per_id : a table of id, true_positives, false_positives, false_negatives where `ids` were asked for.
    """

    true_positives: int
    false_positives: int
    false_negatives: int
    merged: int = 0
    matches: Integers = field(default_factory=lambda: np.empty((0, 2), np.int64), repr=False, compare=False)
    false_positive_rows: Integers = field(default_factory=lambda: np.empty(0, np.int64), repr=False, compare=False)
    false_negative_rows: Integers = field(default_factory=lambda: np.empty(0, np.int64), repr=False, compare=False)
    per_id: "pa.Table | None" = field(default=None, repr=False, compare=False)

    @property
    def precision(self) -> float:
        """Share of the predictions that are real; 1 where nothing was predicted."""
        return _share(self.true_positives, self.false_positives)

    @property
    def recall(self) -> float:
        """Share of the real partners that were predicted; 1 where there are none."""
        return _share(self.true_positives, self.false_negatives)

    @property
    def f_score(self) -> float:
        """Harmonic mean of precision and recall; 0 where both are."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0

    def figures(self) -> dict[str, int | float]:
        """Counts and scores by name."""
        names = ("true_positives", "false_positives", "false_negatives", "merged", "precision", "recall", "f_score")
        return {name: getattr(self, name) for name in names}


def _share(hits: int, misses: int) -> float:
    return hits / (hits + misses) if hits + misses else 1.0


def evaluate(
    predicted: "pa.Table",
    truth: "pa.Table",
    *,
    by: str,
    ids: Sequence[int] | None = None,
    side: Side = "both",
    min_score: float | None = None,
    match_on: On = "both",
    match_distance_nm: float = 400,
    merge_within_nm: float | None = None,
    drop_same_id: bool | str = False,
    drop_segments: Sequence[int] = (0,),
) -> Evaluation:
    """Compare predicted with true synaptic partners.

    Parameters
    ----------
    predicted, truth : tables of partners, columns as in `tasks.synful.partners`, with `<by>_pre` and `<by>_post`, which may hold nulls.
    by : whose ids must agree for a match: "skeleton", "segment", "body", any other name of such columns, or "none" for none. Null and
        negative ids (a mapping that found nothing near enough) match nothing.
    ids : count only what touches these ids, once for each of them; None counts every row once.
    side : with `ids`, which of their synapses: "inputs" (their post sites), "outputs" (their pre sites) or "both".
    min_score : drop predictions with a lower score; this score itself stays (`detect` drops it).
    match_on : the ends that must lie within `match_distance_nm`, 400 in CREMI, 700 on "pre" for FAFB.
    merge_within_nm : of predictions between the same two ids whose post sites are linked by steps of at most this, keep the one of
        highest score; None keeps all. 250 for FAFB.
    drop_same_id : drop predictions that begin and end in one id of `by`, or of the columns named here ("segment").
    drop_segments : drop predictions with an end in one of these segments, where the table has segments. True rows always stay.

    Raises
    ------
    InputError : a column is missing.  ConfigError : an option is not one of those above, or a distance is negative.
    """
    _check(side, match_on, (match_distance_nm, merge_within_nm))
    _check_ids(by, ids, merge_within_nm, drop_same_id)
    ids = None if ids is None else list(dict.fromkeys(map(int, ids)))
    ends = [f"{by}_{end}" for end in ("pre", "post") if by != "none"]
    require(predicted, [*PRE, *POST, *ends, *(() if min_score is None else ["score"])], f"evaluate by {by}, predicted,")
    require(truth, [*PRE, *POST, *ends], f"evaluate by {by}, truth,")
    predicted, truth = (_named(t, by) for t in (predicted, truth))
    kept = np.flatnonzero(_kept(predicted, min_score, by if drop_same_id is True else drop_same_id or None, drop_segments))
    found, real, wanted = _partners(predicted.take(kept), truth, by, ids, side)
    unique = _unique(predicted.take(kept[found.rows]), merge_within_nm, by)
    once = found.take(np.flatnonzero(unique))
    pairs = match(once.sites, real.sites, on=match_on, distance_nm=match_distance_nm)
    extra, missed = _rest(len(once.rows), pairs[:, 0]), _rest(len(real.rows), pairs[:, 1])
    counts = [once.take(pairs[:, 0]), once.take(extra), real.take(missed)]
    return Evaluation(
        *(int(c.weights.sum()) for c in (*counts, found.take(np.flatnonzero(~unique)))),
        matches=np.stack([kept[counts[0].rows], real.rows[pairs[:, 1]]], axis=1),
        false_positive_rows=kept[counts[1].rows],
        false_negative_rows=counts[2].rows,
        per_id=None if ids is None else _per_id(ids, wanted, counts),
    )


def _check(side: str, match_on: str, distances: Sequence[float | None]) -> None:
    for name, value, known in (("side", side, ("both", "inputs", "outputs")), ("match_on", match_on, ("both", "pre", "post"))):
        if value not in known:
            raise ConfigError(f"evaluate: {name} is {value!r}, known are {', '.join(known)}")
    for name, distance in zip(("match_distance_nm", "merge_within_nm"), distances, strict=True):
        if distance is not None and not 0 <= distance < np.inf:
            raise ConfigError(f"evaluate: {name} is {distance}, wanted is a distance >= 0 in nm")


def _check_ids(by: str, ids: Sequence[int] | None, merge_within_nm: float | None, drop_same_id: bool | str) -> None:
    """Refuse what asks for ids where there are none."""
    if by != "none":
        return
    if ids is not None:
        raise ConfigError(f"evaluate: {len(ids)} ids are given, but by is 'none': say whose ids they are, e.g. by='skeleton'")
    if merge_within_nm is not None:
        raise ConfigError("evaluate: merge_within_nm merges predictions between the same two ids, but by is 'none': say whose ids")
    if drop_same_id is True:
        raise ConfigError("evaluate: drop_same_id, but by is 'none': say whose ids, e.g. drop_same_id='segment'")


def _kept(predicted: "pa.Table", min_score: float | None, same: str | None, segments: Sequence[int]) -> Bools:
    """Which predictions are not dropped for what they say of themselves."""
    kept = np.ones(predicted.num_rows, np.bool_)
    if min_score is not None:
        kept &= predicted["score"].to_numpy() >= min_score  # a null score is NaN here, and reaches nothing
    if same and same != "none":
        require(predicted, [f"{same}_pre", f"{same}_post"], "drop_same_id")
        (pre, known), (post, _) = (values_and_valid(predicted[f"{same}_{end}"]) for end in ("pre", "post"))
        kept &= ~(known & (pre == post))
    for name in {"segment_pre", "segment_post"} & set(predicted.schema.names):
        if predicted[name].null_count < predicted.num_rows:
            kept &= is_named(predicted[name], segments) | ~predicted[name].is_valid().to_numpy()
    return kept


def _named(partners: "pa.Table", by: str) -> "pa.Table":
    """The table with null for every negative id.

    Raises
    ------
    InputError : ids that are no integers.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    names = [f"{by}_{end}" for end in ("pre", "post") if by != "none"]
    for name in names:
        kind = partners[name].type
        if not (pa.types.is_integer(kind) or pa.types.is_null(kind)):
            raise InputError(f"evaluate: column {name} holds {kind}, but ids are integers: cast it to int64, with null for what is unknown")
    ids = {n: partners[n].cast(pa.int64()) if pa.types.is_null(partners[n].type) else partners[n] for n in names}
    return with_columns(partners, {n: pc.if_else(pc.less(c, pa.scalar(0, c.type)), None, c) for n, c in ids.items()})


def _unique(predicted: "pa.Table", within_nm: float | None, by: str) -> Bools:
    """Which predictions stay when duplicates are merged."""
    from tasks.synful.duplicates import duplicate_mask

    return np.ones(predicted.num_rows, np.bool_) if within_nm is None else duplicate_mask(predicted, within_nm, by=by)


@dataclass(frozen=True, slots=True)
class _Partners:
    """Rows of a table that count: where they are, the codes (n, 2) of their ids, and which of these they count for."""

    rows: Integers
    sites: Sites
    codes: Integers
    counted: Bools

    @property
    def weights(self) -> Integers:
        """How often a row counts."""
        return self.counted.sum(axis=1)

    def take(self, index: Integers) -> "_Partners":
        sites = Sites(self.sites.pre[index], self.sites.post[index], self.sites.groups[index])
        return _Partners(self.rows[index], sites, self.codes[index], self.counted[index])


def _partners(
    predicted: "pa.Table", truth: "pa.Table", by: str, ids: Sequence[int] | None, side: Side
) -> tuple[_Partners, _Partners, Integers]:
    """What counts of both tables, and the codes of the ids asked for."""
    codes, wanted = _codes((predicted, truth), by, ids)
    groups = _groups(codes)
    sizes = (predicted.num_rows, predicted.num_rows + truth.num_rows)
    counted = np.tile([True, False], (len(codes), 1)) if ids is None else _counted(codes, wanted, side)
    parts = []
    for table, part in ((predicted, slice(sizes[0])), (truth, slice(*sizes))):
        pre, post = (np.stack([table[n].to_numpy().astype(np.float64) for n in names], axis=1) for names in (PRE, POST))
        all_rows = _Partners(np.arange(table.num_rows), Sites(pre, post, groups[part]), codes[part], counted[part])
        parts.append(all_rows.take(np.flatnonzero(all_rows.weights)))
    return parts[0], parts[1], wanted


def _codes(tables: Sequence["pa.Table"], by: str, ids: Sequence[int] | None) -> tuple[Integers, Integers]:
    """Small numbers that stand for ids, (rows of all tables, 2), -1 where unknown, and those of the ids asked for."""
    if by == "none":
        return np.zeros((sum(t.num_rows for t in tables), 2), np.int64), np.empty(0, np.int64)
    ends = [values_and_valid(t[f"{by}_{end}"]) for end in ("pre", "post") for t in tables]
    values = np.concatenate([v.astype(np.int64) for v, _ in ends])
    known = np.concatenate([valid for _, valid in ends])
    asked = np.array([i % 2**64 for i in ids or ()], np.uint64).astype(np.int64)
    codes = np.unique(np.concatenate([values, asked]), return_inverse=True)[1]
    codes, wanted = np.split(codes, [len(values)])
    return np.where(known, codes, NO_GROUP).reshape(2, -1).T, wanted


def _groups(codes: Integers) -> Integers:
    """One number per ordered pair of ids, NO_GROUP where one of them is unknown."""
    pairs = codes[:, 0] * (codes.max(initial=0) + 1) + codes[:, 1]
    return np.where((codes == NO_GROUP).any(axis=1), NO_GROUP, np.unique(pairs, return_inverse=True)[1])


def _counted(codes: Integers, wanted: Integers, side: Side) -> Bools:
    """Which ends of a row are of an id asked for, on the side asked for; a pair within one id has one such end."""
    counted = np.isin(codes, wanted)
    if side != "both":
        counted[:, 0 if side == "inputs" else 1] = False
    counted[:, 1] &= ~(counted[:, 0] & (codes[:, 0] == codes[:, 1]))
    return counted


def _rest(size: int, taken: Integers) -> Integers:
    return np.setdiff1d(np.arange(size), taken, assume_unique=True)


def _per_id(ids: Sequence[int], wanted: Integers, counts: Sequence[_Partners]) -> "pa.Table":
    """Counts of each id asked for."""
    import pyarrow as pa

    names = ("true_positives", "false_positives", "false_negatives")
    totals = [np.bincount(c.codes[c.counted], minlength=wanted.max(initial=0) + 1)[wanted] for c in counts]
    kind = pa.uint64() if max(ids, default=0) >= 2**63 else pa.int64()
    return pa.table({"id": pa.array(ids, kind), **dict(zip(names, totals, strict=True))})
