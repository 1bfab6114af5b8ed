"""Which format is it? By content first, by suffix where the content says nothing."""

from collections.abc import Sequence
from pathlib import Path

from blockwise.errors import InputError, MissingError
from blockwise.storage.chunked import node_at, open_chunked
from blockwise.storage.context import local_path
from blockwise.storage.files import open_hdf5, open_mat5, open_mat73, open_npy, open_npz
from blockwise.storage.images import SUFFIXES, TIFF_SUFFIXES, image_files, is_pattern, open_image, open_stack
from blockwise.storage.source import Source, nearest
from blockwise.storage.subvolume import part_of, read_sub_volume
from blockwise.storage.tiff import open_tiff
from blockwise.storage.volumes import open_nifti, open_nrrd

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
MAGIC = {
    "npy": (b"\x93NUMPY",),
    "npz": (b"PK\x03\x04",),
    "mat5": (b"MATLAB 5.0",),
    "nrrd": (b"NRRD000",),
    "tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "image": (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"),
}
BY_SUFFIX = {
    ".npy": "npy",
    ".npz": "npz",
    ".mat": "mat5",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".hdf": "hdf5",
    ".json": "sub-volume",
    ".nii": "nifti",
} | {s: "tiff" if s in TIFF_SUFFIXES else "image" for s in SUFFIXES}
MATLAB_BLOCK: int = 512
"""Bytes that MATLAB puts before the HDF5 content of a v7.3 file."""


def open_source(location: str | Path, variable: str | None = None, *, defaults: Sequence[str] = ()) -> Source:
    """Open an array for reading.

    Parameters
    ----------
    location : a .npy, .npz, .mat (v5, v7.3), HDF5, TIFF, PNG, JPEG, NRRD or NIfTI file; a folder of images, or a glob of them, that are the
        sections of a volume (z, y, x), in the order of the numbers in their names; a zarr (v2, v3), N5 or neuroglancer precomputed folder,
        by path or URL (file, http, https, s3, gs); a .json that names a part of another volume, see `subvolume`. Files that list x first
        (N5, precomputed, NRRD, NIfTI) are shown z first; a colour image has a last axis c.
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
    if is_stack(local):
        return open_stack(path, image_files(local))
    if not local.exists():
        raise missing_file(path, local)
    if local.is_dir():
        return open_chunked(path, variable, defaults)
    return open_file(path, local, variable, defaults)


def open_file(path: str, file: Path, variable: str | None, defaults: Sequence[str]) -> Source:
    """An array in a single file."""
    match file_format(path, file):
        case "npy":
            return open_npy(path, file)
        case "npz":
            return open_npz(path, file, variable, defaults)
        case "hdf5":
            return open_hdf5(path, file, variable, defaults)
        case "mat73":
            return open_mat73(path, file, variable, defaults)
        case "mat5":
            return open_mat5(path, file, variable, defaults)
        case "tiff":
            return open_tiff(path, file)
        case "nrrd":
            return open_nrrd(path, file)
        case "nifti":
            return open_nifti(path, file)
        case "sub-volume":
            return open_sub_volume(path, file, variable, defaults)
        case _:
            return open_image(path, file)


def open_sub_volume(path: str, file: Path, variable: str | None, defaults: Sequence[str]) -> Source:
    """The box of a volume that a JSON file names."""
    part = read_sub_volume(file)
    source = open_source(part.container, variable, defaults=defaults)
    try:
        return part_of(source, path, part.region(source))
    except BaseException:
        source.close()
        raise


def is_stack(location: Path) -> bool:
    """Whether a path means images that are sections: a glob, or a folder with images and no metadata of a chunked format."""
    if location.is_dir():
        return node_at(str(location)) is None and bool(image_files(location))
    return is_pattern(location)


def file_format(path: str, file: Path) -> str:
    """One of npy, npz, hdf5, mat73, mat5, tiff, image, nrrd, nifti, sub-volume.

    Raises
    ------
    InputError : none of them.
    """
    with file.open("rb") as handle:
        head = handle.read(MATLAB_BLOCK + len(HDF5_MAGIC))
    suffix = file.with_suffix("").suffix.lower() if file.suffix.lower() == ".gz" else file.suffix.lower()
    if found := next((name for name, magic in MAGIC.items() if head.startswith(magic)), None):
        return found
    if head.startswith(b"MATLAB 7.3") or (HDF5_MAGIC in (head[:8], head[MATLAB_BLOCK:]) and suffix == ".mat"):
        return "mat73"
    if HDF5_MAGIC in (head[:8], head[MATLAB_BLOCK:]):
        return "hdf5"
    if suffix in BY_SUFFIX:
        return BY_SUFFIX[suffix]
    raise InputError(
        f"{path} is of no known format: .npy, .npz, .mat, HDF5, TIFF, PNG, JPEG, NRRD, NIfTI, or a folder with zarr, N5 or precomputed "
        f"data or images"
    )


def missing_file(path: str, local: Path) -> MissingError:
    """The error for a file that is not there; names the nearest that is."""
    folder = local.absolute().parent
    if not folder.is_dir():
        return MissingError(f"no file or folder {path}: {folder} does not exist either")
    near = nearest(local.name, sorted(p.name for p in folder.iterdir()))
    return MissingError(f"no file or folder {path}" + (f": nearest name in {folder} is {near[0]!r}" if near else f": {folder} is empty"))
