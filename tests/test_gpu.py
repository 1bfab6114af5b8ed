"""What a process says of its GPU, where there is none, and what it gives back when a computation was too large."""

import re

import pytest

from blockwise import gpu
from blockwise.errors import ConfigError
from blockwise.gpu import check_visible, is_out_of_memory, release_memory
from tests.cluster import drive, map_task, workers  # noqa: F401


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_other_devices_need_no_gpu(device):
    check_visible(device, "w")


@pytest.mark.parametrize(("visible", "said"), [("3", "CUDA_VISIBLE_DEVICES='3'"), (None, "CUDA_VISIBLE_DEVICES is not set")])
def test_a_worker_without_a_gpu_says_what_it_sees_and_the_way_out(monkeypatch, visible, said):
    monkeypatch.setattr(gpu, "cuda_possible", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(ConfigError, match=rf"worker w-1 on .* sees no GPU \({said}.*gpus = 1.*device = \"cpu\""):
        check_visible("cuda", "w-1")


@pytest.mark.skipif(gpu.sees_cuda(), reason="this machine has a GPU")
def test_a_stage_on_a_gpu_that_no_worker_sees_stops_before_its_first_block(workers, tmp_path):  # noqa: F811
    run = drive(workers, tmp_path, map_task(tmp_path, 50), device="cuda")
    assert (run.state, run.books.done, run.books.executed, run.attempts) == ("failed", 0, 0, [])
    assert re.search("worker [01] on .* sees no GPU", run.driver.message)


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("shape"), False),
    ],
)
def test_what_less_at_a_time_may_mend(error, memory):
    assert is_out_of_memory(error) == memory


def test_torch_s_own_error_is_one_of_them():
    import torch

    assert is_out_of_memory(torch.cuda.OutOfMemoryError("Allocation on device 0 would exceed allowed memory. (out of memory)"))
    assert is_out_of_memory(torch.cuda.OutOfMemoryError("Allocation on device"))


def test_giving_back_needs_no_gpu():
    release_memory()
