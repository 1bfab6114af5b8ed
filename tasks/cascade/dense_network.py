"""The trainable form of Cascade's network: every window of a piece of trace at once (spec 3 and 3.1).

Neighbouring windows share all layers up to the poolings, so the network runs along the piece with poolings of stride 1 and the later
layers dilated; the outputs equal those of the windows taken singly. Layers are 2-D with height 1, channels last, because that is a fifth
faster than 1-D layers on CPUs.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from blockwise.errors import ConfigError

Arrays = tuple[npt.NDArray[np.float32], ...]


def flatten_steps(window: int, filter_sizes: Sequence[int]) -> int:
    """Time steps that reach the last layer: 2 for a window of 64 and filters of 31, 19 and 5.

    Raises
    ------
    ConfigError : the filters are longer than the window allows.
    """
    first, second, third = filter_sizes
    steps = ((window - first - second + 2) // 2 - third + 1) // 2
    if steps < 1:
        raise ConfigError(f"windowsize {window} is too short for filters {list(filter_sizes)}: nothing is left after the second pooling")
    return steps


class DenseNetwork(nn.Module):
    """(pieces, frames) float32 dF/F -> (pieces, frames - window + 1): the answer of the window that starts at each frame.

    Kernels start Glorot-uniform, biases at zero, drawn from `generator`.
    """

    def __init__(
        self,
        window: int = 64,
        filter_sizes: Sequence[int] = (31, 19, 5),
        filter_numbers: Sequence[int] = (30, 40, 50),
        dense_expansion: int = 30,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.window = window
        steps = flatten_steps(window, filter_sizes)
        channels = (1, *filter_numbers)
        shapes = [*zip(channels, filter_numbers, filter_sizes, (1, 1, 2), strict=False), (channels[-1], dense_expansion, 1, 1)]
        shapes.append((dense_expansion, 1, steps, 4))
        self.layers = nn.ModuleList(nn.Conv2d(i, o, (1, k), dilation=(1, d)) for i, o, k, d in shapes)
        for layer in self.layers:
            _glorot(layer, generator)
        self.to(memory_format=torch.channels_last)

    def forward(self, pieces: Tensor) -> Tensor:
        first, second, third, dense, last = self.layers
        x = pieces[:, None, None, :].contiguous(memory_format=torch.channels_last)
        x = second(functional.relu(first(x)))
        x = third(functional.relu(_larger(x[..., :-1], x[..., 1:])))
        x = functional.relu(_larger(x[..., :-2], x[..., 2:]))
        return last(functional.relu(dense(x)))[:, 0, 0, : pieces.shape[1] - self.window + 1]


def _larger(a: Tensor, b: Tensor) -> Tensor:
    """Elementwise maximum; its gradient costs a third of `torch.maximum`'s."""
    return a + functional.relu(b - a)


def _glorot(layer: nn.Module, generator: torch.Generator | None) -> None:
    """Glorot-uniform as Keras counts fans: the last layer is a matrix of (steps x channels) inputs."""
    outputs, inputs, _, taps = layer.weight.shape
    fan_out = outputs if outputs == 1 else outputs * taps
    limit = math.sqrt(6 / (inputs * taps + fan_out))
    with torch.no_grad():
        layer.weight.uniform_(-limit, limit, generator=generator)
        layer.bias.zero_()


def to_keras(network: DenseNetwork) -> Arrays:
    """Kernel and bias of the five layers in Keras' shapes and order: (31, 1, 30), (30,), ..., (60, 1), (1,)."""
    arrays: list[npt.NDArray[np.float32]] = []
    for index, layer in enumerate(network.layers):
        kernel = layer.weight.detach()[:, :, 0].permute(2, 1, 0)
        if index == 3:
            kernel = kernel[0]
        if index == 4:
            kernel = kernel.reshape(-1, 1)
        arrays += [kernel.contiguous().numpy().copy(), layer.bias.detach().numpy().copy()]
    return tuple(arrays)


def from_keras(arrays: Sequence[npt.NDArray[np.float32]], window: int = 64) -> DenseNetwork:
    """The inverse of `to_keras`; layer sizes are taken from the shapes."""
    kernels = arrays[0::2]
    network = DenseNetwork(window, [k.shape[0] for k in kernels[:3]], [k.shape[2] for k in kernels[:3]], kernels[3].shape[1])
    with torch.no_grad():
        for layer, kernel, bias in zip(network.layers, kernels, arrays[1::2], strict=True):
            shape = (layer.weight.shape[3], layer.weight.shape[1], layer.weight.shape[0])
            layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)).reshape(shape).permute(2, 1, 0)[:, :, None])
            layer.bias.copy_(torch.from_numpy(np.ascontiguousarray(bias)))
    return network
