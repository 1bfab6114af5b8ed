"""Array files: traces in whatever `blockwise.storage` opens (.npy, .npz, .mat, HDF5, zarr, N5, by path or URL)."""

from contextlib import closing
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from blockwise.errors import InputError, MissingError
from blockwise.geometry import Region
from blockwise.storage import group_attributes, identity, open_source
from tasks.spikes.traces import Contents, Traces2D, as_float, box, rows_and_frames

DEFAULT_VARIABLE = "dF_traces"
"""Variable that calcium recordings hold by convention."""

RATE_NAME = "frame_rate"
"""Attribute or variable that states the frame rate of an array file in Hz."""


class ArrayTraces:
    """Traces of an array file that `blockwise.storage` can open; one dimension is one neuron."""

    def __init__(self, path: str, variable: str | None) -> None:
        self._path, self._variable = path, variable
        self._source = open_source(path, variable)
        self.shape: tuple[int, int] = rows_and_frames(self._source.shape)

    def read(self, rows: slice, frames: slice) -> Traces2D:
        wanted = box(self.shape, rows, frames)
        single = len(self._source.shape) == 1
        region = Region(wanted.begin[1:], wanted.end[1:]) if single else wanted
        return as_float(np.asarray(self._source.read(region)).reshape(-1, wanted.shape[1])[: wanted.shape[0]])

    def identity(self) -> dict[str, str]:
        return {"traces": identity(self._path, self._variable), "variable": self._source.variable or ""}

    def close(self) -> None:
        self._source.close()


def contents(path: str, variable: str | None = None) -> Contents:
    """The array that is asked for, else `dF_traces`, else the only one with two dimensions.

    Raises
    ------
    MissingError : no such file or variable, or several to choose from (the message lists them).
    InputError : of no known format.
    """
    try:
        source = open_source(path, variable, defaults=(DEFAULT_VARIABLE,))
    except MissingError:
        only = [] if variable is not None else _matrices(path)
        if len(only) != 1:
            raise
        source = open_source(path, only[0])
    with closing(source):
        return Contents(source.variable, tuple(source.shape), str(source.dtype))


def _matrices(path: str) -> list[str]:
    """Names of the arrays with two dimensions, and more than one number, in a file that holds several arrays."""
    return [name for name in _array_names(Path(path)) if _is_matrix(path, name)]


def _is_matrix(path: str, name: str) -> bool:
    try:
        with closing(open_source(path, name)) as source:
            return len(source.shape) == 2 and prod(source.shape) > 1
    except InputError:
        return False


def _array_names(file: Path) -> list[str]:
    import h5py
    import scipy.io

    if not file.is_file():
        return []
    if h5py.is_hdf5(file):
        names: list[str] = []
        with h5py.File(file, "r") as opened:
            opened.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        return names
    if file.suffix == ".npz":
        with np.load(file, allow_pickle=False) as archive:
            return list(archive.files)
    return [name for name, _, _ in scipy.io.whosmat(str(file))] if file.suffix == ".mat" else []


def frame_rate(path: str, variable: str | None = None) -> float | None:
    """The attribute `frame_rate` of the array or its group, else the variable `frame_rate` beside it, in Hz; None without them."""
    with closing(open_source(path, variable)) as source:
        stated = source.attributes.get(RATE_NAME)
    if stated is None and Path(path).is_dir():
        stated = group_attributes(path).get(RATE_NAME)
    if stated is None and Path(path).is_file():
        stated = _rate_variable(Path(path))
    try:
        values = np.asarray(stated, np.float64).reshape(-1)
    except (TypeError, ValueError):
        return None
    return float(values[0]) if values.size == 1 else None


def _rate_variable(file: Path) -> Any:
    import h5py
    import scipy.io

    if h5py.is_hdf5(file):
        with h5py.File(file, "r") as opened:
            item = opened.get(RATE_NAME)
            return item[()] if isinstance(item, h5py.Dataset) else None
    if file.suffix == ".npz":
        with np.load(file, allow_pickle=False) as archive:
            return archive[RATE_NAME] if RATE_NAME in archive.files else None
    return scipy.io.loadmat(str(file), variable_names=[RATE_NAME]).get(RATE_NAME) if file.suffix == ".mat" else None
