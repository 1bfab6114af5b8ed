"""A run with exports through the command: made, found again, looked at, judged."""

import csv
import json
import shutil
from urllib.parse import unquote, urlsplit

import h5py
import numpy as np
import pytest

from blockwise.errors import MissingError
from tasks.synful.cells import read_partners
from tasks.synful.formats import read_any
from tasks.synful.partners import ordered
from tasks.synful.training.snapshots import NAMES
from tasks.synful.view_command import best_partner, scene_of, synful_of
from tests.cluster import workers  # noqa: F401
from tests.runs import address_of, blockwise, stamps
from tests.synful.formats.examples import SITES, assert_same
from tests.synful.formats.precomputed import Annotations
from tests.synful.runs import synful_run, write_inputs


@pytest.fixture(scope="module")
def ran(tmp_path_factory, workers):  # noqa: F811
    """The configuration of a finished run with exports."""
    folder = tmp_path_factory.mktemp("ran")
    write_inputs(folder)
    whole = {"blocks": {"shape": [20, 100, 108]}, "cell_um": 10}
    file = synful_run(folder, address_of(workers), mapped=True, exports=["neuroglancer", "csv"], **whole)
    called = blockwise("run", file, "--quiet")
    assert called.code == 0, called.err
    return file


@pytest.fixture
def partners(ran):
    (folder,) = ran.with_suffix(".zarr").glob("filtered-*.parquet")
    return ordered(read_partners(folder))


def export(ran, ending):
    (found,) = ran.parent.glob(f"run.filtered-*{ending}")
    return found


def test_exports_hold_the_filtered_partners(ran, partners):
    assert partners.num_rows > 100
    assert_same(ordered(read_any(export(ran, ".csv"))), partners, ["id", *SITES, "score", "segment_pre", "segment_post"])
    found = Annotations(export(ran, ".annotations"))
    assert set(found.by_id()) == set(partners["id"].to_pylist())
    assert set(found.related("segment_post")) == set(partners["segment_post"].to_pylist())


def test_a_further_format_is_one_more_block(ran, partners):
    before = stamps(ran.parent)
    called = blockwise("run", ran, "--quiet", "--set", 'options.exports=["neuroglancer", "csv", "sqlite"]')
    assert called.code == 0, called.err
    assert read_any(export(ran, ".db")).num_rows == partners.num_rows
    kept = [f for f in before if ran.with_suffix(".run") not in f.parents and f.suffix != ".json" and "ledger" not in f.name]
    assert not [f for f in kept if f.stat().st_mtime_ns != before[f]]
    assert blockwise("run", ran, "--quiet").code == 0


def test_a_lost_export_is_found_and_made_anew(ran, partners):
    export(ran, ".csv").unlink()
    shutil.rmtree(export(ran, ".annotations"))
    folder = ran.with_suffix(".run")
    called = blockwise("verify", folder)
    assert called.code != 0
    assert "2" in next(line for line in called.out.splitlines() if "exports-" in line)
    blockwise("verify", folder, "--rebuild")
    assert blockwise("run", ran, "--quiet").code == 0
    assert read_any(export(ran, ".csv")).num_rows == partners.num_rows
    assert blockwise("verify", folder).code == 0


def test_a_link_shows_volume_segments_and_partners(ran):
    called = blockwise("view", ran.with_suffix(".run"), "--port", "9123")
    assert called.code == 0, called.err
    state = json.loads(unquote(urlsplit(called.out.strip()).fragment[1:]))
    sources = [layer["source"] for layer in state["layers"][:3]]
    server = "http://127.0.0.1:9123"
    assert sources == [f"zarr3://{server}/volume/raw/", f"zarr3://{server}/segmentation/seg/", f"precomputed://{server}/partners"]
    best = best_partner(synful_of(ran.with_suffix(".run")))
    assert state["position"] == [(best[f"pre_{a}"] + best[f"post_{a}"]) / 2 for a in "xyz"]
    assert "--serve" in called.err


def test_a_place_and_a_page_of_ones_own(ran):
    called = blockwise("view", ran.with_suffix(".run"), "--at", "400,200,100", "--page", "https://view.example.org")
    assert called.out.startswith("https://view.example.org/#!")
    assert json.loads(unquote(urlsplit(called.out.strip()).fragment[1:]))["position"] == [100, 200, 400]
    wrong = blockwise("view", ran.with_suffix(".run"), "--at", "400,200")
    assert (wrong.code, "z,y,x in nm" in wrong.err) == (2, True)


def test_predictions_of_a_run_without_partners_are_shown(ran, workers, tmp_path):  # noqa: F811
    write_inputs(tmp_path)
    file = synful_run(tmp_path, address_of(workers), mode="predict", blocks={"shape": [20, 100, 108]})
    assert blockwise("run", file, "--quiet").code == 0
    called = blockwise("view", file.with_suffix(".run"), "--port", "9123")
    assert called.code == 0, called.err
    layers = json.loads(unquote(urlsplit(called.out.strip()).fragment[1:]))["layers"]
    assert [layer["name"] for layer in layers] == ["volume", "probability", "vectors"]
    kept = "zarr3://http://127.0.0.1:9123/predictions/volumes/"
    assert [layer["source"] for layer in layers[1:]] == [f"{kept}pred_syn_indicator/", f"{kept}pred_partner_vectors/"]
    assert layers[1]["shaderControls"] == {"normalized": {"range": [0, 255]}}
    assert "Partners are left out" not in called.err
    refused = blockwise("proof", file.with_suffix(".run"), "--folder", tmp_path / "sheet")
    assert (refused.code, "mode = 'predict' finds no partners" in refused.err) == (2, True)
    folders, scene, _ = scene_of(synful_of(ran.with_suffix(".run")), "http://h", None)
    assert ("predictions" in folders, scene.mask) == (False, None)


def test_what_is_no_run_of_synful_is_refused(tmp_path):
    with pytest.raises(MissingError):
        synful_of(tmp_path)


def test_a_proof_sheet_and_its_precision(ran, tmp_path):
    called = blockwise("proof", ran.with_suffix(".run"), "--folder", tmp_path, "--bins", 2, "--per-bin", 3)
    assert called.code == 0, called.err
    page = (tmp_path / "proof.html").read_text()
    assert page.count("<article") == 6
    assert "neuroglancer" in page
    with (tmp_path / "proof.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row, verdict in zip(rows, "yynyy?", strict=True):
        row["verdict"] = verdict
    with (tmp_path / "proof.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    told = blockwise("proof", "--read", tmp_path / "proof.csv", "--json").json
    assert (told["overall"]["right"], told["overall"]["wrong"]) == (4, 1)
    assert blockwise("proof", "--read", tmp_path / "proof.csv").out.count("\n") == 4
    assert blockwise("proof", ran.with_suffix(".run"), "--folder", tmp_path).code == 2
    assert blockwise("proof").code == 2


def test_a_snapshot_of_a_training_is_drawn(tmp_path):
    (tmp_path / "snapshots").mkdir()
    shape = (4, 20, 20)
    arrays = {"raw": np.zeros((8, 40, 40), np.float32), "vectors_mask": np.ones(shape, np.float32)}
    arrays |= {n: np.zeros(shape, np.float32) for n in ("indicator", "indicator_weight", "probability")}
    arrays |= {n: np.ones((3, *shape), np.float32) for n in ("vectors", "predicted_vectors")}
    with h5py.File(tmp_path / "snapshots" / "snapshot_10.hdf", "w") as file:
        for name, values in arrays.items():
            file[NAMES[name]] = values
    called = blockwise("view", tmp_path, "--snapshot", -1)
    assert called.code == 0, called.err
    assert called.out.strip() == str(tmp_path / "snapshots" / "snapshot_10.png")
    assert (tmp_path / "snapshots" / "snapshot_10.png").read_bytes().startswith(b"\x89PNG")
