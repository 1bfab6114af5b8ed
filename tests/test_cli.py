"""The command: exit codes, streams, words. What is refused is refused before anything is written, and says what, where and the fix."""

import json
import os
import re
import signal
import subprocess
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from blockwise.cli import _line_of_help, app
from blockwise.folder import FILES, RunFolder
from tests.cascade.random_model import write_model
from tests.runs import blockwise, configuration, stamps, traces

SCRIPT = Path(sys.executable).with_name("blockwise")
COMMANDS = [
    "init",
    "run",
    "plan",
    "status",
    "submit",
    "retry",
    "verify",
    "report",
    "clean",
    "doctor",
    "demo",
    "models",
    "train",
    "benchmark",
    "proof",
    "view",
]


def test_all_commands_are_there():
    assert {c.name or c.callback.__name__ for c in app.registered_commands} == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    told = blockwise(command, "--help")
    assert told.code == 0
    assert f"Usage: blockwise {command}" in told.out


def test_a_task_without_a_template_names_its_preset():
    told = blockwise("init", "synful-search", "x")
    assert (told.code, told.out) == (2, "")
    assert "configs/" in told.err


@pytest.mark.parametrize("arguments", [["run"], ["frobnicate"], ["run", "x.toml", "--no-such-option"], ["init", "cascade"]], ids=str)
def test_wrong_usage_ends_with_2(arguments):
    told = blockwise(*arguments)
    assert (told.code, told.out) == (2, "")
    assert told.err


@pytest.mark.parametrize("entry", entry_points(group="blockwise.commands"), ids=lambda e: e.name)
def test_the_list_of_commands_says_what_those_of_tasks_do(entry):
    line = _line_of_help(entry)
    assert len(line.split()) > 4
    assert not line.startswith("Cannot be imported")
    assert f"{entry.name} {line}" in " ".join(blockwise("--help").out.replace("│", " ").split())


def test_a_command_that_cannot_be_imported_says_so_in_the_list():
    assert _line_of_help(EntryPoint("broken", "no.such.module:command", "blockwise.commands")).startswith("Cannot be imported: No module")


@pytest.mark.parametrize("command", ["run", "plan"])
def test_data_in_place_of_a_configuration_teaches_init(tmp_path, command):
    np.save(tmp_path / "rec.npy", traces())
    zarr.create_array(str(tmp_path / "rec.zarr"), data=traces())
    for data in (tmp_path / "rec.npy", tmp_path / "rec.zarr"):
        told = blockwise(command, data)
        assert (told.code, told.out) == (2, "")
        assert f"{data} holds data, and a configuration is wanted" in told.err
        assert f"blockwise init TASK {data} > run.toml" in told.err


def test_the_version(capsys):
    from blockwise._version import __version__

    assert blockwise("--version").out.strip() == __version__


def test_commands_of_tasks_are_passed_on_with_their_exit_codes(tmp_path):
    assert "blockwise_EXC_30Hz_smoothing50ms_causalkernel" in blockwise("models", "list").out
    assert blockwise("models", "suggest", "--frame-rate", 30, "--json").json["name"].startswith(("Global_EXC_30Hz", "blockwise_EXC_30Hz"))
    assert blockwise("models", "get", "no_such_model").code == 2
    assert blockwise("train", tmp_path / "no.toml").code == 2
    assert blockwise("benchmark").code == 2


@pytest.fixture
def place(tmp_path):
    """A folder with a model and one recording."""
    write_model(tmp_path / "model")
    np.save(tmp_path / "rec.npy", traces())
    return tmp_path


def values_of(place: Path, **changes: Any) -> dict[str, Any]:
    about = {"input": {"path": str(place / "rec.npy"), "frame_rate": 30.0}, "model": {"path": str(place / "model")}}
    return {**about, "cluster": {"workers": 1, "device": "cpu"}, **changes}


def test_plan_tells_everything_and_writes_nothing(place):
    file = configuration(place, values_of(place))
    before = stamps(place)
    told = blockwise("plan", file, "--pilot", 3)
    assert told.code == 0, told.err
    for text in ("task cascade, 1 workers", "4 x 500 (2000)", "0+0, 32+31", "(3 pilot blocks", "models: model", "memory per worker:"):
        assert text in told.out
    found = blockwise("plan", file, "--json", "--pilot", 0).json
    assert [(s["name"], s["blocks"], s["main"]) for s in found["stages"]] == [("noise", 1, False), ("cascade", 6, True)]
    assert (found["version"], found["pilot"], found["refusals"]) == (1, None, [])
    assert stamps(place) == before


def percent(place):
    np.save(place / "rec.npy", 100 * traces())


def cube(place):
    np.save(place / "rec.npy", np.zeros((2, 3, 40), np.float32))


def words(place):
    np.save(place / "rec.npy", np.array([["a", "b"]]))


def nothing(place):
    np.save(place / "rec.npy", np.full((3, 200), np.nan, np.float32))


def text(place):
    (place / "rec.npy").write_text("no array")


def two_matrices(place):
    np.savez(place / "rec.npz", x=traces(), y=traces())


def weightless(place):
    for file in (place / "model").glob("*.safetensors"):
        file.unlink()


def output_is_a_file(place):
    (place / "run.zarr").write_text("mine")


def output_is_data(place):
    (place / "run.zarr").mkdir()
    (place / "run.zarr" / "mine.txt").touch()


def output_is_a_group(place):
    zarr.create_group(str(place / "run.zarr")).create_array("mine", data=np.zeros(3))


def endless(place):
    zarr.create_array(str(place / "endless.zarr"), shape=(10**6, 10**9), chunks=(100, 10_000), dtype="float32", fill_value=0.1)


REFUSED = {
    "missing file": (None, {"input": {"path": "no.npy", "frame_rate": 30.0}}, r"no recording is at .*no.npy .*check \[input\] path"),
    "empty glob": (None, {"input": {"path": "no*.npy", "frame_rate": 30.0}}, r"no recording matches .*no\*.npy"),
    "variable": (two_matrices, {"input": {"path": "rec.npz", "frame_rate": 30.0, "variable": "z"}}, r"rec.npz.*'z'.*'x', 'y'"),
    "which variable": (two_matrices, {"input": {"path": "rec.npz", "frame_rate": 30.0}}, r"rec.npz holds 2 arrays: name one.*'x', 'y'"),
    "rank": (cube, {}, r"rec.npy has 3 dimensions, shape \(2, 3, 40\): traces have 2"),
    "dtype": (words, {}, r"rec.npy.*(<U1|real numbers)"),
    "no array": (text, {}, r"rec.npy"),
    "no value": (nothing, {}, r"no finite value in 3 rows"),
    "rate": (
        None,
        {"input": {"path": "rec.npy", "frame_rate": 33.0}},
        r"33 Hz, but model was trained for 30 Hz.*--frame-rate 33",
    ),
    "no rate": (None, {"input": {"path": "rec.npy"}}, r"rec.npy states no frame rate: set frame_rate"),
    "percent": (percent, {}, r"median standard deviation of a trace is .* at most 2: divide traces in percent by 100"),
    "no checkpoints": (weightless, {}, r"holds no checkpoints: files named Model_NoiseLevel"),
    "no task": (None, {"task": "cascad"}, r"no task 'cascad': did you mean 'cascade'"),
    "output a file": (output_is_a_file, {}, r"run.zarr exists and is no zarr v3 group: choose another \[output\] path"),
    "output data": (output_is_data, {}, r"run.zarr exists and is no zarr v3 group"),
    "output a group": (output_is_a_group, {}, r"run.zarr is a zarr group that no run of blockwise made"),
    "output below a file": (None, {"output": {"path": "rec.npy/out.zarr"}}, r"cannot write .*rec.npy is a file, not a folder"),
    "no folder": (None, {"output": {"path": "no/where/out.zarr"}}, r"its folder .*no/where does not exist; nearest that does"),
    "run folder below a file": (None, {"run": {"folder": "rec.npy/run"}}, r"cannot write .*rec.npy is a file, not a folder"),
    "disk": (
        endless,
        {"input": {"path": "endless.zarr", "frame_rate": 30.0}},
        r"take up to 4 PB, .*B are free .*: free some or choose",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_before_anything_is_written(place, monkeypatch, case):
    arrange, changes, words = REFUSED[case]
    monkeypatch.chdir(place)
    if arrange is not None:
        arrange(place)
    file = configuration(place, values_of(place, **changes))
    before = stamps(place)
    for command in (("plan", "--pilot", 0), ("run",)):
        told = blockwise(*command, file)
        assert told.code == 2, told.out + told.err
        assert _found(words, " ".join((told.out + told.err).split())), told.out + told.err
    assert "Traceback" not in told.err
    assert stamps(place) == before
    assert not (place / "run.run").exists()


def _found(words: str, text: str) -> bool:
    return re.search(words, text) is not None


def test_run_streams_exit_code_and_the_run_folder(place):
    file = configuration(place, values_of(place))
    done = subprocess.run([SCRIPT, "run", file, "--json"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["state"], found["blocks"]["done"]) == ("done", 6)
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert any("127.0.0.1" in json.dumps(e) for e in events)
    assert {f.name for f in (place / "run.run").iterdir()} == {*FILES, "logs"} - {
        "report.html",
        "resolved.json",
    }  # Cascade decides nothing by machine
    again = subprocess.run([SCRIPT, "run", place / "run.run", "--quiet"], capture_output=True, text=True, timeout=120, check=False)
    assert (again.returncode, again.stdout) == (0, "")  # a run folder is as good as its configuration


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_it_plans_ends_with_3(place, number):
    """Slow inputs are read before any driver listens; here a checkpoint whose bytes never come."""
    os.mkfifo(place / "model" / "Model_NoiseLevel_4_Ensemble_0.safetensors")
    process = subprocess.Popen([SCRIPT, "run", configuration(place, values_of(place))], stderr=subprocess.PIPE, text=True)
    with open(place / "model" / "Model_NoiseLevel_4_Ensemble_0.safetensors", "w"):  # returns when the command has opened it
        process.send_signal(number)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 3, told
    assert "Traceback" not in told


def test_an_interrupt_before_anybody_listens_ends_with_3(monkeypatch):
    def pressed():
        raise KeyboardInterrupt

    monkeypatch.setattr("blockwise.cli._interruptible", pressed)
    assert blockwise("run", "run.toml").code == 3


def test_ctrl_c_in_a_run_drains_ends_with_3_and_the_next_goes_on(place):
    np.save(place / "rec.npy", traces(40, 6000))
    file = configuration(place, values_of(place, blocks={"shape": [1, 500]}))
    process = subprocess.Popen([SCRIPT, "run", file], stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if '"blocks_done"' in line and '"cascade"' in line:
            break
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 3, told
    found = blockwise("status", place / "run.run", "--json").json
    assert found["state"] == "interrupted"
    assert 0 < found["blocks"]["done"] < 480
    ended = blockwise("run", file, "--json", "--quiet")
    assert (ended.code, ended.json["blocks"]["done"]) == (0, 480)
    assert ended.json["blocks"]["executed"] < 480 + 40


def test_overrides_and_unknown_keys(place):
    file = configuration(place, values_of(place))
    assert "4 x 300" in blockwise("plan", file, "--pilot", 0, "--set", "blocks.shape=[4,300]").out
    told = blockwise("plan", file, "--set", "blocks.shap=[4,300]")
    assert (told.code, "did you mean 'shape'" in told.err) == (2, True)
    assert not RunFolder(place / "run.run").path.exists()
