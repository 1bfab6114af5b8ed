"""The network of Cascade in torch, evaluated densely: every frame of a trace at once instead of window by window (Cascade spec 3.1).

Windows of adjacent frames share all work up to the poolings, so a pooling of stride 2 becomes a running maximum and what follows it a
convolution with holes. Behind the first pooling a result looks two frames apart only, behind the second four, so even and odd
frames run apart and the holes close:

    x ── conv1 ──┬─ even ─┬─ conv2 ─┬─ max of pairs from an even frame ── the same again: conv3, max, dense, output ──┬─ rates
                 └─ odd  ─┘         └─ max of pairs from an odd frame  ── the same again                             ──┘

Two things make it fast. A convolution is one batched matrix product without copying: windows that start their length apart do not
overlap, so the frames themselves are the rows of a matrix; batch element p holds every window a multiple of the length from p.
And both halves of a convolution need three products of half its length, not four (`convolve_halves`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from tasks.cascade.checkpoint import Float32, Layer, Weights

Halves = tuple[Tensor, Tensor]


PAIRED_WIDTH = 40
"""Channels up to which two frames' results stand in one row of a product: 80 columns fill vector registers, 40 waste a sixth of them."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A convolution's kernel as a matrix that gives `together` neighbouring frames per row.

    Parameters
    ----------
    matrix : ((taps + together - 1) * in, together * out); the kernel, then the kernel one frame later.
    """

    matrix: Tensor
    taps: int
    together: int

    @classmethod
    def of(cls, kernel: Tensor, device: str) -> Self:
        taps, channels, out = kernel.shape
        together = 2 if out <= PAIRED_WIDTH else 1
        matrix = kernel.new_zeros(taps + together - 1, channels, together, out)
        for later in range(together):
            matrix[later : later + taps, :, later] = kernel
        return cls(matrix.flatten(2).flatten(0, 1).to(device), taps, together)

    @property
    def single(self) -> Tensor:
        """(taps * in, out), for one frame."""
        rows, columns = self.matrix.shape
        return self.matrix[: rows // (self.taps + self.together - 1) * self.taps, : columns // self.together]


@dataclass(frozen=True, slots=True)
class HalvedKernel:
    """A kernel of 2 n + 1 taps for `convolve_halves`: even taps (n + 1), odd taps (n), and both with the odd ones one later (n + 1)."""

    even: Kernel
    odd: Kernel
    both: Kernel

    @classmethod
    def of(cls, layer: Layer, device: str) -> Self:
        kernel = torch.from_numpy(layer.kernel.copy())
        kernel = torch.cat([kernel, kernel.new_zeros(_slack(layer), *kernel.shape[1:])])
        both = kernel[::2].clone()
        both[1:] += kernel[1::2]
        return cls(*(Kernel.of(part, device) for part in (kernel[::2], kernel[1::2], both)))


@dataclass(frozen=True, slots=True)
class Network:
    """One member's weights on a device.

    Parameters
    ----------
    conv1, dense : (taps, out) and (in, out) float32.
    output : (expansion, steps) float32, one column per time step.
    biases : of conv1, conv2, conv3 and dense.
    output_bias : the last bias.
    reach : frames that one output depends on.
    slack : frames that kernels filled up with taps of weight 0 look further.
    """

    conv1: Tensor
    conv2: HalvedKernel
    conv3: HalvedKernel
    dense: Tensor
    output: Tensor
    biases: tuple[Tensor, ...]
    output_bias: float
    reach: int
    slack: int

    @classmethod
    def of(cls, weights: Weights, device: str = "cpu") -> Self:
        def move(values: Float32) -> Tensor:
            return torch.from_numpy(values.copy()).to(device)

        return cls(
            conv1=move(weights.conv1.kernel[:, 0]),
            conv2=HalvedKernel.of(weights.conv2, device),
            conv3=HalvedKernel.of(weights.conv3, device),
            dense=move(weights.dense.kernel),
            output=move(weights.output.kernel.reshape(weights.steps, -1).T),
            biases=tuple(move(layer.bias) for layer in weights.layers[:4]),
            output_bias=float(weights.output.bias[0]),
            reach=weights.reach,
            slack=_slack(weights.conv2) + 2 * _slack(weights.conv3),
        )


def _slack(layer: Layer) -> int:
    """Taps that a kernel lacks to an odd number of at least 3."""
    taps = len(layer.kernel)
    return max(3, taps | 1) - taps


def dense_rates(x: Tensor, network: Network) -> Tensor:
    """Output of every window of `x`.

    Parameters
    ----------
    x : (frames,) float32, at least `network.reach` frames.

    Returns
    -------
    (frames - reach + 1,) float32; element i belongs to the window that starts at frame i.
    """
    bias1, bias2, bias3, bias4 = network.biases
    rates = x.new_empty(len(x) - network.reach + 1)
    x = torch.cat([x, x.new_zeros(network.slack)])
    even, odd = (torch.mm(x[n:].unfold(0, len(network.conv1), 2), network.conv1).add_(bias1).relu_() for n in (0, 1))
    for n, pair in enumerate(_pairs(convolve_halves((even, odd), network.conv2))):
        m1 = _pooled(pair, bias2, slice(0, None, 2)), _pooled(pair, bias2, slice(1, None, 2))
        for m, later in enumerate(_pairs(convolve_halves(m1, network.conv3))):
            hidden = torch.mm(_pooled(later, bias3, slice(None)), network.dense).add_(bias4).relu_()
            mine = rates[n + 2 * m :: 4]
            steps = torch.mm(hidden, network.output).T
            mine[:] = sum(step[i : i + len(mine)] for i, step in enumerate(steps)) + network.output_bias
    return rates


def _pairs(halves: Halves) -> Iterator[Halves]:
    """Neighbours that a pooling of 2 compares: those from even frames on, then those from odd frames on."""
    even, odd = halves
    yield even[: len(odd)], odd[: len(even)]
    yield odd[: len(even) - 1], even[1 : len(odd) + 1]


def _pooled(pair: Halves, bias: Tensor, frames: slice) -> Tensor:
    return torch.maximum(pair[0][frames], pair[1][frames]).add_(bias).relu_()


def convolve_halves(x: Halves, kernel: HalvedKernel) -> Halves:
    """Cross-correlation along frames that are given, and returned, as the even and the odd ones.

    With E, O the even and odd frames and e, o the kernel's even and odd taps, o' the odd ones one later: the even results are
    E*e + O*o, the odd ones O*e + E*o' = (E + O)*(e + o') - E*e - O*o', where O*o' is O*o one later (Karatsuba's product).
    """
    even, odd = x
    a, b = convolve(even, kernel.even), convolve(odd, kernel.odd)
    c = convolve(even[: len(odd)] + odd[: len(even)], kernel.both)
    c.sub_(a[: len(c)]).sub_(b[1 : len(c) + 1])
    return a.add_(b[: len(a)]), c


def convolve(x: Tensor, kernel: Kernel) -> Tensor:
    """Cross-correlation along the frames, only where the kernel fits.

    Parameters
    ----------
    x : (frames, in), contiguous.

    Returns
    -------
    (frames - taps + 1, out)
    """
    channels, (width, out) = x.shape[1], kernel.matrix.shape
    count = max(0, len(x) - kernel.taps + 1)
    phases = -(-width // (channels * kernel.together))
    rows = count // (kernel.together * phases)
    done = rows * phases * kernel.together
    y = x.new_empty(count, out // kernel.together)
    if rows:
        step = channels * kernel.together
        windows = x.as_strided((phases, rows, width), (step, phases * step, 1))
        torch.bmm(windows, kernel.matrix.expand(phases, -1, -1), out=y.as_strided((phases, rows, out), (out, phases * out, 1)))
    if done < count:
        windows = x[done:].as_strided((count - done, kernel.taps * channels), (channels, 1))
        torch.mm(windows, kernel.single, out=y[done:])
    return y


def windowed_rates(windows: Tensor, weights: Weights) -> Tensor:
    """The same network window by window, as it was trained: the definition that `dense_rates` is held against.

    Parameters
    ----------
    windows : (count, windowsize) float32.

    Returns
    -------
    (count,) float32
    """
    from torch.nn import functional as F

    def conv(x: Tensor, layer: Layer) -> Tensor:
        kernel = torch.from_numpy(layer.kernel).permute(2, 1, 0)
        return F.relu(F.conv1d(x, kernel, torch.from_numpy(layer.bias)))

    x = F.max_pool1d(conv(conv(windows[:, None], weights.conv1), weights.conv2), 2)
    x = F.max_pool1d(conv(x, weights.conv3), 2).transpose(1, 2)
    x = F.relu(x @ torch.from_numpy(weights.dense.kernel) + torch.from_numpy(weights.dense.bias))
    return (x.flatten(1) @ torch.from_numpy(weights.output.kernel) + torch.from_numpy(weights.output.bias))[:, 0]
