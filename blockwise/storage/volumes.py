"""NRRD and NIfTI volumes.

Both list the fastest axis, x, first. They are shown like everything here, in C order, the fastest axis last: a file of sizes (x, y, z) is
an array (z, y, x), the transpose of what pynrrd and nibabel give. Voxel sizes and units come from the header. The offset is the origin of
the file's space where its axes run along the array's, in the positive direction; else it is 0, and the attributes `affine` (NIfTI, 4 x 4,
in the file's order x, y, z) or `space directions` and `space origin` (NRRD) say how the volume lies.

Uncompressed voxels are read region by region, compressed ones (.nii.gz, NRRD with gzip or bzip2) as a whole at the first read.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blockwise.errors import InputError, StorageError
from blockwise.storage.placement import Placement, short_unit
from blockwise.storage.source import Array, ArraySource, Cached

NRRD_TYPES = {
    name: np.dtype(code)
    for code, names in {
        "i1": "signed char,int8,int8_t",
        "u1": "uchar,unsigned char,uint8,uint8_t",
        "i2": "short,short int,signed short,signed short int,int16,int16_t",
        "u2": "ushort,unsigned short,unsigned short int,uint16,uint16_t",
        "i4": "int,signed int,int32,int32_t",
        "u4": "uint,unsigned int,uint32,uint32_t",
        "i8": "longlong,long long,long long int,signed long long,signed long long int,int64,int64_t",
        "u8": "ulonglong,unsigned long long,unsigned long long int,uint64,uint64_t",
        "f4": "float",
        "f8": "double",
    }.items()
    for name in names.split(",")
}
"""The format's names of types."""

NIFTI_UNITS = {"unknown": "", "sec": "s", "msec": "ms", "usec": "us"}
NIFTI_AXES = ("c", "t", "z", "y", "x")


def open_nrrd(path: str, file: Path) -> ArraySource:
    """An NRRD file, its data attached or in a file of its own.

    An axis without a direction in space (the colours of an image) is c.

    Raises
    ------
    InputError : no readable NRRD, or a type that is no number.
    """
    header, begin = _nrrd_header(path, file)
    dtype = NRRD_TYPES.get(header["type"])
    if dtype is None:
        raise InputError(f"{path} holds {header['type']!r}, not numbers")
    dtype = dtype.newbyteorder(">" if header.get("endian") == "big" else "<")
    shape = tuple(int(n) for n in header["sizes"][::-1])
    placement = _nrrd_placement(header)
    attributes = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in header.items()}
    fetch = _mapped(file, dtype, shape, begin) if begin is not None else _whole(lambda: _read_nrrd(path, file))
    return ArraySource(path, None, shape, dtype, placement, fetch, None, attributes)


def nrrd_data_file(file: Path) -> Path | None:
    """Where the voxels of an NRRD header lie; None where they lie in the same file."""
    name = _data_file(_nrrd_header(str(file), file)[0])
    return file.parent / name if name else None


def _nrrd_header(path: str, file: Path) -> tuple[Mapping[str, Any], int | None]:
    """The header, and where uncompressed voxels begin in the same file (else None)."""
    import nrrd  # type: ignore[import-untyped]

    try:
        with file.open("rb") as handle:
            header = nrrd.read_header(handle)
            begin = handle.tell()
        _ = header["type"], header["sizes"], header["encoding"]
    except (nrrd.NRRDError, OSError, ValueError, KeyError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a readable NRRD file: {error}") from error
    skips = any(header.get(k, 0) for k in ("line skip", "lineskip", "byte skip", "byteskip"))
    return header, None if header["encoding"] != "raw" or skips or _data_file(header) else begin


def _data_file(header: Mapping[str, Any]) -> str | None:
    return header.get("data file") or header.get("datafile")


def _read_nrrd(path: str, file: Path) -> Array:
    import nrrd

    try:
        return np.asarray(nrrd.read(str(file), index_order="C")[0])
    except (nrrd.NRRDError, OSError, ValueError, EOFError) as error:
        raise StorageError(f"cannot read the voxels of {path}: {error}") from error


def _nrrd_placement(header: Mapping[str, Any]) -> Placement:
    rank = len(header["sizes"])
    directions = np.asarray(header.get("space directions", np.zeros((rank, 0))), float)
    plain = _plain_sizes(header.get("spacings"), rank)
    sizes = [float(np.linalg.norm(d)) if d.size and np.isfinite(d).all() else s for d, s in zip(directions, plain, strict=True)]
    spatial = [i for i in range(rank) if not directions.size or np.isfinite(directions[i]).all()]
    names = ("z", "y", "x")[max(0, 3 - len(spatial)) :] if len(spatial) <= 3 else ()
    axes = ["c"] * rank
    for i, name in zip(reversed(spatial), names, strict=len(spatial) <= 3):
        axes[i] = name
    if rank - len(spatial) > 1 or len(spatial) > 3:
        raise InputError(
            f"an NRRD volume of kinds {header.get('kinds')} and {rank} axes is neither y, x nor z, y, x, with or without colours"
        )
    units, offset = _nrrd_units(header, rank, spatial), [0.0] * rank
    along = directions[spatial] if directions.size else np.zeros((0, 0))
    if _is_upright(along) and "space origin" in header:
        for i, value in zip(spatial, header["space origin"], strict=True):
            offset[i] = float(value)
    return Placement(tuple(axes[::-1]), tuple(sizes[::-1]), tuple(offset[::-1]), tuple(units[::-1]))


def _plain_sizes(spacings: Sequence[float] | None, rank: int) -> list[float]:
    return [float(s) if np.isfinite(s) else 1.0 for s in spacings] if spacings is not None else [1.0] * rank


def _nrrd_units(header: Mapping[str, Any], rank: int, spatial: Sequence[int]) -> list[str]:
    """`units` has one entry per axis, `space units` one per axis of space."""
    units = [short_unit(str(u)) for u in header.get("units", [""] * rank)]
    for i, unit in zip(spatial, header.get("space units", []), strict=False):
        units[i] = short_unit(str(unit))
    return units


def _is_upright(directions: Array) -> bool:
    """Axes of the array along those of the space, in its order and direction."""
    square = directions.ndim == 2 and directions.shape[0] == directions.shape[1] and directions.size > 0
    return square and bool((directions == np.diag(np.diag(directions))).all() and (np.diag(directions) > 0).all())


def open_nifti(path: str, file: Path) -> ArraySource:
    """A NIfTI-1 or -2 file: (z, y, x), (t, z, y, x) or (c, t, z, y, x), scaled by its header's slope where it has one.

    Raises
    ------
    InputError : no readable NIfTI, or more than five axes.
    """
    import nibabel

    try:
        image: Any = nibabel.load(file)
    except (nibabel.filebasedimages.ImageFileError, OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is not a readable NIfTI file: {error}") from error
    shape, stored = image.shape[::-1], image.get_data_dtype()
    if len(shape) > len(NIFTI_AXES):
        raise InputError(f"{path} has {len(shape)} axes of {shape} voxels: at most five are read, {NIFTI_AXES}")
    is_scaled = stored.kind in "iuf" and (image.dataobj.slope, image.dataobj.inter) != (1.0, 0.0)
    dtype = np.result_type(stored, np.float32) if is_scaled else stored
    fetch = _whole(lambda: _read_nifti(path, image)) if file.suffix == ".gz" else lambda box: image.dataobj[box[::-1]].T
    attributes = {"affine": image.affine.tolist()}
    return ArraySource(path, None, shape, dtype, _nifti_placement(image), fetch, None, attributes)


def _nifti_placement(image: Any) -> Placement:
    rank = len(image.shape)
    space, time = (NIFTI_UNITS.get(u, short_unit(u)) for u in image.header.get_xyzt_units())
    axes = NIFTI_AXES[len(NIFTI_AXES) - rank :]
    units = {"t": time, "c": ""}
    offset = {}
    if _is_upright(image.affine[:3, :3]):
        offset = dict(zip(("x", "y", "z"), map(float, image.affine[:3, 3]), strict=True))
    sizes = tuple(float(np.format_float_positional(z)) for z in image.header.get_zooms())[::-1]  # 0.1 in float32 is meant as 0.1
    return Placement(axes, sizes, tuple(offset.get(a, 0.0) for a in axes), tuple(units.get(a, space) for a in axes))


def _read_nifti(path: str, image: Any) -> Array:
    try:
        return np.asarray(image.dataobj).T
    except (OSError, ValueError, EOFError) as error:
        raise StorageError(f"cannot read the voxels of {path}: {error}") from error


def _mapped(file: Path, dtype: np.dtype[Any], shape: tuple[int, ...], begin: int) -> Callable[[tuple[slice, ...]], Array]:
    return lambda box: np.array(np.memmap(file, dtype, "r", begin, shape)[box])


def _whole(read: Callable[[], Array]) -> Callable[[tuple[slice, ...]], Array]:
    data = Cached(read)
    return lambda box: data()[box].copy()
