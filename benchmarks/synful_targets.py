"""What stamped balls save: the vector map of 50 synapses in 12 x 268 x 268 voxels, against one distance transform per synapse.

python -m benchmarks.synful_targets
"""

import json
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

SHAPE, VOXEL_SIZE, RADIUS, SYNAPSES = (12, 268, 268), (40, 4, 4), 100.0, 50


def figures() -> dict[str, float]:
    """CPU times by process_time: the distance transforms once, ours the median of 9 runs. Both draw the same balls."""
    from blockwise.geometry import Region
    from tasks.synful.training.targets import partner_vectors

    random = np.random.default_rng(0)
    post = random.uniform((0, 0, 0), np.multiply(SHAPE, VOXEL_SIZE), (SYNAPSES, 3))
    pre = post + random.normal(0, 60, (SYNAPSES, 3))
    region = Region((0, 0, 0), SHAPE)

    def stamped() -> npt.NDArray[np.uint8]:
        return partner_vectors(post, pre, region, VOXEL_SIZE, radius=RADIUS, target_context=1000.0)[1]

    mask = stamped()  # compiles
    ours = float(np.median([_cpu_s(stamped) for _ in range(9)]))
    transforms = _cpu_s(lambda: _by_transforms(post))
    differing = float((_by_transforms(post[:5]) & ~mask.astype(bool)).mean())
    return {
        "vectormap_speedup": round(transforms / ours, 1),
        "vectormap_ms": round(1e3 * ours, 2),
        "vectormap_transforms_ms": round(1e3 * transforms, 1),
        "vectormap_voxels_missed": differing,
    }


def _by_transforms(post: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Union of the balls by one distance transform of the volume for each."""
    from scipy.ndimage import distance_transform_edt

    union = np.zeros(SHAPE, bool)
    for site in (post / VOXEL_SIZE).astype(int):
        free = np.ones(SHAPE, bool)
        free[tuple(site)] = False
        union |= distance_transform_edt(free, sampling=VOXEL_SIZE) <= RADIUS
    return union


def _cpu_s(call: Callable[[], object]) -> float:
    before = time.process_time()
    call()
    return time.process_time() - before


if __name__ == "__main__":
    print(json.dumps(figures()))
