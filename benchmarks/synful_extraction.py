"""What Synful's extraction costs; `figures` for `python -m benchmarks.synful`. One thread, CPU-time, compiled code warm, the best of three.

cc_cpu_ms_per_mvox              `detect` by components, all of it, on 54 x 920 x 920 float32 with 600 blobs, `cc_foreground` of it above .5
cc_rss_mb_per_mvox              peak memory of the same over what is resident with its input, in a process of its own
nms_r40_cpu_ms_per_mvox         `detect` by local maxima, radius 40 nm, on 60 x 200 x 200 with 51 blobs, the worse of two thresholds
maximum_filter_cpu_ms_per_mvox  scipy.ndimage.maximum_filter with the same footprint on the same volume
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

VOXEL_SIZE = (40, 4, 4)
BLOCK, BLOBS = (54, 920, 920), 600
SMALL, SMALL_BLOBS = (60, 200, 200), 51
THRESHOLDS = (0.5, 0.96)

MEMORY = """
from benchmarks.synful_extraction import BLOBS, BLOCK, SMALL, SMALL_BLOBS, components, predictions, status_mb
components(*predictions(SMALL, SMALL_BLOBS))
mask, vectors = predictions(BLOCK, BLOBS)
before = status_mb("VmRSS")
components(mask, vectors)
print((status_mb("VmHWM") - before) / (mask.size / 1e6))
"""

Array = npt.NDArray[Any]


def figures() -> dict[str, float]:
    """All figures."""
    mask, vectors = predictions(BLOCK, BLOBS)
    found: dict[str, float] = {"cc_foreground": float(np.count_nonzero(mask > 0.5) / mask.size), "cc_blobs": components(mask, vectors)}
    found["cc_cpu_ms_per_mvox"] = cpu_ms(lambda: components(mask, vectors)) / (mask.size / 1e6)
    found["cc_rss_mb_per_mvox"] = float(subprocess.run([sys.executable, "-c", MEMORY], check=True, capture_output=True, text=True).stdout)
    return found | local_maxima()


def local_maxima() -> dict[str, float]:
    """Figures of non-maximum suppression."""
    from scipy.ndimage import maximum_filter

    from tasks.synful import detect
    from tasks.synful.maxima import neighbours, radius_voxels

    mask, vectors = predictions(SMALL, SMALL_BLOBS)
    radius = radius_voxels(VOXEL_SIZE, (40, 40, 40))
    footprint = np.zeros([2 * r + 1 for r in radius], bool)
    footprint[tuple((neighbours(radius) + radius).T)] = footprint[radius] = True

    def extract(threshold: float) -> int:
        return detect(mask, vectors, VOXEL_SIZE, method="nms", threshold=threshold, nms_radius=(40, 40, 40)).num_rows

    assert all(extract(t) for t in THRESHOLDS)
    millions = mask.size / 1e6
    return {
        "nms_r40_cpu_ms_per_mvox": max(cpu_ms(lambda t=t: extract(t)) for t in THRESHOLDS) / millions,
        "maximum_filter_cpu_ms_per_mvox": cpu_ms(lambda: maximum_filter(mask, footprint=footprint)) / millions,
    }


def components(mask: Array, vectors: Array) -> int:
    """Extract; how many there were."""
    from tasks.synful import detect

    return detect(mask, vectors, VOXEL_SIZE, threshold=0.5, min_score=5).num_rows


def predictions(shape: tuple[int, int, int], blobs: int, seed: int = 0) -> tuple[Array, Array]:
    """A probability in steps of 1/255, blobs of some 700 voxels above .5 on weak noise, and vectors in nm. Made in place."""
    random = np.random.default_rng(seed)
    mask = random.random(shape, np.float32)
    mask *= np.float32(0.2)
    for centre in random.uniform((2, 12, 12), np.subtract(shape, (2, 12, 12)), (blobs, 3)):
        stamp(mask, centre, np.array((2.6, 8, 8)) * random.uniform(0.7, 1.25, 3))
    for plane in mask:
        plane[:] = np.trunc(plane * 255) / np.float32(255)
    return mask, np.ones((3, *shape), np.int8)


def stamp(mask: Array, centre: Array, size: Array) -> None:
    """Draw an ellipsoid of half axes `size` where the probability is .5, saturated inside."""
    low, high = np.maximum(np.rint(centre - 1.3 * size), 0).astype(int), np.rint(centre + 1.3 * size).astype(int)
    box = mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    axes = np.ogrid[tuple(slice(a, a + n) for a, n in zip(low, box.shape, strict=True))]
    away = sum(((axis - c) / s) ** 2 for axis, c, s in zip(axes, centre, size, strict=True))
    np.maximum(box, np.clip(1.4 - 0.9 * away, 0, 1), out=box, casting="same_kind")


def cpu_ms(work: Callable[[], object]) -> float:
    """CPU-time of the best of three."""

    def once() -> float:
        began = time.process_time()
        work()
        return time.process_time() - began

    return 1e3 * min(once() for _ in range(3))


def status_mb(key: str) -> float:
    """A memory figure of this process, e.g. VmHWM, its largest resident memory so far."""
    return int(Path("/proc/self/status").read_text().split(f"{key}:")[1].split()[0]) / 1024


if __name__ == "__main__":
    import json

    print(json.dumps(figures()))
