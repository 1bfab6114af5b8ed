"""Contrast and brightness of sections (spec 5.2 point 6)."""

import numpy as np
import numpy.typing as npt

from tasks.synful.training.parameters import IntensityOptions


def vary_intensity(raw: npt.NDArray[np.float32], options: IntensityOptions, random: np.random.Generator) -> npt.NDArray[np.float32]:
    """Every section of (z, y, x) in [0, 1] with a random contrast about its mean and a random shift, clipped to [0, 1]."""
    scale = random.uniform(*options.scale, len(raw)).astype(np.float32)[:, None, None]
    shift = random.uniform(*options.shift, len(raw)).astype(np.float32)[:, None, None]
    mean = raw.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
    return np.clip(mean + (raw - mean) * scale + shift, 0, 1, out=np.empty_like(raw))
