"""Partners of a run against a truth, as a stage."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from blockwise.geometry import Domain
from blockwise.testing import run_serially
from tasks.synful.cells import Cells
from tasks.synful.collect_stage import cell_grid
from tasks.synful.evaluate_stage import Evaluate
from tasks.synful.evaluation import evaluate
from tasks.synful.options import EvaluateOptions
from tasks.synful.partners import table

VOLUME = Domain("volume", ("z", "y", "x"), (10, 100, 100), (40.0, 4.0, 4.0), units=("nm",) * 3)


def rows(n, seed, shift):
    random = np.random.default_rng(seed)
    sites = random.integers(0, 4000, (n, 2, 3)) * (0.1, 0.1, 0.1) + shift
    ids = {f"segment_{end}": np.arange(n).astype(np.uint64) % 5 + 1 for end in ("pre", "post")}
    return table(sites[:, 0], sites[:, 1], random.random(n), np.arange(n), more=ids)


@pytest.mark.parametrize("least", [None, 0.4])
def test_figures_are_those_of_the_function(tmp_path, least):
    cells = Cells(str(tmp_path / "out"), "partners", cell_grid(VOLUME, VOLUME.shape, 1))
    cells.create()
    found, truth = rows(60, 0, 3), rows(50, 0, 0)
    cells.write(cells.grid.block(0), found).future.result()
    pq.write_table(truth, tmp_path / "truth.parquet")
    stage = Evaluate(cells, EvaluateOptions(truth=str(tmp_path / "truth.parquet"), match_distance=50, min_score=least))
    run_serially(stage)
    wanted = evaluate(found, truth, by="segment", match_distance_nm=50, min_score=least)
    figures = stage.finish().figures
    assert figures["true_positives"] == wanted.true_positives > 0
    assert figures["f_score"] == round(wanted.f_score, 4)
    curve = stage.curve()
    assert curve.num_rows > 10
    assert (np.diff(curve["true_positives"].to_numpy()) <= 0).all()
