"""Workers as docs/howto/address.md has them started, by its own commands; a run on them through the command line."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.chaos.gates import wait_for
from tests.runs import blockwise, configuration, traces

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "howto" / "address.md"


def commands() -> list[tuple[dict[str, str], list[str]]]:
    """Environment and words of each command that starts a part of a cluster in the page."""
    found = []
    for fence in re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), re.M | re.S):
        *exports, command = fence.strip().splitlines()
        found.append((dict(e.removeprefix("export ").split("=", 1) for e in exports), shlex.split(command)))
    return found


@pytest.fixture
def started(tmp_path) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Address of a scheduler and the process of a worker, both started by the page's commands; ports of their own."""
    (scheduler_env, scheduler), (worker_env, worker) = commands()
    file = tmp_path / "scheduler.json"
    scheduler = [{"10.0.0.1": "127.0.0.1", "8786": "0", "127.0.0.1:8787": "127.0.0.1:0"}.get(w, w) for w in scheduler]
    processes = [start(tmp_path, scheduler_env, [*scheduler, "--scheduler-file", str(file)])]
    try:
        wait_for(file.exists, 60)
        (address,) = re.findall(r"tcp://127\.0\.0\.1:\d+", file.read_text())[:1]
        worker = [address if w == "tcp://10.0.0.1:8786" else w for w in worker]
        processes.append(start(tmp_path, worker_env, [*worker, "--local-directory", str(tmp_path)]))
        yield address, processes[1]
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait(30)


def start(folder: Path, environment: dict[str, str], command: list[str]) -> "subprocess.Popen[bytes]":
    assert command[0] == "dask"
    with (folder / f"{command[1]}.log").open("wb") as log:
        whole = [sys.executable, "-m", *command]
        return subprocess.Popen(whole, cwd=ROOT, env={**os.environ, **environment}, stdout=log, stderr=log, start_new_session=True)


def test_a_run_on_workers_that_were_started_by_hand(tmp_path, started):
    from distributed import Client

    from tests.cascade.random_model import write_model

    address, _ = started
    write_model(tmp_path / "model")
    np.save(tmp_path / "rec.npy", traces())
    cluster = {"kind": "address", "address": address, "device": "cpu"}
    about = {"input": {"path": str(tmp_path / "rec.npy"), "frame_rate": 30.0}, "model": {"path": str(tmp_path / "model")}}
    file = configuration(tmp_path, {**about, "cluster": cluster})
    called = blockwise("run", file, "--json")
    assert (called.code, called.json["blocks"]["failed"], called.json["state"]) == (0, 0, "done"), called.err
    with Client(address, set_as_default=False) as client:
        assert list(client.nthreads().values()) == [3]
        assert client.scheduler_info()["workers"], "the cluster goes on after a run"
        told = client.run(settled)
    assert set(told.values()) == {(True, "1", False)}


def settled(dask_worker):
    """What the settings of the page have made of a worker: its preload ran, one compute thread, no stealing of memory to disk."""
    import dask

    return (
        "blockwise-trim" in dask_worker.periodic_callbacks,
        os.environ["OMP_NUM_THREADS"],
        dask.config.get("distributed.worker.memory.spill"),
    )
