"""What the stages of Cascade wait for: the noise of their own rows, the rates of their own rows, and nothing else."""

import numpy as np
import pytest

from blockwise.config import RunConfig, validated
from blockwise.graph import Graph
from blockwise.run import load_task
from tests.cascade.random_model import write_model
from tests.runs import traces


@pytest.fixture(scope="module")
def graph(tmp_path_factory) -> Graph:
    """Three sessions of more rows than one block of noise or rates, with discrete spikes."""
    folder = tmp_path_factory.mktemp("scene")
    write_model(folder / "model")
    for name, rows in (("a", 200), ("b", 5), ("c", 70)):
        np.save(folder / f"{name}.npy", traces(rows, 900, seed=rows))
    values = {
        "input": {"path": str(folder / "*.npy"), "frame_rate": 30.0},
        "model": {"path": str(folder / "model")},
        "output": {"path": str(folder / "out")},
        "options": {"discrete": True},
    }
    return Graph(load_task(validated(RunConfig, {"task": "cascade", "blocks": {"shape": [3, 400]}, **values})).stages())


def test_no_stage_waits_for_all_of_another(graph):
    assert {name: [(d.stage, d.reads) for d in wanted] for name, wanted in graph.dependencies.items()} == {
        "noise": [],
        "cascade": [("noise", "region")],
        "discrete": [("cascade", "region")],
    }


@pytest.mark.parametrize(("stage", "upstream"), [("cascade", "noise"), ("discrete", "cascade")])
def test_blocks_wait_for_their_own_rows(graph, stage, upstream):
    under = graph.under[stage, upstream]
    for domain, other in enumerate(under.counterparts):
        ids = np.arange(under.below.starts[domain], under.below.starts[domain + 1])
        begin, end = under.boxes(domain, ids)
        blocks = list(under.above.blocks(np.arange(under.above.starts[other], under.above.starts[other + 1])))
        for block, low, high in zip(under.below.blocks(ids), begin, end, strict=True):
            rows = range(*(edge[0] for edge in block.core))
            found = {b.id for b in blocks if all(lo <= p < hi for lo, p, hi in zip(low, b.position, high, strict=True))}
            assert found == {b.id for b in blocks if set(rows) & set(range(b.core.begin[0], b.core.end[0]))}
