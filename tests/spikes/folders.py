"""Recordings on disk for the tests of this folder."""

from pathlib import Path

import numpy as np


def traces(neurons=5, frames=300, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, (neurons, frames)).astype(np.float32)


def suite2p_plane(folder: Path, *, rois=6, frames=400, cells=(0, 2, 3, 5), ops=None, seed=0):
    """A plane folder as Suite2p leaves it; returns F and Fneu."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    fluorescence = random.normal(500, 20, (rois, frames)).astype(np.float32)
    neuropil = random.normal(100, 5, (rois, frames)).astype(np.float32)
    iscell = np.column_stack([np.isin(np.arange(rois), cells), np.full(rois, 0.5)])
    for name, array in (("F", fluorescence), ("Fneu", neuropil), ("iscell", iscell)):
        np.save(folder / f"{name}.npy", array)
    if isinstance(ops, str):
        (folder / "ops.json").write_text(ops)
    elif ops is not None:
        np.save(folder / "ops.npy", ops, allow_pickle=True)
    return fluorescence, neuropil


def zarr_array(path: Path, data, attributes=None):
    import zarr

    array = zarr.create_array(str(path), shape=data.shape, chunks=(2, 100), dtype=data.dtype)
    array[:] = data
    array.attrs.update(attributes or {})
