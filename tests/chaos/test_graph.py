"""kill -9 of the driver and of workers while two stages are at work: the same bytes, and nothing that was marked is computed again."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from blockwise.grid import Grid
from blockwise.ledger import open_ledger
from blockwise.testing import run_serially
from blockwise.upkeep import status
from tests.chaos.light_graph import light_graph
from tests.chaos.test_kills import IN_FLIGHT, ROOT, chunks, wait_for, workers_of
from tests.two_stages import stored, whole

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

STAGES = ("first", "second")
KILLS = 4


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> dict[str, bytes]:
    """Chunk files of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("calm")
    run_serially(light_graph(folder))
    return chunks(folder)


@pytest.fixture
def start(tmp_path) -> Iterator:
    """Starts the run; what is left of it does not outlive the test."""
    started: list[subprocess.Popen[bytes]] = []
    light_graph(tmp_path)

    def go() -> "subprocess.Popen[bytes]":
        started.append(subprocess.Popen([sys.executable, "-m", "tests.chaos.light_graph", str(tmp_path)], cwd=ROOT, start_new_session=True))
        return started[-1]

    yield go
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


def stages(folder: Path) -> list:
    return list(light_graph(folder).stages())


def counted(folder: Path) -> list[np.ndarray]:
    """How often each block of each stage was computed."""
    sizes = [{int(f.name): f.stat().st_size for f in (folder / name).iterdir()} for name in STAGES]
    grids = [Grid(s.domains(), s.spec()) for s in stages(folder)]
    return [np.array([found.get(id, 0) for id in range(len(grid))]) for found, grid in zip(sizes, grids, strict=True)]


def marked(folder: Path) -> list[np.ndarray]:
    """Which blocks of each stage the ledger calls done."""
    grids = [Grid(s.domains(), s.spec()) for s in stages(folder)]
    found = [np.zeros(len(grid), bool) for grid in grids]
    if not (path := folder / "run" / "ledger.sqlite").exists():
        return found
    ledger = open_ledger(path)
    for name, grid, done in zip(STAGES, grids, found, strict=True):
        for first, domain in zip(grid.starts, grid.domains, strict=False):
            for _, bits in ledger.pages(name, domain.digest):
                done[np.flatnonzero(bits) + first] = True
    ledger.close()
    return found


def test_a_killed_driver_goes_on_with_both_stages(tmp_path, calm, start):
    dice, begun = random.Random(0), [0, 0]
    for kill in range(KILLS):
        run, target = start(), (kill + dice.random()) / KILLS
        wait_for(lambda run=run, target=target: (counted(tmp_path)[1] > 0).mean() >= target or run.poll() is not None)
        workers = workers_of(run)
        run.kill()
        run.wait(30)
        assert wait_for(lambda workers=workers: not any(w.is_running() for w in workers), 10)
        done, times = marked(tmp_path), counted(tmp_path)
        assert all((t[d] >= 1).all() for t, d in zip(times, done, strict=True))
        assert [int(d.sum()) >= b for d, b in zip(done, begun, strict=True)] == [True, True], "marks were lost"
        begun = [int(d.sum()) for d in done]
    done, times = marked(tmp_path), counted(tmp_path)
    assert start().wait(200) == 0
    for before, marks, after in zip(times, done, counted(tmp_path), strict=True):
        assert (after[marks] == before[marks]).all(), "marked blocks were computed again"
        assert (after[~marks] == before[~marks] + 1).all(), "unmarked blocks were not computed once more"
        assert after.sum() <= len(after) + KILLS * IN_FLIGHT
    assert chunks(tmp_path) == calm
    task = light_graph(tmp_path)
    assert np.array_equal(stored(tmp_path, task), whole(task))


def test_killed_workers_cost_no_block_of_either_stage(tmp_path, calm, start):
    dice, run = random.Random(1), start()
    for kill in range(KILLS):
        wait_for(lambda kill=kill: (counted(tmp_path)[1] > 0).mean() >= (kill + 0.5) / (KILLS + 1) or run.poll() is not None)
        if workers := workers_of(run):
            dice.choice(workers).kill()
    assert run.wait(200) == 0
    assert chunks(tmp_path) == calm
    assert [(s.state, s.blocks.failed, s.blocks.orphans) for s in status(tmp_path / "run").stages] == [("done", 0, 0)] * 2
