"""A small network, a small volume and configurations for them, made by the tests."""

import numpy as np
import torch

from blockwise.geometry import Region
from blockwise.storage import OutputArray
from tasks.synful.checkpoint import save_safetensors
from tasks.synful.network import UNet
from tasks.synful.parameters import NetworkParameters

SIZE = (40.0, 4.0, 4.0)
OFFSET = (400.0, 80.0, 120.0)
PARAMETERS = {
    "fmap_num": 3,
    "fmap_inc_factor": 2,
    "downsample_factors": [[1, 2, 2], [1, 2, 2]],
    "kernel_sizes": [[1, 3, 3]] * 2 + [[3, 3, 3]],
}


def random_network(path, *, seed=0, spread=4.0, **more):
    """A network of random weights whose mask exceeds .5 in blobs here and there; vectors of about 100 nm."""
    torch.manual_seed(seed)
    network = UNet(NetworkParameters.from_json(PARAMETERS | {"voxel_size": list(SIZE)} | more), activation="sigmoid")
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith("bias"):
                weight.normal_(0, 0.05)
        network.heads["vectors"].weight.mul_(400)
        network.eval()
        logits = network(torch.from_numpy(noise((20, 120, 120)))[None, None])["mask_logits"]
        head = network.heads["mask"]
        scale = spread / float(logits.std())
        head.weight.mul_(scale)
        head.bias.copy_(head.bias * scale - scale * float(logits.mean()) - 1.7 * spread)
    save_safetensors(network, path)
    return network


def noise(shape, seed=1):
    """Smoothed noise in -1 to 1, float32."""
    from scipy.ndimage import gaussian_filter

    found = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), (0.7, 3, 3))
    return np.clip(found / found.std() * 0.4, -1, 1).astype(np.float32)


def write_volume(path, shape=(24, 150, 160), seed=1):
    """A raw volume in zarr, uint8."""
    raw = ((noise(shape, seed) + 1) / 2 * 255).astype(np.uint8)
    array = OutputArray.create(
        path, "raw", shape=shape, dtype="uint8", chunks=(8, 64, 64), axes=("z", "y", "x"), voxel_size=SIZE, offset=OFFSET, units=("nm",) * 3
    )
    for z in range(0, shape[0], 8):
        for y in range(0, shape[1], 64):
            for x in range(0, shape[2], 64):
                region = Region((z, y, x), tuple(min(b + s, n) for b, s, n in zip((z, y, x), (8, 64, 64), shape, strict=True)))
                array.write(region, raw[region.slices].copy()).future.result()
    return raw
