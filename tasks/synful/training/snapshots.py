"""Snapshots: a batch as the network saw it, what it was asked and what it said, as an HDF5 file and as a picture (spec 5.2 point 13)."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from blockwise.errors import InputError
from blockwise.storage import make_folders, write_atomic
from tasks.synful.training.run_folder import TrainingFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

    from tasks.synful.training.learner import Learner

Array = npt.NDArray[Any]
NAMES = {
    "raw": "volumes/raw",
    "labels": "volumes/labels/neuron_ids",
    "indicator": "volumes/gt_syn_indicator",
    "indicator_weight": "volumes/indicator_weight",
    "vectors": "volumes/gt_partner_vectors",
    "vectors_mask": "volumes/vectors_mask",
    "probability": "volumes/pred_syn_indicator",
    "predicted_vectors": "volumes/pred_partner_vectors",
    "mask_gradient": "volumes/gradients/pred_syn_indicator",
    "vectors_gradient": "volumes/gradients/pred_partner_vectors",
}
"""Arrays of a snapshot and their place in the file, those of the original's snapshots where it has them."""


def take_snapshot(folder: TrainingFolder, iteration: int, learner: "Learner", batch: Mapping[str, "Tensor"], *, keep: int) -> Path:
    """Write the first sample of a batch with the network's answer and the gradients there; the oldest beyond `keep` are removed."""
    import torch

    moved = {name: values.to(learner.device) for name, values in batch.items()}
    with torch.no_grad():
        predicted = learner.predict(moved["raw"])
    leaves = {name: values.clone().requires_grad_() for name, values in predicted.items()}
    learner.losses_of(leaves, moved, iteration)["loss"].backward()
    arrays = {name: values[0].cpu().numpy() for name, values in batch.items()}
    if "mask_logits" in leaves:
        arrays["probability"] = learner.network.probabilities(predicted["mask_logits"])[0, 0].cpu().numpy()
    if "vectors" in leaves:
        arrays["predicted_vectors"] = predicted["vectors"][0].cpu().numpy()
    for name, key in (("mask_gradient", "mask_logits"), ("vectors_gradient", "vectors")):
        if key in leaves and (gradient := leaves[key].grad) is not None:
            arrays[name] = gradient[0].squeeze(0).cpu().numpy()
    file = folder.path / "snapshots" / f"snapshot_{iteration}.hdf"
    make_folders(file.parent)
    write_atomic(file, _as_hdf5(arrays, learner.parameters.voxel_size, iteration))
    for old in list(folder.snapshots().values())[:-keep]:
        old.unlink()
    return file


def _as_hdf5(arrays: Mapping[str, Array], voxel_size: Sequence[float], iteration: int) -> bytes:
    import h5py

    buffer = BytesIO()
    raw = np.array(arrays["raw"].shape)
    with h5py.File(buffer, "w") as file:
        file.attrs["iteration"] = iteration
        for name, values in arrays.items():
            dataset = file.create_dataset(NAMES[name], data=values, compression="gzip", compression_opts=4)
            dataset.attrs["resolution"] = list(voxel_size)
            dataset.attrs["offset"] = ((raw - values.shape[-3:]) // 2 * voxel_size).tolist()
    return buffer.getvalue()


def read_snapshot(path: str | Path) -> dict[str, Array]:
    """Arrays of a snapshot by the names of `NAMES`; those it has.

    Raises
    ------
    InputError : not a snapshot.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            found = {name: file[place][:] for name, place in NAMES.items() if place in file}
    except OSError as error:
        raise InputError(f"{path} is no snapshot: {error}") from None
    if "raw" not in found:
        raise InputError(f"{path} is no snapshot: it has no {NAMES['raw']}")
    return found


def render_snapshot(run: str | Path, which: int = -1, *, section: int | None = None) -> bytes:
    """A picture of a snapshot: raw data, indicator and vectors, true above predicted, in one section.

    Parameters
    ----------
    run : folder of a training run.  which : iteration of the snapshot, or -1 for the last.
    section : of the output; by default the one with most of the indicator.

    Returns
    -------
    A PNG file.

    Raises
    ------
    MissingError : no such snapshot.  InputError : no such section.
    """
    from matplotlib.figure import Figure

    file = TrainingFolder(Path(run)).snapshot(which)
    arrays = read_snapshot(file)
    truth = arrays["indicator"]
    z = int(truth.sum(axis=(1, 2)).argmax()) if section is None else section
    if not 0 <= z < len(truth):
        raise InputError(f"{file} has the sections 0 to {len(truth) - 1} of output, not {z}")
    raw = _inner(arrays["raw"], truth.shape)[z]
    figure = Figure(figsize=(13, 8.4), layout="constrained")
    axes = figure.subplots(2, 3)
    figure.suptitle(f"{file.stem.replace('_', ' ')}, section {z} of {len(truth)}")
    _show(axes[0, 0], raw, "raw", cmap="gray")
    if arrays.get("labels", np.zeros(1)).any():
        _show(axes[1, 0], arrays["labels"][z] * 2654435761 % 251, "segments", cmap="prism")
    else:
        _show(axes[1, 0], arrays["indicator_weight"][z], "weights", cmap="viridis")
    for row, what, mask, vectors in ((0, "true", truth, "vectors"), (1, "predicted", arrays.get("probability"), "predicted_vectors")):
        if mask is not None:
            _show(axes[row, 1], mask[z], f"{what} indicator", cmap="magma", vmin=0, vmax=1)
        _arrows(axes[row, 2], raw, arrays.get(vectors), arrays["vectors_mask"], z=z, title=f"{what} vectors")
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return buffer.getvalue()


def _inner(raw: Array, shape: Sequence[int]) -> Array:
    """The part of the input that is the output's."""
    return raw[tuple(slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(raw.shape, shape, strict=True))]


def _show(axes: "Axes", picture: Array, title: str, **how: Any) -> None:
    axes.imshow(picture, interpolation="nearest", **how)
    axes.set_title(title)
    axes.set_axis_off()


def _arrows(axes: "Axes", raw: Array, vectors: Array | None, mask: Array, *, z: int, title: str) -> None:
    """Vectors in the plane where the truth has any, over the raw data; thinned to some hundred."""
    _show(axes, raw, title, cmap="gray")
    y, x = np.nonzero(mask[z])
    if vectors is None or not len(y):
        return
    chosen = slice(None, None, max(1, len(y) // 300))
    v = vectors[:, z, y[chosen], x[chosen]]
    axes.quiver(x[chosen], y[chosen], v[2], v[1], v[0], angles="xy", cmap="coolwarm", width=0.003)
