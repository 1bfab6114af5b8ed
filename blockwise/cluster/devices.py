"""Which GPUs there are, and which one a worker sees: exactly one, by CUDA_VISIBLE_DEVICES in its environment before CUDA initialises.

An id is an index, a UUID (GPU-...) or a slice of a GPU (MIG-...), as CUDA_VISIBLE_DEVICES takes them. The CPU is taken where a
configuration says so, or where "auto" finds nothing; if it finds the files of a GPU that torch cannot use, somebody is told.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from blockwise.config import ClusterConfig
from blockwise.errors import ConfigError
from blockwise.gpu import VISIBLE, cuda_possible, sees_cuda

ANSWER_S: float = 30.0
"""What nvidia-smi may take; without its daemon it wakes every GPU."""
ID = re.compile(r"\d+|GPU-[0-9A-Fa-f-]+|MIG-[\w/-]+")


@dataclass(frozen=True, slots=True)
class Placement:
    """How many local workers, on what.

    device : of every worker, "cpu" or "cuda". ids : of the GPUs, handed out in turn; none on the CPU. note : what a person should
    know of the choice.
    """

    workers: int
    device: str
    ids: tuple[str, ...] = ()
    note: str = ""

    def environment(self, number: int) -> dict[str, str]:
        """What the worker of this number, counted from 0, is started with."""
        return {VISIBLE: self.ids[number % len(self.ids)]} if self.ids else {}


def place(config: ClusterConfig) -> Placement:
    """Workers and GPUs of this machine for `[cluster] kind = "local"`: one worker per GPU, or per core without, unless told otherwise.

    Raises
    ------
    ConfigError : a GPU is asked for that is not there.
    """
    from dask.system import CPU_COUNT

    device = device_of(config)
    if not device.startswith("cuda"):
        return Placement(config.workers or max(1, int(CPU_COUNT)), device, (), cpu_note(config))
    ids = _chosen(config)
    return Placement(config.workers or len(ids), "cuda", ids)


def _chosen(config: ClusterConfig) -> tuple[str, ...]:
    """The GPUs that a configuration asks for among those that are visible."""
    ids = visible_devices()
    if not ids:
        raise ConfigError(f"[cluster] device = {config.device!r}: {_no_gpu()}")
    if ":" in config.device:
        number = config.device.partition(":")[2]
        if not number.isdecimal() or int(number) >= len(ids):
            raise ConfigError(f'[cluster] device = {config.device!r}: {len(ids)} GPUs are visible here, "cuda:0" is the first')
        ids = (ids[int(number)],)
    if config.gpus is not None and config.gpus > len(ids):
        raise ConfigError(f"[cluster] gpus = {config.gpus}, and {len(ids)} are to be had here ({', '.join(ids)}): set gpus = {len(ids)}")
    return ids[: config.gpus] if config.gpus else ids


def visible_devices(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Ids of the GPUs that this process may use: those of CUDA_VISIBLE_DEVICES, else all that the driver or torch counts.

    As CUDA does, the list ends before the first entry that is no id ("-1", "none").
    """
    if VISIBLE in environment:
        return listed(environment[VISIBLE])
    if not cuda_possible():
        return ()
    with suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=ANSWER_S, check=True).stdout
        if ids := parse_list(answer):
            return ids
    import torch

    return tuple(str(i) for i in range(torch.cuda.device_count()))


def listed(text: str) -> tuple[str, ...]:
    """The ids of a value of CUDA_VISIBLE_DEVICES."""
    ids: list[str] = []
    for entry in (e.strip() for e in text.split(",")):
        if not ID.fullmatch(entry):
            break
        ids.append(entry)
    return tuple(ids)


def parse_list(answer: str) -> tuple[str, ...]:
    """UUIDs of `nvidia-smi -L`; of a GPU that is cut into slices, those of its slices."""
    ids: list[str] = []
    for kind, id in re.findall(r"^\s*(GPU|MIG).*UUID: ([\w/-]+)\)", answer, re.MULTILINE):
        if kind == "MIG" and ids and ids[-1].startswith("GPU-"):
            ids.pop()
        ids.append(id)
    return tuple(ids)


def device_of(config: ClusterConfig) -> str:
    """The device that `[cluster] device` means: for workers of this machine where torch sees a GPU, for jobs where they ask for one.

    Raises
    ------
    ConfigError : a CUDA device of this machine is asked for and there is none: the CPU is never taken silently.
    """
    if config.kind == "slurm" and config.device == "auto":
        return "cuda" if config.gpus else "cpu"
    if config.device == "auto":
        return "cuda" if sees_cuda() else "cpu"
    if config.kind == "local" and config.device.startswith("cuda") and not sees_cuda():
        raise ConfigError(f"[cluster] device = {config.device!r}: {_no_gpu()}")
    return config.device


def cpu_note(config: ClusterConfig) -> str:
    """Why "auto" takes the CPU on a machine that seems to have a GPU; "" where that is no surprise."""
    if config.device != "auto" or not cuda_possible() or os.environ.get(VISIBLE) == "" or not sys.platform.startswith("linux"):
        return ""
    return f'[cluster] device = "auto" takes the CPU, though this machine has the files of a GPU: {_no_gpu()}'


def _no_gpu() -> str:
    """What this process sees of GPUs, and the ways out."""
    import torch

    build = "this torch is built without CUDA (install one that is)" if torch.version.cuda is None else "torch sees no CUDA device here"
    seen = f"{VISIBLE}={os.environ[VISIBLE]!r}" if VISIBLE in os.environ else f"{VISIBLE} is not set"
    return f'{build}, {seen}; set device = "cpu" to run without'


def free_bytes(device: str) -> int:
    """Memory that is free now on the visible GPU with least of it, or on the one named ("cuda:1")."""
    import torch

    numbers: Any = [torch.device(device).index] if ":" in device else range(torch.cuda.device_count())
    return min(int(torch.cuda.mem_get_info(n)[0]) for n in numbers)
