"""Volumes beside the raw one (masks, segmentations, clefts, stored predictions), and where their voxels lie: in nm, or refused.

A volume at an unknown place would be looked up at the wrong one, and whatever it says would be wrong or missing without a word.
"""

from collections.abc import Sequence
from dataclasses import replace

from blockwise.errors import InputError
from blockwise.geometry import Domain
from blockwise.storage import Placement, Source, open_source
from blockwise.storage.source import ArraySource

NM = {"nm": 1.0, "um": 1e3, "mm": 1e6}
ZYX = ("z", "y", "x")
FIX = "keep it in a container that tells it, e.g. with the attributes resolution and offset, z y x in nm"
Triple = tuple[float, float, float]


def open_placed(path: str, variable: str | None, what: str, *, like: Domain | None = None) -> Source:
    """Open a (z, y, x) volume; its voxel size and offset are in nm.

    Parameters
    ----------
    path, variable : as `open_source`.  what : names the volume in errors.
    like : a volume of the same shape, in nm, lies where this one does if the file does not say.

    Raises
    ------
    MissingError, StorageError : as `open_source`.  InputError : other axes, or a place that is not known.
    """
    source = open_source(path, variable)
    try:
        size, offset = placement_nm(source, what, like=like)
        if not isinstance(source, ArraySource):
            raise InputError(f"{what} {path} is a {type(source).__name__}: a volume (z, y, x) is wanted")
        return replace(source, placement=Placement(ZYX, size, offset, ("nm",) * 3))
    except BaseException:
        source.close()
        raise


def placement_nm(
    source: Source, what: str, *, voxel_size: Sequence[float] | None = None, like: Domain | None = None, fix: str = FIX
) -> tuple[Triple, Triple]:
    """Voxel size and offset of a (z, y, x) volume, nm. A file without units is in nm if it tells a voxel size at all.

    Parameters
    ----------
    voxel_size : nm; wins over the file's.  what, like : as `open_placed`.  fix : what to do where nothing tells.

    Raises
    ------
    InputError : other axes, or a place that is not known.
    """
    if tuple(source.axes) != ZYX:
        raise InputError(
            f"{what} {source.path} has the axes {source.axes} of {source.shape} voxels: a volume {ZYX} is wanted, in this order"
        )
    told, offset = told_nm(source)
    if voxel_size is not None:
        return _triple(voxel_size), offset
    if told is not None:
        return told, offset
    if like is not None and tuple(source.shape) == like.shape:
        return _triple(like.voxel_size), _triple(like.offset)
    said = dict(zip(source.axes, zip(source.voxel_size, source.units, strict=True), strict=True))
    shapes = f"; its shape {tuple(source.shape)} is not the volume's {like.shape} either" if like else ""
    raise InputError(f"the voxel size of {what} {source.path} is not known, the file says {said}{shapes}: {fix}")


def told_nm(source: Source) -> tuple[Triple | None, Triple]:
    """What a file says of the voxel size, None if nothing, and of the offset of its last three axes, nm."""
    size, offset, units = source.voxel_size[-3:], source.offset[-3:], source.units[-3:]
    known = all(u in NM or (not u and v != 1) for u, v in zip(units, size, strict=True))
    scale = [NM.get(u, 1.0) for u in units]
    voxels, begin = (_triple([n * s for n, s in zip(values, scale, strict=True)]) for values in (size, offset))
    return voxels if known else None, begin


def _triple(values: Sequence[float]) -> Triple:
    z, y, x = map(float, values)
    return z, y, x
