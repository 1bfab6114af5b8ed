"""A run whose ledger is on a server: the server dies and comes back, stays away, or loses one of two drivers; secrets stay secret."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from blockwise.folder import RunFolder
from tests.chaos.test_kills import BLOCKS, IN_FLIGHT, ROOT, calm, chunks, counted, wait_for  # noqa: F401
from tests.ledger.conftest import own_server  # noqa: F401
from tests.services.mongodb import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PASSWORD = "pw-of-the-tests-7"


@pytest.fixture
def ended() -> Iterator[list["subprocess.Popen[str]"]]:
    """Drivers that are killed at the end of a test, if they still run."""
    running: list[subprocess.Popen[str]] = []
    yield running
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def login(tmp_path: Path) -> Path:
    file = tmp_path / "login.txt"
    file.write_text(f"eve\n{PASSWORD}\n")
    file.chmod(0o600)
    return file


def start(folder: Path, server: Server, *, login: Path | None = None, patience_s: float = 120) -> "subprocess.Popen[str]":
    """A driver; with `login`, as a user (FerretDB takes any, mongod none before users are made)."""
    secret = login is not None and server.program.name != "mongod"
    environment = {**os.environ, **({"BLOCKWISE_MONGODB_CREDENTIALS_FILE": str(login)} if secret else {})}
    url = f"{server.url}/db" + ("?authMechanism=PLAIN" if secret else "")
    command = [sys.executable, "-m", "tests.chaos.light_on_server", str(folder), url, str(patience_s)]
    output = (folder / "output.txt").open("a")
    with output:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output, text=True)


def said(folder: Path, words: str) -> int:
    """How often the log of the run has these words."""
    return (folder / "run" / "run.log").read_text().count(words)


def command_lines(process: "subprocess.Popen[str]") -> str:
    """What `ps` shows of a driver and its workers."""
    shown = []
    for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            shown += one.cmdline()
    return " ".join(shown)


def test_a_killed_server_pauses_the_run_and_costs_no_block(tmp_path, calm, ended, own_server, login):  # noqa: F811
    ended.append(run := start(tmp_path, own_server, login=login))
    for kill, target in enumerate((50, 250), 1):
        assert wait_for(lambda target=target: counted(tmp_path).sum() >= target or run.poll() is not None, 120)
        own_server.kill()
        assert wait_for(lambda kill=kill: said(tmp_path, "the run is paused") == kill, 60)
        assert wait_for(lambda: "the ledger has not answered" in RunFolder(tmp_path / "run").read_status().message, 60)
        assert PASSWORD not in command_lines(run)
        own_server.start()
        assert wait_for(lambda kill=kill: said(tmp_path, "the run goes on") == kill, 60)
    assert run.wait(200) == 0, (tmp_path / "output.txt").read_text()
    assert counted(tmp_path).tolist() == [1] * BLOCKS
    assert chunks(tmp_path) == calm
    leaks = [f for f in tmp_path.rglob("*") if f.is_file() and f != login and PASSWORD.encode() in f.read_bytes()]
    assert leaks == [], "the password is in files of the run"


def test_a_server_that_stays_away_ends_the_run_which_is_resumed(tmp_path, calm, ended, own_server):  # noqa: F811
    ended.append(run := start(tmp_path, own_server, patience_s=2))
    assert wait_for(lambda: counted(tmp_path).sum() >= 100 or run.poll() is not None, 120)
    own_server.kill()
    assert run.wait(120) == 3
    before = RunFolder(tmp_path / "run").read_status()
    assert (before.state, before.blocks.failed) == ("interrupted", 0)
    assert "check that the server runs and can be reached, then resume" in before.message
    assert "Traceback" not in (tmp_path / "output.txt").read_text()
    own_server.start()
    ended.append(run := start(tmp_path, own_server))
    assert run.wait(200) == 0
    times = counted(tmp_path)
    assert times.min() == 1
    assert times.sum() <= 2 * BLOCKS - before.blocks.done, "blocks that the server had acknowledged were computed again"
    assert chunks(tmp_path) == calm


def test_a_driver_that_dies_leaves_its_pages_to_the_other(tmp_path, calm, ended, own_server):  # noqa: F811
    RunFolder.make(tmp_path / "run")
    drivers = [start(tmp_path, own_server) for _ in range(2)]
    ended.extend(drivers)
    assert wait_for(lambda: counted(tmp_path)[:500].sum() >= 50 or all(d.poll() is not None for d in drivers), 120)
    drivers[0].kill()
    assert drivers[1].wait(200) == 0, (tmp_path / "output.txt").read_text()
    times = counted(tmp_path)
    assert times.min() >= 1
    assert times.sum() <= BLOCKS + IN_FLIGHT
    assert chunks(tmp_path) == calm


def test_two_signals_end_the_wait_for_a_server(tmp_path, ended, own_server):  # noqa: F811
    ended.append(run := start(tmp_path, own_server, patience_s=600))
    assert wait_for(lambda: counted(tmp_path).sum() >= 50 or run.poll() is not None, 120)
    own_server.kill()
    assert wait_for(lambda: said(tmp_path, "the run is paused") == 1, 60)
    for number in (signal.SIGINT, signal.SIGTERM):  # two of one number may arrive as one
        run.send_signal(number)
    assert run.wait(60) == 3
    assert "stopped while the ledger" in RunFolder(tmp_path / "run").read_status().message
