"""Elastic deformation, rotation and section faults of a sample (spec 5.2 point 4): one field says where each voxel comes from.

Raw data is read through the field linearly, labels and masks by the nearest voxel; points move to the voxel of the sample whose source is
nearest to them. Targets are drawn afterwards, so that no vector needs to be deformed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from blockwise.geometry import Region
from tasks.synful.training.cubes import Volume
from tasks.synful.training.parameters import ElasticOptions

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Field:
    """Where the voxels of a region come from.

    sources : (3, z, y, x) float32, in voxels of the world less `base`.
    """

    region: Region
    base: tuple[int, ...]
    sources: Floats

    def linear(self, volume: Volume) -> Floats:
        """The volume through the field, (z, y, x) float32; beyond its edges it is continued by them."""
        from tasks.synful.training.warp import warp_linear

        box = self._box(self.sources, volume)
        out = np.empty(self.region.shape, np.float32)
        warp_linear(np.ascontiguousarray(volume.read(box)), self._relative(self.sources, box), out)
        return out

    def nearest(self, volume: Volume, region: Region) -> Array:
        """A part of the region through the field by the nearest voxel, in the volume's type; 0 beyond its edges."""
        from tasks.synful.training.warp import warp_nearest

        part = self.sources[(slice(None), *region.shift([-b for b in self.region.begin]).slices)]
        box = self._box(part, volume)
        out = np.empty(region.shape, volume.dtype)
        warp_nearest(np.ascontiguousarray(volume.read(box)), self._relative(part, box), out)
        return out

    def _relative(self, sources: Floats, box: Region) -> Floats:
        by = np.subtract(box.begin, self.base).astype(np.float32)
        return np.ascontiguousarray(sources - by[:, None, None, None])

    def _box(self, sources: Floats, volume: Volume) -> Region:
        """The part of a volume that sources lie in; one voxel of it where they all lie outside."""
        low = np.floor(sources.min(axis=(1, 2, 3))).astype(int) - 1 + self.base
        high = np.ceil(sources.max(axis=(1, 2, 3))).astype(int) + 2 + self.base
        begin = np.clip(low, volume.region.begin, np.subtract(volume.region.end, 1))
        return Region(tuple(begin.tolist()), tuple(np.clip(high, begin + 1, volume.region.end).tolist()))

    def points(self, voxels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Voxels of the region that points of the world move to, (n, 3); NaN for those that leave it.

        Found by fixed-point iteration, then as the nearest source among the voxels around.
        """
        wanted = np.asarray(voxels, np.float64) - self.base
        shape = np.array(self.region.shape)
        at = np.clip(wanted - np.subtract(self.region.begin, self.base), 0, shape - 1)
        for _ in range(24):
            at = np.clip(at + 0.7 * self._back(wanted - self._at(at)), 0, shape - 1)
        steps = np.stack(np.meshgrid([-1, 0, 1], [-2, -1, 0, 1, 2], [-2, -1, 0, 1, 2], indexing="ij"), axis=-1).reshape(-1, 1, 3)
        around = np.clip(np.rint(at) + steps, 0, shape - 1).astype(int)
        far = ((self._at(around) - wanted) ** 2).sum(axis=-1)
        best = far.argmin(axis=0)
        found = around[best, np.arange(len(at))].astype(np.float64)
        found[far[best, np.arange(len(at))] > 1] = np.nan
        return found + self.region.begin

    def _back(self, steps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Steps in the source turned into steps in the region, by the field's slope at its middle."""
        middle = [n // 2 for n in self.region.shape]
        slope = np.eye(3)
        for axis in range(3):
            ends = [list(middle), list(middle)]
            ends[0][axis], ends[1][axis] = 0, self.region.shape[axis] - 1
            if ends[1][axis] > 0 and axis > 0:
                slope[:, axis] = (self._at(np.array([ends[1]])) - self._at(np.array([ends[0]])))[0] / ends[1][axis]
        return np.asarray(np.linalg.solve(slope, steps.T).T)

    def _at(self, voxels: Array) -> npt.NDArray[np.float64]:
        """Sources of voxels (..., 3), the nearest where they lie between."""
        k, j, i = np.moveaxis(np.rint(voxels).astype(int), -1, 0)
        return np.moveaxis(self.sources[:, k, j, i], 0, -1).astype(np.float64)


def draw_field(region: Region, voxel_size: Sequence[float], options: ElasticOptions | None, random: np.random.Generator) -> Field:
    """A random field; without options the region comes from itself."""
    shape = region.shape
    positions = [np.arange(n, dtype=np.float64) for n in shape]
    if options is None:
        grid = np.meshgrid(*positions, indexing="ij", copy=False)
        return Field(region, region.begin, np.stack(grid).astype(np.float32))
    moves = _jitter(shape, options, random)
    angle = random.uniform(*options.rotation_interval)
    shifts = section_shifts(shape[0], options, random)
    middle, aspect = [(n - 1) / 2 for n in shape], voxel_size[2] / voxel_size[1]
    y, x = positions[1] - middle[1], positions[2] - middle[2]
    moves[0] += positions[0][:, None, None]
    moves[1] += (np.cos(angle) * y[:, None] - np.sin(angle) * aspect * x[None, :] + middle[1])[None] + shifts[:, 0, None, None]
    moves[2] += (np.sin(angle) / aspect * y[:, None] + np.cos(angle) * x[None, :] + middle[2])[None] + shifts[:, 1, None, None]
    return Field(region, region.begin, moves)


def section_shifts(sections: int, options: ElasticOptions, random: np.random.Generator) -> npt.NDArray[np.float32]:
    """How far each section lies off in y and x, (sections, 2) voxels: a shift lasts, a slip replaces all shifts in its one section."""
    drawn = random.uniform(-options.max_misalign, options.max_misalign, (2, sections, 2))
    slips, lasting = random.random(sections) < options.prob_slip, random.random(sections) < options.prob_shift
    shifts = np.cumsum(np.where(lasting[:, None], drawn[0], 0), axis=0)
    return np.where(slips[:, None], drawn[1], shifts).astype(np.float32)


def _jitter(shape: Sequence[int], options: ElasticOptions, random: np.random.Generator) -> Floats:
    """Displacements of control points, interpolated smoothly between them, (3, z, y, x) float32 voxels."""
    counts = [max(2, int(np.ceil(n / s)) + 1) for n, s in zip(shape, options.control_point_spacing, strict=True)]
    weights = [_weights(n, s, c, options.subsample) for n, s, c in zip(shape, options.control_point_spacing, counts, strict=True)]
    moves = np.zeros((3, *shape), np.float32)
    for axis, sigma in enumerate(options.jitter_sigma):
        control = random.normal(0, 1, counts)
        if sigma > 0:
            moves[axis] = np.einsum(
                "kc,cji->kji", weights[0], (weights[1] @ (sigma * control).astype(np.float32)) @ weights[2].T, optimize=True
            )
    return moves


def _weights(length: int, spacing: int, controls: int, subsample: int) -> Floats:
    """Weights of control points at every voxel of an axis, (length, controls): cubic at each `subsample`-th, linear between those."""
    coarse = np.arange(0, length + subsample - 1, subsample, dtype=np.float64) if subsample > 1 else np.arange(length, dtype=np.float64)
    at = np.clip(coarse / spacing, 0, controls - 1)
    first = np.floor(at).astype(int)
    t = at - first
    cubic = np.stack([-0.5 * t + t**2 - 0.5 * t**3, 1 - 2.5 * t**2 + 1.5 * t**3, 0.5 * t + 2 * t**2 - 1.5 * t**3, -0.5 * t**2 + 0.5 * t**3])
    weights = np.zeros((len(coarse), controls))
    for step, weight in enumerate(cubic, -1):
        np.add.at(weights, (np.arange(len(coarse)), np.clip(first + step, 0, controls - 1)), weight)
    if subsample == 1:
        return weights.astype(np.float32)
    fine = np.arange(length) / subsample
    low = np.minimum(np.floor(fine).astype(int), max(len(coarse) - 2, 0))
    part = (fine - low)[:, None]
    return (weights[low] * (1 - part) + weights[np.minimum(low + 1, len(coarse) - 1)] * part).astype(np.float32)
