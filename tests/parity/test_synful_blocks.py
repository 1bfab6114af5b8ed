"""Extraction of stored predictions in blocks of any shape, against the original's own run over the whole volume as one block."""

import numpy as np
import pytest

from blockwise.config import RunConfig, validated
from blockwise.testing import run_serially
from tasks.synful.cells import read_partners
from tasks.synful.partners import points
from tasks.synful.task import ExtractedSynful
from tests.shared import shared
from tests.synful.runs import write_whole

SIZE, OFFSET = (40, 4, 4), (4000, 800, 1200)
CASES = {
    "cc50_whole": {"threshold": 0.5, "min_score": 0},
    "cc95_thr5_whole": {"threshold": 0.95, "min_score": 5},
    "nms40_whole": {"method": "nms", "threshold": 0.5, "min_score": 0, "nms_radius": (40, 40, 40)},
}
WHOLE = (60, 200, 200)
TILINGS = [((20, 100, 100), 120), ((6, 50, 50), 120), ((20, 100, 100), 50), ((7, 33, 61), (80, 48, 60)), (WHOLE, 120)]


@pytest.fixture(scope="module")
def predictions(tmp_path_factory):
    """The golden predictions as the original keeps them: uint8 and int8 with their scales."""
    stored = np.load(shared("golden/synful/detect/input_volume.npz"))
    path = tmp_path_factory.mktemp("blocks") / "predictions.zarr"
    write_whole(path, "volumes/pred_syn_indicator", stored["mask_u8"], scale=255, offset=OFFSET)
    write_whole(path, "volumes/pred_partner_vectors", stored["vec_i8"], scale=0.25, offset=OFFSET)
    return path


def extracted(predictions, output, blocks, context, case):
    """Post, pre, score and id of all partners, in the order of post; and how many components no block saw whole."""
    values = {
        "task": "synful",
        "input": {"path": str(predictions)},
        "output": {"path": str(output)},
        "blocks": {"shape": blocks},
        "options": {"extract": {**CASES[case], "context": context}},
    }
    task = ExtractedSynful.from_config(validated(RunConfig, values))
    run_serially(task)
    rows = read_partners(output / "partners.parquet")
    found = points(rows, "post").tolist(), points(rows, "pre").tolist(), rows["score"].to_pylist(), rows["id"].to_pylist()
    figures = next(s for s in task.stages() if s.name == "collect").finish().figures
    return sorted(zip(*found, strict=True)), figures["components across blocks"]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("blocks", "context"), TILINGS)
def test_blocks_give_what_the_original_gives_of_the_whole_volume(predictions, tmp_path, case, blocks, context):
    """Posts, scores and ids; partners are rounded on the data set's grid, at most four of them a voxel off in z (spec 6.4)."""
    golden = np.load(shared("golden/synful/blockwise/expected.npz"))
    want = sorted(zip(*(golden[f"{case}/{key}"].tolist() for key in ("post", "pre", "score", "id")), strict=True))
    got, seeds = extracted(predictions, tmp_path / "out", blocks, context, case)
    assert [row[0] for row in got] == [row[0] for row in want]
    away = abs(np.array([row[1] for row in got]) - [row[1] for row in want])
    assert (away <= (40, 0, 0)).all()
    assert np.count_nonzero(away) <= 4
    np.testing.assert_allclose([row[2] for row in got], [row[2] for row in want], atol=1e-3)
    if case.startswith("cc"):
        assert [row[3] for row in got] == [row[3] for row in want]
    if case == "cc50_whole":
        assert (seeds == 0) == (blocks == WHOLE), "no component spans blocks: the test shows nothing"
