"""Networks of files: TensorFlow checkpoints of the original, arrays by TensorFlow's names, what this project converts or trains.

The network's form is read from the shapes of its variables; what shapes do not tell (the scale of vectors, `crop_to_factor`, training
keys) comes from a `parameter.json` beside them, which must agree with them. What follows the mask's logits is found, in this order: as
`activation` says, in a converted or trained checkpoint, in `*_net_config.json`, in a `.meta`, in the parameters; see `graph_definition`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from blockwise.errors import ModelError
from tasks.synful.checkpoint_files import KEY, Found, find_checkpoint
from tasks.synful.network import UNet, known_activation
from tasks.synful.parameters import NetworkParameters
from tasks.synful.variables import parameters_of, variables_of, weight_of


def load_network(
    checkpoint: str | Path | Mapping[str, npt.ArrayLike],
    *,
    parameters: NetworkParameters | Mapping[str, Any] | str | Path | None = None,
    activation: str | None = None,
) -> UNet:
    """The network of a checkpoint, on the CPU, its weights float32.

    Parameters
    ----------
    checkpoint : the prefix of a TensorFlow checkpoint, with or without .index; a folder with `train_net_checkpoint_N`, of which the
        newest is taken; a .safetensors file of `save_safetensors`; an .npz or a mapping of TensorFlow's names to arrays; a .pt file of
        `training_state`; the name of a published model on this machine.
    parameters : a `parameter.json`, or what it holds; by default the one beside the checkpoint, if there is one.
    activation : "sigmoid", "relu" or "none", before the clip to [0, 1]; by default what the files say. Where they say nothing it is
        needed once probabilities are asked for.

    Returns
    -------
    A module that takes (n, 1, z, y, x) in [-1, 1] and gives `mask_logits` and `vectors`, see `UNet.forward`.

    Raises
    ------
    MissingError : no such checkpoint.  ModelError : it is damaged or not a Synful network, or parameters that do not fit it.
    """
    found = Found(dict(checkpoint), "the mapping") if isinstance(checkpoint, Mapping) else find_checkpoint(checkpoint)
    stated = found.parameters if parameters is None else parameters
    if stated is not None and not isinstance(stated, NetworkParameters):
        stated = NetworkParameters.from_json(stated)
    try:
        network = UNet(_agreed(parameters_of(found.shapes), stated))
        network.activation = known_activation(activation or found.activation or (stated.training.get("activation") if stated else None))
        network.source = found.source
        with torch.no_grad():
            for name, weight in variables_of(network).items():
                weight.copy_(weight_of(name, found.variables[name]))
    except ModelError as error:
        raise ModelError(f"{found.source}: {error}") from None
    return network.eval()


def digest(network: UNet) -> str:
    """sha256 over what the network computes with: names, shapes and weights, the scale of vectors, crop and activation."""
    plain = {"d_scale": network.config.d_scale or 1, "crop_to_factor": network.config.crop_to_factor, "activation": network.activation}
    sha256 = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name, weight in sorted(variables_of(network).items()):
        sha256.update(f"{name} {tuple(weight.shape)}".encode())
        sha256.update(np.ascontiguousarray(weight.detach().cpu().float().numpy()).astype("<f4").tobytes())
    return sha256.hexdigest()


def save_safetensors(network: UNet, path: str | Path) -> None:
    """Write a network as one file, the same bytes for the same network; tensors by the names of `UNet.state_dict`, float32."""
    from safetensors.torch import save

    from blockwise.storage.durable import write_atomic

    tensors = {name: tensor.detach().cpu().float().contiguous() for name, tensor in network.state_dict().items()}
    # one key, because the library writes several in no order
    write_atomic(Path(path), save(tensors, {KEY: json.dumps(_facts(network), sort_keys=True)}))


def training_state(network: UNet) -> dict[str, Any]:
    """What a .pt checkpoint needs to hold so that `load_network` reads it; further keys are the trainer's own."""
    return {"network": network.state_dict(), KEY: json.dumps(_facts(network), sort_keys=True)}


def _facts(network: UNet) -> dict[str, Any]:
    source = "/".join(Path(network.source).parts[-2:])  # the folders above it are of this machine
    return {"parameters": network.config.to_json(), "activation": network.activation, "source": source}


def _agreed(read: NetworkParameters, stated: NetworkParameters | None) -> NetworkParameters:
    """The stated parameters where they are those of the checkpoint."""
    if stated is None:
        return read
    shaping = ("fmap_num", "fmap_inc_factor", "downsample_factors", "unet_model", "kernel_sizes", "heads")
    differing = [n for n in shaping if getattr(read, n) != getattr(stated, n)]
    if differing:
        said = "; ".join(f"{n} is {getattr(read, n)} in the checkpoint, {getattr(stated, n)} in the parameters" for n in differing)
        raise ModelError(f"parameters of another network: {said}")
    return replace(read, **{n: getattr(stated, n) for n in ("crop_to_factor", "d_scale", "training")})
