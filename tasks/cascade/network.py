"""The network of Cascade in torch, evaluated densely: every frame of a trace at once instead of window by window (Cascade spec 3.1).

Windows of adjacent frames share all work up to the poolings, so the pooling of stride 2 becomes a running maximum and what follows
it a convolution with holes. Everything after the first pooling looks two frames apart only, so even and odd frames run apart and the
holes close:

    x ── conv1, relu ── conv2 ──┬── even: max, relu ── conv3 ── max, relu ── dense, relu ── output ──┬── interleave
                                └── odd:  the same                                                  ──┘

A convolution of `taps` is one batched matrix product without copying: windows that start `taps` frames apart do not overlap, so the
frames themselves are the rows of a matrix; batch element p holds the windows that start at p, p + taps, p + 2 taps, ...
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from tasks.cascade.checkpoint import Layer, Weights


@dataclass(frozen=True, slots=True)
class Network:
    """One member's weights as matrices on a device.

    Parameters
    ----------
    kernels : conv1, conv2, conv3 as (taps * in, out) and dense as (in, out), float32.
    biases : the same layers' biases.
    output : (expansion, steps) float32, one column per time step.
    output_bias : the last bias.
    """

    kernels: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    output: Tensor
    output_bias: float

    @classmethod
    def of(cls, weights: Weights, device: str = "cpu") -> Self:
        hidden = weights.layers[:4]
        output = torch.from_numpy(weights.output.kernel.reshape(weights.steps, -1).T.copy()).to(device)
        kernels = tuple(_matrix(layer).to(device) for layer in hidden)
        biases = tuple(torch.from_numpy(layer.bias.copy()).to(device) for layer in hidden)
        return cls(kernels, biases, output, float(weights.output.bias[0]))


def _matrix(layer: Layer) -> Tensor:
    return torch.from_numpy(layer.kernel.reshape(-1, layer.kernel.shape[-1]).copy())


def dense_rates(x: Tensor, network: Network) -> Tensor:
    """Output of every window of `x`.

    Parameters
    ----------
    x : (frames,) float32.

    Returns
    -------
    (frames - reach + 1,) float32; element i belongs to the window that starts at frame i.
    """
    conv1, conv2, conv3, dense = network.kernels
    bias1, bias2, bias3, bias4 = network.biases
    c1 = convolve(x[:, None], conv1).add_(bias1).relu_()
    c2 = convolve(c1, conv2)
    steps = network.output.shape[1]
    rates = c2.new_empty(c2.shape[0] - 2 * (conv3.shape[0] // conv2.shape[1]) - 4 * steps + 3)
    for parity in (0, 1):
        first, second = c2[parity:-1:2], c2[parity + 1 :: 2]
        c3 = convolve(torch.maximum(first, second).add_(bias2).relu_(), conv3)
        m2 = torch.maximum(c3[:-1], c3[1:]).add_(bias3).relu_()
        z = torch.mm(torch.mm(m2, dense).add_(bias4).relu_(), network.output)
        count = z.shape[0] - 2 * (steps - 1)
        rates[parity::2] = sum(z[2 * step : 2 * step + count, step] for step in range(steps)) + network.output_bias
    return rates


def convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """Cross-correlation along the frames, only where the kernel fits.

    Parameters
    ----------
    x : (frames, in), contiguous.
    kernel : (taps * in, out).

    Returns
    -------
    (frames - taps + 1, out)
    """
    channels, width = x.shape[1], kernel.shape[0]
    taps = width // channels
    frames = x.shape[0] - taps + 1
    rows = frames // taps
    y = x.new_empty(frames, kernel.shape[1])
    if rows:
        windows = x.as_strided((taps, rows, width), (channels, width, 1))
        phases = y.as_strided((taps, rows, kernel.shape[1]), (kernel.shape[1], taps * kernel.shape[1], 1))
        torch.bmm(windows, kernel.expand(taps, -1, -1), out=phases)
    rest = x[rows * taps :]
    y[rows * taps :] = rest.as_strided((frames - rows * taps, width), (channels, 1)) @ kernel
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
