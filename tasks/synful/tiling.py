"""How a volume is tiled for the network: cores, what is read around them, and how any box is predicted with the same values.

    aligned   cores are multiples of the pooling and begin at multiples of it, so that all tiles share one phase and predictions do not
              depend on the tiling (spec 3.3)
    compat    the original's tiles: the output of one fixed input, side by side, whatever their phase (spec 1.2, 2)

In both, `halo` voxels of every tile's output beyond its core are there for the extraction, where predictions are not kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import lcm

from blockwise.errors import ConfigError
from blockwise.geometry import Region
from blockwise.grid import GridSpec
from tasks.synful.sizes import NetworkShape, Triple


@dataclass(frozen=True, slots=True)
class Tiling:
    """Tiles of one or two networks over a volume, in voxels.

    Parameters
    ----------
    networks : shapes.
    core : what a block owns.
    halo : output around it that is extracted with it.
    aligned : see above.
    """

    networks: tuple[NetworkShape, ...]
    core: Triple
    halo: Triple = (0, 0, 0)
    aligned: bool = True

    def __post_init__(self) -> None:
        if self.aligned:
            for name, lengths in (("[blocks] shape", self.core), ("extraction context", self.halo)):
                if any(n % p for n, p in zip(lengths, self.step, strict=True)):
                    near = [max(p, round(n / p) * p) for n, p in zip(lengths, self.step, strict=True)]
                    raise ConfigError(
                        f"{name} {list(lengths)} voxels: with grid = 'aligned' it is a multiple of the pooling {list(self.step)}, "
                        f"e.g. {near}; grid = 'compat' has the original's tiles, with seams"
                    )

    @property
    def step(self) -> Triple:
        """Boxes of this lattice, from voxel 0 on, are predicted alike whatever tile they are part of."""
        return common_product(self.networks) if self.aligned else self.core

    @property
    def output(self) -> Triple:
        """Core and halo."""
        z, y, x = (c + 2 * h for c, h in zip(self.core, self.halo, strict=True))
        return z, y, x

    def contexts(self, network: NetworkShape) -> tuple[tuple[int, int], ...]:
        """(before, after) of a network per axis, beyond the output that is used."""
        if self.aligned:
            return network.aligned_context
        inputs = network.input_shape_for(self.output)
        return tuple((b, i - o - b) for b, i, o in zip(network.before, inputs, self.output, strict=True))

    @property
    def context(self) -> tuple[tuple[int, int], ...]:
        """The largest of all networks."""
        every = [self.contexts(n) for n in self.networks]
        return tuple((max(c[axis][0] for c in every), max(c[axis][1] for c in every)) for axis in range(3))

    def crop(self, network: NetworkShape) -> tuple[tuple[int, int], ...]:
        """What a network leaves at both ends of an input that was read with `context`."""
        mine = self.contexts(network)
        return tuple((a - b, c - d) for (a, c), (b, d) in zip(self.context, mine, strict=True))

    def spec(self) -> GridSpec:
        """The grid: a block reads its core, the halo, and the networks' context."""
        return GridSpec(self.core, tuple((b + h, a + h) for (b, a), h in zip(self.context, self.halo, strict=True)), "overhang")

    def pieces(self, region: Region) -> Iterator[tuple[Region, Region]]:
        """Boxes of the lattice that cover a region, none larger than a tile: (what it predicts, what it reads)."""
        step = self.step
        largest = [max(1, n // s) * s for n, s in zip(self.output if self.aligned else self.core, step, strict=True)]
        lows = [b // s * s for b, s in zip(region.begin, step, strict=True)]
        ends = [-(-e // s) * s for e, s in zip(region.end, step, strict=True)]
        for begin in product(*(range(b, e, n) for b, e, n in zip(lows, ends, largest, strict=True))):
            piece = Region(begin, tuple(min(b + n, e) for b, n, e in zip(begin, largest, ends, strict=True)))
            yield piece, self.read_for(piece)

    def read_for(self, piece: Region) -> Region:
        """What is read to predict a box of the lattice; beyond the volume it is padded."""
        halo = (0, 0, 0) if self.aligned else self.halo
        before, after = ([c[side] + h for c, h in zip(self.context, halo, strict=True)] for side in (0, 1))
        return piece.grow(before, after)


def common_product(networks: Sequence[NetworkShape]) -> Triple:
    """The least box that all networks pool whole."""
    z, y, x = (lcm(*(n.product[axis] for n in networks)) for axis in range(3))
    return z, y, x


def in_voxels(length: float | Sequence[float], voxel_size: Sequence[float], step: Sequence[int] = (1, 1, 1)) -> Triple:
    """nm as voxels per axis, rounded up to multiples of `step`."""
    lengths = [float(length)] * 3 if isinstance(length, int | float) else [float(n) for n in length]
    z, y, x = (-(-int(-(-n // v)) // s) * s for n, v, s in zip(lengths, voxel_size, step, strict=True))
    return z, y, x
