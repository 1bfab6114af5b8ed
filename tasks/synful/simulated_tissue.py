"""Packed neurites for simulate.py: chains of seeds, and for every voxel the neurite it lies in and the way to the nearest membrane.

A voxel belongs to the seed of least distance less radius (an additively weighted Voronoi diagram); a neurite is a chain of seeds, and
between seeds of one neurite there is no membrane. Compiled: import where it is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
TILE = 24
CANDIDATES = 28


@dataclass(frozen=True, slots=True)
class Tissue:
    """Neurites of a volume.

    labels : (z, y, x) uint64, from 1.  gap : (z, y, x) float32 nm to the nearest membrane.
    tilt : (z, y, x) float32, how far that membrane's normal leans out of the section, 0 to 1.
    """

    labels: npt.NDArray[np.uint64]
    gap: Floats
    tilt: Floats


def grow_tissue(shape: Sequence[int], voxel_size: Sequence[float], random: np.random.Generator, *, calibre_nm: float = 260.0) -> Tissue:
    """Neurites that fill a volume.

    Parameters
    ----------
    calibre_nm : typical distance between seeds, about the diameter of a neurite.
    """
    size = np.asarray(voxel_size, np.float64)
    extent = np.multiply(shape, size)
    seeds, radii, owners = _chains(extent, calibre_nm, random)
    warp = _smooth_field(shape, size, random, wave_nm=260.0, amplitude_nm=45.0)
    labels = np.zeros(tuple(shape), np.uint64)
    gap, tilt = np.zeros(tuple(shape), np.float32), np.zeros(tuple(shape), np.float32)
    for z in range(shape[0]):
        for y in range(0, shape[1], TILE):
            for x in range(0, shape[2], TILE):
                box = (slice(z, z + 1), slice(y, min(y + TILE, shape[1])), slice(x, min(x + TILE, shape[2])))
                middle = np.array([z, y + TILE / 2, x + TILE / 2]) * size
                near = np.linalg.norm(seeds - middle, axis=1) - radii
                chosen = np.argpartition(near, min(CANDIDATES, len(near) - 1))[:CANDIDATES]
                _nearest(
                    labels[box], gap[box], tilt[box], np.array([z, y, x]) * size, size, warp[(slice(None), *box)],
                    seeds[chosen], radii[chosen], owners[chosen],
                )  # fmt: skip
    return Tissue(labels, gap, tilt)


def _chains(
    extent: npt.NDArray[np.float64], calibre: float, random: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.uint64]]:
    """Seeds along random walks, (n, 3) nm, with their radii and the number of their neurite."""
    margin = 2 * calibre
    wanted = int(np.prod(extent + 2 * margin) / calibre**3)
    seeds, radii, owners, neurite = [], [], [], 0
    while len(seeds) < wanted:
        neurite += 1
        at, way = random.uniform(-margin, extent + margin), random.normal(size=3)
        radius = abs(random.normal(0, 0.35)) * calibre
        for _ in range(int(random.integers(6, 24))):
            seeds.append(at)
            radii.append(radius * random.uniform(0.7, 1.3))
            owners.append(neurite)
            way = way / np.linalg.norm(way) + 0.35 * random.normal(size=3)
            at = at + 0.55 * calibre * way / np.linalg.norm(way)
            if (at < -margin).any() or (at > extent + margin).any():
                break
    return np.array(seeds), np.array(radii), np.array(owners, np.uint64)


def _smooth_field(
    shape: Sequence[int], size: npt.NDArray[np.float64], random: np.random.Generator, *, wave_nm: float, amplitude_nm: float
) -> Floats:
    """Displacements that bend membranes, (3, z, y, x) nm."""
    from scipy.ndimage import gaussian_filter, zoom

    coarse = [max(4, int(np.ceil(n * s / (wave_nm / 3)))) for n, s in zip(shape, size, strict=True)]
    field = np.empty((3, *shape), np.float32)
    for axis in range(3):
        noise = gaussian_filter(random.normal(size=coarse), 1.0, mode="reflect")
        fine = zoom(noise / noise.std(), [n / c for n, c in zip(shape, coarse, strict=True)], order=1)
        field[axis] = amplitude_nm * fine[tuple(slice(n) for n in shape)]
    return field


@numba.njit(cache=True, nogil=True)
def _nearest(
    labels: npt.NDArray[np.uint64],
    gap: Floats,
    tilt: Floats,
    origin: npt.NDArray[np.float64],
    size: npt.NDArray[np.float64],
    warp: Floats,
    seeds: npt.NDArray[np.float64],
    radii: npt.NDArray[np.float64],
    owners: npt.NDArray[np.uint64],
) -> None:
    """Fill one tile: the neurite of the nearest seed, and the distance to where another's is as near."""
    far = np.empty(len(seeds), np.float64)
    for k in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            for i in range(labels.shape[2]):
                z = origin[0] + k * size[0] + warp[0, k, j, i]
                y = origin[1] + j * size[1] + warp[1, k, j, i]
                x = origin[2] + i * size[2] + warp[2, k, j, i]
                first = 0
                for s in range(len(seeds)):
                    far[s] = np.sqrt((z - seeds[s, 0]) ** 2 + (y - seeds[s, 1]) ** 2 + (x - seeds[s, 2]) ** 2) - radii[s]
                    if far[s] < far[first]:
                        first = s
                second, least = first, np.inf
                for s in range(len(seeds)):
                    if owners[s] != owners[first] and far[s] < least:
                        second, least = s, far[s]
                a, b = far[first] + radii[first] + 1e-6, far[second] + radii[second] + 1e-6
                nz = (z - seeds[first, 0]) / a - (z - seeds[second, 0]) / b
                ny = (y - seeds[first, 1]) / a - (y - seeds[second, 1]) / b
                nx = (x - seeds[first, 2]) / a - (x - seeds[second, 2]) / b
                length = max(0.4, np.sqrt(nz * nz + ny * ny + nx * nx))
                labels[k, j, i] = owners[first]
                gap[k, j, i] = (far[second] - far[first]) / length
                tilt[k, j, i] = abs(nz) / length
