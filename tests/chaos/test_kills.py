"""kill -9 of workers and of the driver at ten random points each, Ctrl-C, and an overlap of two runs: what comes out is what a quiet
run leaves, and nothing that was marked is computed again."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from blockwise.grid import Grid
from blockwise.ledger import open_ledger
from blockwise.storage import OutputArray
from blockwise.testing import run_serially
from blockwise.upkeep import status
from tests.chaos.light import BLOCKS, light

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
KILLS = 10
IN_FLIGHT = 120
"""Most blocks that two workers hold at once, with what a ledger has not yet committed: a tenth of a second of a light task."""


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> dict[str, bytes]:
    """Chunk files of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("calm")
    run_serially(light(folder))
    return chunks(folder)


def chunks(folder: Path) -> dict[str, bytes]:
    output = folder / "out.zarr"
    return {str(f.relative_to(output)): f.read_bytes() for f in output.rglob("c.*") if not f.name.endswith(".__lock")}


def start(folder: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "tests.chaos.light", str(folder)], cwd=ROOT, start_new_session=True)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def counted(folder: Path) -> np.ndarray:
    """How often each block was computed."""
    count = light(folder).function.attempts
    return np.array([count(id) for id in range(BLOCKS)])


def marked(folder: Path) -> np.ndarray:
    """Which blocks the ledger calls done."""
    task = light(folder)
    grid = Grid(task.domains(), task.spec())
    path = folder / "run" / "ledger.sqlite"
    done = np.zeros(BLOCKS, bool)
    if path.exists():
        ledger = open_ledger(path)
        for first, domain in zip(grid.starts, grid.domains, strict=False):
            for _, bits in ledger.pages(task.name, domain.digest):
                done[np.flatnonzero(bits) + first] = True
        ledger.close()
    return done


def workers_of(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    try:
        children = psutil.Process(process.pid).children(recursive=True)
        return [c for c in children if "spawn_main" in " ".join(c.cmdline())]
    except psutil.NoSuchProcess:
        return []


@pytest.fixture
def ended() -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Processes that must not outlive the test."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


def test_killed_drivers_lose_only_what_was_in_flight(tmp_path, calm, ended):
    dice, begun = random.Random(0), 0
    for _ in range(KILLS):
        before = int(counted(tmp_path).sum())
        ended.append(run := start(tmp_path))
        target = before + dice.randrange(1, BLOCKS // KILLS)
        wait_for(lambda run=run, target=target: counted(tmp_path).sum() >= target or run.poll() is not None)
        workers = workers_of(run)
        run.kill()
        run.wait(30)
        assert wait_for(lambda workers=workers: not any(w.is_running() for w in workers), 10), "workers outlived their driver"
        done, times = marked(tmp_path), counted(tmp_path)
        assert times[done].min(initial=1) >= 1
        assert (times > 0).sum() - done.sum() <= IN_FLIGHT
        assert status(tmp_path / "run").state in ("planned", "interrupted", "done")
        begun = max(begun, int(done.sum()))
        assert int(done.sum()) >= begun, "marks were lost"
    done, times = marked(tmp_path), counted(tmp_path)
    ended.append(run := start(tmp_path))
    assert run.wait(300) == 0
    assert (counted(tmp_path)[done] == times[done]).all(), "marked blocks were computed again"
    assert (counted(tmp_path)[~done] == times[~done] + 1).all(), "unmarked blocks were not computed once more"
    assert chunks(tmp_path) == calm
    assert counted(tmp_path).sum() <= BLOCKS + KILLS * IN_FLIGHT


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_driver_killed_at_a_commit_loses_at_most_that(tmp_path, calm, ended, when):
    """Before: data is durable and the marks are not, so it is computed again. After: nothing that was committed is."""
    command = [sys.executable, "-m", "tests.chaos.dying", str(tmp_path), when, "4"]
    ended.append(run := subprocess.Popen(command, cwd=ROOT, start_new_session=True))
    assert run.wait(120) == -signal.SIGKILL
    done, times = marked(tmp_path), counted(tmp_path)
    assert 0 < done.sum() < (times > 0).sum() if when == "before" else 0 < done.sum() <= (times > 0).sum()
    ended.append(run := start(tmp_path))
    assert run.wait(300) == 0
    assert (counted(tmp_path)[done] == times[done]).all(), "marked blocks were computed again"
    assert (counted(tmp_path)[~done] == times[~done] + 1).all(), "unmarked blocks were not computed once more"
    assert chunks(tmp_path) == calm


def test_killed_workers_cost_no_block(tmp_path, calm, ended):
    dice = random.Random(1)
    ended.append(run := start(tmp_path))
    for kill in range(KILLS):
        wait_for(lambda kill=kill: counted(tmp_path).sum() >= (kill + 0.5) * BLOCKS / (KILLS + 1) or run.poll() is not None)
        if workers := workers_of(run):
            dice.choice(workers).kill()
    assert run.wait(400) == 0
    assert chunks(tmp_path) == calm
    assert counted(tmp_path).sum() <= BLOCKS + KILLS * IN_FLIGHT
    assert status(tmp_path / "run").blocks.failed == 0


def test_ctrl_c_drains_and_the_next_run_ends_it(tmp_path, calm, ended):
    ended.append(run := start(tmp_path))
    wait_for(lambda: counted(tmp_path).sum() >= 50)
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait(60) == 3
    assert status(tmp_path / "run").state == "interrupted"
    assert marked(tmp_path).sum() == (counted(tmp_path) > 0).sum(), "a drained run marks all it computed"
    ended.append(run := start(tmp_path))
    assert run.wait(300) == 0
    assert (counted(tmp_path) == 1).all()
    assert chunks(tmp_path) == calm


def test_writers_of_the_same_blocks_at_once_do_no_harm(tmp_path, calm):
    """G4: the workers of a dead driver may write on while those of the next begin."""
    task = light(tmp_path)
    task.prepare()
    command = [sys.executable, "-c", f"from pathlib import Path; from blockwise.testing import run_serially; "
               f"from tests.chaos.light import light; run_serially(light(Path({str(tmp_path)!r})))"]  # fmt: skip
    writers = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
    assert [w.wait(200) for w in writers] == [0, 0]
    assert chunks(tmp_path) == calm
    assert OutputArray.open(str(tmp_path / "out.zarr"), "short").complete(light(tmp_path).domains()[1].region)
