"""Configurations of small whole runs of Synful: a network, a volume and segmentations of it in one folder."""

from pathlib import Path
from typing import Any

import numpy as np

from blockwise.geometry import Region
from blockwise.storage import OutputArray
from tests.runs import configuration
from tests.synful.small import OFFSET, SIZE, random_network, write_volume

SHAPE = (20, 100, 108)
EXTRACT = {"threshold": 0.5, "context": 24}


def write_whole(path: Path, name: str, values: np.ndarray, **attributes: Any) -> None:
    """A volume of one chunk that lies where the raw volume does; a first axis of four is that of vectors."""
    lead = values.ndim - 3
    array = OutputArray.create(
        path, name, shape=values.shape, dtype=values.dtype, chunks=values.shape, axes=("c", "z", "y", "x")[1 - lead :],
        voxel_size=(*(1.0,) * lead, *SIZE), offset=(*(0.0,) * lead, *attributes.pop("offset", OFFSET)),
        units=(*("",) * lead, *("nm",) * 3), attributes=attributes or None,
    )  # fmt: skip
    array.write(Region((0,) * values.ndim, values.shape), values).future.result()


def write_segmentation(path: Path, seed: int = 0) -> None:
    """Boxes of 4 x 10 x 12 voxels that belong to one of 40 segments, or to none."""
    coarse = np.random.default_rng(seed).integers(0, 41, (5, 10, 9))
    write_whole(path, "seg", np.kron(coarse, np.ones((4, 10, 12), int)).astype(np.uint64))


def write_inputs(folder: Path) -> None:
    """The network, the volume, and two segmentations."""
    random_network(folder / "net.safetensors")
    write_volume(folder / "raw.zarr", SHAPE)
    for seed, name in enumerate(("seg", "seg2")):
        write_segmentation(folder / f"{name}.zarr", seed)


def synful_run(folder: Path, cluster: dict[str, Any], *, mapped: bool = False, blocks: Any = None, **options: Any) -> Path:
    """The TOML of a run over what `write_inputs` made; `mapped`: to segments, filtered and counted per pair of neurons."""
    filters = {"merge_within_nm": 60, "merge_by": "segment"}
    neurons = {"map": {"segmentation": str(folder / "seg.zarr")}, "filter": filters} if mapped else {}
    values = {
        "task": "synful",
        "input": {"path": str(folder / "raw.zarr")},
        "model": {"path": str(folder / "net.safetensors")},
        "blocks": blocks or {"shape": [8, 40, 40]},
        "options": {"extract": EXTRACT, "cell_um": 0.2, **neurons, **options},
        "cluster": cluster,
    }
    return configuration(folder, values)
