"""Exports of spike rates under the names the original tool gave them: .npy and .mat beside the output, rates back into a Suite2p folder.

Everything is streamed in bounded memory into a file beside it, forced to disk and renamed: a crash leaves a whole file, or none.

    predictions_<name>.npy          (neurons, frames)
    full_prediction_<name>.mat      spike_rates
    discrete_spikes_<name>.mat      spike_rates, discrete_approximation, spike_time_estimates (cell, one array of frames per neuron)

A .mat file is MATLAB v5, which every reader knows, while its arrays stay below `V5_LIMIT_BYTES`; above it is v7.3 (HDF5), for v5 ends
at 2 GB per variable and must be held in memory to be written; MATLAB reads both with `load`.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blockwise.errors import InputError
from blockwise.geometry import Region
from tasks.spikes.rates import Rates, pieces, replacing
from tasks.spikes.recordings import Recording
from tasks.spikes.suite2p import Correction, Suite2pTraces

V5_LIMIT_BYTES = 128 * 2**20
"""Bytes of one variable above which a .mat file is written as v7.3: writing v5 takes three times that in memory, and it ends at 2 GB."""

SUITE2P_NAME = "spks_cascade.npy"
NPY_NAME, MAT_NAME, DISCRETE_NAME = "predictions_{}.npy", "full_prediction_{}.mat", "discrete_spikes_{}.mat"
"""Exports of a session, by its name."""


def export_npy(rates: Rates, folder: Path, name: str) -> Path:
    """Write `predictions_<name>.npy`, (neurons, frames) as stored; returns its path.

    Raises
    ------
    StorageError : the file could not be written.
    """
    path = folder / NPY_NAME.format(name)
    with replacing(path) as part:
        _write_npy(part, rates, range(rates.shape[0]), tuple(rates.shape))
    return path


def export_mat(rates: Rates, folder: Path, name: str, *, v5_limit_bytes: int = V5_LIMIT_BYTES) -> Path:
    """Write `full_prediction_<name>.mat` with the variable `spike_rates`, (neurons, frames); returns its path.

    Raises
    ------
    StorageError : the file could not be written.
    """
    path = folder / MAT_NAME.format(name)
    _write_mat(path, {"spike_rates": rates}, {}, v5_limit_bytes)
    return path


def export_discrete(
    rates: Rates, approximation: Rates, spikes: Sequence[npt.NDArray[Any]], folder: Path, name: str, *, v5_limit_bytes: int = V5_LIMIT_BYTES
) -> Path:
    """Write `discrete_spikes_<name>.mat`; returns its path.

    Parameters
    ----------
    rates, approximation : (neurons, frames), the rates and the sum of the kernels of the discrete spikes.
    spikes : one array of spike frames per neuron, as `infer_discrete_spikes` counts them.

    Raises
    ------
    InputError : not one array of spikes per neuron.  StorageError : the file could not be written.
    """
    if len(spikes) != rates.shape[0]:
        raise InputError(f"{name}: spikes of {len(spikes)} neurons, but rates of {rates.shape[0]}")
    path = folder / DISCRETE_NAME.format(name)
    arrays = {"spike_rates": rates, "discrete_approximation": approximation}
    _write_mat(path, arrays, {"spike_time_estimates": spikes}, v5_limit_bytes)
    return path


def write_suite2p(rates: Rates, recording: Recording) -> Path:
    """Write `spks_cascade.npy`, (ROIs, frames) float32, into the plane folder: rates of cells, NaN for the ROIs that were not read.

    Raises
    ------
    InputError : no Suite2p recording, or rates of another shape.  StorageError : the file could not be written.
    """
    if recording.kind != "suite2p":
        raise InputError(f"{recording.name} is no Suite2p folder but of kind {recording.kind!r}: {SUITE2P_NAME} has no place to go")
    if tuple(rates.shape) != recording.shape:
        raise InputError(f"{recording.name}: rates have shape {tuple(rates.shape)}, the recording {recording.shape}")
    path = Path(recording.path) / SUITE2P_NAME
    with closing(Suite2pTraces(Path(recording.path), recording.correction or Correction())) as traces, replacing(path) as part:
        _write_npy(part, rates, traces.rois, (traces.roi_count, rates.shape[1]))
    return path


def _write_npy(path: Path, rates: Rates, places: Sequence[int] | npt.NDArray[np.int64], shape: tuple[int, ...]) -> None:
    """A .npy of `shape` in which row i of the rates stands at `places[i]`, NaN elsewhere; one mapped piece at a time."""
    at = np.asarray(places)
    np.lib.format.open_memmap(path, "w+", np.dtype(rates.dtype), shape).flush()
    for row in np.setdiff1d(np.arange(shape[0]), at):
        np.load(path, mmap_mode="r+")[row] = np.nan
    for region in pieces(rates):
        rows, frames = region.slices
        np.load(path, mmap_mode="r+")[at[rows], frames] = rates.read(region)


def _write_mat(path: Path, arrays: Mapping[str, Rates], cells: Mapping[str, Sequence[npt.NDArray[Any]]], limit: int) -> None:
    largest = max(int(np.prod(a.shape)) * np.dtype(a.dtype).itemsize for a in arrays.values())
    with replacing(path) as part:
        (_write_v5 if largest <= limit else _write_v73)(part, arrays, cells)


def _write_v5(path: Path, arrays: Mapping[str, Rates], cells: Mapping[str, Sequence[npt.NDArray[Any]]]) -> None:
    from scipy.io import savemat

    whole = {name: a.read(Region((0, 0), (a.shape[0], a.shape[1]))) for name, a in arrays.items()}
    with path.open("wb") as file:
        savemat(file, whole | {name: _cell(values) for name, values in cells.items()})


def _cell(values: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    cell = np.empty(len(values), object)
    for i, value in enumerate(values):
        cell[i] = np.asarray(value)
    return cell


def _write_v73(path: Path, arrays: Mapping[str, Rates], cells: Mapping[str, Sequence[npt.NDArray[Any]]]) -> None:
    """MATLAB v7.3: HDF5 behind a block of 512 bytes, arrays with reversed axes, cells as references."""
    import h5py

    with h5py.File(path, "w", userblock_size=512) as file:
        for name, rates in arrays.items():
            data = file.create_dataset(name, rates.shape[::-1], rates.dtype, chunks=True)
            data.attrs["MATLAB_class"] = _matlab_class(rates.dtype)
            for region in pieces(rates):
                data[region.slices[::-1]] = rates.read(region).T
        for name, values in cells.items():
            _write_cell(file, name, values)
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, written by blockwise".ljust(116) + bytes(8) + b"\x00\x02IM")


def _write_cell(file: Any, name: str, values: Sequence[npt.NDArray[Any]]) -> None:
    import h5py

    cell = file.create_dataset(name, (len(values), 1), h5py.ref_dtype)
    cell.attrs["MATLAB_class"] = np.bytes_("cell")
    for i, value in enumerate(values):
        column = np.asarray(value, np.float64).reshape(-1, 1)
        empty = column.size == 0
        item = file.create_dataset(f"#refs#/{name}_{i}", data=np.array([1, 0], np.uint64) if empty else column)
        item.attrs["MATLAB_class"] = np.bytes_("double")
        if empty:
            item.attrs["MATLAB_empty"] = np.uint8(1)
        cell[i, 0] = item.ref


def _matlab_class(dtype: Any) -> np.bytes_:
    return np.bytes_({"float32": "single", "float64": "double"}.get(str(np.dtype(dtype)), str(np.dtype(dtype))))
