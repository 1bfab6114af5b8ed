"""What the U-Net of setup01 costs on one thread: the block that 4 GB hold against the original's input of 42 x 430 x 430.

Each block runs in a process of its own, so that its peak is its own; both one after the other, so that a busy machine slows both.
"""

import json
import os
import resource
import subprocess
import sys
import time

import torch

from tasks.synful.memory import largest_input, peak_bytes
from tasks.synful.network import UNet
from tasks.synful.parameters import NetworkParameters

ORIGINAL = (42, 430, 430)
MEMORY_BYTES = 4_000_000_000
SETUP01 = NetworkParameters(4, 5, ((1, 3, 3), (1, 3, 3), (3, 3, 3)))


def figures() -> dict[str, object]:
    """Keys of the Synful benchmark: the ratio of CPU-seconds per output Mvoxel, the peak resident memory, and what they are of."""
    shape = SETUP01.shape
    automatic = shape.aligned_input(largest_input(MEMORY_BYTES, shape))[0]
    original, auto = _in_a_process(ORIGINAL), _in_a_process(automatic)
    return {
        "unet_setup01_ratio": round(auto["cpu_s_per_mvox"] / original["cpu_s_per_mvox"], 3),
        "unet_peak_rss_mb": round(auto["peak_rss_mb"]),
        "unet_auto_input": list(automatic),
        "unet_counted_mb": round(peak_bytes(shape, automatic) / 1e6),
        "unet_cpu_s_per_mvox": {"auto": round(auto["cpu_s_per_mvox"], 2), "42x430x430": round(original["cpu_s_per_mvox"], 2)},
    }


def _in_a_process(input_shape: tuple[int, ...]) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.synful_network", *map(str, input_shape)]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return dict(json.loads(ran.stdout.splitlines()[-1]))


def forward(input_shape: tuple[int, ...], repeats: int) -> dict[str, float]:
    """CPU-seconds per output Mvoxel, the least of some passes, and the peak memory of this process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network, times, voxels = UNet(SETUP01), [], 0
    with torch.inference_mode():
        raw = torch.rand(1, 1, *input_shape) * 2 - 1
        network(raw[..., : ORIGINAL[0], : ORIGINAL[1], : ORIGINAL[2]])
        for _ in range(repeats):
            start = time.process_time()
            voxels = network(raw)["mask_logits"].numel()
            times.append(time.process_time() - start)
    return {"cpu_s_per_mvox": min(times) / voxels * 1e6, "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}


if __name__ == "__main__":
    shape = tuple(int(n) for n in sys.argv[1:])
    print(json.dumps(forward(shape, 3 if shape == ORIGINAL else 1) if shape else figures()))
