"""Synful and a second extraction of its predictions as `[[stages]]` of one run; what waits for what."""

import numpy as np
import pytest

from blockwise.config import RunConfig, load_config, validated, with_places
from blockwise.graph import Graph
from blockwise.run import load_task
from blockwise.testing import run_serially
from tasks.synful.cells import read_partners
from tasks.synful.options import SynfulOptions
from tests.synful.runs import synful_run, write_inputs


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scene")
    write_inputs(folder)
    return folder


def configured(scene, output, **values):
    file = synful_run(scene, {"device": "cpu", "workers": 1}, mode="stored")
    config = with_places(load_config(file), file, SynfulOptions).model_dump()
    return validated(RunConfig, {**config, "output": {"path": str(output)}, **values})


def test_an_extraction_waits_for_the_predictions_that_it_reads(scene, tmp_path):
    task = load_task(configured(scene, tmp_path / "out"))
    graph = Graph(task.stages())
    assert [(d.stage, d.reads) for d in graph.dependencies["extract"]] == [("synful", "region")]
    under, (below, above) = (
        graph.under["extract", "synful"],
        (graph.under["extract", "synful"].below, graph.under["extract", "synful"].above),
    )
    for block in below.blocks(np.arange(len(below))):
        begin, end = under.boxes(0, np.array([block.id]))
        tiles = above.ids_meeting(0, block.read)
        assert sorted(tiles) == sorted(np.ravel_multi_index(np.ix_(*map(np.arange, begin[0], end[0])), above.counts[0]).ravel())


def test_a_second_extraction_reads_the_predictions_of_the_same_run(scene, tmp_path):
    base = configured(scene, tmp_path / "out")
    second = {"extract": {**base.options["extract"], "threshold": 0.6}, "cell_um": 0.2}
    stages = [
        {"name": "predict", "task": "synful"},
        {"name": "again", "task": "synful-extract", "input": "@predict", "options": second, "blocks": {"shape": [8, 40, 40]}},
    ]
    config = validated(RunConfig, {**base.model_dump(), "stages": stages})
    task = load_task(config)
    reads = {name: [(d.stage, d.reads) for d in wanted] for name, wanted in Graph(task.stages()).dependencies.items()}
    assert reads["again"] == [("predict", "region")]
    assert reads["predict/extract"] == [("predict", "region")]
    run_serially(task)
    found = [read_partners(tmp_path / "out" / name / "partners.parquet") for name in ("predict", "again")]
    assert 0 < found[1].num_rows <= found[0].num_rows
    assert found[1]["score"].to_numpy().min() >= found[0]["score"].to_numpy().min()
