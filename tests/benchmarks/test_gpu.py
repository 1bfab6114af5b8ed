"""The benchmark of a GPU: its code runs on a CPU at a small size, and without a GPU it says so."""

import json
import subprocess
import sys

import pytest
import torch

from benchmarks.gpu import figures


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so():
    done = subprocess.run([sys.executable, "-m", "benchmarks.gpu"], check=True, capture_output=True, text=True, timeout=120)
    said = json.loads(done.stdout)
    assert said["cuda"] is False
    assert said["why"]


def test_its_figures_come_from_what_tasks_do():
    found = figures("cpu", seconds=0.1, neurons=1, most_voxels=4_000)
    assert found["synful_mvox_per_s"] > 0
    assert found["cascade_neuron_hours_per_s"] > 0
    assert 0 < found["compute_busy"] <= 1.01
    assert found["overlap"] >= found["compute_busy"]
    assert (found["gpu_busy"], found["peak_gpu_mb"]) == (None, None)
