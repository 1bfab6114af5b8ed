"""The levels of a spatial index of annotations: a coarse grid that holds a random few, finer ones that hold the rest.

Every annotation is drawn a number between 0 and 1 by its id, and every level takes those between two borders, so that which level an
annotation is at does not depend on the order in which they come. Borders are such that the fullest cell of a level is expected to hold
`limit` annotations; the last level takes what remains.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MOST_CELLS: int = 1 << 21
"""Cells of the finest level: their counts are held in memory."""

FINEST_NM = 1000.0
"""Cells are not divided below this."""

Ints = npt.NDArray[np.int64]
Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Level:
    """A grid of cells from the lower bound of all annotations, and which of them it takes.

    chunk : nm, z y x.  counts : cells along z y x.  above, upto : borders of the random numbers, half-open.
    """

    chunk: tuple[float, float, float]
    counts: tuple[int, int, int]
    above: float = 0.0
    upto: float = 1.0


def grids(extent: Points) -> list[Level]:
    """Grids over an extent (nm, z y x), each twice as fine as the one before along those axes along which its cells are long."""
    found = [Level(_three(extent), (1, 1, 1))]
    while True:
        chunk, counts = np.array(found[-1].chunk), np.array(found[-1].counts)
        halved = (chunk > chunk.max() / 1.5) & (chunk / 2 >= FINEST_NM)
        counts = np.where(halved, 2 * counts, counts)
        if not halved.any() or counts.prod() > MOST_CELLS:
            return found
        z, y, x = counts.tolist()
        found.append(Level(_three(extent / counts), (z, y, x)))


def _three(values: Points) -> tuple[float, float, float]:
    z, y, x = (float(v) for v in values)
    return z, y, x


def cells(level: Level, points: Points, lower: Points) -> Ints:
    """Cells that hold points, (n, 3) int64, z y x."""
    return np.asarray(np.clip((points - lower) // np.array(level.chunk), 0, np.array(level.counts) - 1), np.int64)


def levels(found: list[Level], finest: Ints, limit: int) -> list[Level]:
    """The grids that are needed, with their borders.

    Parameters
    ----------
    found : what `grids` gave.
    finest : annotations in every cell of the last of them, of its shape.
    limit : that a cell should hold at most.
    """
    chosen: list[Level] = []
    above, remaining = 0.0, 1.0
    for number, level in enumerate(found):
        fullest = remaining * float(_summed(finest, level.counts).max(initial=0))
        share = 1.0 if fullest <= limit or number == len(found) - 1 else limit / fullest
        upto = 1.0 if share == 1.0 else above + remaining * share
        chosen.append(Level(level.chunk, level.counts, above, upto))
        above, remaining = upto, 1.0 - upto
        if share == 1.0:
            break
    return chosen


def _summed(counts: Ints, shape: tuple[int, int, int]) -> Ints:
    """Counts of finer cells in coarser ones; a coarser grid divides a finer one."""
    (z, y, x), (fz, fy, fx) = shape, (f // s for f, s in zip(counts.shape, shape, strict=True))
    return np.asarray(counts.reshape(z, fz, y, fy, x, fx).sum(axis=(1, 3, 5)))


def numbers(ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """A number of [0, 1) for every id, as if drawn at random: the finaliser of SplitMix64."""
    x = ids + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2.0**53
