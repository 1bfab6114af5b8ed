"""Weights of one trained network: read from Keras .h5 files with h5py alone, read from and written to safetensors.

Layers are found by their order, never by their name: Keras numbers layers through a whole session, so the names differ in every file.
Known forms: a model saved by Keras 1 to 3 as .h5 (`layer_names`, `weight_names` as bytes or str), weights alone in that form,
and the `.weights.h5` of Keras 3.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blockwise.errors import MissingError, ModelError

Float32 = npt.NDArray[np.float32]

ARRAYS = ("conv1", "conv2", "conv3", "dense", "output")
"""Layers with weights, in the order of the network."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Kernel and bias of one layer.

    Parameters
    ----------
    kernel : (taps, in, out) float32 for a convolution, (in, out) for a dense layer; not flipped, channels last.
    bias : (out,) float32.
    """

    kernel: Float32
    bias: Float32


@dataclass(frozen=True, slots=True)
class Weights:
    """One network (Cascade spec 3): three convolutions, a dense layer per time step, a linear output over the flattened steps."""

    conv1: Layer
    conv2: Layer
    conv3: Layer
    dense: Layer
    output: Layer

    def __post_init__(self) -> None:
        ranks = [layer.kernel.ndim for layer in self.layers]
        if ranks != [3, 3, 3, 2, 2]:
            raise ModelError(f"kernels of rank {ranks}; a Cascade network has three convolutions and two dense layers: [3, 3, 3, 2, 2]")
        inputs, outputs = ([layer.kernel.shape[axis] for layer in self.layers] for axis in (-2, -1))
        if [1, *outputs[:3], self.steps * outputs[3]] != inputs or outputs[-1] != 1 or self.steps < 1:
            raise ModelError(f"layers that do not fit together: channels in {inputs}, channels out {outputs}")

    @property
    def layers(self) -> tuple[Layer, ...]:
        return self.conv1, self.conv2, self.conv3, self.dense, self.output

    @property
    def steps(self) -> int:
        """Time steps left after the second pooling, which the output layer joins."""
        return int(self.output.kernel.shape[0] // self.dense.kernel.shape[1])

    @property
    def reach(self) -> int:
        """Frames of a window that the output depends on: the window size, or a little less where pooling drops a remainder."""
        k1, k2, k3 = (layer.kernel.shape[0] for layer in self.layers[:3])
        return int(k1 + k2 + 2 * k3 + 4 * self.steps - 4)

    def fits(self, windowsize: int) -> bool:
        """Whether this is a network for windows of that size."""
        k1, k2, k3 = (layer.kernel.shape[0] for layer in self.layers[:3])
        return bool(((windowsize - k1 - k2 + 2) // 2 - k3 + 1) // 2 == self.steps)


def read_checkpoint(path: str | Path) -> Weights:
    """The weights in one .h5 or .safetensors file.

    Raises
    ------
    MissingError : no such file.  ModelError : not a network of this form.
    """
    file = Path(path)
    if not file.is_file():
        raise MissingError(f"no checkpoint at {file}")
    try:
        layers = _safetensors_layers(file) if file.suffix == ".safetensors" else _keras_layers(file)
        return Weights(*layers)
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from None
    except TypeError:
        raise ModelError(f"{file}: {len(layers)} layers with weights, a Cascade network has {len(ARRAYS)}") from None
    except Exception as error:  # h5py and safetensors raise classes of their own for damaged files
        raise ModelError(f"{file} is not a readable checkpoint ({error}): fetch or train it again") from error


def write_safetensors(path: str | Path, weights: Weights) -> None:
    """Write one network as `<layer>.kernel` and `<layer>.bias`, layers named as in `ARRAYS`."""
    from safetensors.numpy import save_file

    named = zip(ARRAYS, weights.layers, strict=True)
    save_file({f"{name}.{part}": np.ascontiguousarray(getattr(layer, part)) for name, layer in named for part in ("kernel", "bias")}, path)


def _safetensors_layers(file: Path) -> list[Layer]:
    from safetensors.numpy import load_file

    arrays = load_file(file)
    missing = [f"{n}.{p}" for n in ARRAYS for p in ("kernel", "bias") if f"{n}.{p}" not in arrays]
    if missing:
        raise ModelError(f"lacks {', '.join(missing)}; it holds {', '.join(sorted(arrays))}")
    return [Layer(_float32(arrays[f"{n}.kernel"]), _float32(arrays[f"{n}.bias"])) for n in ARRAYS]


def _keras_layers(file: Path) -> list[Layer]:
    import h5py

    with h5py.File(file, "r") as h5:
        root = h5.get("model_weights", h5)
        pairs = _named_pairs(root) if "layer_names" in root.attrs else _numbered_pairs(root["layers"])
        return [Layer(_float32(kernel[()]), _float32(bias[()])) for kernel, bias in pairs]


def _named_pairs(root: Any) -> Iterator[list[Any]]:
    """Kernel and bias of the layers that have weights, in the order of `layer_names`."""
    for layer in map(_text, root.attrs["layer_names"]):
        names = [_text(n) for n in root[layer].attrs["weight_names"]]
        if names:
            yield [root[layer][n] for n in sorted(names, key=lambda n: "bias" in n.rsplit("/", 1)[-1])]


def _numbered_pairs(layers: Any) -> Iterator[list[Any]]:
    """Kernel and bias from the groups of Keras 3: convolutions first, each kind in the order of its numbers."""
    groups = [(name, layers[name]["vars"]) for name in layers if len(layers[name].get("vars", ()))]
    for _, variables in sorted(groups, key=lambda g: (-g[1]["0"].ndim, int((re.findall(r"_(\d+)$", g[0]) or [0])[0]))):
        yield [variables["0"], variables["1"]]


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _float32(values: npt.NDArray[Any]) -> Float32:
    return np.ascontiguousarray(values, np.float32)
