"""Which format is it? By content first, by suffix where the content says nothing."""

from collections.abc import Sequence
from pathlib import Path

from blockwise.errors import InputError, MissingError
from blockwise.storage.chunked import open_chunked
from blockwise.storage.context import local_path
from blockwise.storage.files import open_hdf5, open_mat5, open_mat73, open_npy, open_npz
from blockwise.storage.source import Source, nearest

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
MATLAB_BLOCK: int = 512
"""Bytes that MATLAB puts before the HDF5 content of a v7.3 file."""


def open_source(location: str | Path, variable: str | None = None, *, defaults: Sequence[str] = ()) -> Source:
    """Open an array for reading.

    Parameters
    ----------
    location : a .npy, .npz, .mat (v5, v7.3) or HDF5 file; a zarr (v2, v3), N5 or neuroglancer precomputed folder, by path or URL
        (file, http, https, s3, gs).
    variable : name of the array inside; not needed where there is one, or one of several levels, or one of `defaults`.
        For precomputed the key or number of a scale.
    defaults : names to look for, in order, where `variable` is not given.

    Raises
    ------
    MissingError : no such file or variable; names the nearest that is there.
    InputError : the content is of no known format, or is not an array of numbers.
    StorageError : a server that does not answer.
    """
    path = str(location)
    local = local_path(path)
    if local is None:
        return open_chunked(path, variable, defaults)
    if not local.exists():
        raise missing_file(path, local)
    if local.is_dir():
        return open_chunked(path, variable, defaults)
    match file_format(path, local):
        case "npy":
            return open_npy(path, local)
        case "npz":
            return open_npz(path, local, variable, defaults)
        case "hdf5":
            return open_hdf5(path, local, variable, defaults)
        case "mat73":
            return open_mat73(path, local, variable, defaults)
        case _:
            return open_mat5(path, local, variable, defaults)


def file_format(path: str, file: Path) -> str:
    """One of npy, npz, hdf5, mat73, mat5.

    Raises
    ------
    InputError : none of them.
    """
    with file.open("rb") as handle:
        head = handle.read(MATLAB_BLOCK + len(HDF5_MAGIC))
    suffix = file.suffix.lower()
    if head.startswith(b"\x93NUMPY") or suffix == ".npy":
        return "npy"
    if head.startswith(b"PK\x03\x04") or suffix == ".npz":
        return "npz"
    if head.startswith(b"MATLAB 7.3") or (HDF5_MAGIC in (head[:8], head[MATLAB_BLOCK:]) and suffix == ".mat"):
        return "mat73"
    if HDF5_MAGIC in (head[:8], head[MATLAB_BLOCK:]) or suffix in (".h5", ".hdf5", ".hdf"):
        return "hdf5"
    if head.startswith(b"MATLAB 5.0") or suffix == ".mat":
        return "mat5"
    raise InputError(f"{path} is of no known format: .npy, .npz, .mat, HDF5, or a folder with zarr, N5 or precomputed data")


def missing_file(path: str, local: Path) -> MissingError:
    """The error for a file that is not there; names the nearest that is."""
    folder = local.absolute().parent
    if not folder.is_dir():
        return MissingError(f"no file or folder {path}: {folder} does not exist either")
    near = nearest(local.name, sorted(p.name for p in folder.iterdir()))
    return MissingError(f"no file or folder {path}" + (f": nearest name in {folder} is {near[0]!r}" if near else f": {folder} is empty"))
