"""Workers on another machine, which is a network namespace here: a cable pulled for a while or for good, and workers of another version.

Nothing is lost, nothing counts twice, no block is blamed, and the run ends with 0.
"""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from blockwise._version import __version__
from blockwise.cluster import address
from blockwise.config import ClusterConfig, FolderConfig, RunConfig
from blockwise.errors import BlockwiseError
from blockwise.events import BlocksDone
from blockwise.run import run_task
from blockwise.testing import Faulty, run_serially
from tests.chaos.elsewhere import ROOT, Elsewhere
from tests.chaos.gates import GatedTask, wait_for
from tests.cluster import line, map_task

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]

BLOCKS = 200
PAUSE_S = 0.1
OUTAGE_S = 12
"""The timeout of both sides here; Dask takes no less than 11 s."""
IN_FLIGHT = 40
"""Most blocks in the leases of a worker that is cut off."""


class Cable:
    """A network namespace and the cable to it."""

    def __init__(self) -> None:
        self.name, self.ours, self.theirs = f"bw{os.getpid()}", "10.213.77.1", "10.213.77.2"
        self.link = f"bwl{os.getpid()}"

    def make(self) -> None:
        _ip("netns", "add", self.name)
        _ip("link", "add", self.link, "type", "veth", "peer", "name", "eth", "netns", self.name)
        _ip("address", "add", f"{self.ours}/24", "dev", self.link)
        _ip("-n", self.name, "address", "add", f"{self.theirs}/24", "dev", "eth")
        for device in ("eth", "lo"):
            _ip("-n", self.name, "link", "set", device, "up")
        self.plug()

    def plug(self) -> None:
        _ip("link", "set", self.link, "up")

    def pull(self) -> None:
        _ip("link", "set", self.link, "down")

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "delete", self.name], capture_output=True, check=False)
        subprocess.run(["ip", "link", "delete", self.link], capture_output=True, check=False)

    @property
    def inside(self) -> tuple[str, ...]:
        """What runs a command on the other end."""
        return ("ip", "netns", "exec", self.name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, check=True, text=True)


@pytest.fixture
def cable() -> Iterator[Cable]:
    if shutil.which("ip") is None:
        lacks = "ip (Debian and Ubuntu: iproute2) is not installed"
        pytest.fail(lacks) if os.environ.get("BLOCKWISE_REQUIRE_SERVICES") else pytest.skip(lacks)
    found = Cable()
    try:
        found.make()
    except subprocess.CalledProcessError as error:
        found.remove()
        pytest.skip(f"this user or container may not make a network namespace: {error.stderr.strip()}")
    yield found
    found.remove()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("count", "dask", "gates"):
        (tmp_path / name).mkdir()
    return tmp_path


def computed(place: Path) -> list[int]:
    sizes = {int(f.name): f.stat().st_size for f in (place / "count").iterdir()}
    return [sizes.get(i, 0) for i in range(BLOCKS)]


def chunks(output: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in output.rglob("c.*") if not f.name.endswith(".__lock")}


def run_at(place: Path, address: str, task, subscribers=()):
    cluster = ClusterConfig(kind="address", address=address, device="cpu")
    return run_task(task, RunConfig(task="map", cluster=cluster, run=FolderConfig(folder=str(place / "run"))), subscribers=subscribers)


def at_block(place: Path, count: int, do) -> threading.Thread:
    """A thread that does something once so many blocks were computed."""

    def wait() -> None:
        wait_for(lambda: sum(computed(place)) >= count, 120)
        do()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize("long", [False, True], ids=["shorter than the timeout", "longer than the timeout"])
def test_a_pulled_cable_costs_no_block(place, cable, monkeypatch, long):
    monkeypatch.setattr(address, "NETWORK_S", OUTAGE_S)
    run_serially(map_task(place / "calm", BLOCKS))
    with Elsewhere(place / "dask", {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": f"{OUTAGE_S}s", "PYTHONPATH": str(ROOT)}) as dask:
        dask.scheduler(cable.ours)
        dask.worker()
        far = dask.worker(before=cable.inside)
        wait_for_workers(dask.address, 2)
        pause = threading.Event()

        def outage() -> None:
            cable.pull()
            if long:
                wait_for(lambda: far.poll() is not None, 90)  # Dask ends a worker for good that has lost its scheduler
            else:
                pause.wait(OUTAGE_S / 3)
            cable.plug()
            if long:
                dask.worker(before=cable.inside)  # as the keeper of a cluster does

        thread = at_block(place, BLOCKS // 10, outage)
        outcome = run_at(place, dask.address, map_task(place, BLOCKS, Faulty({}, str(place / "count"), pause_s=PAUSE_S)))
        thread.join(120)
        assert (outcome.exit_code, outcome.status.blocks.done, outcome.status.blocks.failed) == (0, BLOCKS, 0), dask.said()
        assert (far.poll() is not None) == long
    times = computed(place)
    assert min(times) == 1
    assert sum(times) <= BLOCKS + (IN_FLIGHT if long else 0), "an outage that both sides bear costs nothing"
    assert chunks(place / "out.zarr") == chunks(place / "calm" / "out.zarr")


def wait_for_workers(address: str, count: int) -> None:
    from distributed import Client

    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(count, timeout=90)


@pytest.fixture
def other_version(tmp_path: Path) -> dict[str, str]:
    """Environment in which another version of blockwise is installed."""
    shutil.copytree(ROOT / "blockwise", tmp_path / "other" / "blockwise")
    (tmp_path / "other" / "blockwise" / "_version.py").write_text('__version__ = "0.0.1"\n')
    return {"PYTHONPATH": str(tmp_path / "other")}


def test_workers_of_another_version_get_no_lease(place, other_version):
    """One that is there refuses the stage; one that comes later is sent away, and the run ends with the others."""
    with Elsewhere(place / "dask", {"PYTHONPATH": str(ROOT)}) as dask:
        dask.scheduler()
        stranger = dask.worker(environment=other_version)
        wait_for_workers(dask.address, 1)
        with pytest.raises(BlockwiseError, match=rf"has blockwise 0\.0\.1, this driver blockwise {__version__}: install the same version"):
            run_at(place, dask.address, map_task(place, BLOCKS, Faulty({}, str(place / "count"))))
        assert sum(computed(place)) == 0
        stranger.kill()
        dask.worker()
        wait_for_workers(dask.address, 1)
        task = GatedTask(
            str(place / "out.zarr"),
            line(BLOCKS),
            map_task(place, BLOCKS).spec(),
            Faulty({}, str(place / "count")),
            block=BLOCKS // 2,
            point="compute",
            gates=place / "gates",
        )
        late = []

        def come(event) -> None:
            if isinstance(event, BlocksDone) and not late:
                late.append(dask.worker(environment=other_version))

        def let_go() -> None:
            wait_for(lambda: bool(late) and late[0].poll() is not None, 50)
            task.gate.open()

        thread = threading.Thread(target=let_go)
        thread.start()
        said = []
        outcome = run_at(place, dask.address, task, [come, said.append])
        thread.join(60)
        assert late[0].poll() is not None, dask.said()
    assert (outcome.exit_code, outcome.status.blocks.done) == (0, BLOCKS)
    assert computed(place) == [1] * BLOCKS
    assert any("it has blockwise 0.0.1, the driver has" in getattr(e, "text", "") for e in said)
