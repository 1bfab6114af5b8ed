"""Model folders of random weights, so that tests of inference need no data from outside."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from tasks.cascade.checkpoint import Layer, Weights, write_safetensors


def random_weights(seed: int = 0, *, window: int = 64, sizes: Sequence[int] = (31, 19, 5), numbers: Sequence[int] = (6, 8, 10)) -> Weights:
    """A network with activations of the published ones' size; small, so that tests are quick."""
    random = np.random.default_rng(seed)
    steps = ((window - sizes[0] - sizes[1] + 2) // 2 - sizes[2] + 1) // 2
    shapes = [(sizes[0], 1, numbers[0]), (sizes[1], *numbers[:2]), (sizes[2], *numbers[1:]), (numbers[2], 7), (steps * 7, 1)]
    return Weights(*(Layer(_draw(random, shape), _draw(random, shape[-1:])) for shape in shapes))


def _draw(random: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    return random.normal(0, 1 / np.sqrt(np.prod(shape[:-1]) or 4), shape).astype(np.float32)


def write_model(folder: Path, levels: Sequence[int] = (2, 3), *, members: int = 2, window: int = 64, **config: object) -> Path:
    """A model folder, 30 Hz and 50 ms unless `config` says otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"model_name": folder.name, "sampling_rate": 30, "smoothing": 0.05, "causal_kernel": 1, "windowsize": window, **config}
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    for level in levels:
        for member in range(members):
            weights = random_weights(10 * level + member, window=window)
            write_safetensors(folder / f"Model_NoiseLevel_{level}_Ensemble_{member}.safetensors", weights)
    return folder
