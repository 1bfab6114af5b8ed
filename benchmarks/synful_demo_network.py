"""Trains the network of `blockwise demo` on simulated micrographs and judges it on a volume it has not seen; one JSON object last.

    python -m benchmarks.synful_demo_network RUN [--iterations 2000] [--to tasks/synful/weights/demo.safetensors]

Goes on where an earlier start ended. f_score, precision, recall   partners at 400 nm, both ends, segments known
cpu_s   of this start, one thread
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tasks.synful.simulate import VOXEL_SIZE, simulate_volume
from tasks.synful.training.cubes import Cube, Volume
from tasks.synful.training.parameters import TrainingParameters, ValidationOptions
from tasks.synful.training.points import Pairs

SHAPE, TRAINED, JUDGED = (32, 400, 400), range(100, 110), (1,)
DETECTION: dict[str, Any] = {"threshold": 0.95, "score": "sum", "min_score": 10.0}


def parameters(iterations: int) -> TrainingParameters:
    """As setup03, two decoders, with fewer and shallower levels and 1 x 3 x 3 kernels where sections are far apart."""
    values = {
        "input_size": (12, 159, 159),
        "downsample_factors": ((1, 3, 3), (1, 3, 3)),
        "kernel_sizes": ((1, 3, 3), (1, 3, 3), (3, 3, 3)),
        "fmap_num": 8,
        "fmap_inc_factor": 3,
        "unet_model": "dh_unet",
        "voxel_size": VOXEL_SIZE,
        "learning_rate": 1.5e-3,
        "lr_decay_iterations": iterations,
        "initialisation": "he",
        "clip_gradients": 5.0,
        "m_loss_scale": 4.0,
        "blob_radius": 32,
        "d_blob_radius": 64,
        "d_scale": 0.02,
        "cliprange": (0.05, 0.95),
        "max_iteration": iterations,
        "pad": True,
        "workers": 0,
        "threads": 1,
        "save_every": 250,
        "log_every": 25,
        "snapshot_every": 250,
        "augment": {"elastic": {"jitter_sigma": (0, 1, 1), "prob_slip": 0.02, "prob_shift": 0.02, "max_misalign": 3}},
        "validation": {"every": 250, **DETECTION},
    }
    return TrainingParameters.model_validate(values)


def simulated_cube(seed: int) -> Cube:
    """A simulated volume with everything known of it."""
    from tasks.synful.partners import points

    made = simulate_volume(SHAPE, seed=seed)
    pairs = Pairs(*(points(made.partners, end).astype(np.float64) for end in ("pre", "post")))
    return Cube(f"simulated {seed}", made.voxel_size, Volume.of(made.raw), labels=Volume.of(made.segmentation), pairs=pairs)


def main() -> None:
    """Train, judge, and keep the weights."""
    from tasks.synful.checkpoint import load_network, save_safetensors
    from tasks.synful.training.loop import train
    from tasks.synful.training.validation import validate

    asked = argparse.ArgumentParser()
    asked.add_argument("run", type=Path)
    asked.add_argument("--iterations", type=int, default=2000)
    asked.add_argument("--to", type=Path)
    arguments = asked.parse_args()
    before = time.process_time()
    judged = [simulated_cube(seed) for seed in JUDGED]
    trained = train(
        parameters(arguments.iterations), arguments.run, cubes=[simulated_cube(s) for s in TRAINED], judged=judged, report=_shown
    )
    network = load_network(trained.checkpoint)
    if arguments.to is not None:
        save_safetensors(network, arguments.to)
    scores = validate(network, judged, ValidationOptions(**DETECTION))
    print(json.dumps({**scores, "iterations": trained.iteration, "cpu_s": round(time.process_time() - before, 1)}))


def _shown(kind: str, figures: Mapping[str, float]) -> None:
    print(kind, {k: round(v, 4) for k, v in figures.items()}, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
