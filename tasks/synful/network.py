"""The U-Net of Synful in torch: only valid convolutions, one or two right paths, a mask head and a vector head (Synful spec 3.1).

    x ── left 0 ─┬───────────── skip ─────────────── right 0 ── heads
                 └ pool ── left 1 ─┬── skip ── right 1 ── up ┘
                                   └ pool ── ... ── up ┘

With gradients all maps are kept; without, `slabs.forward` computes the same in a fraction of the memory.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from blockwise.errors import InputError, ModelError
from tasks.synful import slabs
from tasks.synful.parameters import HEADS, NetworkParameters
from tasks.synful.sizes import NetworkShape, Triple, Walk

CHANNELS = {"mask": 1, "vectors": 3}
OUTPUTS = {"mask": "mask_logits", "vectors": "vectors"}
ACTIVATIONS = ("sigmoid", "relu", "none")
"""What makes probabilities of logits before they are clipped to [0, 1]; to clip is all that a relu does then, and so does none."""


class Pass(nn.Module):
    """Two valid convolutions of one level, each with a ReLU."""

    def __init__(self, inputs: int, maps: int, kernel: Triple) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList([nn.Conv3d(inputs, maps, kernel), nn.Conv3d(maps, maps, kernel)])

    def forward(self, x: Tensor) -> Tensor:
        for convolution in self.convolutions:
            x = torch.relu_(slabs.convolve(x, convolution))
        return x


class Decoder(nn.Module):
    """One right path: by level, finest first, the upsampling to it and its pass."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        maps, levels = shape.feature_maps, range(shape.levels)
        self.up = nn.ModuleList([nn.ConvTranspose3d(maps[n + 1], maps[n], shape.factors[n], stride=shape.factors[n]) for n in levels])
        self.right = nn.ModuleList([Pass(2 * maps[n], maps[n], shape.kernels[n]) for n in levels])


class UNet(nn.Module):
    """Mask logits and partner vectors of raw voxels.

    Parameters
    ----------
    config : what shapes it.
    activation : what makes probabilities of the mask's logits, of `ACTIVATIONS`; None where that is not known.

    Attributes
    ----------
    config : NetworkParameters.  shape : NetworkShape, sizes and alignment.  activation : as given.
    source : where the weights come from, in words.
    """

    def __init__(self, config: NetworkParameters, *, activation: str | None = None) -> None:
        super().__init__()
        self.config, self.shape, self.source = config, config.shape, ""
        self.activation = known_activation(activation)
        maps, kernels = self.shape.feature_maps, self.shape.kernels
        inputs = (1, *maps)
        self.left = nn.ModuleList([Pass(inputs[n], maps[n], kernels[n]) for n in range(len(maps))])
        self.decoders = nn.ModuleList([Decoder(self.shape) for _ in range(config.decoders)])
        self.heads = nn.ModuleDict({name: nn.Conv3d(maps[0], CHANNELS[name], 1) for name in HEADS if name in config.heads})

    def forward(self, raw: Tensor) -> dict[str, Tensor]:
        """What the network says of raw voxels.

        Parameters
        ----------
        raw : (n, 1, z, y, x) in [-1, 1].

        Returns
        -------
        `mask_logits` (n, 1, z', y', x') before the activation and `vectors` (n, 3, z', y', x') in nm from the post- to the
        pre-synaptic site, each where the network has the head; float32, of the shape that `self.shape.output_shape` tells.

        Raises
        ------
        InputError : not of that rank, or too small for the network.
        """
        if raw.ndim != 5 or raw.shape[1] != 1:
            raise InputError(f"input of shape {tuple(raw.shape)}: (n, 1, z, y, x) is wanted")
        walk = self.shape.walk(raw.shape[2:])
        raw = raw.to(next(self.parameters()).dtype)
        with _exact_float32(raw):
            found = self._whole(raw, walk) if torch.is_grad_enabled() else slabs.forward(self, raw, walk)
        return {OUTPUTS[name]: self._scaled(name, values.float()) for name, values in found.items()}

    def probabilities(self, mask_logits: Tensor) -> Tensor:
        """Probabilities in [0, 1] of the mask's logits.

        Raises
        ------
        ModelError : the activation is not known; says how to set it.
        """
        if self.activation is None:
            raise ModelError(
                f"{self.source or 'the network'}: neither a net_config.json nor a .meta beside it says what follows the mask's logits. "
                "Give activation = 'sigmoid' if it was trained with cross-entropy (p_setup10, 51, 52), 'relu' or 'none' if with a "
                "squared error"
            )
        return torch.sigmoid(mask_logits) if self.activation == "sigmoid" else mask_logits.clamp(0, 1)

    def heads_of(self, decoder: int) -> list[str]:
        """Heads on a right path: in a dh_unet the vectors on the first and the mask on the second, else all on the one."""
        return [name for name in self.heads if decoder == (1 if name == "mask" and len(self.decoders) == 2 else 0)]

    def _scaled(self, name: str, values: Tensor) -> Tensor:
        return values / self.config.d_scale if name == "vectors" and self.config.d_scale not in (None, 1) else values

    def _whole(self, x: Tensor, walk: Walk) -> dict[str, Tensor]:
        skips = []
        for level in range(self.shape.levels):
            x = self.left[level](x)
            skips.append(slabs.window(x, walk.skip(level), walk.up[level]))
            x = nn.functional.max_pool3d(x, self.shape.factors[level])
        x, found = self.left[-1](x), {}
        for index, decoder in enumerate(self.decoders):
            y = x
            for level in reversed(range(self.shape.levels)):
                y = slabs.window(torch.relu_(decoder.up[level](y)), walk.inner(level), walk.up[level])
                y = decoder.right[level](torch.cat([skips[level], y], 1))
            found |= {name: self.heads[name](y) for name in self.heads_of(index)}
        return found


def known_activation(name: str | None) -> str | None:
    """One of `ACTIVATIONS` for a name; "identity" and "linear" are none.

    Raises
    ------
    ModelError : another.
    """
    plain = None if name is None else {"identity": "none", "linear": "none"}.get(name.lower(), name.lower())
    if plain is not None and plain not in ACTIVATIONS:
        raise ModelError(f"activation {name!r}: {', '.join(ACTIVATIONS)} are known")
    return plain


def _exact_float32(raw: Tensor) -> AbstractContextManager[None]:
    """On a GPU, no TF32 and no algorithm that gives other bits each time."""
    if raw.device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
