"""What a forward pass of the U-Net needs of memory and computation, and the largest aligned block that fits (Synful spec 3.4, 15).

Bytes are counted from the maps that exist at each step of `slabs.forward`; times are fitted to single convolutions. Both were measured
with torch 2.13 on one thread of a Xeon with AVX-512: the bytes as the rise of the process's resident set during a forward pass (its
high-water mark, reset before), which was 0.79 to 0.92 of the count for inputs of 42 x 430 x 430 to 168 x 862 x 862 voxels and for one
and two decoders. On a GPU nothing was measured: there the count leaves as much again to the workspaces of the library.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from blockwise.errors import InputError
from tasks.synful.sizes import NetworkShape, Triple

SLAB_BYTES = {"cpu": 48_000_000, "cuda": 1_000_000_000}
"""Of one map of a slab, float32: much more than the overlap of slabs, much less than the whole."""

LEAST_SECTIONS = 8
PEAK_OVER_MAPS = {"cpu": 1.2, "cuda": 2.0}
"""The peak over the sum of maps that exist: what freed maps leave behind, and on a GPU workspaces."""

CANDIDATES = 48
"""Lengths that are tried along an axis."""

Count = npt.NDArray[np.float64]
Lengths = tuple[Count, Count, Count]


def slab_sections(maps: int, plane: Sequence[Any], multiple: int = 1, device: str = "cpu") -> Any:
    """Sections of a slab of so many feature maps, a multiple of the pooling's; numbers, or arrays of them."""
    fit = SLAB_BYTES["cpu" if device == "cpu" else "cuda"] // (4 * maps * prod(plane))
    return -(-np.maximum(LEAST_SECTIONS, fit) // multiple) * multiple


def peak_bytes(shape: NetworkShape, input_shape: Sequence[int], *, item_bytes: int = 4, device: str = "cpu") -> int:
    """Memory that a forward pass needs at its peak: input, maps, outputs and weights, not the libraries.

    Parameters
    ----------
    input_shape : exact, z y x.
    item_bytes : of a value within the network, 2 for bfloat16.
    """
    return int(_Passes.of(shape, [[n] for n in input_shape], device).peak(item_bytes).item())


def largest_input(
    memory_bytes: int,
    shape: NetworkShape,
    *,
    domain: Sequence[int] | None = None,
    halo: Sequence[int] = (0, 0, 0),
    step: Sequence[int] | None = None,
    item_bytes: int = 4,
    device: str = "cpu",
) -> Triple:
    """The core of an aligned tiling that takes least time per voxel among those whose forward pass fits into memory.

    Large blocks waste less on their context, most of all along z, where the context of an anisotropic network is longest against what
    a block has there.

    Parameters
    ----------
    domain : voxels to be predicted, z y x; blocks are not made larger, and what sticks out of it counts as waste.
    halo : voxels that are predicted around a core, too, multiples of `step`; a core is no smaller.
    step : the core is multiples of it, by default of `shape.product`; where two networks are tiled alike, of both products.

    Returns
    -------
    The core; `shape.aligned_input` tells what is read for it and its halo.

    Raises
    ------
    InputError : not even the smallest fits.
    """
    around = [b + a + 2 * h for (b, a), h in zip(shape.aligned_context, halo, strict=True)]
    most = [None] * 3 if domain is None else domain
    cores = [_candidates(s, least, n) for s, least, n in zip(step or shape.product, halo, most, strict=True)]
    passes = _Passes.of(shape, [[n + c for n in lengths] for lengths, c in zip(cores, around, strict=True)], device)
    peak = passes.peak(item_bytes)
    if memory_bytes < (least := peak.min()):
        smallest = " x ".join(str(lengths[0] + c) for lengths, c in zip(cores, around, strict=True))
        context = f" (with {list(halo)} voxels of [options.extract] context around its core)" if any(halo) else ""
        raise InputError(
            f"{_size(memory_bytes)} of memory: the smallest block of this network{context}, an input of {smallest} voxels, needs "
            f"{_size(least)}: set [blocks] memory to that at least"
        )
    grids = np.meshgrid(*cores, indexing="ij")
    done = prod(grids) if domain is None else prod(n / -(-n // g) for n, g in zip(domain, grids, strict=True))
    best = np.where(peak <= memory_bytes, passes.time() / done, np.inf)
    z, y, x = (int(grid.ravel()[best.argmin()]) for grid in grids)
    return z, y, x


def _size(count: float) -> str:
    """Bytes in GB, in MB where that says more; what is needed is rounded up."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{np.ceil(count / 1e6):.0f} MB"


def _candidates(step: int, least: int, most: int | None) -> list[int]:
    """Multiples to try from `least` voxels on: all at first, then sparser ones, none beyond what holds `most` voxels."""
    first = max(1, -(-least // step))
    counts = sorted({first - 1 + round(k) for k in (*range(1, 25), *np.geomspace(24, 400, CANDIDATES - 24))})
    last = counts[-1] if most is None else max(first, -(-most // step))
    return [k * step for k in counts if k < last] + [last * step]


@dataclass(frozen=True)
class _Passes:
    """Forward passes for all inputs of some lengths along z, y and x; every number below is an array over these three."""

    shape: NetworkShape
    device: str
    input: Lengths
    left: tuple[Lengths, ...]
    bottom: Lengths
    whole: tuple[Lengths, ...]
    up: tuple[Lengths, ...]
    right: tuple[Lengths, ...]

    @classmethod
    def of(cls, shape: NetworkShape, inputs: Sequence[Sequence[int]], device: str) -> Self:
        axes = [[shape.along(axis, n) for n in lengths] for axis, lengths in enumerate(inputs)]

        def lengths(name: str, level: int | None = None) -> Lengths:
            found = (np.array([getattr(a, name) if level is None else getattr(a, name)[level] for a in axis], float) for axis in axes)
            z, y, x = (f.reshape([-1 if n == axis else 1 for n in range(3)]) for axis, f in enumerate(found))
            return z, y, x

        levels = range(shape.levels)
        named = {n: tuple(lengths(n, level) for level in levels) for n in ("left", "whole", "up", "right")}
        return cls(shape, device, lengths("input"), bottom=lengths("bottom"), **named)

    @cached_property
    def _pooled(self) -> list[Lengths]:
        return [_over(n, f) for n, f in zip(self.left, self.shape.factors, strict=True)]

    def peak(self, item_bytes: int) -> Count:
        """Bytes at the peak; see `slabs.forward`, whose steps these are."""
        maps, levels = self.shape.feature_maps, range(self.shape.levels)
        skips = [maps[n] * prod(self.up[n]) for n in levels]
        raw = prod(self.input)
        stored = [0.0, *(maps[n] * prod(self._pooled[n]) for n in levels)]
        steps = [stored[n] + stored[n + 1] + sum(skips[: n + 1]) + self._left_slab(n) for n in levels]
        bottom = maps[-1] * prod(self.bottom)
        steps.append(stored[-1] + sum(skips) + 2 * bottom * prod((n + 2) / n for n in self.bottom))
        outputs = 4 * prod(self.right[0] if self.right else self.bottom)
        held = [skips if self.shape.decoders > 1 else skips[: n + 1] for n in levels]
        kept = bottom + outputs / 4 if self.shape.decoders > 1 else 0.0
        for n in levels:
            below = maps[n + 1] * prod(self.right[n + 1]) if n + 1 < self.shape.levels else bottom
            made = maps[n] * prod(self.right[n]) if n else outputs
            steps.append(kept + below + made + sum(held[n]) + self._right_slab(n))
        most = raw + np.maximum.reduce(np.broadcast_arrays(*steps))
        return np.asarray(item_bytes * (PEAK_OVER_MAPS["cpu" if self.device == "cpu" else "cuda"] * most + self._weights()))

    def _left_slab(self, level: int) -> Count:
        """Values of the two convolutions of a slab; the finest also of the taps that are made channels."""
        maps, (depth, *plane) = self.shape.feature_maps[level], self.left[level]
        lost = self.shape.lost(level)
        sections = np.minimum(depth, slab_sections(maps, plane, self.shape.factors[level][0], self.device))
        first = maps * (sections + lost[0] / 2) * prod(n + k / 2 for n, k in zip(plane, lost[1:], strict=True))
        taps = 3 * first / maps if level == 0 else 0.0
        return first + np.maximum(taps, maps * sections * prod(plane))

    def _right_slab(self, level: int) -> Count:
        """Values of a slab: what is upsampled, that beside the skipped maps, and the two convolutions."""
        maps, (depth, *plane) = self.shape.feature_maps[level], self.right[level]
        sections = np.minimum(depth, slab_sections(2 * maps, plane, 1, self.device)) + self.shape.lost(level)[0]
        return maps * sections * (prod(self.whole[level][1:]) + 2 * prod(self.up[level][1:]) + 2 * prod(plane))

    def _weights(self) -> float:
        """Weights, and the largest of them once more as the library lays it out."""
        maps, kernels = self.shape.feature_maps, [prod(k) for k in self.shape.kernels]
        left = [k * m * (m + before) for k, m, before in zip(kernels, maps, (1, *maps), strict=False)]
        right = [k * 3 * m * m + prod(f) * m * above for k, m, above, f in zip(kernels, maps, maps[1:], self.shape.factors, strict=False)]
        return sum(left) + self.shape.decoders * sum(right) + max(left)

    def time(self) -> Count:
        """Nanoseconds of a core: of a voxel of a convolution its products / 100 and 4.5 per channel, in and out."""
        maps, total = self.shape.feature_maps, 0.0
        for level, lengths in enumerate((*self.left, self.bottom)):
            total = total + self._pass(level, lengths, (1, *maps)[level])
        for level, lengths in enumerate(self.right):
            total = total + self.shape.decoders * (self._pass(level, lengths, 2 * maps[level]))
            total = total + self.shape.decoders * prod(self.up[level]) * _voxel(1, maps[level + 1], maps[level])
        return np.asarray(total)

    def _pass(self, level: int, after: Lengths, inputs: int) -> Count:
        maps, taps = self.shape.feature_maps[level], prod(self.shape.kernels[level])
        between = (n + k / 2 for n, k in zip(after, self.shape.lost(level), strict=True))
        return prod(between) * _voxel(taps, inputs, maps) + prod(after) * _voxel(taps, maps, maps)


def _voxel(taps: int, inputs: int, outputs: int) -> float:
    return taps * inputs * outputs / 100 + 4.5 * (inputs + outputs)


def _over(lengths: Lengths, factor: Triple) -> Lengths:
    z, y, x = (n // f for n, f in zip(lengths, factor, strict=True))
    return z, y, x
