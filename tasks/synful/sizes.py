"""Sizes of the U-Net: what output an input gives, how tiles are aligned to its pooling, what a forward pass costs (Synful spec 3.1-3.4).

Pure arithmetic, axis by axis, in voxels, z y x. The network has only valid convolutions, so each axis follows from itself alone:

    left pass of a level       n - 2 (k - 1)
    pooling                    n // f
    up                         n f, with `crop_to_factor` cropped to (whole factors of what is above) + 2 (k - 1)
    right pass of a level      n - 2 (k - 1)

An input is *exact* where every pooling divides. Exact lengths of an axis are one residue class of the product of its factors, and so are
their outputs; between them poolings would drop voxels and shift the coarse levels against the fine ones.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from blockwise.errors import InputError

Triple = tuple[int, int, int]
AXES = "zyx"


@dataclass(frozen=True)
class Axis:
    """Lengths along one axis, from input to output; `left` before each pooling, `up` after each upsampling and its crop."""

    input: int
    left: tuple[int, ...]
    bottom: int
    whole: tuple[int, ...]
    up: tuple[int, ...]
    right: tuple[int, ...]

    @property
    def output(self) -> int:
        return self.right[0] if self.right else self.bottom


@dataclass(frozen=True)
class Walk:
    """Shapes within the network for one input, z y x, by level; level 0 is the finest.

    Parameters
    ----------
    left : after the left pass of a level, before its pooling.
    bottom : after the lowest pass.
    whole : after the upsampling to a level.
    up : the part of it that is used, smaller only with `crop_to_factor`.
    right : after the right pass of a level; `right[0]` is the output.
    """

    input: Triple
    left: tuple[Triple, ...]
    bottom: Triple
    whole: tuple[Triple, ...]
    up: tuple[Triple, ...]
    right: tuple[Triple, ...]

    @property
    def output(self) -> Triple:
        return self.right[0] if self.right else self.bottom

    def skip(self, level: int) -> Triple:
        """Where the window of `left[level]` begins that meets `up[level]`: in the middle."""
        return _middle(self.left[level], self.up[level])

    def inner(self, level: int) -> Triple:
        """Where the used part of `whole[level]` begins."""
        return _middle(self.whole[level], self.up[level])


@dataclass(frozen=True)
class NetworkShape:
    """What decides sizes and cost of a U-Net.

    Parameters
    ----------
    factors : of each pooling, z y x, finest first.
    kernels : of the convolutions of each level, one more than factors; odd lengths.
    feature_maps : of each level, as many as kernels.
    decoders : 1, or 2 where mask and vectors have a right path each.
    crop_to_factor : crop what is upsampled to whole factors, as later versions of the original do; never for the published networks.

    Raises
    ------
    InputError : counts that do not fit, a factor below 1, an even kernel.
    """

    factors: tuple[Triple, ...]
    kernels: tuple[Triple, ...] = ()
    feature_maps: tuple[int, ...] = ()
    decoders: int = 1
    crop_to_factor: bool = False

    def __post_init__(self) -> None:
        levels = len(self.factors) + 1
        if not self.kernels:
            object.__setattr__(self, "kernels", ((3, 3, 3),) * levels)
        if not self.feature_maps:
            object.__setattr__(self, "feature_maps", (1,) * levels)
        for name, values in (("kernels", self.kernels), ("feature maps", self.feature_maps)):
            if len(values) != levels:
                raise InputError(f"{len(values)} {name} for {levels} levels ({len(self.factors)} poolings): give one per level")
        if any(f < 1 for factor in self.factors for f in factor):
            raise InputError(f"pooling factors {list(self.factors)}: 1 or more is wanted on every axis")
        if even := [k for k in self.kernels if any(n < 1 or n % 2 == 0 for n in k)]:
            raise InputError(f"kernel {list(even[0])}: odd lengths only, an even kernel would shift its output by half a voxel")

    @property
    def levels(self) -> int:
        return len(self.factors)

    def lost(self, level: int) -> Triple:
        """Voxels that the two convolutions of a level's pass take off."""
        return _triple(2 * (k - 1) for k in self.kernels[level])

    @cached_property
    def product(self) -> Triple:
        """Product of all pooling factors: the network gives the same for an input moved by a multiple of it (spec 3.3)."""
        return _triple(prod(f[axis] for f in self.factors) for axis in range(3))

    @cached_property
    def smallest_input(self) -> Triple:
        """The smallest exact input."""
        return _triple(self._smallest(axis) for axis in range(3))

    @cached_property
    def smallest_output(self) -> Triple:
        """What the smallest exact input gives; further exact outputs are larger by multiples of `product`."""
        return self.walk(self.smallest_input).output

    @property
    def field_of_view(self) -> Triple:
        """Input less output plus one: 37 x 213 x 213 for the published networks."""
        return _triple(i - o + 1 for i, o in zip(self.smallest_input, self.smallest_output, strict=True))

    @cached_property
    def before(self) -> Triple:
        """Voxels of an exact input in front of its first output voxel."""
        if not self.factors:
            return _triple(k - 1 for k in self.kernels[0])
        walk = self.walk(self.smallest_input)
        return _triple(n + skip for n, skip in zip(self.lost(0), walk.skip(0), strict=True))

    @cached_property
    def aligned_context(self) -> tuple[tuple[int, int], ...]:
        """(before, after) per axis: what a core of whole products is read with, the same for every core."""
        return tuple(
            (b, i + _round_up(p - o, p) - p - b)
            for b, p, i, o in zip(self.before, self.product, self.smallest_input, self.smallest_output, strict=True)
        )

    def aligned_input(self, core: Sequence[int]) -> tuple[Triple, Triple, Triple]:
        """How a core of an aligned tiling is predicted.

        Reading the core grown by (before, after) gives an exact input whose output begins with the core. Cores that begin at multiples
        of `product` share one pooling phase, so that their predictions do not depend on the tiling.

        Returns
        -------
        input shape, voxels before the core, voxels after it.

        Raises
        ------
        InputError : a core that is not whole products.
        """
        wanted = _round_up_all(core, self.product)
        if tuple(core) != wanted or min(core) < 1:
            raise InputError(
                f"core of {_by(core)} voxels: an aligned tiling needs multiples of the pooling, {_by(self.product)}; the next is "
                f"{_by(max(w, p) for w, p in zip(wanted, self.product, strict=True))}"
            )
        before, after = (_triple(c[side] for c in self.aligned_context) for side in (0, 1))
        return _triple(b + c + a for b, c, a in zip(before, core, after, strict=True)), before, after

    def output_shape(self, input_shape: Sequence[int]) -> Triple:
        """Shape that an input gives.

        Raises
        ------
        InputError : too small, or not exact where `crop_to_factor` asks for it; names the nearest exact sizes.
        """
        return self.walk(input_shape).output

    def input_shape_for(self, output_shape: Sequence[int]) -> Triple:
        """The exact input that gives an output.

        Raises
        ------
        InputError : no exact input gives it; names the nearest outputs.
        """
        for axis, wanted in enumerate(output_shape):
            first, step = self.smallest_output[axis], self.product[axis]
            if wanted < first or (wanted - first) % step:
                near = _nearest(wanted, first, step)
                raise InputError(f"output of {_by(output_shape)} voxels: along {AXES[axis]} the network gives {near}, not {wanted}")
        return _triple(w - o + i for w, o, i in zip(output_shape, self.smallest_output, self.smallest_input, strict=True))

    def walk(self, input_shape: Sequence[int]) -> Walk:
        """Shapes of all levels for an input.

        Raises
        ------
        InputError : as `output_shape`.
        """
        axes = [self._axis(axis, int(length)) for axis, length in enumerate(input_shape)]
        for axis, (length, found) in enumerate(zip(input_shape, axes, strict=True)):
            if isinstance(found, str):
                near = _nearest(int(length), self._smallest(axis), self.product[axis])
                raise InputError(f"input of {_by(input_shape)} voxels: {length} along {AXES[axis]} {found}; the nearest are {near}")
        levels = range(self.levels)
        named = {n: tuple(_triple(getattr(a, n)[i] for a in axes) for i in levels) for n in ("left", "whole", "up", "right")}
        return Walk(_triple(input_shape), bottom=_triple(a.bottom for a in axes), **named)

    def along(self, axis: int, length: int) -> Axis:
        """Lengths along one axis, of an input known to be long enough.

        Raises
        ------
        InputError : it is not.
        """
        found = self._axis(axis, length)
        if isinstance(found, str):
            raise InputError(f"{length} voxels along {AXES[axis]}: {found}")
        return found

    def _smallest(self, axis: int) -> int:
        length = 1
        while not self._exact(axis, length):
            length += 1
        return length

    def _exact(self, axis: int, length: int) -> bool:
        found = self._axis(axis, length)
        return not isinstance(found, str) and all(n % f[axis] == 0 for n, f in zip(found.left, self.factors, strict=True))

    def _axis(self, axis: int, length: int) -> Axis | str:
        """Lengths along one axis, or what is wrong with the input's."""
        lost = [self.lost(level)[axis] for level in range(self.levels + 1)]
        factors = [f[axis] for f in self.factors]
        left, whole, up, right = [], [], [], []
        n = length - lost[0]
        for factor, next_lost in zip(factors, lost[1:], strict=True):
            left.append(n)
            if self.crop_to_factor and n % factor:
                return f"leaves {n} to pool by {factor}, which does not divide it"
            n = n // factor - next_lost
        bottom = n
        for level in reversed(range(self.levels)):
            whole.append(n * factors[level])
            n = self._cropped(whole[-1], prod(factors[level:]), lost[level])
            up.append(n)
            n -= lost[level]
            right.append(n)
        if min(bottom, *left, *up, *right, length) < 1:
            return "is too short"
        return Axis(length, tuple(left), bottom, tuple(whole[::-1]), tuple(up[::-1]), tuple(right[::-1]))

    def _cropped(self, length: int, factor: int, lost: int) -> int:
        return (length - lost) // factor * factor + lost if self.crop_to_factor else length


def _middle(outer: Triple, inner: Triple) -> Triple:
    return _triple((a - b) // 2 for a, b in zip(outer, inner, strict=True))


def _nearest(length: int, first: int, step: int) -> str:
    below = max(first, first + (length - first) // step * step)
    return f"{below} and {below + step}"


def _round_up(n: int, step: int) -> int:
    return -(-n // step) * step


def _round_up_all(lengths: Sequence[int], steps: Sequence[int]) -> Triple:
    return _triple(_round_up(n, s) for n, s in zip(lengths, steps, strict=True))


def _triple(values: Iterable[int]) -> Triple:
    z, y, x = (int(v) for v in values)
    return z, y, x


def _by(shape: Iterable[int]) -> str:
    return " x ".join(str(n) for n in shape)
