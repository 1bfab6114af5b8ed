"""Which GPUs are visible, who gets which, and what is said where there is none. Ids are made up: this needs no GPU."""

import os
import signal
import sys

import pytest

from blockwise.cluster import devices, open_cluster
from blockwise.cluster.address import AddressWorkers
from blockwise.cluster.context import RunContext
from blockwise.cluster.devices import Placement, device_of, listed, parse_list, place, visible_devices
from blockwise.cluster.local import LocalWorkers
from blockwise.cluster.preview import preview
from blockwise.config import ClusterConfig
from blockwise.errors import ConfigError
from tests.test_pipeline import wait_until

UUID, SLICE = "GPU-8f6d3e1a-0b1c-4d5e-9f00-112233445566", "MIG-c7384736-a75d-5afc-978f-d2f1294409fd"


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("0,1", ("0", "1")),
        (" 3 , 0 ", ("3", "0")),
        (f"{UUID},{SLICE}", (UUID, SLICE)),
        ("MIG-GPU-8f6d3e1a/7/0", ("MIG-GPU-8f6d3e1a/7/0",)),
        ("0,-1,1", ("0",)),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
    ],
)
def test_the_environment_lists_devices_as_cuda_reads_it(text, ids):
    assert listed(text) == visible_devices({"CUDA_VISIBLE_DEVICES": text}) == ids


def test_slices_stand_for_the_gpu_they_are_cut_from():
    answer = (
        f"GPU 0: NVIDIA A100 (UUID: {UUID})\n  MIG 3g.20gb Device 0: (UUID: {SLICE})\n"
        "  MIG 3g.20gb Device 1: (UUID: MIG-two)\nGPU 1: NVIDIA A100 (UUID: GPU-aa)\n"
    )
    assert parse_list(answer) == (SLICE, "MIG-two", "GPU-aa")


def test_a_machine_without_device_files_has_none(monkeypatch):
    monkeypatch.setattr(devices, "cuda_possible", lambda: False)
    assert visible_devices({}) == ()


def test_nvidia_smi_is_asked_where_the_environment_says_nothing(monkeypatch, tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text(f'#!/bin/sh\necho "GPU 0: NVIDIA (UUID: {UUID})"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(devices, "cuda_possible", lambda: True)
    assert visible_devices({}) == (UUID,)


# --- who gets which


@pytest.fixture
def gpus(monkeypatch):
    """Lets torch see what CUDA_VISIBLE_DEVICES names."""

    def see(text):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
        monkeypatch.setattr(devices, "sees_cuda", lambda: bool(listed(text)))

    return see


@pytest.mark.parametrize(
    ("asked", "workers", "ids"),
    [
        ({}, 3, ("4", UUID, SLICE)),
        ({"gpus": 2}, 2, ("4", UUID)),
        ({"workers": 2}, 2, ("4", UUID, SLICE)),
        ({"gpus": 1, "workers": 4}, 4, ("4",)),
        ({"device": "cuda:1"}, 1, (UUID,)),
        ({"device": "cuda"}, 3, ("4", UUID, SLICE)),
    ],
)
def test_there_is_a_worker_per_gpu_unless_told(gpus, asked, workers, ids):
    gpus(f"4,{UUID},{SLICE}")
    placed = place(ClusterConfig(**asked))
    assert (placed.workers, placed.device, placed.ids, placed.note) == (workers, "cuda", ids, "")
    assert [placed.environment(n) for n in range(workers)] == [{"CUDA_VISIBLE_DEVICES": ids[n % len(ids)]} for n in range(workers)]


@pytest.mark.parametrize(
    ("visible", "asked", "said"),
    [
        ("", {"device": "cuda"}, "CUDA_VISIBLE_DEVICES=''; set device = \"cpu\""),
        ("0,1", {"gpus": 3}, "gpus = 3, and 2 are to be had here"),
        ("0,1", {"device": "cuda:2"}, "2 GPUs are visible"),
        ("0,1", {"device": "cuda:x"}, "2 GPUs are visible"),
    ],
)
def test_a_gpu_that_is_not_there_is_refused(gpus, visible, asked, said):
    gpus(visible)
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        place(ClusterConfig(**asked))


def test_on_the_cpu_no_worker_gets_a_gpu(gpus):
    gpus("0,1")
    assert place(ClusterConfig(device="cpu", workers=2)) == Placement(2, "cpu")


@pytest.mark.parametrize(("possible", "visible", "noted"), [(True, "0", True), (True, "", False), (False, "0", False)])
def test_auto_says_when_it_falls_to_the_cpu(gpus, monkeypatch, possible, visible, noted):
    gpus("")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(devices, "cuda_possible", lambda: possible)
    placed = place(ClusterConfig(workers=1))
    assert placed.device == "cpu"
    assert ("takes the CPU, though this machine has the files of a GPU" in placed.note) == (noted and sys.platform.startswith("linux"))


@pytest.mark.parametrize(
    ("asked", "device"), [({"gpus": 2}, "cuda"), ({}, "cpu"), ({"device": "cuda"}, "cuda"), ({"device": "cpu"}, "cpu")]
)
def test_jobs_have_what_they_ask_for_whatever_is_here(gpus, asked, device):
    gpus("")
    assert device_of(ClusterConfig(kind="slurm", **asked)) == device


def test_a_plan_counts_a_worker_per_gpu_and_names_them(gpus):
    gpus(f"4,{UUID}")
    found = preview(ClusterConfig(), "", None)
    assert (found.workers, found.details, found.device) == (2, {"GPUs": f"4, {UUID}"}, "cuda")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the files of a GPU are looked for on Linux")
def test_a_run_tells_that_auto_fell_to_the_cpu(gpus, monkeypatch, tmp_path):
    gpus("0")
    monkeypatch.setattr(devices, "sees_cuda", lambda: False)
    monkeypatch.setattr(devices, "cuda_possible", lambda: True)
    told = []
    open_cluster(ClusterConfig(workers=1), RunContext("r", tmp_path, tell=lambda *said: told.append(said)))
    ((sentence, level),) = told
    assert "takes the CPU" in sentence
    assert level == "warning"


# --- real workers


def environments(workers):
    """Process and GPU of every worker by name; those that die meanwhile are left out."""

    def own(dask_worker):
        return dask_worker.name, (os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES"))

    return dict(workers.client.run(own, on_error="ignore").values())


def test_every_worker_sees_one_gpu_and_the_same_after_it_died(gpus):
    gpus(f"{UUID},7")
    with LocalWorkers(ClusterConfig()) as workers:
        before = environments(workers)
        assert (workers.workers, workers.device, {n: id for n, (_, id) in before.items()}) == (2, "cuda", {0: UUID, 1: "7"})
        os.kill(before[1][0], signal.SIGKILL)
        wait_until(lambda: len(now := environments(workers)) == 2 and now[1][0] != before[1][0])
        assert environments(workers)[1][1] == "7"


def test_auto_at_an_address_is_what_all_workers_see():
    with LocalWorkers(ClusterConfig(workers=2, device="cpu")) as workers:
        config = ClusterConfig(kind="address", address=workers.client.scheduler.address)
        for seeing, device in (([], "cpu"), ([0, 1], "cuda")):
            _let_see(workers, seeing)
            with AddressWorkers(config) as found:
                assert found.device == device
        _let_see(workers, [1])
        with pytest.raises(ConfigError, match=r"1 of 2 workers at .* see a GPU"), AddressWorkers(config):
            pass


def _let_see(workers, names):
    """Let these workers believe that torch sees a GPU."""

    def believe(dask_worker):
        from blockwise import gpu

        seeing = dask_worker.name in names
        gpu.sees_cuda = lambda: seeing

    workers.client.run(believe)
