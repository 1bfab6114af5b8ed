"""Disks that are full or become read-only, on a small file system of their own.

Nothing is marked that is not there, no block is blamed for the disk, and the same command goes on once the cause is gone.
"""

import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from blockwise import desk
from blockwise.errors import BlockwiseError
from blockwise.events import BlocksDone, Message
from blockwise.geometry import Domain
from blockwise.grid import GridSpec
from blockwise.testing import Faulty, MapTask, run_in, run_serially
from tests.chaos.gates import wait_for
from tests.cluster import workers  # noqa: F401

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

BLOCKS = 20
SIDE = 16_384
"""Voxels of a block: 131 kB of incompressible integers."""
DISK_BYTES = 3 << 20


@pytest.fixture(autouse=True)
def on_shared_workers(workers, monkeypatch):  # noqa: F811
    monkeypatch.setattr("blockwise.run.open_cluster", lambda config, *more: nullcontext(workers))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user or container may not mount a file system")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def noise(block):
    """Integers that no codec makes smaller."""
    import numpy as np

    return np.random.default_rng(block.id).integers(1, 2**62, block.core.shape)


class CountedNoise(Faulty):
    """`noise`, counted."""

    def __call__(self, block):
        super().__call__(block)
        return noise(block)


def task_on(place: Path, count: Path, blocks: int = BLOCKS) -> MapTask:
    count.mkdir(exist_ok=True)
    return MapTask(str(place / "out.zarr"), [Domain("line", ("x",), (blocks * SIDE,))], GridSpec((SIDE,)), CountedNoise({}, str(count)))


def chunks(place: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in (place / "out.zarr").rglob("c.*") if not f.name.endswith(".__lock")}


def calm(tmp_path: Path, blocks: int = BLOCKS) -> dict[str, bytes]:
    """Chunks of a run on a disk with room."""
    run_serially(task_on(tmp_path / "calm", tmp_path / "calm-count", blocks))
    return chunks(tmp_path / "calm")


def remount(disk: Path, how: str) -> bool:
    return not subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], capture_output=True, check=False).returncode


def when_told(words: str, do: Callable[[], None]) -> Callable[[object], None]:
    """A subscriber that does something at the first message with these words."""
    done = []

    def subscriber(event: object) -> None:
        if isinstance(event, Message) and re.search(words, event.text) and not done:
            done.append(event)
            do()

    return subscriber


@pytest.mark.parametrize("ledger", ["elsewhere", "there too"])
def test_a_full_disk_is_waited_for(tmp_path, disk, monkeypatch, ledger):
    """There is room for 11 of 14 blocks until the run has said that it waits."""
    monkeypatch.setattr(desk, "DISK_PAUSES_S", (0.2,) * 100)
    blocks = 14
    filler = disk / "filler"
    filler.write_bytes(bytes(DISK_BYTES // 2))
    run = (disk if ledger == "there too" else tmp_path) / "run"
    task = task_on(disk, tmp_path / "count", blocks)
    monkeypatch.setattr("blockwise.plan.free_bytes", lambda path: 1 << 40)  # the disk fills up after the plan
    outcome = run_in(run, task, subscribers=[when_told("disk is full", filler.unlink)])
    assert not filler.exists(), "the run never met a full disk"
    assert (outcome.exit_code, outcome.status.blocks.done, outcome.status.blocks.failed) == (0, blocks, 0)
    assert chunks(disk) == calm(tmp_path, blocks)


def test_a_disk_that_stays_full_stops_the_run_which_then_goes_on(tmp_path, disk, monkeypatch):
    monkeypatch.setattr(desk, "DISK_PAUSES_S", (0.1, 0.1))
    monkeypatch.setattr("blockwise.plan.free_bytes", lambda path: 1 << 40)
    filler = disk / "filler"
    filler.write_bytes(bytes(2 * DISK_BYTES // 3))
    stopped = run_in(tmp_path / "run", task_on(disk, tmp_path / "count"))
    assert (stopped.exit_code, stopped.state, stopped.status.blocks.failed) == (3, "interrupted", 0)
    assert 0 < stopped.status.blocks.done < BLOCKS
    filler.unlink()
    outcome = run_in(tmp_path / "run", task_on(disk, tmp_path / "count"))
    assert (outcome.exit_code, outcome.status.blocks.done) == (0, BLOCKS)
    assert chunks(disk) == calm(tmp_path)


def test_an_output_that_becomes_read_only_stops_the_run_and_blames_no_block(tmp_path, disk, monkeypatch):
    monkeypatch.setattr(desk, "DISK_PAUSES_S", (0.1, 0.1))
    task = task_on(disk, tmp_path / "count")
    task.function.pause_s = 0.05
    locked = threading.Event()

    def lock(event: object) -> None:
        if isinstance(event, BlocksDone) and not locked.is_set():
            locked.set()
            wait_for(lambda: remount(disk, "ro"))  # a file may be open

    stopped = run_in(tmp_path / "run", task, subscribers=[lock])
    assert remount(disk, "rw")
    assert (stopped.exit_code, stopped.state, stopped.status.blocks.failed) == (3, "interrupted", 0)
    assert 0 < stopped.status.blocks.done < BLOCKS
    outcome = run_in(tmp_path / "run", task)
    assert (outcome.exit_code, outcome.status.blocks.done) == (0, BLOCKS)
    assert chunks(disk) == calm(tmp_path)


def test_a_read_only_place_is_refused_before_anything_is_made(tmp_path, disk):
    assert remount(disk, "ro")
    with pytest.raises(BlockwiseError, match="mounted read-only"):
        run_in(tmp_path / "run", task_on(disk, tmp_path / "count", 4))
    assert not (tmp_path / "run").exists()
