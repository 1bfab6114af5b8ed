"""Which detected partners are taken for real contacts: a chain of small filters, as it was applied to FAFB and FANC (spec 11).

Every step looks at rows alone or at rows of one ordered pair of bodies (segments lie within bodies), so the chain may be applied to a
whole table or to any part of one that holds whole pairs of bodies: the parts' results and counts add up to those of the whole.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from blockwise.task import TaskOptions
from tasks.synful.columns import Identity, Ints, check_identities, is_named, pair_codes, values_and_valid
from tasks.synful.duplicates import duplicate_mask
from tasks.synful.partners import POST, PRE, points, require

Step = Callable[[pa.Table], pa.Table]


class FilterOptions(TaskOptions):
    """What is dropped, in this order. Every step that is None or False is skipped."""

    ignore_ids: Annotated[tuple[int, ...], Field(description="Identities that are none: 0 for no segment, -2 for a skeleton too far.")] = (
        0,
        -2,
    )
    require_segments: Annotated[bool, Field(description="Both sites lie in a segment.")] = True
    min_score: Annotated[float | None, Field(description="The score is above this.")] = None
    drop_autapses: Annotated[Identity | None, Field(description="The two ends are not the same segment, body or skeleton.")] = "segment"
    min_distance_nm: Annotated[float | None, Field(ge=0, description="The sites are at least so far apart.")] = None
    max_distance_nm: Annotated[float | None, Field(ge=0, description="The sites are at most so far apart.")] = None
    one_per_segment_pair: Annotated[bool, Field(description="Of an ordered pair of segments, the partner of the best score.")] = False
    merge_within_nm: Annotated[
        float | None, Field(ge=0, description="Of sites of one ordered pair so near, the partner of the best score.")
    ] = None
    merge_by: Annotated[Identity, Field(description="What makes a pair for merge_within_nm.")] = "body"
    merge_site: Annotated[Literal["pre", "post"], Field(description="The end whose distance counts for merge_within_nm.")] = "pre"

    def steps(self) -> list[tuple[str, Step]]:
        """The steps that are on, by name, in order."""
        chain: list[tuple[str, Step, bool]] = [
            ("require_segments", lambda t: with_segments(t, self.ignore_ids), self.require_segments),
            ("min_score", lambda t: above_score(t, self.min_score or 0.0), self.min_score is not None),
            (
                "drop_autapses",
                lambda t: without_autapses(t, self.drop_autapses or "segment", self.ignore_ids),
                self.drop_autapses is not None,
            ),
            ("distance", self._within, self.min_distance_nm is not None or self.max_distance_nm is not None),
            ("one_per_segment_pair", lambda t: best_of_pairs(t, "segment", self.ignore_ids), self.one_per_segment_pair),
            ("merge_within_nm", self._merged, self.merge_within_nm is not None),
        ]
        return [(name, step) for name, step, on in chain if on]

    def _within(self, partners: pa.Table) -> pa.Table:
        return within_distance(partners, self.min_distance_nm or 0.0, np.inf if self.max_distance_nm is None else self.max_distance_nm)

    def _merged(self, partners: pa.Table) -> pa.Table:
        keep = duplicate_mask(partners, self.merge_within_nm or 0.0, by=self.merge_by, ignore_ids=self.ignore_ids, site=self.merge_site)
        return partners.filter(pa.array(keep))


def filter_partners(partners: pa.Table, options: FilterOptions) -> tuple[pa.Table, pa.Table]:
    """Apply the chain.

    Returns
    -------
    The rows that are left, in their order; and per step a row of step (string), before and after (int64).

    Raises
    ------
    InputError : a column that a step needs is missing; before any step is applied.
    """
    steps = options.steps()
    for _, step in steps:
        step(partners.slice(0, 0))
    counts = []
    for name, step in steps:
        before, partners = partners.num_rows, step(partners)
        counts.append((name, before, partners.num_rows))
    return partners, _counts(counts)


def add_counts(parts: Iterable[pa.Table]) -> pa.Table:
    """The counts of a whole, of those of its parts; all of one chain."""
    parts = list(parts)
    names = parts[0]["step"].to_pylist() if parts else []
    sums = [np.sum([p[side].to_numpy() for p in parts], axis=0, dtype=np.int64) for side in ("before", "after")] if parts else [[], []]
    return _counts(list(zip(names, *sums, strict=True)))


def _counts(rows: Sequence[tuple[str, int, int]]) -> pa.Table:
    schema = pa.schema([("step", pa.string()), ("before", pa.int64()), ("after", pa.int64())])
    return pa.table([pa.array([row[i] for row in rows], schema.types[i]) for i in range(3)], schema=schema)


def with_segments(partners: pa.Table, ignore_ids: Sequence[int] = (0,)) -> pa.Table:
    """Rows whose two sites lie in a segment."""
    names = check_identities(partners, "segment", "require_segments")
    return partners.filter(pa.array(is_named(partners[names[0]], ignore_ids) & is_named(partners[names[1]], ignore_ids)))


def above_score(partners: pa.Table, score: float) -> pa.Table:
    """Rows of a score above, never at, a bound."""
    require(partners, ("score",), "min_score")
    return partners.filter(pc.greater(partners["score"], score))


def without_autapses(partners: pa.Table, by: Identity, ignore_ids: Sequence[int] = (0,)) -> pa.Table:
    """Rows whose ends are not one identity; where either is null or ignored that is not known, and the row stays."""
    names = check_identities(partners, by, "drop_autapses")
    (pre, pre_valid), (post, post_valid) = (values_and_valid(partners[n]) for n in names)
    same = (pre == post) & pre_valid & post_valid & is_named(partners[names[0]], ignore_ids)
    return partners.filter(pa.array(~same))


def within_distance(partners: pa.Table, least_nm: float, most_nm: float) -> pa.Table:
    """Rows whose sites are apart by a distance between the bounds, both included."""
    require(partners, (*PRE, *POST), "a filter by distance")
    squares = ((points(partners, "pre") - points(partners, "post")) ** 2).sum(axis=1)
    return partners.filter(pa.array((squares >= least_nm**2) & (squares <= most_nm**2)))


def best_of_pairs(partners: pa.Table, by: Identity, ignore_ids: Sequence[int] = (0,)) -> pa.Table:
    """One row per ordered pair: of the highest score, then the smallest id. Rows without a pair stay."""
    check_identities(partners, by, "one_per_segment_pair", ("id", "score"))
    codes = pair_codes(partners, by, ignore_ids)
    order = np.lexsort((partners["id"].to_numpy(), -_scores(partners), codes))
    kept = codes < 0
    kept[order[_first(codes[order])]] = True
    return partners.filter(pa.array(kept))


def _scores(partners: pa.Table) -> np.ndarray:
    return np.nan_to_num(partners["score"].cast(pa.float64()).fill_null(-np.inf).to_numpy(), nan=-np.inf)


def _first(codes: Ints) -> np.ndarray:
    """Where sorted codes begin anew."""
    return np.diff(codes, prepend=codes[:1] - 1) != 0
