"""Trains a small mask network on a real micrograph and scores it where it has not learned; one JSON object last.

    python -m benchmarks.synful_training [STACK] [--run FOLDER] [--iterations 700]

STACK holds raw/ and synapses/ (20 sections of larval Drosophila, Gerhard et al. 2013; its licence forbids commercial use: the weights stay
where they are made). Learned from x < 768, judged on x >= 768. The stack has 20 sections, so the fine levels have 1 x 3 x 3 kernels.

average_precision, prevalence, ratio   over the voxels of x >= 768; the bar is a ratio of 10
train_cpu_s                            CPU-seconds of training, one thread
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tasks.synful.training.loop import train
from tasks.synful.training.parameters import TrainingParameters
from tasks.synful.training.validation import validate

HELD_OUT = 768
VOXEL_SIZE = (50.0, 4.6, 4.6)
STACK = Path(__file__).resolve().parents[2] / "shared" / "data" / "em" / "vnc_sstem"


def parameters(stack: Path, folder: Path, iterations: int) -> TrainingParameters:
    """A mask network of three levels; its cube is the stack, the held-out part its validation mask."""
    held_out = np.zeros((20, 1024, 1024), np.uint8)
    held_out[:, :, HELD_OUT:] = 1
    np.save(folder / "held_out.npy", held_out)
    cube = {
        "raw": str(stack / "raw"),
        "indicator": str(stack / "synapses"),
        "validation_mask": str(folder / "held_out.npy"),
        "voxel_size": VOXEL_SIZE,
    }
    values = {
        "cubes": [cube],
        "input_size": (8, 216, 216),
        "downsample_factors": ((1, 2, 2), (1, 3, 3), (1, 3, 3)),
        "kernel_sizes": ((1, 3, 3), (1, 3, 3), (1, 3, 3), (3, 3, 3)),
        "fmap_num": 6,
        "fmap_inc_factor": 3,
        "heads": ("mask",),
        "voxel_size": VOXEL_SIZE,
        "m_loss_scale": 1.0,
        "d_loss_scale": 0.0,
        "learning_rate": 1e-3,
        "lr_decay_iterations": iterations,
        "initialisation": "he",
        "clip_gradients": 5.0,
        "cliprange": (0.02, 0.98),
        "reject_probability": 0.7,
        "max_iteration": iterations,
        "pad": True,
        "workers": 0,
        "threads": 1,
        "save_every": 100,
        "log_every": 20,
        "snapshot_every": 200,
        "augment": {"elastic": {"jitter_sigma": (0, 2, 2), "prob_slip": 0.02, "prob_shift": 0.02, "max_misalign": 5}},
        "validation": {"every": 200},
    }
    return TrainingParameters.model_validate(values)


def figures(stack: Path, folder: Path, iterations: int) -> dict[str, Any]:
    """Train, or go on, and judge the last checkpoint."""
    from tasks.synful.checkpoint import load_network
    from tasks.synful.training.dataset import open_cubes

    asked = parameters(stack, folder, iterations)
    before = time.process_time()
    trained = train(asked, folder, report=_shown)
    spent = time.process_time() - before
    assert asked.validation is not None
    scores = validate(load_network(trained.checkpoint), open_cubes(asked), asked.validation)
    ratio = scores["average_precision"] / scores["prevalence"]
    return {**scores, "ratio": round(ratio, 1), "iterations": trained.iteration, "train_cpu_s": round(spent, 1)}


def main() -> None:
    """Run, print."""
    asked = argparse.ArgumentParser()
    asked.add_argument("stack", type=Path, nargs="?", default=STACK)
    asked.add_argument("--run", type=Path)
    asked.add_argument("--iterations", type=int, default=700)
    arguments = asked.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = arguments.run or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        print(json.dumps(figures(arguments.stack, folder, arguments.iterations)))


def _shown(kind: str, figures: Mapping[str, float]) -> None:
    print(kind, {k: round(v, 4) for k, v in figures.items()}, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
