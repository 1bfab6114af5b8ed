"""Which detected partners are taken for real contacts: a chain of small filters, as it was applied to FAFB and FANC (spec 11).

Every step looks at rows alone or at rows of one ordered pair of bodies (segments lie within bodies), so the chain may be applied to a
whole table or to any part of one that holds whole pairs of bodies: the parts' results and counts add up to those of the whole.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from blockwise.task import TaskOptions
from tasks.synful.columns import Identity, Mask, check_identities, is_named, pair_codes, scores_of, values_and_valid
from tasks.synful.duplicates import duplicate_mask
from tasks.synful.partners import COLUMNS, POST, PRE, require


@dataclass(frozen=True, slots=True)
class Step:
    """One filter: the columns it looks at, and which of their rows it keeps, (n,) bool."""

    name: str
    columns: tuple[str, ...]
    keep: Callable[[pa.Table], Mask]


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

    def steps(self) -> list[Step]:
        """The steps that are on, in order."""
        chain = [
            self.require_segments and Step("require_segments", _ends("segment"), lambda t: are_named(t, "segment", self.ignore_ids)),
            self.min_score is not None and Step("min_score", ("score",), lambda t: above_score(t, self.min_score or 0.0)),
            self.drop_autapses and self._autapses(self.drop_autapses),
            self._bounds() and Step("distance", (*PRE, *POST), lambda t: within_distance(t, *(self._bounds() or (0.0, 0.0)))),
            self.one_per_segment_pair
            and Step("one_per_segment_pair", ("id", "score", *_ends("segment")), lambda t: best_of_pairs(t, "segment", self.ignore_ids)),
            self.merge_within_nm is not None and Step("merge_within_nm", (*COLUMNS, *_ends(self.merge_by)), self._unmerged),
        ]
        return [step for step in chain if isinstance(step, Step)]

    def _autapses(self, by: Identity) -> Step:
        return Step("drop_autapses", _ends(by), lambda t: ~are_autapses(t, by, self.ignore_ids))

    def _bounds(self) -> tuple[float, float] | None:
        if self.min_distance_nm is None and self.max_distance_nm is None:
            return None
        return self.min_distance_nm or 0.0, np.inf if self.max_distance_nm is None else self.max_distance_nm

    def _unmerged(self, partners: pa.Table) -> Mask:
        return duplicate_mask(partners, self.merge_within_nm or 0.0, by=self.merge_by, ignore_ids=self.ignore_ids, site=self.merge_site)


def _ends(by: Identity) -> tuple[str, str]:
    return f"{by}_pre", f"{by}_post"


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
    for step in steps:
        require(partners, step.columns, f"the filter {step.name}")
    rows, counts = np.arange(partners.num_rows), []
    for step in steps:
        view = partners.select(step.columns)
        kept = rows[step.keep(view if len(rows) == partners.num_rows else view.take(pa.array(rows)))]
        counts.append((step.name, len(rows), len(kept)))
        rows = kept
    return partners if len(rows) == partners.num_rows else partners.take(pa.array(rows)), _counts(counts)


def add_counts(parts: Iterable[pa.Table]) -> pa.Table:
    """The counts of a whole, of those of its parts; all of one chain."""
    together = list(parts)
    if not together:
        return _counts([])
    before, after = (np.sum([p[side].to_numpy() for p in together], axis=0) for side in ("before", "after"))
    return _counts(list(zip(together[0]["step"].to_pylist(), before, after, strict=True)))


def _counts(rows: Sequence[tuple[str, int, int]]) -> pa.Table:
    schema = pa.schema([("step", pa.string()), ("before", pa.int64()), ("after", pa.int64())])
    return pa.table([pa.array([row[i] for row in rows], schema.types[i]) for i in range(3)], schema=schema)


def are_named(partners: pa.Table, by: Identity, ignore_ids: Sequence[int] = (0,)) -> Mask:
    """Rows whose two ends have an identity."""
    pre, post = check_identities(partners, by, f"a filter by {by}")
    return is_named(partners[pre], ignore_ids) & is_named(partners[post], ignore_ids)


def above_score(partners: pa.Table, score: float) -> Mask:
    """Rows of a score above, never at, a bound."""
    return scores_of(partners) > score


def are_autapses(partners: pa.Table, by: Identity, ignore_ids: Sequence[int] = (0,)) -> Mask:
    """Rows whose two ends are one identity, neither null nor ignored."""
    pre, post = (values_and_valid(partners[name])[0] for name in _ends(by))
    return are_named(partners, by, ignore_ids) & (pre == post)


def within_distance(partners: pa.Table, least_nm: float, most_nm: float) -> Mask:
    """Rows whose sites are apart by a distance between the bounds, both included."""
    squares = np.zeros(partners.num_rows)
    for pre, post in zip(PRE, POST, strict=True):
        squares += (partners[pre].to_numpy() - partners[post].to_numpy()).astype(np.float64) ** 2
    return np.asarray((squares >= least_nm**2) & (squares <= most_nm**2), np.bool_)


def best_of_pairs(partners: pa.Table, by: Identity, ignore_ids: Sequence[int] = (0,)) -> Mask:
    """One row per ordered pair: of the highest score, then the smallest id. Rows without a pair stay."""
    codes = pair_codes(partners, by, ignore_ids)
    order = np.lexsort((partners["id"].to_numpy(), -scores_of(partners), codes))
    kept = codes < 0
    codes = codes[order]
    kept[order[np.r_[True, codes[1:] != codes[:-1]][: len(codes)]]] = True
    return kept
