"""The grey values that a network was trained with, kept with it, so that other volumes can be brought to them (`normalize = "match"`)."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from blockwise.geometry import Region
from tasks.synful.training.cubes import Cube
from tasks.synful.training.samples import scaled

PERCENTS = (1, 5, 25, 50, 75, 95, 99)
BOXES, BOX = 24, (4, 128, 128)


def raw_percentiles(cubes: Sequence[Cube], *, seed: int = 0) -> dict[str, float]:
    """Percentiles of raw data in [0, 1], by their percent as text, of 24 boxes at random places of every cube."""
    random = np.random.default_rng(seed)
    values = np.concatenate([_values(cube, random) for cube in cubes])
    return {str(p): round(float(v), 5) for p, v in zip(PERCENTS, np.percentile(values, PERCENTS), strict=True)}


def _values(cube: Cube, random: np.random.Generator) -> npt.NDArray[np.float32]:
    region = cube.raw.region
    found = []
    for _ in range(BOXES):
        begin = [int(random.integers(b, max(b + 1, e - n))) for b, e, n in zip(*region, BOX, strict=True)]
        box = Region(tuple(begin), tuple(b + n for b, n in zip(begin, BOX, strict=True))).intersect(region)
        found.append(scaled(cube.raw.read(box), cube.name, cube.raw.dtype).ravel())
    return np.concatenate(found)
