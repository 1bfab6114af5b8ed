"""Small cubes and parameters that train in seconds."""

from pathlib import Path
from typing import Any

import numpy as np

from tasks.synful.partners import points
from tasks.synful.simulate import SimulatedVolume, simulate_volume
from tasks.synful.training.cubes import Cube, Volume
from tasks.synful.training.parameters import TrainingParameters
from tasks.synful.training.points import Pairs

SIZE = (40.0, 8.0, 8.0)
TINY: dict[str, Any] = {
    "input_size": [6, 52, 52],
    "downsample_factors": [[1, 3, 3]],
    "kernel_sizes": [[1, 3, 3], [3, 3, 3]],
    "fmap_num": 2,
    "fmap_inc_factor": 2,
    "unet_model": "dh_unet",
    "voxel_size": SIZE,
    "learning_rate": 1e-3,
    "blob_radius": 32,
    "d_blob_radius": 40,
    "d_scale": 0.02,
    "max_iteration": 4,
    "workers": 0,
    "threads": 1,
    "pad": True,
    "log_every": 1,
    "snapshot_every": 0,
    "save_every": 2,
    "device": "cpu",
}


def tiny(**changes: Any) -> TrainingParameters:
    return TrainingParameters.model_validate({**TINY, **changes})


def cube_of(made: SimulatedVolume, **more: Any) -> Cube:
    pairs = Pairs(*(points(made.partners, end).astype(np.float64) for end in ("pre", "post")))
    return Cube("simulated", made.voxel_size, Volume.of(made.raw), labels=Volume.of(made.segmentation), pairs=pairs, **more)


def simulated(**more: Any) -> Cube:
    return cube_of(simulate_volume((14, 110, 110), seed=3, synapses_per_um3=12), **more)


def write_cremi(path: Path, raw: np.ndarray, labels: np.ndarray, pairs: Pairs, *, offset: tuple[float, ...] = (0, 0, 0)) -> Path:
    """A CREMI file whose labels and annotations begin at `offset` nm within the raw data."""
    import h5py

    n = len(pairs)
    with h5py.File(path, "w") as file:
        for name, values, begin in (("volumes/raw", raw, (0, 0, 0)), ("volumes/labels/neuron_ids", labels, offset)):
            dataset = file.create_dataset(name, data=values)
            dataset.attrs["resolution"] = SIZE
            if any(begin):
                dataset.attrs["offset"] = np.array(begin, float)
        group = file.create_group("annotations")
        group.attrs["offset"] = np.array(offset, float)
        group["ids"] = np.arange(10, 10 + 2 * n)
        group["locations"] = np.concatenate([pairs.pre, pairs.post]) - offset
        group["types"] = np.array([b"presynaptic_site"] * n + [b"postsynaptic_site"] * n)
        group["presynaptic_site/partners"] = np.stack([np.arange(10, 10 + n), np.arange(10 + n, 10 + 2 * n)], axis=1)
    return path
