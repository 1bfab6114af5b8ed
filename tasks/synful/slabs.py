"""The forward pass of the U-Net without gradients, in slabs along z, so that few maps exist at any time.

A left path leaves its pooled maps and the window that the right path will use; a right path leaves its output, the finest one only what
the heads make of it. On a CPU maps lie channels last, which oneDNN takes as it is: plain maps it copies into blocks of 16 channels, half
as fast and four times as large where there are four. `memory.peak_bytes` states the memory that this needs.
"""

import operator
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tasks.synful.memory import slab_sections
from tasks.synful.sizes import Triple, Walk

if TYPE_CHECKING:
    from tasks.synful.network import Decoder, UNet


def forward(network: "UNet", x: Tensor, walk: Walk) -> dict[str, Tensor]:
    """Values of each head for an input (n, 1, z, y, x) whose shapes are `walk`'s."""
    levels, skips = network.shape.levels, []
    for level in range(levels):
        x, skip = _left(network, level, x, walk)
        skips.append(skip)
    bottom: list[Tensor] = [network.left[-1](x)]
    del x
    found: dict[str, Tensor] = {}
    for index, decoder in enumerate(network.decoders):
        last = index == len(network.decoders) - 1
        take = list.pop if last else operator.itemgetter(-1)
        y = take(bottom)
        for level in reversed(range(1, levels)):
            y = _Growing.of(_right(network, decoder, level, y, skips.pop() if last else skips[level], walk), walk.right[level][0])
        parts = _right(network, decoder, 0, y, skips[0], walk) if levels else [y]
        found |= _headed(network, index, parts, walk)
    return found


def convolve(x: Tensor, convolution: nn.Conv3d) -> Tensor:
    """A valid convolution; of one channel on a CPU, taps along an axis are made channels, which is three times as fast."""
    weight, bias = convolution.weight, convolution.bias
    if x.device.type != "cpu":
        return nn.functional.conv3d(x, weight, bias)
    axis = next((n for n in (2, 3, 4) if weight.shape[n] > 1), None)
    if x.shape[1] == 1 and axis is not None:
        length = x.shape[axis] - weight.shape[axis] + 1
        x = torch.stack([x[:, 0].narrow(axis - 1, tap, length) for tap in range(weight.shape[axis])], -1).permute(0, 4, 1, 2, 3)
        weight = weight.transpose(1, axis)
    if x.dtype == torch.float32 and torch.backends.mkldnn.is_available() and not torch.is_autocast_enabled("cpu"):
        # asked for by name: conv3d takes a path ten times slower and larger where channels * sections * rows are 20480 or fewer
        return torch.mkldnn_convolution(x, weight, bias, (0, 0, 0), (1, 1, 1), (1, 1, 1), 1)
    return nn.functional.conv3d(x, weight, bias)


def window(x: Tensor, begin: Triple, size: Triple) -> Tensor:
    """The part of maps that begins there, z y x."""
    (z, y, x_), (depth, height, width) = begin, size
    return x[:, :, z : z + depth, y : y + height, x_ : x_ + width]


def _left(network: "UNet", level: int, x: Tensor, walk: Walk) -> tuple[Tensor, Tensor]:
    """Pooled maps of a level, and the window of its maps that the right path uses."""
    factor, lost = network.shape.factors[level], network.shape.lost(level)[0]
    (depth, *plane), begin, size = walk.left[level], walk.skip(level), walk.up[level]
    pooled, kept = _Growing(depth // factor[0]), _Growing(size[0])
    n = int(slab_sections(network.shape.feature_maps[level], plane, factor[0], x.device.type))
    for a in range(0, depth, n):
        maps = network.left[level](x[:, :, a : min(depth, a + n) + lost])
        if maps.shape[2] >= factor[0]:
            pooled.add(nn.functional.max_pool3d(maps, factor))
        top, bottom = max(a, begin[0]), min(a + maps.shape[2], begin[0] + size[0])
        if top < bottom:
            kept.add(window(maps, (top - a, *begin[1:]), (bottom - top, *size[1:])))
        del maps  # before the next slab's
    return pooled.maps, kept.maps


def _right(network: "UNet", decoder: "Decoder", level: int, below: Tensor, skip: Tensor, walk: Walk) -> Iterator[Tensor]:
    """Maps of a level of a right path, slab by slab."""
    factor, lost, inner = network.shape.factors[level][0], network.shape.lost(level)[0], walk.inner(level)
    depth, *plane = walk.right[level]
    n = int(slab_sections(2 * network.shape.feature_maps[level], plane, 1, below.device.type))
    for a in range(0, depth, n):
        count = min(depth - a, n) + lost
        first = (a + inner[0]) // factor
        up = torch.relu_(decoder.up[level](below[:, :, first : -(-(a + inner[0] + count) // factor)]))
        up = window(up, (a + inner[0] - first * factor, *inner[1:]), (count, *walk.up[level][1:]))
        both = torch.cat([skip[:, :, a : a + count], up], 1)
        del up
        yield decoder.right[level](both)
        del both


def _headed(network: "UNet", decoder: int, parts: Iterable[Tensor], walk: Walk) -> dict[str, Tensor]:
    found = {name: _Growing(walk.output[0], torch.contiguous_format) for name in network.heads_of(decoder)}
    for part in parts:
        for name, growing in found.items():
            growing.add(network.heads[name](part))
        del part
    return {name: growing.maps for name, growing in found.items()}


class _Growing:
    """Maps of a number of sections that are filled from the top."""

    def __init__(self, depth: int, memory_format: torch.memory_format | None = None) -> None:
        self.depth, self.filled, self.memory_format = depth, 0, memory_format

    def add(self, part: Tensor) -> None:
        if not self.filled:
            lies = torch.channels_last_3d if part.device.type == "cpu" else torch.contiguous_format
            shape = (*part.shape[:2], self.depth, *part.shape[3:])
            self.maps = torch.empty(shape, dtype=part.dtype, device=part.device, memory_format=self.memory_format or lies)
        self.maps[:, :, self.filled : self.filled + part.shape[2]] = part
        self.filled += part.shape[2]

    @classmethod
    def of(cls, parts: Iterable[Tensor], depth: int) -> Tensor:
        growing = cls(depth)
        for part in parts:
            growing.add(part)
            del part
        return growing.maps
