"""Names and shapes of a network's variables in TensorFlow, and the parameters that shapes tell (Synful spec 4.1)."""

import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from blockwise.errors import ModelError
from tasks.synful.network import CHANNELS, UNet
from tasks.synful.parameters import NetworkParameters, triple

HEAD_NAMES = {"mask": "syn_indicator_0", "vectors": "partner_vector_0"}

_SLOT = re.compile(r"/Adam(_\d+)?$")
_LEFT = re.compile(r"unet_layer_(\d+)_left_0/kernel")

Shapes = Mapping[str, tuple[int, ...]]


def layer_names(network: UNet) -> dict[str, torch.nn.Module]:
    """Layers by TensorFlow's names, in the order in which the original makes them."""
    named: dict[str, torch.nn.Module] = {}
    for level, left in enumerate(network.left):
        named |= {f"unet_layer_{level}_left_{i}": c for i, c in enumerate(left.convolutions)}
    for level in reversed(range(network.shape.levels)):
        for number, decoder in enumerate(network.decoders):
            scope = f"decoder_{number}_layer_{level}"
            named[f"{scope}/unet_up_{level + 1}_to_{level}"] = decoder.up[level]
            named |= {f"{scope}/unet_layer_{level}_right_{i}": c for i, c in enumerate(decoder.right[level].convolutions)}
    return named | {HEAD_NAMES[head]: network.heads[head] for head in ("vectors", "mask") if head in network.heads}


def variables_of(network: UNet) -> dict[str, torch.nn.Parameter]:
    """Weights by TensorFlow's names, kernel and bias of each layer; shapes are torch's, see `weight_of`."""
    return {f"{name}/{part}": getattr(layer, ours) for name, layer in layer_names(network).items() for part, ours in _PARTS}


_PARTS = (("kernel", "weight"), ("bias", "bias"))


def weight_of(name: str, values: npt.ArrayLike) -> torch.Tensor:
    """A variable of TensorFlow as torch has it: kernels (z, y, x, in, out) become (out, in, z, y, x), those of upsamplings, which are
    (z, y, x, out, in), become (in, out, z, y, x)."""
    array = np.asarray(values, np.float32)
    return torch.from_numpy(np.ascontiguousarray(array.transpose(4, 3, 0, 1, 2) if name.endswith("/kernel") else array))


def shapes_of(network: UNet) -> dict[str, tuple[int, ...]]:
    """Shapes of the variables in TensorFlow, by name."""
    shapes = {name: tuple(weight.shape) for name, weight in variables_of(network).items()}
    return {name: (*s[2:], s[1], s[0]) if name.endswith("/kernel") else s for name, s in shapes.items()}


def is_weight(name: str) -> bool:
    """Whether a variable is part of a network, not of its training."""
    return bool(re.match(r"(unet_layer|decoder)_\d+_|syn_indicator_|partner_vector_", name)) and not _SLOT.search(name)


def parameters_of(shapes: Shapes) -> NetworkParameters:
    """The parameters of the network that has variables of such shapes.

    Raises
    ------
    ModelError : variables that are not those of a Synful network; names one, with both shapes.
    """
    levels = sorted(int(m[1]) for name in shapes if (m := _LEFT.fullmatch(name)))
    if not levels or levels != list(range(len(levels))):
        shown = ", ".join(sorted(shapes)[:3]) or "no variables"
        raise ModelError(f"not a Synful network: variables unet_layer_0_left_0/kernel and on are wanted, it has {shown}")
    kernels = [_kernel(shapes, f"unet_layer_{n}_left_0") for n in levels]
    maps = [k[-1] for k in kernels]
    growth = maps[1] // maps[0] if len(maps) > 1 and maps[0] else 1
    if maps != [maps[0] * growth**n for n in levels]:
        raise ModelError(f"feature maps {maps} by level: each is wanted to be the same number of times the one before")
    parameters = NetworkParameters(
        maps[0],
        growth,
        tuple(triple(_kernel(shapes, f"decoder_0_layer_{n}/unet_up_{n + 1}_to_{n}")[:3]) for n in levels[:-1]),
        "dh_unet" if "decoder_1_layer_0/unet_up_1_to_0/kernel" in shapes else "vanilla",
        tuple(triple(k[:3]) for k in kernels),
        heads=tuple(h for h in CHANNELS if f"{HEAD_NAMES[h]}/kernel" in shapes),
    )
    _check_all(shapes, parameters)
    return parameters


def _kernel(shapes: Shapes, layer: str) -> tuple[int, ...]:
    shape = shapes.get(f"{layer}/kernel")
    if shape is None or len(shape) != 5:
        raise ModelError(f"{layer}/kernel is {'not there' if shape is None else f'of shape {list(shape)}'}: five axes are wanted")
    return tuple(shape)


def _check_all(shapes: Shapes, parameters: NetworkParameters) -> None:
    """Compare every variable with those of the network that the first of each level tell."""
    wanted = shapes_of(empty(parameters))
    for name, shape in wanted.items():
        if tuple(shapes.get(name, ())) != shape:
            there = f"has shape {list(shapes[name])}" if name in shapes else "is not there"
            raise ModelError(f"variable {name} {there}; in a network of these levels it is {list(shape)}")
    if extra := sorted(name for name in shapes if is_weight(name) and name not in wanted):
        raise ModelError(f"variable {extra[0]} of shape {list(shapes[extra[0]])} has no place in a network of these levels")


def as_tensorflow(state: Mapping[str, torch.Tensor], parameters: NetworkParameters) -> dict[str, npt.NDArray[np.float32]]:
    """Tensors of a `state_dict` as TensorFlow has them, by its names.

    Raises
    ------
    ModelError : the state lacks one, or has one of another network.
    """
    network = empty(parameters)
    names = {id(weight): name for name, weight in network.named_parameters()}
    ours = {name: names[id(weight)] for name, weight in variables_of(network).items()}
    if differing := set(ours.values()) ^ set(state):
        raise ModelError(f"{min(differing)} is {'not wanted' if min(differing) in state else 'missing'}: weights of another network")
    arrays = {name: state[own].float().numpy() for name, own in ours.items()}
    return {name: a.transpose(2, 3, 4, 1, 0) if name.endswith("/kernel") else a for name, a in arrays.items()}


def empty(parameters: NetworkParameters) -> UNet:
    """A network without weights, for its names and shapes."""
    with torch.device("meta"):
        return UNet(parameters)
