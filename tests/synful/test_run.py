"""Whole runs of Synful through the command: planned, interrupted, verified, mapped anew, refused, reported."""

import json
import signal

import pytest

from blockwise.config import load_config, with_places
from blockwise.events import BlocksDone
from blockwise.folder import RunFolder
from blockwise.run import run
from tasks.synful.cells import read_partners
from tests.cluster import workers  # noqa: F401
from tests.runs import address_of, blockwise, stamps
from tests.synful.runs import synful_run, write_inputs
from tests.synful.small import random_network

AUTO, MORE = {"shape": "auto", "memory": "5MB"}, ("--set", "blocks.memory=1GB")


@pytest.fixture
def project(tmp_path, workers):  # noqa: F811
    """Makes inputs and the configuration of a run over them on the module's cluster."""
    write_inputs(tmp_path)
    return lambda **wishes: synful_run(tmp_path, address_of(workers), **wishes)


def finished(file):
    called = blockwise("run", file, "--quiet")
    assert called.code == 0, called.err
    return file


@pytest.fixture(scope="module")
def ran(tmp_path_factory, workers):  # noqa: F811
    """The configuration of a finished run, mapped and filtered, that no test changes."""
    folder = tmp_path_factory.mktemp("ran")
    write_inputs(folder)
    return finished(synful_run(folder, address_of(workers), mapped=True))


@pytest.fixture
def own(project):
    """A finished run that the test may change."""
    return finished(project(mapped=True))


def stages(file):
    """Name -> counts of every stage."""
    called = blockwise("status", file.with_suffix(".run"), "--json")
    assert called.code == 0, called.err
    return {s["name"]: s["blocks"] for s in called.json["stages"]}


def interrupt_once():
    """A subscriber that presses Ctrl-C when the first block is done."""
    presses = iter([signal.SIGINT])

    def subscriber(event):
        if isinstance(event, BlocksDone) and (number := next(presses, None)):
            signal.raise_signal(number)

    return subscriber


def content(folder):
    """Bytes of every file that blocks wrote."""
    return {f.relative_to(folder): f.read_bytes() for f in folder.rglob("*") if f.suffix in (".arrow", ".parquet") and f.is_file()}


def test_a_plan_shows_what_will_be_done_and_writes_nothing(project):
    file = project(mapped=True, blocks=AUTO)
    before = stamps(file.parent)
    called = blockwise("plan", file, "--pilot", 1)
    assert called.code == 0, called.err
    assert "20 x 100 x 108 voxels of 40 x 4 x 4 nm" in called.out
    assert blockwise("plan", file, "--pilot", 0, "--json").json["refusals"] == []
    assert stamps(file.parent) == before


def test_the_status_has_every_stage(ran):
    found = stages(ran)
    assert [name.partition("-")[0] for name in found] == ["synful", "spanning", "counts/reduce", "collect", "segments", "pairs", "filtered"]
    assert all(c["done"] == c["executed"] == c["total"] > 0 for c in found.values())
    assert found["synful"]["total"] == 27
    assert found["collect"]["total"] > 4


def test_the_report_has_the_picture_of_partners(ran):
    assert blockwise("report", ran.with_suffix(".run")).code == 0
    page = (ran.with_suffix(".run") / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 1
    assert f"{read_partners(ran.with_suffix('.zarr') / 'partners.parquet').num_rows:,} partners in all" in page


def test_a_finished_run_writes_nothing(ran):
    before = stamps(ran.with_suffix(".zarr"))
    called = blockwise("run", ran, "--json")
    assert (called.code, called.json["state"]) == (0, "done")
    assert stamps(ran.with_suffix(".zarr")) == before


def test_the_shape_of_blocks_is_chosen_once(project):
    """A resume with other memory goes on with the grid of the first start."""
    file = project(blocks=AUTO)
    assert run(with_places(load_config(file), file), subscribers=[interrupt_once()]).state == "interrupted"
    resolved = file.with_suffix(".run") / "resolved.json"
    chosen, blocks = resolved.read_bytes(), stages(file)["synful"]["total"]
    called = blockwise("run", file, "--json", *MORE)
    assert called.code == 0, called.err
    assert called.json["blocks"]["total"] == called.json["blocks"]["executed"] == blocks > 4
    assert resolved.read_bytes() == chosen
    assert blockwise("plan", file, "--pilot", 0, "--json", *MORE).json["refusals"] == []
    anew = ("--set", f"run.folder={file.parent / 'other'}", "--set", f"output.path={file.parent / 'other.zarr'}")
    assert blockwise("run", file, "--json", *MORE, *anew).json["blocks"]["total"] == 1


def test_the_shape_is_kept_before_the_first_fingerprint(project, monkeypatch):
    """Killed between the two, a run could not be resumed where another shape would be chosen."""
    file = project(blocks=AUTO)

    def killed(*_, **__):
        raise RuntimeError("killed")

    monkeypatch.setattr("blockwise.run.claim_output", killed)
    with pytest.raises(RuntimeError, match="killed"):
        blockwise("run", file)
    assert list(json.loads((file.with_suffix(".run") / "resolved.json").read_text())) == ["blocks.shape"]


def test_missing_folders_of_the_output_are_a_slip_unless_they_are_wished(project):
    file = project(blocks={"shape": [20, 100, 108]})
    output = file.parent / "setup03" / "90000" / "out.zarr"
    refused = blockwise("run", file, "--set", f"output.path={output}")
    assert (refused.code, "does not exist; nearest that does" in refused.err) == (2, True)
    assert not output.parent.exists()
    called = blockwise("run", file, "--quiet", "--set", f"output.path={output}", "--set", "output.make_folders=true")
    assert called.code == 0, called.err
    assert read_partners(output / "partners.parquet").num_rows > 0


def test_what_is_lost_is_found_and_computed_again(own):
    folder, output = own.with_suffix(".run"), own.with_suffix(".zarr")
    assert blockwise("verify", folder).code == 0
    before = content(output)
    lost = [sorted((output / name).rglob(ending))[1] for name, ending in (("partners.parquet", "*.parquet"), ("parts/seeds", "*.arrow"))]
    for file in lost:
        file.unlink()
    called = blockwise("verify", folder, "--json")
    assert called.code == 1
    assert {v["stage"]: v["missing"] for v in called.json["stages"] if v["missing"]} == {"synful": 1, "collect": 1}
    assert blockwise("verify", folder, "--rebuild").code == 0
    assert blockwise("run", own, "--quiet").code == 0
    assert content(output) == before
    again = {name: c["executed"] - c["total"] for name, c in stages(own).items()}
    assert {name: n for name, n in again.items() if n} == {"synful": 1, "collect": 1}
    assert blockwise("verify", folder).code == 0


def test_another_segmentation_reruns_the_mapping_alone(own):
    before, files = stages(own), stamps(own.with_suffix(".zarr"))
    called = blockwise("run", own, "--quiet", "--set", f"options.map.segmentation={own.parent / 'seg2.zarr'}")
    assert called.code == 0, called.err
    after = stages(own)
    first = ("synful", "spanning", "counts/reduce-1", "collect")
    assert {n: after[n] for n in first} == {n: before[n] for n in first}
    assert not (after.keys() & before.keys()) - set(first)
    assert all(c["done"] == c["executed"] == c["total"] for c in after.values())
    now = stamps(own.with_suffix(".zarr"))
    assert {f: now.get(f) for f in files if f.name != "zarr.json"} == {f: t for f, t in files.items() if f.name != "zarr.json"}
    edges = [read_partners(f) for f in own.with_suffix(".zarr").glob("edges-*.parquet")]
    assert len(edges) == 2
    assert not edges[0].equals(edges[1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("model.path={folder}/other.safetensors", "  model.0: was "),
        ("options.extract.threshold=0.6", "  options.threshold: was 0.5, now 0.6"),
        ("blocks.shape=[8, 40, 44]", "  grid.shape: was [8, 40, 40], now [8, 40, 44]"),
        ("options.volume.normalize='percentile'", "  options.normalize: was dtype, now percentile"),
    ],
)
def test_what_decides_results_cannot_be_changed(ran, change, words):
    random_network(ran.parent / "other.safetensors", seed=1)
    before = stamps(ran.with_suffix(".zarr"))
    called = blockwise("run", ran, "--set", change.format(folder=ran.parent))
    assert called.code == 2
    assert words in called.err
    assert stamps(ran.with_suffix(".zarr")) == before
    assert RunFolder.find(ran.with_suffix(".run")).read_status().state == "done"
