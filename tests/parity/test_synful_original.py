"""`blockwise run predict.json`: a configuration of the original beside its setup's folder runs unchanged and gives its values."""

import json
import shutil

import h5py
import numpy as np
import pytest
import zarr

from blockwise.geometry import Region
from blockwise.storage import open_source
from tests.runs import blockwise
from tests.shared import shared

pytestmark = pytest.mark.timeout(900)

OFFSET, SIZE = (4000, 800, 1200), (40, 4, 4)
SETUP = ("parameter.json", "train_net_config.json", "train_net_checkpoint_0.index", "train_net_checkpoint_0.data-00000-of-00001")
PREDICT = {
    "experiment": "cremi",
    "setup": "setup03",
    "iteration": 0,
    "raw_dataset": "volumes/raw",
    "out_directory": "../out",
    "out_filename": "golden.zarr",
    "num_workers": 1,
    "worker_config": None,
    "configname": "train",
    "out_properties": {
        "pred_syn_indicator_out": {"dsname": "pred_syn_indicator", "dtype": "uint8", "scale": 255},
        "pred_partner_vectors": {"dsname": "pred_partner_vectors", "dtype": "int8", "scale": 25},
    },
}


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(shared("golden/synful/predict/expected.npz")))


def as_zarr(path, raw):
    """Zarr v2, as the original's converters wrote it."""
    array = zarr.create_array(str(path), name="volumes/raw", data=raw, chunks=(7, 35, 40), zarr_format=2)
    array.attrs.update({"resolution": SIZE, "offset": OFFSET})


def as_cremi(path, raw):
    """HDF5, as the CREMI challenge hands it out."""
    with h5py.File(path, "w") as file:
        data = file.create_dataset("volumes/raw", data=raw, compression="gzip")
        data.attrs.update({"resolution": SIZE, "offset": OFFSET})


WRITERS = {"raw.zarr": as_zarr, "raw.hdf": as_cremi}


@pytest.fixture
def project(tmp_path, golden, monkeypatch):
    """`scripts/predict/predict.json`, the setup where the original has it, and the raw volume beside them."""
    monkeypatch.setenv("BLOCKWISE_CLUSTER__THREADS", "1")  # on a busy machine two wait for each other
    setup, predict = tmp_path / "train" / "setup03", tmp_path / "predict"
    setup.mkdir(parents=True)
    predict.mkdir()
    for name in SETUP:
        shutil.copyfile(shared(f"golden/synful/unet/mt2_dh_unet/{name}"), setup / name)

    def write(raw_file, **more):
        WRITERS[raw_file](predict / raw_file, golden["raw"])
        file = predict / "predict.json"
        file.write_text(json.dumps(PREDICT | {"raw_file": raw_file} | more))
        return file

    return write


@pytest.mark.parametrize("raw_file", WRITERS)
def test_values_are_those_of_the_original(project, golden, raw_file):
    file = project(raw_file)
    called = blockwise("run", file, "--json")
    assert called.code == 0, called.err
    assert called.json["blocks"]["total"] == 27
    output = file.parent.parent / "out" / "setup03" / "0" / "golden.zarr"
    for name, scale in (("pred_syn_indicator", 255), ("pred_partner_vectors", 25)):
        want, source = golden[name], open_source(str(output), f"volumes/{name}")
        off = np.abs(source.read(Region((0,) * want.ndim, want.shape)).astype(int) - want)
        assert source.dtype == want.dtype
        assert off.max() <= 1
        assert (off == 0).mean() >= 0.9999
        assert source.attributes["scale"] == scale
        assert source.offset[-3:] == OFFSET


def test_extraction_parameters_shrink_what_a_tile_owns(project):
    """By the synapse context, 1, 4 and 4 voxels at either end of 6 x 29 x 29 (spec 2)."""
    wishes = {"extract_type": "cc", "cc_threshold": 0.5, "loc_type": "edt", "score_thr": 0, "score_type": "sum", "nms_radius": None}
    file = project("raw.zarr", extraction_parameters=wishes, synapse_context=[40, 16, 16])
    called = blockwise("plan", file, "--pilot", 1, "--json")
    assert called.code == 0, called.err
    assert called.json["refusals"] == []
    main = called.json["stages"][0]
    assert (main["shape"], main["blocks"]) == ([4, 21, 21], 4 * 4 * 4)


def test_a_database_that_does_not_answer_names_the_way_out(project, monkeypatch):
    monkeypatch.setattr("blockwise.ledger.mongodb.FIRST_S", 0.3)
    file = project("raw.zarr", db_host="mongodb://127.0.0.1:1")
    called = blockwise("run", file)
    assert called.code == 2
    (line,) = called.err.splitlines()
    assert "ledger mongodb://127.0.0.1:1/synful_setup03_0: nobody answered" in line
    assert "--set ledger.url=" in line
    called = blockwise("run", file, "--quiet", "--set", f"ledger.url={file.with_name('ledger.sqlite')}")
    assert called.code == 0, called.err
    assert file.with_name("ledger.sqlite").exists()
