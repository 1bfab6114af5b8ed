"""What a worker says of its GPU; these machines have none, so what nvidia-smi says is given."""

import os
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts

from blockwise.gpu_use import GpuMeter, meter_of, parse, visible_device
from tests.waiting import until


@pytest.mark.parametrize(
    ("answer", "values"),
    [
        ("37, 12034, 81559\n", {"gpu": 0.37, "gpu_mb": 12618.6, "gpu_total_mb": 85520.8}),
        ("0, 0, 81559\n", {"gpu": 0.0, "gpu_mb": 0.0, "gpu_total_mb": 85520.8}),
        ("[N/A], 12034, 81559\n", {"gpu_mb": 12618.6, "gpu_total_mb": 85520.8}),
        ("[Not Supported], [Not Supported], [Not Supported]\n", {}),
        ("No devices were found\n", {}),
        ("", {}),
    ],
)
def test_what_nvidia_smi_says(answer, values):
    assert parse(answer) == pytest.approx(values, rel=1e-5)


@pytest.mark.parametrize(("ids", "device"), [(None, "0"), ("", None), ("3", "3"), ("GPU-5a, GPU-6b", "GPU-5a"), ("-1", "-1")])
def test_the_gpu_that_a_worker_sees(monkeypatch, ids, device):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if ids is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ids)
    assert visible_device() == device


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_where_no_gpu_is_nothing_is_said(monkeypatch, device, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert meter_of(device).now() == {}


@pytest.fixture
def program(tmp_path, monkeypatch) -> Path:
    """A program in the place of nvidia-smi."""
    file = tmp_path / "nvidia-smi"
    file.write_text('#!/bin/sh\necho "$@" >> "$(dirname "$0")/asked"\nexec cat "$(dirname "$0")/answer"\n')
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5a")
    return tmp_path


def test_the_meter_tells_what_was_said_last_while_arrays_are_open(program):
    array = ts.open({"driver": "zarr3", "kvstore": f"file://{program}/a.zarr"}, create=True, dtype="uint8", shape=[4]).result()
    (program / "answer").write_text("37, 100, 1000\n")
    meter = meter_of("cuda")
    until(lambda: meter.now().get("gpu") == 0.37)
    array.write(np.arange(4, dtype=np.uint8)).result()
    assert "--id=GPU-5a" in (program / "asked").read_text()


def test_a_gpu_without_an_answer_is_not_asked_again(program):
    meter = GpuMeter("0")
    until(lambda: meter.now() == {} and (program / "asked").exists())
