"""How much this process's GPU is used, as nvidia-smi tells, without CUDA and without waiting for it.

A thread asks every `EVERY_S`; `now` is what it was told last. Where there is no nvidia-smi, or the GPU does not tell (a MIG slice tells
no utilisation), the values are left out: absent is not zero. A crash leaves nothing.
"""

import os
import shutil
import subprocess
import threading
import time

EVERY_S: float = 2.0
ASK_S: float = 20.0
"""What one answer may take; without persistence mode the driver is loaded first."""
FIELDS = ("utilization.gpu", "memory.used", "memory.total")


class GpuMeter:
    """Watches one GPU from a daemon thread, begun at the first look.

    Parameters
    ----------
    device : index or UUID as nvidia-smi takes it; None for no GPU.
    """

    def __init__(self, device: str | None) -> None:
        self._device, self._values, self._begun = device, dict[str, float](), False

    def now(self) -> dict[str, float]:
        """`gpu` (share of time in use), `gpu_mb`, `gpu_total_mb`, each only where it is known; returns at once."""
        if self._device is not None and not self._begun:
            self._begun = True
            threading.Thread(target=self._loop, name="blockwise-gpu", daemon=True).start()
        return self._values

    def _loop(self) -> None:
        while self._device is not None:
            answer = ask(self._device)
            if answer is None:
                self._values = {}
                return
            self._values = parse(answer)
            time.sleep(EVERY_S)


def meter_of(device: str) -> GpuMeter:
    """The meter for a worker whose tasks use `device`: of the one GPU it sees, of none where that is the CPU."""
    return GpuMeter(visible_device() if device.startswith("cuda") and shutil.which("nvidia-smi") else None)


def visible_device() -> str | None:
    """The id of the first GPU that this process sees; None where it is made to see none."""
    ids = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "0" if ids is None else ids.split(",")[0].strip() or None


def ask(device: str) -> str | None:
    """nvidia-smi's line about one GPU; None where it has no answer."""
    command = ["nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits", f"--id={device}"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout


def parse(answer: str) -> dict[str, float]:
    """Values of one line, e.g. "37, 12034, 81559"; what is "[N/A]" there is left out."""
    names, scales = ("gpu", "gpu_mb", "gpu_total_mb"), (0.01, 1.048576, 1.048576)  # per cent, MiB
    words = answer.strip().splitlines()[0].split(",") if answer.strip() else []
    return {name: float(word) * scale for name, scale, word in zip(names, scales, words, strict=False) if _is_number(word)}


def _is_number(word: str) -> bool:
    return word.strip().replace(".", "", 1).isdigit()
