"""This process's GPU, where it has one: whether it is visible, and its memory when a computation asked for too much.

Nothing here imports torch before it is needed; a process without torch has no GPU.
"""

import gc
import os
import socket
import sys
from pathlib import Path

from blockwise.errors import ConfigError
from blockwise.failures import classify

VISIBLE: str = "CUDA_VISIBLE_DEVICES"
FILES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg")


def cuda_possible() -> bool:
    """Whether this machine may have a CUDA device; asked before torch, whose import costs seconds."""
    return not sys.platform.startswith("linux") or any(Path(p).exists() for p in FILES)


def sees_cuda() -> bool:
    """Whether torch can use a GPU in this process."""
    if not cuda_possible():
        return False
    import torch

    return torch.cuda.is_available()


def check_visible(device: str, worker: str) -> None:
    """Refuse to begin on a GPU that is not there, before the first block.

    Parameters
    ----------
    worker : its name, for the sentence.

    Raises
    ------
    ConfigError : `device` is of CUDA, and torch sees none here.
    """
    if device.startswith("cuda") and not sees_cuda():
        import torch

        seen = f"{VISIBLE}={os.environ[VISIBLE]!r}" if VISIBLE in os.environ else f"{VISIBLE} is not set"
        build = "" if torch.version.cuda else ", and its torch is built without CUDA"
        raise ConfigError(
            f"worker {worker} on {socket.gethostname()} sees no GPU ({seen}{build}), and [cluster] device = {device!r} needs one: "
            'on SLURM set [cluster] gpus = 1, elsewhere start it where a GPU is visible, or set device = "cpu"'
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether less at a time may succeed; `torch.cuda.OutOfMemoryError` is a RuntimeError that says "out of memory"."""
    return classify(error) == "memory"


def release_memory() -> None:
    """Give the memory of what nobody holds back to the device, after a computation that did not fit."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
