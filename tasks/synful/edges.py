"""The connectome: how many contacts each neuron makes on each other."""

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from blockwise.errors import ConfigError
from tasks.synful.columns import Identity, check_identities, is_named

KEYS = ("pre", "post")


def edge_list(partners: pa.Table, *, by: Identity = "body", min_count: int = 1, ignore_ids: Sequence[int] = (0, -2)) -> pa.Table:
    """Contacts per ordered pair of identities.

    Parameters
    ----------
    partners : columns `<by>_pre`, `<by>_post` and score.
    min_count : edges of fewer contacts are left out.
    ignore_ids : identities that are none; rows where either is null or one of these do not count. Default: no segment, skeleton too far.

    Returns
    -------
    Table of pre, post (as in `partners`), count (int64), score (float64, the sum), ordered by pre and post.

    Raises
    ------
    InputError : a column is missing.  ConfigError : `min_count` below 1.
    """
    names = check_identities(partners, by, "edge_list", ("score",))
    named = is_named(partners[names[0]], ignore_ids) & is_named(partners[names[1]], ignore_ids)
    rows = partners.select([*names, "score"]).filter(pa.array(named)).rename_columns([*KEYS, "score"])
    rows = rows.sort_by([(n, "ascending") for n in rows.column_names])
    return _at_least(_grouped(rows, ([], "count_all")), min_count)


def merge_edge_lists(parts: Iterable[pa.Table], *, min_count: int = 1) -> pa.Table:
    """One edge list of several, whose contacts are other ones: counts and scores add up.

    Raises
    ------
    ConfigError : `min_count` below 1.
    """
    together = pa.concat_tables(parts).sort_by([(n, "ascending") for n in (*KEYS, "score")])
    return _at_least(_grouped(together, ("count", "sum")), min_count)


def _grouped(rows: pa.Table, count: tuple[Any, str]) -> pa.Table:
    """Sums per pair, in the order of the rows and by one thread, so that their last digit never changes."""
    score = pc.fill_null(rows["score"].cast(pa.float64()), 0.0)
    rows = rows.set_column(rows.schema.get_field_index("score"), "score", score)
    found = rows.group_by(list(KEYS), use_threads=False).aggregate([count, ("score", "sum")])
    counted = "count_all" if "count_all" in found.column_names else "count_sum"
    return found.select([*KEYS, counted, "score_sum"]).rename_columns([*KEYS, "count", "score"])


def _at_least(edges: pa.Table, min_count: int) -> pa.Table:
    if min_count < 1:
        raise ConfigError(f"min_count = {min_count}: an edge has 1 contact or more")
    kept = edges.filter(pc.greater_equal(edges["count"], min_count))
    return kept.sort_by([(n, "ascending") for n in KEYS])
