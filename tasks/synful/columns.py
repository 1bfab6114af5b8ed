"""Columns of identities (segments, bodies, skeletons) in a table of partners: with nulls, without a detour over floats."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from blockwise.errors import InputError
from tasks.synful.partners import require

Identity = Literal["segment", "body", "skeleton"]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def nullable(values: npt.NDArray[Any], valid: Mask) -> pa.Array:
    """An Arrow column of `values`, null where not `valid`."""
    return pa.array(values, mask=~valid)


def with_columns(partners: pa.Table, columns: Mapping[str, pa.Array]) -> pa.Table:
    """The table with these columns, replaced where they are there already, at the end where not."""
    for name, column in columns.items():
        at = partners.schema.get_field_index(name)
        partners = partners.append_column(name, column) if at < 0 else partners.set_column(at, name, column)
    return partners


def values_and_valid(column: pa.ChunkedArray) -> tuple[npt.NDArray[Any], Mask]:
    """Values of an integer column (0 where null), and where they are not null."""
    if pa.types.is_null(column.type):
        return np.zeros(len(column), np.int64), np.zeros(len(column), np.bool_)
    valid = column.is_valid().to_numpy()
    return (column if valid.all() else column.fill_null(0)).to_numpy(), valid


def is_named(column: pa.ChunkedArray, ignore_ids: Sequence[int] = ()) -> Mask:
    """Where a column holds an identity: neither null nor one of `ignore_ids`."""
    values, named = values_and_valid(column)
    limits = np.iinfo(values.dtype)
    for ignored in ignore_ids:
        if limits.min <= ignored <= limits.max:
            named = named & (values != ignored)
    return named


def check_identities(partners: pa.Table, by: Identity, what: str, more: Sequence[str] = ()) -> tuple[str, str]:
    """The names of the pre and post column of an identity.

    Raises
    ------
    InputError : the table lacks them or one of `more`, or they hold no integers.
    """
    names = f"{by}_pre", f"{by}_post"
    require(partners, (*names, *more), what)
    for name in names:
        if not pa.types.is_integer(partners.schema.field(name).type) and partners[name].null_count < partners.num_rows:
            raise InputError(f"{what}: column {name} holds {partners.schema.field(name).type}, not integers; cast it to uint64 or int64")
    return names


def scores_of(partners: pa.Table) -> npt.NDArray[np.float64]:
    """Scores, (n,); those that are null or no number come below all others."""
    scores = partners["score"].cast(pa.float64()).fill_null(-np.inf).to_numpy()
    return np.where(np.isnan(scores), -np.inf, scores)


def pair_codes(partners: pa.Table, by: Identity, ignore_ids: Sequence[int] = ()) -> Ints:
    """One number per ordered pair (pre identity, post identity), -1 where either is null or ignored; (n,) int64.

    The numbers are those of this table alone: equal where the pairs are equal.
    """
    names = f"{by}_pre", f"{by}_post"
    if not partners.num_rows or any(partners[n].null_count == partners.num_rows for n in names):
        return np.full(partners.num_rows, -1, np.int64)
    codes = np.zeros(partners.num_rows, np.int64)
    for name in names:
        encoded = pc.dictionary_encode(partners[name].combine_chunks())
        codes *= len(encoded.dictionary)
        codes += encoded.indices.fill_null(0).to_numpy()
    for name in names:
        codes[~is_named(partners[name], ignore_ids)] = -1
    return codes
