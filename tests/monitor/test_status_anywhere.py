"""`blockwise status` needs nothing but the run folder: on another machine, from a copy, without the right to write, without a driver."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.monitor.test_page_in_browser import Run, running
from tests.monitor.watched_run import BLOCKS, FIRST_GATE, watched
from tests.runs import stamps
from tests.waiting import until

ASK = "from blockwise.cli import main; main()"
ELSEWHERE = f"import platform; platform.node = lambda: 'another-machine'; {ASK}"
WATCHED = """
import json, os, sys
import blockwise.upkeep, blockwise.monitor.text
from blockwise.cli import main

touched = []

def note(event, about):
    if event == "open" and isinstance(about[0], str) and (about[2] & (os.O_WRONLY | os.O_RDWR) or about[0].startswith(sys.argv[-1])):
        touched.append([event, about[0], bool(about[2] & (os.O_WRONLY | os.O_RDWR))])
    elif event.startswith(("socket.connect", "socket.bind", "subprocess", "sqlite3", "os.remove", "os.rename", "os.mkdir", "os.utime")):
        touched.append([event, repr(about), True])

sys.addaudithook(note)
try:
    main()
finally:
    print(json.dumps(touched), file=sys.stderr)
"""


def ask(folder: Path, program: str = ASK, *, before: tuple[str, ...] = ()) -> tuple[dict[str, Any], str]:
    """What `blockwise status FOLDER --json` says in a process of its own, and its stderr."""
    command = [*before, sys.executable, "-c", program, "status", "--json", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd="/")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def live(tmp_path_factory) -> Any:
    """A run that stands at its first gate; the last test kills its driver."""
    with running(tmp_path_factory.mktemp("live")) as run:
        until(lambda: ask_file(run)["blocks"]["done"] == FIRST_GATE - 1, 60)
        yield run


def ask_file(run: Run) -> dict[str, Any]:
    file = run.folder / "run" / "status.json"
    return json.loads(file.read_text()) if file.exists() else {"blocks": {"done": 0}}


@pytest.mark.parametrize("program", [ASK, ELSEWHERE], ids=["here", "on another machine"])
def test_a_run_whose_driver_lives(live, program):
    found, said = ask(live.folder / "run", program)
    assert (found["state"], found["blocks"]["done"], len(found["workers"])) == ("running", FIRST_GATE - 1, 2)
    assert found["failures"][0]["error"] == "ValueError: section 7 has no contrast"
    assert said == ""


def test_a_copy_of_a_run_that_goes_on_does_not_move(live, tmp_path):
    shutil.copytree(live.folder / "run", tmp_path / "copy")
    found, _ = ask(tmp_path / "copy")
    assert (found["state"], found["blocks"]["done"], found["workers"]) == ("interrupted", FIRST_GATE - 1, [])
    assert found["message"] == f"the driver of {live.folder / 'run'} is gone, or this is a copy of that folder, made while it ran"


def test_a_run_whose_driver_was_killed(live):
    live.process.kill()
    live.process.wait(30)
    here, elsewhere = (ask(live.folder / "run", program)[0] for program in (ASK, ELSEWHERE))
    assert here == elsewhere
    assert (here["state"], here["message"]) == ("interrupted", "the driver is gone; run again to go on")
    assert (here["blocks"]["done"], here["blocks"]["total"], here["page"]) == (FIRST_GATE - 1, BLOCKS, "")


# A run that is over


@pytest.fixture(scope="module")
def over(tmp_path_factory) -> Path:
    """The folder of a run that is done; its output is gone, and its ledger is on a server that nobody reaches."""
    from blockwise.testing import ramp, run_in

    place = tmp_path_factory.mktemp("over")
    run_in(place / "run", watched(place, ramp), workers=1)
    shutil.rmtree(place / "out.zarr")
    (place / "run" / "ledger.sqlite").unlink()
    config = place / "run" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "ledger": {"url": "mongodb://192.0.2.1:1/blockwise"}}))
    return place / "run"


def test_nothing_but_the_folder_is_touched_and_nothing_is_written(over):
    before = stamps(over)
    found, touched = ask(over, WATCHED)
    assert (found["state"], found["blocks"]["done"]) == ("done", BLOCKS)
    assert {(event, Path(name).name, written) for event, name, written in json.loads(touched)} == {("open", "status.json", False)}
    assert stamps(over) == before


def without_override() -> tuple[str, ...]:
    """What makes root obey the modes of files, too."""
    return ("setpriv", "--bounding-set", "-dac_override") if os.getuid() == 0 else ()


def test_a_folder_that_cannot_be_written(over, tmp_path):
    folder = tmp_path / "archive"
    shutil.copytree(over, folder)
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    write = [*without_override(), sys.executable, "-c", f"open({str(folder / 'x')!r}, 'w')"]
    assert subprocess.run(write, capture_output=True).returncode != 0
    assert ask(folder, before=without_override())[0]["state"] == "done"
    folder.chmod(0o755)


def test_a_copy_without_anything_beside_the_status(over, tmp_path):
    for name in ("run.json", "status.json"):
        shutil.copy(over / name, tmp_path)
    assert ask(tmp_path)[0] == ask(over)[0]
