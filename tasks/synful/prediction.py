"""Probabilities and partner vectors of a raw volume in memory: the function behind the blocks, for notebooks."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from blockwise.errors import InputError, ModelError
from blockwise.geometry import Region
from tasks.synful.memory import largest_input
from tasks.synful.normalisation import Normalisation
from tasks.synful.predictor import FLIPPED, Predictor, check_mirrors
from tasks.synful.raw import NOTHING
from tasks.synful.tiling import Tiling

if TYPE_CHECKING:
    from tasks.synful.network import UNet

Array = npt.NDArray[Any]


def predict(
    raw: Array, network: "UNet", *, vectors: "UNet | None" = None, device: str = "cpu", memory: str = "2GB", flips: str = "none"
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Predict a volume, as `blockwise run` does with grid = "aligned": the result does not depend on the memory it may take.

    Parameters
    ----------
    raw : (z, y, x) uint8, uint16, or float32 within 0 to 1; beyond its border the network sees black, as in the original (spec 1.5).
    network : of `load_network`.  vectors : another one for the vectors.
    device : "cpu", or a CUDA device; the networks are moved there.
    memory : that a forward pass may take, e.g. "8GB".
    flips : "none", "yx" or "zyx": the mean over mirrored inputs.

    Returns
    -------
    Probability of a post-synaptic site, (z, y, x), and vectors to the pre-synaptic site in nm, (3, z, y, x), float32; for `detect`.

    Raises
    ------
    InputError : not a volume of such values, or not even the smallest block fits.
    ModelError : not a loaded network, or its activation is not known.  ConfigError : flips that the network cannot do.
    """
    from dask.utils import parse_bytes

    if raw.ndim != 3 or min(raw.shape) < 1:
        raise InputError(f"raw of shape {raw.shape}: a volume (z, y, x) is wanted")
    networks = (network,) if vectors is None else (network, vectors)
    if named := [n for n in networks if not hasattr(n, "shape")]:
        raise ModelError(f"network {named[0]!r} is no loaded network: give load_network({named[0]!r})")
    core = largest_input(int(parse_bytes(memory)), network.shape, domain=raw.shape, device=device)
    tiling = _fitting(tuple(n.shape for n in networks), core)
    check_mirrors(tiling, FLIPPED[flips])
    heads = (("mask", "vectors"),) if vectors is None else (("mask",), ("vectors",))
    inputs, whole = Normalisation().apply(raw), Region((0, 0, 0), raw.shape)

    def read(region: Region) -> Array:
        found, inside = np.full(region.shape, NOTHING, np.float32), region.intersect(whole)
        found[inside.shift([-b for b in region.begin]).slices] = inputs[inside.slices]
        return found

    predictor = Predictor(tuple(n.to(device) for n in networks), heads, tiling, device, FLIPPED[flips])
    found = predictor.box(whole, read)
    return found.mask, found.vectors


def _fitting(shapes: tuple[Any, ...], core: tuple[int, int, int]) -> Tiling:
    """A tiling whose core is a multiple of all poolings."""
    from tasks.synful.tiling import common_product

    z, y, x = (max(s, n // s * s) for n, s in zip(core, common_product(shapes), strict=True))
    return Tiling(shapes, (z, y, x))
