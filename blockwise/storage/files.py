"""Arrays in single files: NumPy .npy and .npz, MATLAB v5 and v7.3, HDF5. Local only.

MATLAB is column-major: a variable of neurons x frames lies in a v7.3 file as an HDF5 dataset of shape (frames, neurons). It is
read transposed, region by region. v5 files and .npz members are loaded whole at the first read.
"""

import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blockwise.errors import InputError
from blockwise.storage.placement import Placement, default_axes, from_attributes
from blockwise.storage.source import Array, ArraySource, Cached, choose

MAT_DTYPES = {n: np.dtype(n) for n in ("single", "double", *(f"{u}int{b}" for u in ("", "u") for b in (8, 16, 32, 64)))} | {
    "logical": np.dtype(np.uint8)
}
"""MATLAB classes that are arrays of numbers, as they are read."""


def open_npy(path: str, file: Path) -> ArraySource:
    """A .npy file, memory-mapped."""
    try:
        data = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path} is not a readable .npy file: {error}") from error
    return ArraySource(path, None, data.shape, data.dtype, Placement(default_axes(data.ndim)), lambda s: np.array(data[s]))


def open_npz(path: str, file: Path, variable: str | None, defaults: Sequence[str]) -> ArraySource:
    """One member of a .npz file."""
    try:
        with zipfile.ZipFile(file) as archive:
            headers = {n.removesuffix(".npy"): _npy_header(archive, n) for n in archive.namelist() if n.endswith(".npy")}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a readable .npz file: {error}") from error
    name = choose(path, variable, [n for n, (shape, dtype) in headers.items() if shape and dtype.kind in "buifc"], defaults)
    shape, dtype = headers[name]
    data = Cached(lambda: _npz_member(file, name))
    return ArraySource(path, name, shape, dtype, Placement(default_axes(len(shape))), lambda s: data()[s].copy())


def _npy_header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with archive.open(name) as member:
        npy: Any = np.lib.format
        read = npy.read_array_header_1_0 if npy.read_magic(member) == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(member)
    return shape, dtype


def _npz_member(file: Path, name: str) -> Array:
    with np.load(file, allow_pickle=False) as archive:
        return np.asarray(archive[name])


def open_mat5(path: str, file: Path, variable: str | None, defaults: Sequence[str]) -> ArraySource:
    """One variable of a MATLAB file up to v7."""
    import scipy.io

    try:
        found = scipy.io.whosmat(str(file))
    except (ValueError, OSError, TypeError, NotImplementedError, scipy.io.matlab.MatReadError) as error:
        raise InputError(f"{path} is not a readable MATLAB file: {error}") from error
    known = {n: (shape, MAT_DTYPES[kind]) for n, shape, kind in found if kind in MAT_DTYPES}
    name = choose(path, variable, list(known), defaults)
    shape, dtype = known[name]
    data = Cached(
        lambda: np.asarray(scipy.io.loadmat(str(file), variable_names=[name], mat_dtype=True)[name]).astype(dtype, casting="same_kind")
    )
    return ArraySource(path, name, tuple(shape), dtype, Placement(default_axes(len(shape))), lambda s: data()[s].copy())


def open_hdf5(path: str, file: Path, variable: str | None, defaults: Sequence[str]) -> ArraySource:
    """One dataset of an HDF5 file, row-major as HDF5 stores it."""
    handle, name, dataset = _hdf5_dataset(path, file, variable, defaults)
    attributes = {k: v for k in dataset.attrs if (v := _plain(dataset.attrs, k)) is not None}
    placement = from_attributes(dataset.ndim, attributes, [d.label for d in dataset.dims])
    lock = threading.Lock()

    def fetch(box: tuple[slice, ...]) -> Any:
        with lock:
            return dataset[box]

    return ArraySource(path, name, dataset.shape, dataset.dtype, placement, fetch, dataset.chunks, attributes, handle.close)


def open_mat73(path: str, file: Path, variable: str | None, defaults: Sequence[str]) -> ArraySource:
    """One variable of a MATLAB v7.3 file, its axes in MATLAB's order."""
    handle, name, dataset = _hdf5_dataset(path, file, variable, defaults)
    if "MATLAB_empty" in dataset.attrs:
        raise InputError(f"{path} variable {name!r} is an empty MATLAB array")
    lock = threading.Lock()

    def fetch(box: tuple[slice, ...]) -> Any:
        with lock:
            return dataset[box[::-1]].T

    shape, chunks = dataset.shape[::-1], dataset.chunks and dataset.chunks[::-1]
    placement = Placement(default_axes(len(shape)))
    return ArraySource(path, name, shape, dataset.dtype, placement, fetch, chunks, {}, handle.close)


def _hdf5_dataset(path: str, file: Path, variable: str | None, defaults: Sequence[str]) -> tuple[Any, str, Any]:
    """The open file, the chosen name and its dataset; the file is closed again where none fits."""
    import h5py

    try:
        handle = h5py.File(file, "r")
    except OSError as error:
        raise InputError(f"{path} is not a readable HDF5 file: {error}") from error
    try:
        names: list[str] = []
        handle.visititems(lambda name, item: names.append(name) if _is_numbers(item) else None)
        name = choose(path, variable, names, defaults)
        return handle, name, handle[name]
    except BaseException:
        handle.close()
        raise


def _is_numbers(item: Any) -> bool:
    """A dataset of numbers; cells, chars and the references behind them (`#refs#`) are not."""
    import h5py

    kind = item.attrs.get("MATLAB_class", b"double")
    text = kind.decode() if isinstance(kind, bytes) else str(kind)
    usable = isinstance(item, h5py.Dataset) and item.ndim > 0 and item.dtype.kind in "buif"
    return usable and text in MAT_DTYPES and not item.name.startswith("/#")


def _plain(attributes: Any, name: str) -> Any:
    """An HDF5 attribute as JSON types; None for references and what h5py cannot read."""
    try:
        value = attributes[name]
    except (OSError, TypeError, KeyError):
        return None
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        value = [v.decode(errors="replace") if isinstance(v, bytes) else v for v in value]
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    return value if isinstance(value, str | int | float | bool | list) else None
