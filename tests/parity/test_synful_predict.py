"""Stored predictions equal those of the original's pipeline, tile by tile."""

import json

import numpy as np
import pytest

from blockwise.config import RunConfig, validated
from blockwise.geometry import Region
from blockwise.grid import Grid
from blockwise.storage import OutputArray, open_source
from blockwise.testing import run_serially
from tasks.synful.task import Synful
from tests.shared import shared

OFFSET, SIZE = (4000.0, 800.0, 1200.0), (40.0, 4.0, 4.0)


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    golden = dict(np.load(shared("golden/synful/predict/expected.npz")))
    checkpoint = shared("golden/synful/unet/mt2_dh_unet/train_net_checkpoint_0.index").with_suffix("")
    folder = tmp_path_factory.mktemp("predict")
    raw = golden["raw"]
    array = OutputArray.create(
        folder / "raw.zarr",
        "volumes/raw",
        shape=raw.shape,
        dtype="uint8",
        chunks=raw.shape,
        axes=("z", "y", "x"),
        voxel_size=SIZE,
        offset=OFFSET,
        units=("nm",) * 3,
    )
    array.write(Region((0, 0, 0), raw.shape), raw).future.result()
    values = {
        "task": "synful",
        "input": {"path": str(folder / "raw.zarr")},
        "model": {"path": str(checkpoint)},
        "output": {"path": str(folder / "out.zarr")},
        "blocks": {"shape": [6, 29, 29]},
        "options": {
            "mode": "stored",
            "grid": "compat",
            "network": {"activation": "sigmoid"},
            "store": {"vectors_scale": 25},
            "volume": {"skip_constant": False},
        },
    }
    task = Synful.from_config(validated(RunConfig, values))
    run_serially(task)
    return golden, task, folder / "out.zarr"


@pytest.mark.parametrize(("name", "scale"), [("pred_syn_indicator", 255), ("pred_partner_vectors", 25)])
def test_values_equal_the_originals(predicted, name, scale):
    golden, _, output = predicted
    source = open_source(str(output), f"volumes/{name}")
    want = golden[name]
    got = source.read(Region((0,) * want.ndim, want.shape))
    assert got.dtype == want.dtype
    off = np.abs(got.astype(int) - want.astype(int))
    assert off.max() <= 1
    assert (off == 0).mean() >= 0.9999
    assert source.attributes["scale"] == scale
    assert tuple(source.attributes["resolution"]) == SIZE


def test_only_blocks_that_meet_the_output_are_scheduled(predicted):
    _, task, _ = predicted
    blocks = json.loads(shared("golden/synful/predict/blocks.json").read_text())
    blocks = blocks["blocks"] if isinstance(blocks, dict) else blocks
    assert len(Grid(task.domains(), task.spec())) == 27 < len(blocks)
