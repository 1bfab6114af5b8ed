"""Clocks that jump and workers that stand still for a while: nothing is lost, nothing blamed, and no second driver gets in."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from blockwise.cluster import local
from blockwise.cluster.local import LocalWorkers
from blockwise.config import ClusterConfig
from blockwise.events import BlocksDone, WorkerLost
from blockwise.testing import Faulty, run_serially
from tests.chaos.gates import wait_for
from tests.chaos.light import BLOCKS, light
from tests.cluster import drive, map_task

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

ROOT = Path(__file__).resolve().parents[2]
HOUR_S = 3600
IN_FLIGHT = 120


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("calm")
    run_serially(light(folder))
    return chunks(folder)


def chunks(folder: Path) -> dict[str, bytes]:
    output = folder / "out.zarr"
    return {str(f.relative_to(output)): f.read_bytes() for f in output.rglob("c.*") if not f.name.endswith(".__lock")}


def computed(folder: Path) -> int:
    return sum(f.stat().st_size for f in (folder / "count").iterdir()) if (folder / "count").exists() else 0


@pytest.fixture
def jumpy(tmp_path) -> Iterator["Jumpy"]:
    run = Jumpy(tmp_path)
    yield run
    run.end()


class Jumpy:
    """A run of its own process whose clock can be set off."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.process = folder, None

    def start(self, everywhere: bool) -> None:
        environment = {**os.environ, **({"JUMP_ALL": "1"} if everywhere else {})}
        command = [sys.executable, "-m", "tests.chaos.jumpy", str(self.folder)]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, stderr=subprocess.PIPE)

    def set_off(self, seconds: float) -> None:
        (self.folder / "jump.new").write_text(str(seconds))
        (self.folder / "jump.new").rename(self.folder / "jump")

    def second(self) -> "subprocess.CompletedProcess[bytes]":
        """Another driver of the same run, whose clock is right."""
        command = [sys.executable, "-m", "tests.chaos.light", str(self.folder)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=100, check=False)

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)
        if self.process is not None:
            self.process.stderr.close()


@pytest.mark.parametrize("everywhere", [False, True], ids=["of the driver", "of all processes"])
@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S], ids=["forward", "backward"])
def test_a_clock_that_jumps_costs_nothing(jumpy, calm, seconds, everywhere):
    jumpy.start(everywhere)
    wait_for(lambda: computed(jumpy.folder) >= 50)
    jumpy.set_off(seconds)
    wait_for(lambda: computed(jumpy.folder) >= 100)
    if seconds > 0 and not everywhere:
        refused = jumpy.second()
        assert refused.returncode != 0
        assert b"is being driven by process" in refused.stderr
    assert jumpy.process.wait(120) == 0, jumpy.process.stderr.read()
    assert chunks(jumpy.folder) == calm
    state = json.loads((jumpy.folder / "run" / "status.json").read_text())
    assert (state["state"], state["blocks"]["done"], state["blocks"]["failed"]) == ("done", BLOCKS, 0)
    assert computed(jumpy.folder) <= BLOCKS + IN_FLIGHT
    assert 0 <= state["elapsed_s"] < HOUR_S / 2


def test_a_worker_that_stands_still_again_and_again_costs_nothing(tmp_path):
    """SIGSTOP and SIGCONT in turn, each shorter than what counts as dead: slow is not dead."""
    (tmp_path / "count").mkdir()
    with LocalWorkers(ClusterConfig(workers=2, device="cpu")) as workers:
        over, (slow, _) = threading.Event(), workers.client.run(os.getpid).values()

        def limp() -> None:
            while not over.is_set():
                for number in (signal.SIGSTOP, signal.SIGCONT):
                    os.kill(slow, number)
                    over.wait(0.3)
            os.kill(slow, signal.SIGCONT)

        thread = threading.Thread(target=limp)
        thread.start()
        run = drive(workers, tmp_path, map_task(tmp_path, 400, Faulty({}, str(tmp_path / "count"), pause_s=0.01)))
        over.set()
        thread.join(10)
    assert (run.state, run.books.done, run.attempts, run.told(WorkerLost)) == ("done", 400, [], [])
    assert {f.stat().st_size for f in (tmp_path / "count").iterdir()} == {1}


def test_a_worker_that_stands_still_for_good_is_replaced_and_may_wake_up_late(tmp_path, monkeypatch):
    """Dask ends it once it has been silent for its ttl; what it held is computed by others, once more."""
    settings = local.dask_settings
    monkeypatch.setattr(local, "dask_settings", lambda *a, **k: {**settings(*a, **k), "distributed.scheduler.worker-ttl": "2s"})
    (tmp_path / "count").mkdir()
    stopped: list[psutil.Process] = []
    with LocalWorkers(ClusterConfig(workers=2, device="cpu")) as workers:

        def stop(event, driver) -> None:
            if isinstance(event, BlocksDone) and not stopped:
                stopped.append(psutil.Process(next(iter(workers.client.run(os.getpid).values()))))
                stopped[0].suspend()

        run = drive(workers, tmp_path, map_task(tmp_path, 600, Faulty({}, str(tmp_path / "count"), pause_s=0.02)), on_event=stop)
    assert not stopped[0].is_running()
    assert (run.state, run.books.done, run.attempts) == ("done", 600, [])
    assert sum(f.stat().st_size for f in (tmp_path / "count").iterdir()) <= 600 + IN_FLIGHT
