"""One training sample: a place, augmentation, and the targets drawn after it, in the order of the original's pipeline (spec 5.2).

A sample is decided by the seed, its iteration and its number in the batch, whoever makes it and whenever: a resumed run gets the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from blockwise.errors import InputError
from blockwise.geometry import Region
from tasks.synful.training.augment_elastic import Field, draw_field
from tasks.synful.training.augment_intensity import vary_intensity
from tasks.synful.training.augment_simple import Orientation, draw_orientation
from tasks.synful.training.balance import balanced_weights
from tasks.synful.training.cubes import Cube, Volume
from tasks.synful.training.parameters import TrainingParameters
from tasks.synful.training.points import Pairs
from tasks.synful.training.sampling import check_reach, draw_place, places
from tasks.synful.training.targets import Labels, partner_vectors, rasterize_peaks, rasterize_points

Array = npt.NDArray[Any]
FULL_SCALE = {"uint8": 255, "uint16": 65535, "bool": 1}


@dataclass(frozen=True, eq=False)
class Sample:
    """What a network is shown and asked. Targets are of the output's shape, which lies in the middle of the input's.

    raw : (z, y, x) float32 in [-1, 1].  labels : (z, y, x) uint64, of the output, 0 where there are none.
    indicator, indicator_weight : (z, y, x) float32.  vectors : (3, z, y, x) float32, nm.  vectors_mask : (z, y, x) float32.
    """

    raw: Array
    labels: Array
    indicator: Array
    indicator_weight: Array
    vectors: Array
    vectors_mask: Array

    def arrays(self) -> dict[str, Array]:
        """By name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class Geometry:
    """Voxels of a sample, z y x: of its input, its output, and of the input before the output and after it."""

    input: tuple[int, int, int]
    output: tuple[int, int, int]

    @property
    def context(self) -> tuple[int, ...]:
        return tuple((i - o) // 2 for i, o in zip(self.input, self.output, strict=True))


@dataclass(frozen=True, eq=False)
class Sampler:
    """Makes samples of opened cubes."""

    cubes: Sequence[Cube]
    parameters: TrainingParameters
    geometry: Geometry

    def sample(self, iteration: int, number: int = 0) -> Sample:
        """Sample `number` of an iteration's batch."""
        random = np.random.default_rng([self.parameters.seed, iteration, number])
        weights = np.array([c.weight for c in self.cubes])
        cube = self.cubes[int(random.choice(len(self.cubes), p=weights / weights.sum()))]
        turn = draw_orientation(self.parameters.augment, random)
        shape = turn.shape(self.geometry.output)
        context = turn.shape(self.geometry.context)
        begins = places(cube, shape, context, pad=self.parameters.pad)
        begin = draw_place(
            cube, begins, shape, random, with_points=self.parameters.share_with_points, min_masked=self.parameters.min_masked
        )
        output = Region(begin, tuple(b + n for b, n in zip(begin, shape, strict=True)))
        field = draw_field(output.grow(context, context), cube.voxel_size, self.parameters.augment.elastic, random)
        return self._drawn(cube, field, output, turn, random)

    def check(self) -> None:
        """Refuse cubes that samples do not fit.

        Raises
        ------
        InputError : too small, or with sites that no sample can hold; names both sizes.
        """
        for cube in self.cubes:
            begins = places(cube, self.geometry.output, self.geometry.context, pad=self.parameters.pad)
            if self.parameters.share_with_points > 0:
                check_reach(cube, begins, self.geometry.output)
            scaled(np.zeros(0, cube.raw.dtype), cube.name)

    def _drawn(self, cube: Cube, field: Field, output: Region, turn: Orientation, random: np.random.Generator) -> Sample:
        """A sample of a field, turned; its targets are drawn last, in voxels that count from the input's begin."""
        raw = turn.array(scaled(field.linear(cube.raw), cube.name, cube.raw.dtype))
        if self.parameters.augment.intensity is not None:
            raw = vary_intensity(raw, self.parameters.augment.intensity, random)
        asked = Region(self.geometry.context, tuple(c + n for c, n in zip(self.geometry.context, self.geometry.output, strict=True)))
        pairs = self._moved(cube, field, turn)
        labels = self._labels(cube, field, output, turn, asked)
        kept = self._kept(cube, field, output, turn)
        indicator = self._indicator(cube, field, output, turn, pairs=pairs, labels=labels, asked=asked)
        weight = balanced_weights(indicator, cliprange=self.parameters.cliprange, mask=kept)
        vectors, mask = self._vectors(cube, pairs, labels, asked)
        inner = np.zeros(asked.shape, np.uint64) if labels is None else labels.within(asked)
        return Sample(
            raw * 2 - 1,
            inner,
            indicator.astype(np.float32),
            weight,
            vectors,
            (mask * kept if kept is not None else mask).astype(np.float32),
        )

    def _moved(self, cube: Cube, field: Field, turn: Orientation) -> Pairs:
        """Points near the field, in nm from the input's begin."""
        size = np.asarray(cube.voxel_size)
        low, high = field.sources.min(axis=(1, 2, 3)) + field.base, field.sources.max(axis=(1, 2, 3)) + field.base + 1
        pairs = cube.pairs.within((low * size).tolist(), (high * size).tolist())

        def moved(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            known = np.isfinite(points).all(axis=1)
            found = np.full_like(points, np.nan)
            whole = np.trunc(points[known] / size)
            place = field.points(whole) - field.region.begin
            if self.parameters.augment.elastic is None:
                place = place + (points[known] / size - whole)
            found[known] = turn.points(place, field.region.shape) * size
            return found

        post = moved(pairs.post)
        kept = np.isfinite(post).all(axis=1)
        return Pairs(moved(pairs.pre)[kept], post[kept])

    def _labels(self, cube: Cube, field: Field, output: Region, turn: Orientation, asked: Region) -> Labels | None:
        """The segmentation of the output and as far around as a ball reaches, at its place in the input."""
        if cube.labels is None or not self.parameters.confine_to_labels:
            return None
        reach = max(ceil(self.parameters.blob_radius), ceil(self.parameters.d_blob_radius) if self.parameters.learns_vectors else 0)
        margin = [min(ceil(reach / n), c) for n, c in zip(cube.voxel_size, turn.shape(self.geometry.context), strict=True)]
        values = turn.array(field.nearest(cube.labels, output.grow(margin, margin)))
        z, y, x = (b - m for b, m in zip(asked.begin, turn.shape(margin), strict=True))
        return Labels(values, (z, y, x))

    def _kept(self, cube: Cube, field: Field, output: Region, turn: Orientation) -> Array | None:
        """Voxels of the output that are learned from; None for all.

        A turned output reaches beyond the place it was drawn at: what it shows of where targets are not known is left out.
        """
        known = field.nearest(Volume(cube.known, np.dtype(np.uint8), lambda r: np.ones(r.shape, np.uint8)), output)
        kept: Array | None = None if known.all() else turn.array(known != 0)
        for volume, inside in ((cube.mask, True), (cube.validation_mask, False)):
            if volume is not None:
                one = turn.array((field.nearest(volume, output) != 0) == inside)
                kept = one if kept is None else kept & one
        return kept

    def _indicator(
        self, cube: Cube, field: Field, output: Region, turn: Orientation, *, pairs: Pairs, labels: Labels | None, asked: Region
    ) -> Array:
        if cube.indicator is not None:
            return turn.array(field.nearest(cube.indicator, output) > 0).astype(np.float32)
        if self.parameters.blob_mode == "peak":
            return rasterize_peaks(pairs.post, asked, cube.voxel_size, radius=self.parameters.blob_radius)
        return rasterize_points(pairs.post, asked, cube.voxel_size, radius=self.parameters.blob_radius, labels=labels)

    def _vectors(self, cube: Cube, pairs: Pairs, labels: Labels | None, asked: Region) -> tuple[Array, Array]:
        if not self.parameters.learns_vectors or cube.indicator is not None:
            return np.zeros((3, *asked.shape), np.float32), np.zeros(asked.shape, np.uint8)
        return partner_vectors(
            pairs.post,
            pairs.pre,
            asked,
            cube.voxel_size,
            radius=self.parameters.d_blob_radius,
            target_context=self.parameters.trg_context,
            labels=labels,
        )


def scaled(raw: Array, name: str, dtype: "np.dtype[Any] | None" = None) -> Array:
    """Raw data in [0, 1], float32: integers by the range of their type (spec 1.5).

    Parameters
    ----------
    dtype : the type it was stored with, where it was interpolated since.

    Raises
    ------
    InputError : floats outside [0, 1], or another type.
    """
    stored = raw.dtype if dtype is None else dtype
    if stored.name in FULL_SCALE:
        return raw.astype(np.float32) * np.float32(1 / FULL_SCALE[stored.name])
    if stored.kind != "f":
        raise InputError(f"cube {name}: raw data of type {stored}; uint8, uint16, or floats in [0, 1] are wanted")
    if raw.size and (raw.min() < 0 or raw.max() > 1):
        raise InputError(f"cube {name}: raw floats from {raw.min():.4g} to {raw.max():.4g}; scale them to [0, 1]")
    return raw.astype(np.float32)
