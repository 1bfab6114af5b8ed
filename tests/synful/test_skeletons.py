import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockwise.errors import ConfigError, InputError
from tasks.synful.skeletons import NODE_COLUMNS, TOO_FAR, map_to_skeletons, synapse_nodes
from tests.synful.mapped import mapped


def nodes(*rows):
    """(neuron, segment, x) or (neuron, segment, x, type) along a line."""
    full = [(n, 0.0, 0.0, float(x), kind[0] if kind else "neuron", i, segment) for i, (n, segment, x, *kind) in enumerate(rows)]
    columns = list(zip(*full, strict=True)) or [()] * len(NODE_COLUMNS)
    types = [pa.int64(), *[pa.float64()] * 3, pa.string(), pa.int64(), pa.uint64()]
    return pa.table([pa.array(c, t) for c, t in zip(columns, types, strict=True)], names=list(NODE_COLUMNS))


def at(x, segment):
    """One row whose two sites are the same."""
    return mapped([[0, 0, x]], [[0, 0, x]], [1.0], segment_pre=segment, segment_post=segment)


TWO = nodes((7, 1, 0), (8, 1, 100), (8, 1, 200), (9, 2, 40))


@pytest.mark.parametrize(
    ("x", "segment", "options", "found"),
    [
        (10, 1, {}, 7),
        (90, 1, {}, 8),
        (50, 1, {}, 7),  # as near to 8: the smaller id
        (41, 1, {}, 7),  # 9 is nearer, in another segment
        (0, 3, {}, None),
        (0, None, {}, None),
        (10, 1, {"distance_upper_bound_nm": 10}, 7),
        (11, 1, {"distance_upper_bound_nm": 10}, TOO_FAR),
        (10, 1, {"num_skel_nodes_ignore": 1}, 8),
        (10, 1, {"num_skel_nodes_ignore": 2}, None),
        (10, 1, {"seg_ids_ignore": [1]}, None),
    ],
)
def test_the_nearest_candidate(x, segment, options, found):
    got = map_to_skeletons(at(x, [segment]), TWO, **options)
    assert got["skeleton_pre"].to_pylist() == got["skeleton_post"].to_pylist() == [found]
    assert got.schema.field("skeleton_pre").type == pa.int64()


def test_every_candidate_of_few_nodes_goes():
    """Three in a row: a list that shrinks under its loop would spare the second."""
    few = nodes((1, 5, 0), (2, 5, 1), (3, 5, 2), (4, 5, 50), (4, 5, 60))
    assert map_to_skeletons(at(0, 5), few, num_skel_nodes_ignore=1)["skeleton_pre"].to_pylist() == [4]


def test_a_known_synapse_makes_a_candidate():
    known = nodes((1, 5, 0, "connector"), (2, 5, 1), (3, 5, 50), (3, 5, 60))
    assert map_to_skeletons(at(2, 5), known, num_skel_nodes_ignore=1)["skeleton_pre"].to_pylist() == [1]


def test_one_node_listed_twice_is_one():
    twice = nodes((1, 5, 0), (1, 5, 0))
    same = twice.set_column(5, "id", pa.array([3, 3]))
    assert map_to_skeletons(at(0, 5), twice, num_skel_nodes_ignore=1)["skeleton_pre"].to_pylist() == [1]
    assert map_to_skeletons(at(0, 5), same, num_skel_nodes_ignore=1)["skeleton_pre"].to_pylist() == [None]


@pytest.mark.parametrize("table", [nodes(), nodes((1, None, 0))])
def test_no_nodes(table):
    assert map_to_skeletons(at(0, 5), table)["skeleton_post"].to_pylist() == [None]


def brute(partners, table, end):
    """Nearest node row by row."""
    found = []
    for row in partners.to_pylist():
        own = [n for n in table.to_pylist() if n["segment"] == row[f"segment_{end}"]]
        squares = [(sum((n[a] - row[f"{end}_{a}"]) ** 2 for a in "zyx"), n["neuron_id"]) for n in own]
        found.append(min(squares)[1] if squares else None)
    return found


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.sampled_from([4, 1000]))
def test_random_nodes(seed, n, extent):
    rng = np.random.default_rng(seed)
    columns = {a: rng.integers(0, extent, n).astype(float) for a in "zyx"}
    columns |= {"neuron_id": rng.integers(1, 5, n), "type": ["neuron"] * n, "id": np.arange(n)}
    table = pa.table(columns | {"segment": rng.integers(1, 4, n).astype("u8") * 2**61})
    ids = lambda: rng.integers(1, 5, 30).astype("u8") * 2**61  # noqa: E731
    partners = mapped(
        rng.integers(0, extent, (30, 3)), rng.integers(0, extent, (30, 3)), np.ones(30), segment_pre=ids(), segment_post=ids()
    )
    got = map_to_skeletons(partners, table)
    for end in ("pre", "post"):
        assert got[f"skeleton_{end}"].to_pylist() == brute(partners, table, end)


def test_known_synapses_as_nodes():
    truth = mapped(
        [[1, 2, 3]] * 2, [[4, 5, 6]] * 2, [1.0] * 2, segment_pre=[1, None], segment_post=2, skeleton_pre=[7, 7], skeleton_post=[None, 8]
    )
    got = synapse_nodes(truth, first_id=50).to_pylist()
    assert [(n["neuron_id"], n["z"], n["type"], n["id"], n["segment"]) for n in got] == [
        (7, 1.0, "connector", 50, 1),
        (8, 4.0, "post_tree_node", 51, 2),
    ]


def test_refusals():
    with pytest.raises(InputError, match="needs the columns body_pre, body_post"):
        map_to_skeletons(at(0, 1), TWO, by="body")
    with pytest.raises(InputError, match="skeleton nodes needs the columns segment"):
        map_to_skeletons(at(0, 1), TWO.drop(["segment"]))
    with pytest.raises(ConfigError, match="num_skel_nodes_ignore = -1"):
        map_to_skeletons(at(0, 1), TWO, num_skel_nodes_ignore=-1)
