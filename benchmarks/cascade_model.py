"""The models that benchmarks of Cascade run: the published ones where they are at hand, else random weights of the same shape."""

import os
from pathlib import Path

import numpy as np
import yaml

from blockwise.errors import MissingError
from tasks.cascade.checkpoint import Layer, Weights, write_safetensors
from tasks.cascade.model import load_model

SHAPES = ((31, 1, 30), (19, 30, 40), (5, 40, 50), (50, 30), (60, 1))
"""Kernels of the published networks: 35,441 weights with their biases."""

LEVELS, MEMBERS = range(2, 9), 5


def five_members(frame_rate: float, folder: Path) -> Path:
    """A model of five members per level for a frame rate (Hz).

    $BLOCKWISE_CASCADE_MODELS is a folder of published models; without a fitting one there, random weights are written into `folder`.
    """
    for candidate in sorted(Path(os.environ.get("BLOCKWISE_CASCADE_MODELS", folder)).glob("*")):
        if _fits(candidate, frame_rate):
            return candidate
    return write_random(folder / f"random_{frame_rate:g}Hz", frame_rate)


def _fits(folder: Path, frame_rate: float) -> bool:
    try:
        model = load_model(folder) if folder.is_dir() else None
    except MissingError:
        return False
    return model is not None and model.frame_rate == frame_rate and all(len(files) == MEMBERS for files in model.levels.values())


def write_random(folder: Path, frame_rate: float) -> Path:
    """A model folder of random weights, Glorot uniform as an untrained network has them."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_name": folder.name, "sampling_rate": frame_rate, "smoothing": 1.5 / frame_rate, "windowsize": 64, "before_frac": 0.5}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    for level in LEVELS:
        for member in range(MEMBERS):
            write_safetensors(folder / f"Model_NoiseLevel_{level}_Ensemble_{member}.safetensors", _random_weights(random))
    return folder


def _random_weights(random: np.random.Generator) -> Weights:
    layers = []
    for shape in SHAPES:
        taps = shape[0] if len(shape) == 3 else 1
        bound = np.sqrt(6 / (taps * (shape[-2] + shape[-1])))
        layers.append(Layer(random.uniform(-bound, bound, shape).astype(np.float32), np.zeros(shape[-1], np.float32)))
    return Weights(*layers)
