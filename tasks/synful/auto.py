"""The largest block that fits: on a GPU of this machine into its free memory, else into `[blocks] memory`."""

from collections.abc import Sequence

from blockwise.config import RunConfig
from tasks.synful.memory import largest_input, peak_bytes
from tasks.synful.sizes import NetworkShape, Triple

GPU_SHARE = 0.8
"""Of a GPU's free memory; the rest is the context's, the library's workspace and fragments."""


def device_memory(config: RunConfig) -> tuple[int, str]:
    """Bytes that a block may take, and the device they are on."""
    from dask.utils import parse_bytes

    from blockwise.cluster.devices import device_of, free_bytes

    device = device_of(config.cluster)
    if device == "cpu":
        return int(parse_bytes(config.blocks.memory)), device
    if config.cluster.kind != "local":  # whose GPUs are elsewhere
        return int(parse_bytes(config.blocks.memory)), device
    return int(free_bytes(device) * GPU_SHARE), device


def largest_core(shapes: Sequence[NetworkShape], halo: Triple, config: RunConfig, domain: Sequence[int], item_bytes: int = 4) -> Triple:
    """The core of an aligned tiling that predicts fastest within the memory, with a halo around it; no smaller than that.

    Of two networks, the one that needs more memory decides; sides are multiples of all poolings.

    Raises
    ------
    InputError : not even the smallest block fits.
    """
    from tasks.synful.tiling import common_product

    memory, device = device_memory(config)
    step = common_product(shapes)
    heaviest = max(shapes, key=lambda s: peak_bytes(s, s.aligned_input(step)[0], device=device))
    return largest_input(memory, heaviest, domain=domain, halo=halo, step=step, item_bytes=item_bytes, device=device)
