import numpy as np
import pyarrow as pa
import pytest

from blockwise.errors import InputError
from tasks.synful.columns import check_identities, is_named, pair_codes, scores_of, values_and_valid, with_columns

LARGE = 2**63 + 3


def column(values, kind):
    return pa.chunked_array([pa.array(values[:1], kind), pa.array(values[1:], kind)])


@pytest.mark.parametrize(
    ("values", "kind", "named"),
    [
        ([LARGE, 0, None], pa.uint64(), [True, False, False]),
        ([-2, 0, 5], pa.int64(), [False, False, True]),
        ([254, 255, 1], pa.uint8(), [True, True, True]),
        ([None, None], pa.null(), [False, False]),
        ([], pa.uint64(), []),
    ],
)
def test_named(values, kind, named):
    assert is_named(column(values, kind), (0, -2)).tolist() == named


def test_large_ids_take_no_detour_over_floats():
    values, valid = values_and_valid(column([LARGE, None], pa.uint64()))
    assert values.tolist() == [LARGE, 0]
    assert valid.tolist() == [True, False]


def test_codes_of_pairs():
    table = pa.table(
        {"body_pre": pa.array([LARGE, 1, LARGE, None, 0], pa.uint64()), "body_post": pa.array([2, LARGE, 2, 2, 2], pa.uint64())}
    )
    first, other, again, *without = pair_codes(table, "body", (0,))
    assert first == again != other
    assert without == [-1, -1]
    nothing = pa.table({"body_pre": pa.nulls(3), "body_post": pa.array([1, 2, 3])})
    assert pair_codes(nothing, "body").tolist() == [-1] * 3


def test_columns_are_replaced_where_they_stand():
    table = pa.table({"a": [1], "b": [2]})
    assert with_columns(table, {"a": pa.array([5]), "c": pa.array([7])}).to_pydict() == {"a": [5], "b": [2], "c": [7]}


def test_scores_that_are_none():
    table = pa.table({"score": [1.0, None, np.nan, np.inf]})
    assert scores_of(table).tolist() == [1, -np.inf, -np.inf, np.inf]


def test_identities_are_integers():
    with pytest.raises(InputError, match="body_pre holds string"):
        check_identities(pa.table({"body_pre": ["a"], "body_post": [1]}), "body", "a test")
