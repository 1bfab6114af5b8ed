"""Mirroring and transposing of a sample (spec 5.2 point 5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.synful.training.parameters import AugmentOptions

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a sample is turned: first mirrored along axes, then y and x exchanged.

    mirrored : z, y, x.
    """

    mirrored: tuple[bool, bool, bool] = (False, False, False)
    transposed: bool = False

    def shape(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """What to cut so that turning it gives this shape."""
        z, y, x = (int(n) for n in shape)
        return (z, x, y) if self.transposed else (z, y, x)

    def array(self, values: Array) -> Array:
        """A cut-out (z, y, x) turned, contiguous."""
        axes = tuple(axis for axis, flip in enumerate(self.mirrored) if flip)
        turned = np.flip(values, axes)
        return np.ascontiguousarray(turned.swapaxes(1, 2) if self.transposed else turned)

    def points(self, points: npt.NDArray[np.float64], shape: Sequence[int]) -> npt.NDArray[np.float64]:
        """Positions (n, 3) in voxels of a cut-out of a shape, turned with it; their place within the voxel is kept."""
        whole = np.floor(points)
        turned = np.where(self.mirrored, np.asarray(shape) - 1 - whole, whole) + (points - whole)
        return turned[:, [0, 2, 1]] if self.transposed else turned


def draw_orientation(options: AugmentOptions, random: np.random.Generator) -> Orientation:
    """Each mirror, and the transposition, with a probability of one half."""
    flips = random.random(4) < 0.5
    z, y, x = (bool(flip) and axis in options.mirror for flip, axis in zip(flips, "zyx", strict=False))
    return Orientation((z, y, x), bool(flips[3]) and options.transpose)
