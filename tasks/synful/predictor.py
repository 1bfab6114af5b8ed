"""Networks on a device: probabilities and vectors of raw voxels, of tiles and of any box."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from blockwise.errors import ConfigError
from blockwise.geometry import Region
from tasks.synful.extraction import Predictions
from tasks.synful.tiling import Tiling
from tasks.torch_device import Limit, download, upload

if TYPE_CHECKING:
    import torch

    from tasks.synful.network import UNet
    from tasks.synful.networks import NetworkFile
    from tasks.synful.options import NetworkOptions

Array = npt.NDArray[Any]
FLIPPED = {"none": (), "yx": (1, 2), "zyx": (0, 1, 2)}


@dataclass(frozen=True, slots=True)
class Predictor:
    """One network for both outputs, or one for the mask and one for the vectors.

    Parameters
    ----------
    networks : on the device already, in the order of `tiling.networks`.  heads : what is taken of each.
    tiling : what is read for what.
    flips : axes whose mirrored inputs are averaged over.
    """

    networks: tuple["UNet", ...]
    heads: tuple[tuple[str, ...], ...]
    tiling: Tiling
    device: str
    flips: tuple[int, ...] = ()
    limit: Limit = field(default_factory=Limit, compare=False)

    def __call__(self, raw: Array, shape: Sequence[int]) -> tuple[Array, Array]:
        """Predict a tile.

        Parameters
        ----------
        raw : (z, y, x) float32 in [-1, 1], the tile with `tiling.context` around it.
        shape : of the tile.

        Returns
        -------
        Probabilities (z, y, x) and vectors (3, z, y, x) in nm, float32, of that shape.
        """
        least = prod(self.tiling.step) if self.tiling.aligned else prod(shape)
        return self.limit.fit(prod(shape), lambda voxels: self._in_parts(raw, tuple(shape), voxels), least=least)

    def _in_parts(self, raw: Array, shape: tuple[int, ...], voxels: int) -> tuple[Array, Array]:
        """A tile, in halves of halves of at most so many voxels where it is larger: of one lattice, they are predicted alike."""
        steps = [n // s for n, s in zip(shape, self.tiling.step, strict=True)]
        axis = int(np.argmax(steps))
        if prod(shape) <= voxels or not self.tiling.aligned or steps[axis] < 2:
            return self._whole(raw, shape)
        cut, context = steps[axis] // 2 * self.tiling.step[axis], raw.shape[axis] - shape[axis]
        parts = []
        for begin, end in ((0, cut), (cut, shape[axis])):
            inputs = raw[(*(slice(None),) * axis, slice(begin, end + context))]
            parts.append(self._in_parts(inputs, (*shape[:axis], end - begin, *shape[axis + 1 :]), voxels))
        return np.concatenate([p[0] for p in parts], axis), np.concatenate([p[1] for p in parts], axis + 1)

    def _whole(self, raw: Array, shape: Sequence[int]) -> tuple[Array, Array]:
        """A tile at once."""
        import torch

        found: dict[str, torch.Tensor] = {}
        with torch.inference_mode():
            x = upload(raw, self.device)[None, None]
            for network, heads in zip(self.networks, self.heads, strict=True):
                part = x[(..., *_cut(self.tiling.crop(network.shape), raw.shape))]
                outputs = self._averaged(network, part, shape)
                found |= {name: outputs[name] for name in heads}
        mask, vectors = download(found["mask"], found["vectors"])
        return mask, vectors

    def _averaged(self, network: "UNet", x: "torch.Tensor", shape: Sequence[int]) -> dict[str, "torch.Tensor"]:
        """Outputs of one network, the mean over its mirrored inputs."""
        total: dict[str, torch.Tensor] = {}
        mirrors = list(_mirrors(self.flips))
        for axes in mirrors:
            for name, values in self._once(network, x, shape, axes).items():
                total[name] = values if name not in total else total[name].add_(values)
        return {name: values / len(mirrors) if len(mirrors) > 1 else values for name, values in total.items()}

    def _once(self, network: "UNet", x: "torch.Tensor", shape: Sequence[int], axes: tuple[int, ...]) -> dict[str, "torch.Tensor"]:
        """Outputs for an input mirrored along some axes, mirrored back; vectors change sign along these."""
        outputs = network(x.flip([a + 2 for a in axes]) if axes else x)
        found = {}
        for name, key in (("mask", "mask_logits"), ("vectors", "vectors")):
            if key in outputs:
                values = network.probabilities(outputs[key])[0, 0] if name == "mask" else outputs[key][0]
                values = values.flip([a - 3 for a in axes]) if axes else values
                found[name] = values[(..., *(slice(n) for n in shape))]
        if "vectors" in found:
            for axis in axes:
                found["vectors"][axis].neg_()
        return found

    def box(self, region: Region, read: Callable[[Region], Array]) -> Predictions:
        """Predict any box of the volume, piece by piece, with the values that tiles have there.

        Parameters
        ----------
        read : raw voxels of a region that may stick out of the volume, float32 in [-1, 1].
        """
        mask = np.empty(region.shape, np.float32)
        vectors = np.empty((3, *region.shape), np.float32)
        for piece, source in self.tiling.pieces(region):
            skip = (0, 0, 0) if self.tiling.aligned else self.tiling.halo
            whole = [n + 2 * h for n, h in zip(piece.shape, skip, strict=True)]
            found = self(read(source), whole)
            common = piece.intersect(region)
            inside = tuple(slice(b - p + h, e - p + h) for b, e, p, h in zip(*common, piece.begin, skip, strict=True))
            target = common.shift([-b for b in region.begin]).slices
            mask[target], vectors[(slice(None), *target)] = found[0][inside], found[1][(slice(None), *inside)]
        return Predictions(mask, vectors, region.begin)


def load_predictor(files: Sequence["NetworkFile"], tiling: Tiling, device: str, options: "NetworkOptions") -> Predictor:
    """Networks of checkpoints, ready on a device."""
    import torch

    from tasks.synful.checkpoint import load_network

    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    given = {"parameters": options.parameters, "activation": options.activation}
    networks = [load_network(f.path, **given).to(device=device, dtype=dtype) for f in files]
    return Predictor(tuple(networks), tuple(f.heads for f in files), tiling, device, FLIPPED[options.flips])


def check_mirrors(tiling: Tiling, axes: Sequence[int]) -> None:
    """Refuse mirrored inputs where a network's context is not the same at both ends.

    Raises
    ------
    ConfigError
    """
    for network in tiling.networks:
        lost = [i - o - 2 * b for i, o, b in zip(network.smallest_input, network.smallest_output, network.before, strict=True)]
        if any(lost[a] for a in axes):
            raise ConfigError(f"flips: the network's context differs at both ends by {lost} voxels, so mirrored outputs lie elsewhere")


def _cut(crop: Sequence[tuple[int, int]], shape: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(b, n - a) for (b, a), n in zip(crop, shape, strict=True))


def _mirrors(axes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for count in range(len(axes) + 1):
        yield from combinations(axes, count)
