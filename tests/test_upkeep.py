"""What is done to a run folder between and after runs, on real runs: growing, verifying, rebuilding, reporting, cleaning, mending."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from blockwise.errors import MissingError, PlanRefused, RunActive
from blockwise.folder import RunFolder
from blockwise.heartbeat import this_driver
from blockwise.ledger import open_ledger
from blockwise.status import Counts, Status
from blockwise.upkeep import clean, report, status, verify
from tests.cluster import workers  # noqa: F401
from tests.runs import address_of, blockwise, configuration, glob_run, stamps, traces

PER_SESSION = 6
"""Blocks of 4 x 500 in 6 x 1500."""


@pytest.fixture
def ran(tmp_path, workers):  # noqa: F811
    """The configuration of a finished run over three recordings."""
    file = glob_run(tmp_path, workers)
    called = blockwise("run", file, "--quiet")
    assert called.code == 0, called.err
    return file


def chunks(file: Path, session: str) -> list[Path]:
    return sorted((file.with_suffix(".zarr") / session / "spike_rates").glob("c.*"))


def totals(verdicts) -> dict[str, int]:
    main = next(v for v in verdicts if v.stage == "cascade")
    return {k: getattr(main, k) for k in ("total", "marked", "missing", "changed", "unmarked", "rebuilt")}


def test_a_session_that_joins_is_computed_and_the_others_stay(ran):
    before = stamps(ran.with_suffix(".zarr"))
    np.save(ran.parent / "rec" / "b2.npy", traces(4, 900))
    called = blockwise("run", ran, "--json")
    assert called.code == 0, called.err
    assert called.json["blocks"] == {"total": 20, "done": 20, "failed": 0, "running": 0, "executed": 20, "masked": 0, "orphans": 0}
    after = stamps(ran.with_suffix(".zarr"))
    changed = {f.relative_to(ran.with_suffix(".zarr")).parts[0] for f in after if after[f] != before.get(f)}
    assert changed == {"b2", "zarr.json"}
    assert len(chunks(ran, "b2")) == 2


def test_a_finished_run_writes_nothing(ran):
    run = ran.with_suffix(".run")
    before = {**stamps(ran.with_suffix(".zarr")), **{f: t for f, t in stamps(run).items() if f.suffix != ".sqlite"}}
    ledger = (run / "ledger.sqlite").read_bytes()
    called = blockwise("run", ran, "--json")
    assert (called.code, called.json["state"], called.json["blocks"]["executed"]) == (0, "done", 18)
    assert {**stamps(ran.with_suffix(".zarr")), **{f: t for f, t in stamps(run).items() if f.suffix != ".sqlite"}} == before
    assert (run / "ledger.sqlite").read_bytes() == ledger


def test_a_changed_wish_for_exports_is_fulfilled_without_computing(ran):
    (ran.parent / "predictions_a.npy").unlink()
    called = blockwise("run", ran, "--json", "--set", 'options.export=["npy"]')
    assert (called.code, called.json["blocks"]["executed"]) == (0, 18)
    assert (ran.parent / "predictions_a.npy").exists()


def test_verify_finds_deleted_and_damaged_chunks_and_a_rebuild_has_them_redone(ran):
    whole = {f: f.read_bytes() for f in chunks(ran, "a")}
    chunks(ran, "a")[0].unlink()
    chunks(ran, "a")[1].write_bytes(b"damaged" + whole[chunks(ran, "a")[1]][7:])
    told = blockwise("verify", ran.with_suffix(".run"))
    assert told.code == 1
    assert "cascade: 18 blocks, 18 marked, 16 complete, 2 missing" in told.out
    assert blockwise("run", ran).code == 0  # marks are believed until they are taken back
    assert blockwise("verify", ran.with_suffix(".run"), "--rebuild").code == 0
    called = blockwise("run", ran, "--json")
    assert (called.code, called.json["blocks"]["done"], called.json["blocks"]["executed"]) == (0, 18, 20)
    assert {f: f.read_bytes() for f in chunks(ran, "a")} == whole
    assert blockwise("verify", ran.with_suffix(".run"), "--json").json["stages"][1]["missing"] == 0


def test_verify_finds_data_that_is_whole_and_wrong(ran):
    array = zarr.open_array(str(ran.with_suffix(".zarr") / "b" / "spike_rates"))
    array[0, 700] = 7.0
    assert totals(verify(ran.with_suffix(".run")))["changed"] == 1


def test_a_lost_ledger_is_rebuilt_from_the_output(ran):
    run, before = ran.with_suffix(".run"), stamps(ran.with_suffix(".zarr"))
    for file in run.glob("ledger.sqlite*"):
        file.unlink()
    rebuilt = verify(run, rebuild=True)
    assert totals(rebuilt) == {"total": 18, "marked": 0, "missing": 0, "changed": 0, "unmarked": 18, "rebuilt": 18}
    called = blockwise("run", ran, "--json")
    assert (called.code, called.json["blocks"]["done"], called.json["blocks"]["executed"]) == (0, 18, 0)
    assert stamps(ran.with_suffix(".zarr")) == before
    assert blockwise("verify", run).code == 0


def test_a_rebuild_leaves_sessions_alone_that_joined_since(ran):
    run = ran.with_suffix(".run")
    np.save(ran.parent / "rec" / "d.npy", traces())
    verify(run, rebuild=True)
    assert totals(verify(run)) == {"total": 24, "marked": 18, "missing": 0, "changed": 0, "unmarked": 0, "rebuilt": 0}


def test_a_rebuild_takes_no_other_runs_output(ran, tmp_path):
    other = tmp_path / "other.run"
    RunFolder.make(other)
    for name in ("config.json", "config.toml"):
        (other / name).write_bytes((ran.with_suffix(".run") / name).read_bytes())
    with pytest.raises(PlanRefused, match=rf"{ran.with_suffix('.zarr')} was made by run .* in {ran.with_suffix('.run')}"):
        verify(other, rebuild=True)


def test_an_output_that_is_gone_is_never_skipped(ran):
    """Marks without data would leave holes: the run refuses, a rebuild takes the marks back."""
    ran.with_suffix(".zarr").rename(ran.parent / "moved.zarr")
    called = blockwise("run", ran)
    assert called.code == 2
    assert "does not hold what this run has marked as done" in called.err
    assert not ran.with_suffix(".zarr").exists()
    assert blockwise("run", ran, "--set", f"output.path={ran.parent / 'moved.zarr'}").code == 0
    assert blockwise("verify", ran.with_suffix(".run"), "--rebuild", "--json").json["stages"][1]["rebuilt"] == 18
    assert blockwise("run", ran, "--json").json["blocks"]["executed"] == 36


def test_an_input_that_changed_is_named_and_can_be_adopted(ran):
    file = ran.parent / "rec" / "b.npy"
    os.utime(file, (1, 1))
    refused = blockwise("run", ran)
    assert refused.code == 2
    assert "stage 'noise', 'b' was made from other inputs" in refused.err
    assert re.search(rf"{file} changed: modified was 20.*, now 1970-01-01T00:00:01.000000000Z; the same: bytes, content\n", refused.err)
    assert "--adopt input.traces" in refused.err
    assert blockwise("run", ran, "--adopt", "input").code == 0
    last = RunFolder(ran.with_suffix(".run")).starts()[-1]
    assert last["adopted"] == {"noise/b": ["input.traces"], "cascade/b": ["input.traces"]}
    assert blockwise("run", ran).code == 0  # adopted once is adopted


def test_a_grid_cannot_be_adopted(ran):
    refused = blockwise("run", ran, "--set", "blocks.shape=[2,500]", "--adopt", "grid")
    assert refused.code == 2
    assert "--adopt grid.shape: another grid or task has other blocks" in refused.err


def test_failed_blocks_end_with_1_and_a_table_and_retry_finishes(tmp_path, workers):  # noqa: F811
    """A member that cannot be read fails the rows of its level; the others are computed."""
    file = glob_run(tmp_path, workers, "a", blocks={"shape": [1, 500]}, run={"retries": 0})
    member = tmp_path / "model" / "Model_NoiseLevel_3_Ensemble_1.safetensors"
    content = member.read_bytes()
    member.write_bytes(content[: len(content) // 2])
    called = blockwise("run", file, "--json")
    state = called.json
    assert (called.code, state["state"]) == (1, "failed")
    assert 0 < state["blocks"]["failed"] < state["blocks"]["total"]
    assert state["blocks"]["done"] + state["blocks"]["failed"] == state["blocks"]["total"]
    assert all("Model_NoiseLevel_3_Ensemble_1" in f["error"] for f in state["failures"])
    assert "failed block" in called.err
    assert f"blockwise retry {file.with_suffix('.run')}" in called.err
    assert blockwise("run", file).code == 1  # quarantined blocks wait
    page = report(file.with_suffix(".run")).read_text()
    assert "failed blocks" in page
    assert "Traceback" in page

    member.write_bytes(content)
    assert "model: was" in blockwise("retry", file.with_suffix(".run")).err
    mended = blockwise("retry", file.with_suffix(".run"), "--adopt", "model", "--json")
    assert (mended.code, mended.json["blocks"]["failed"]) == (0, 0)
    assert mended.json["blocks"]["done"] == state["blocks"]["total"]


def test_a_session_whose_file_is_damaged_costs_the_others_nothing(tmp_path, workers):  # noqa: F811
    """Its noise levels cannot be measured, so its rates wait; the other session's are computed."""
    for name in "ab":
        array = zarr.create_array(str(tmp_path / f"{name}.zarr"), shape=(4, 20_000), chunks=(4, 500), dtype="float32")
        array[...] = traces(4, 20_000)
        array.attrs["frame_rate"] = 30.0
    file = glob_run(tmp_path, workers, "", input={"path": str(tmp_path / "[ab].zarr")}, blocks={"shape": [4, 5000]}, run={"retries": 0})
    chunk = tmp_path / "a.zarr" / "c" / "0" / "3"
    content, times = chunk.read_bytes(), chunk.stat()
    chunk.write_bytes(b"\0" * len(content))
    os.utime(chunk, ns=(times.st_atime_ns, times.st_mtime_ns))
    called = blockwise("run", file, "--json")
    assert called.code == 1, called.err
    assert [(f["stage"], f["domain"]) for f in called.json["failures"]] == [("noise", "a")]
    assert "4 blocks are orphans, for what they read failed" in called.err
    assert (called.json["blocks"]["done"], called.json["blocks"]["orphans"]) == (4, 4)
    assert (len(chunks(file, "b")), len(chunks(file, "a"))) == (4, 0)
    assert not (tmp_path / "predictions_b.npy").exists()

    chunk.write_bytes(content)
    os.utime(chunk, ns=(times.st_atime_ns, times.st_mtime_ns))
    mended = blockwise("retry", file.with_suffix(".run"), "--json")
    assert (mended.code, mended.json["blocks"]["done"], mended.json["blocks"]["orphans"]) == (0, 8, 0)
    assert (tmp_path / "predictions_b.npy").exists()


def test_an_export_that_cannot_be_written_leaves_a_run_that_goes_on(tmp_path, workers):  # noqa: F811
    file = glob_run(tmp_path, workers, "a")
    assert blockwise("run", file, "--quiet").code == 0
    (tmp_path / "predictions_a.npy").unlink()
    (tmp_path / "predictions_a.npy").mkdir()
    anew = ("run", file, "--json", "--set", 'options.export=["npy"]')
    called = blockwise(*anew)
    assert called.code == 2
    assert f"cannot write {tmp_path / 'predictions_a.npy'}" in called.err
    found = status(file.with_suffix(".run"))
    assert (found.state, found.blocks.done, found.blocks.executed) == ("interrupted", 6, 6)
    assert "StorageError" in found.message
    (tmp_path / "predictions_a.npy").rmdir()
    assert blockwise(*anew).json["blocks"]["executed"] == 6
    assert np.load(tmp_path / "predictions_a.npy").shape == (6, 1500)


def test_the_report_needs_nothing_else_and_shows_pictures(ran):
    told = blockwise("report", ran.with_suffix(".run"))
    page = Path(told.out.strip()).read_text()
    assert Path(told.out.strip()) == ran.with_suffix(".run") / "report.html"
    assert page.count("data:image/png;base64,") == 2
    assert "<script" not in page
    assert not any(f'{a}="http' in page for a in ("src", "href"))
    for text in ("Slowest blocks", "Blocks per second", "task = &quot;cascade&quot;", "torch", "18 of 18"):
        assert text in page


def test_the_report_of_a_run_whose_input_was_moved(ran, tmp_path):
    (ran.parent / "rec").rename(tmp_path / "archive")
    page = report(ran.with_suffix(".run"), tmp_path / "page.html").read_text()
    assert "no pictures" in page
    assert "no recording matches" in page


def test_status_from_another_folder_and_process(ran, tmp_path):
    script = Path(sys.executable).with_name("blockwise")
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        [script, "status", "../run.run", "--json"], cwd=tmp_path / "elsewhere", capture_output=True, text=True, check=True, timeout=60
    )
    found = json.loads(done.stdout)
    assert done.stderr == ""
    assert (found["version"], found["state"], found["task"]) == (1, "done", "cascade")
    assert found["blocks"] == {"total": 18, "done": 18, "failed": 0, "running": 0, "executed": 18, "masked": 0, "orphans": 0}
    assert [(s["name"], s["state"], s["blocks"]["done"]) for s in found["stages"]] == [("noise", "done", 3), ("cascade", "done", 18)]
    text = blockwise("status", ran.with_suffix(".run"))
    assert (text.code, "100.0 %" in text.out) == (0, True)


def test_status_before_anything_was_written(tmp_path):
    assert status(RunFolder.make(tmp_path / "new").path).state == "planned"
    (tmp_path / "made").mkdir()  # a driver killed between two system calls
    assert status(tmp_path / "made").state == "planned"
    assert blockwise("status", tmp_path / "new", "--json").json["blocks"]["total"] == 0


@pytest.mark.parametrize("command", ["status", "verify", "report", "clean", "retry"])
def test_a_folder_that_is_no_run_folder_is_refused(tmp_path, command):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious.npy").touch()
    called = blockwise(command, tmp_path / "data")
    assert called.code == 2
    assert "no run folder at" in called.err
    with pytest.raises(MissingError):
        status(tmp_path / "nothing")


def test_the_status_of_a_dead_driver_is_interrupted_and_of_a_remote_one_its_counter(tmp_path):
    folder, me = RunFolder.make(tmp_path / "run"), this_driver()
    running = Status(run="r", task="t", folder="", output="", state="running", blocks=Counts(10, 5, 0, 2), stages=(), driver=me)
    folder.write_status(running)
    assert status(folder.path).state == "running"
    folder.write_status(replace(running, driver=replace(me, started_s=me.started_s - 100)))
    found = status(folder.path)
    assert (found.state, found.blocks.running, found.blocks.done) == ("interrupted", 0, 5)
    remote = replace(running, driver=replace(me, host="elsewhere"), beat=1)
    folder.write_status(remote)
    assert status(folder.path, wait=lambda _: folder.write_status(replace(remote, beat=2))).state == "running"


def test_what_writes_refuses_while_a_driver_lives(ran):
    ledger = open_ledger(ran.with_suffix(".run") / "ledger.sqlite")
    ledger.join(this_driver())
    try:
        for act in (lambda: verify(ran.with_suffix(".run"), rebuild=True), lambda: clean(ran.with_suffix(".run"))):
            with pytest.raises(RunActive, match=f"process {os.getpid()}"):
                act()
        assert blockwise("run", ran).code == 2
        assert totals(verify(ran.with_suffix(".run")))["marked"] == 18
    finally:
        ledger.close()


def test_clean_sweeps_leftovers_and_with_all_deletes_what_the_run_made(ran):
    run, output = ran.with_suffix(".run"), ran.with_suffix(".zarr")
    (output / "a" / "spike_rates" / "c.0.0.__lock").touch()
    assert "1 leftover files removed" in blockwise("clean", run).out
    assert output.exists()
    (run / "notes.txt").write_text("mine")
    asked = blockwise("clean", run, "--all")
    assert (asked.code, f"Delete {run} and its output, {output}?" in asked.out) == (1, True)  # nobody said yes
    assert output.exists()
    assert "the output deleted" in blockwise("clean", run, "--all", "--yes").out
    assert not output.exists()
    assert [f.name for f in run.iterdir()] == ["notes.txt"]
    assert (ran.parent / "rec" / "a.npy").exists()


def test_clean_leaves_another_runs_output(ran, tmp_path, workers):  # noqa: F811
    other = RunFolder.make(tmp_path / "other.run")
    other.save_config(RunFolder(ran.with_suffix(".run")).load_config())
    assert "No output of this run is there." in blockwise("clean", other.path, "--all").out
    clean(other.path, everything=True)
    assert not other.path.exists()
    assert chunks(ran, "a")


def test_a_second_run_does_not_replace_the_exports_of_the_first(ran, tmp_path):
    before = stamps(ran.parent)
    second = ran.with_name("second.toml")
    second.write_text(ran.read_text())
    for command in ("plan", "run"):
        told = blockwise(command, second)
        assert told.code == 2
        assert "predictions_a.npy (and 5 more) belongs to the run that writes" in " ".join((told.out + told.err).split())
    second.unlink()
    assert stamps(ran.parent) == before
    assert blockwise("run", ran, "--set", "options.threshold=1", "--set", f"output.path={tmp_path / 'new/o.zarr'}").code == 2


def test_a_second_run_on_one_output_is_refused_and_leaves_no_folder(ran, workers):  # noqa: F811
    values = {
        "input": {"path": str(ran.parent / "rec" / "a.npy"), "frame_rate": 30.0},
        "model": {"path": str(ran.parent / "model")},
        "output": {"path": str(ran.with_suffix(".zarr"))},
    }
    file = configuration(ran.parent, {**values, "cluster": address_of(workers)}, "second")
    for command in ("plan", "run"):
        called = blockwise(command, file)
        assert called.code == 2
        assert f"was made by another run ({RunFolder(ran.with_suffix('.run')).run}" in called.err + called.out
    assert not file.with_suffix(".run").exists()
