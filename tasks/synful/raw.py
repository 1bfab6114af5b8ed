"""A raw volume as network input: what it is, frozen, and a reader that normalises and pads.

Coordinates are voxels of the volume as it is presented, from its own first voxel on: after resampling, and within the box of a sub-volume
JSON. Voxels around that box come from its container. Beyond the data the input is -1, which is what padding with 0 before normalising gives
in the original (spec 1.5).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blockwise.errors import InputError
from blockwise.geometry import Domain, Region
from blockwise.storage import Placement, Source, open_source
from blockwise.storage.context import local_path
from blockwise.storage.source import ArraySource
from blockwise.storage.subvolume import SubVolume, read_sub_volume
from tasks.synful.normalisation import Normalisation
from tasks.synful.placed import NM, ZYX
from tasks.synful.resampling import resampled

RAW_NAMES = ("volumes/raw", "volumes/raw/s0", "raw", "raw/s0")
"""Arrays that are looked for where none is named."""

NOTHING = -1.0
"""Network input where there is no data."""

Array = npt.NDArray[Any]
Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Raw:
    """A raw volume and how it is presented.

    path, variable : as given to `open_raw`; `variable` is the array that was found.
    shape : voxels, z y x.  dtype : its name.  voxel_size, offset : nm, as presented; the offset is of the first voxel's corner.
    stored_voxel_size, stored_offset : nm, of the array that is read: before resampling, and of the container of a sub-volume.
    """

    path: str
    variable: str | None
    shape: tuple[int, int, int]
    dtype: str
    voxel_size: Triple
    offset: Triple
    stored_voxel_size: Triple
    stored_offset: Triple
    normalisation: Normalisation

    @property
    def is_resampled(self) -> bool:
        return self.voxel_size != self.stored_voxel_size

    def domain(self, name: str = "volume") -> Domain:
        """What is tiled."""
        return Domain(name, ZYX, self.shape, self.voxel_size, self.offset, ("nm",) * 3)

    def normalised(self, normalisation: Normalisation) -> "Raw":
        """The same volume with another normalisation, such as one that a stage has frozen."""
        return replace(self, normalisation=normalisation)

    def open(self) -> "RawReader":
        """Open the volume in this process.

        Raises
        ------
        InputError : it is no longer what it was.
        """
        reader = open_raw(
            self.path,
            self.variable,
            voxel_size=self.stored_voxel_size,
            offset=self.stored_offset,
            resample_to=self.voxel_size if self.is_resampled else None,
            normalisation=self.normalisation,
        )
        if reader.raw != self:
            reader.close()
            raise InputError(f"{self.path} changed: it is {reader.raw}, it was {self}")
        return reader

    def to_json(self) -> dict[str, Any]:
        """The same as JSON types."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()} | {
            "normalisation": self.normalisation.to_json()
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Raw":
        """What `to_json` gave."""
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
        return cls(**fields | {"normalisation": Normalisation.from_json(value["normalisation"])})


@dataclass(frozen=True, eq=False)
class RawReader:
    """An open raw volume. Thread safe.

    source : the container, resampled where the volume is.  origin : of the volume's first voxel in it.
    """

    raw: Raw
    source: Source
    origin: tuple[int, int, int] = (0, 0, 0)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.raw.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.source.dtype

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Voxels that one read touches at least, z y x; None where any region is as cheap."""
        return self.source.chunks and tuple(c for a, c in zip(self.source.axes, self.source.chunks, strict=True) if a in ZYX)

    def inside(self, region: Region) -> Array:
        """The grey values of that part of a region that has data, in the volume's dtype, (z, y, x); it may be empty."""
        part = self._with_data(region)
        if not part.size:
            return np.zeros(part.shape, self.dtype)
        box = dict(zip(ZYX, zip(part.begin, part.end, strict=True), strict=True))
        bounds = [box.get(a, (0, 1)) for a in self.source.axes]
        return self.source.read(Region(tuple(b for b, _ in bounds), tuple(e for _, e in bounds))).reshape(part.shape)

    def network_input(self, inside: Array, region: Region) -> npt.NDArray[np.float32]:
        """What `inside(region)` gave, normalised and padded: (z, y, x) float32 from -1 to 1 of the region's shape."""
        part = self._with_data(region).shift([-o for o in self.origin])
        values = self.raw.normalisation.apply(inside, part.begin[0])
        if part == region:
            return values
        out = np.full(region.shape, NOTHING, np.float32)
        if values.size:
            out[part.shift([-b for b in region.begin]).slices] = values
        return out

    def read(self, region: Region) -> npt.NDArray[np.float32]:
        """Network input for a region that may stick out of the volume, (z, y, x) float32 from -1 to 1.

        Raises
        ------
        InputError : float32 data beyond 0 to 1 with the normalisation dtype.  StorageError : the data cannot be read.
        """
        return self.network_input(self.inside(region), region)

    def close(self) -> None:
        self.source.close()

    def _with_data(self, region: Region) -> Region:
        """The part of a region that the container holds, in voxels of the container."""
        lengths = tuple(n for a, n in zip(self.source.axes, self.source.shape, strict=True) if a in ZYX)
        return region.shift(self.origin).intersect(Region((0, 0, 0), lengths))


def open_raw(
    path: str | Path,
    variable: str | None = None,
    *,
    voxel_size: Sequence[float] | None = None,
    offset: Sequence[float] | None = None,
    resample_to: Sequence[float] | None = None,
    normalisation: Normalisation | None = None,
) -> RawReader:
    """Open a raw volume.

    Parameters
    ----------
    path : whatever `blockwise.storage.open_source` opens, or a sub-volume JSON.
    variable : array inside; without one `volumes/raw` or `raw` (or its level `s0`), or the only one.
    voxel_size, offset : nm, z y x; they win over what the file says.
    resample_to : nm, z y x; voxel size to present the volume at.
    normalisation : how grey values become input; by dtype without.

    Raises
    ------
    MissingError, StorageError : as `open_source`.
    InputError : axes that are not z, y, x, an unknown voxel size, or a dtype that the normalisation does not take.
    """
    how = normalisation or Normalisation()
    part, stored = _stored(str(path), variable, voxel_size, offset)
    try:
        stored_size, stored_offset = _geometry(stored)
        source = resampled(stored, _per_axis(stored, resample_to)) if resample_to else stored
        sizes, _ = _geometry(source)
        box = part.region(stored) if part else Region((0,) * len(stored.shape), stored.shape)
        begin, end = _presented(stored, source, box.begin), _presented(stored, source, box.end)
        shape = (end[0] - begin[0], end[1] - begin[1], end[2] - begin[2])
        corner = tuple(o + b * s for o, b, s in zip(stored_offset, begin, sizes, strict=True))
        how.check(source.dtype, shape[0])
        if min(shape) < 1:
            raise InputError(f"{path} at voxels of {sizes} nm has the shape {shape}")
        raw = Raw(str(path), source.variable, shape, source.dtype.name, sizes, _triple(corner), stored_size, stored_offset, how)
        return RawReader(raw, source, begin)
    except BaseException:
        stored.close()
        raise


def is_constant(inside: Array) -> bool:
    """Whether a block has one grey value only (or no voxel), so that there is nothing to find in it.

    Cheap where it is not: one row differs almost always.

    Parameters
    ----------
    inside : as `RawReader.inside` gives it.
    """
    if not inside.size:
        return True
    first = inside.flat[0]
    return bool((inside[..., :1, :] == first).all() and (inside == first).all())


def _stored(
    path: str, variable: str | None, voxel_size: Sequence[float] | None, offset: Sequence[float] | None
) -> tuple[SubVolume | None, Source]:
    """The array that is read, its axes checked and its place corrected, and the box of it that is meant."""
    local = local_path(path)
    part = read_sub_volume(local) if local is not None and local.suffix.lower() == ".json" and local.is_file() else None
    source = open_source(part.container if part else path, variable, defaults=RAW_NAMES)
    try:
        _check_axes(source)
        return part, _placed(source, voxel_size, offset)
    except BaseException:
        source.close()
        raise


def _check_axes(source: Source) -> None:
    spatial = tuple(a for a in source.axes if a in ZYX)
    others = {a: n for a, n in zip(source.axes, source.shape, strict=True) if a not in ZYX}
    if spatial != ZYX:
        raise InputError(f"{source.path} has the axes {source.axes} of {source.shape} voxels: a raw volume has {ZYX}, in this order")
    if any(n != 1 for n in others.values()):
        raise InputError(f"{source.path} has {others} beside z, y, x: a raw volume has one grey value per voxel; select a channel first")


def _placed(source: Source, voxel_size: Sequence[float] | None, offset: Sequence[float] | None) -> Source:
    """The source with voxel size and offset in nm, those given first.

    An array without units is in nm if it tells a voxel size at all (the field's `resolution` and `voxel_size` attributes are).
    """
    given = [_per_axis(source, v) if v else None for v in (voxel_size, offset)]
    spatial = [i for i, a in enumerate(source.axes) if a in ZYX]
    known = all(source.units[i] or source.voxel_size[i] != 1 for i in spatial)
    wrong = [u for i, u in enumerate(source.units) if i in spatial and u and u not in NM]
    if given[0] is None and (wrong or not known):
        told = dict(zip(source.axes, zip(source.voxel_size, source.units, strict=True), strict=True))
        raise InputError(f"the voxel size of {source.path} is not known, the file says {told}: set [input] voxel_size = [z, y, x] in nm")
    scale = [NM.get(u, 1.0) for u in source.units]
    sizes = given[0] or tuple(v * s for v, s in zip(source.voxel_size, scale, strict=True))
    offsets = given[1] or tuple(v * s for v, s in zip(source.offset, scale, strict=True))
    if min(sizes[i] for i in spatial) <= 0 or not all(map(math.isfinite, (*sizes, *offsets))):
        raise InputError(f"{source.path}: voxel size {sizes} and offset {offsets} nm: sizes are above 0")
    units = tuple("nm" if i in spatial else "" for i in range(len(source.axes)))
    return _with_placement(source, Placement(source.axes, sizes, offsets, units))


def _with_placement(source: Source, placement: Placement) -> Source:
    if not isinstance(source, ArraySource):
        raise InputError(f"{source.path} is a {type(source).__name__}, whose place cannot be corrected")
    return replace(source, placement=placement)


def _per_axis(source: Source, values: Sequence[float]) -> tuple[float, ...]:
    """Numbers for z, y, x as one per axis of the source; 1 for others."""
    if len(values) != len(ZYX):
        raise InputError(f"{list(values)} has {len(values)} entries for {source.path}: three are needed, z y x in nm")
    named = dict(zip(ZYX, map(float, values), strict=True))
    return tuple(named.get(a, 1.0) for a in source.axes)


def _geometry(source: Source) -> tuple[Triple, Triple]:
    """Voxel size and offset along z, y, x."""
    spatial = [i for i, a in enumerate(source.axes) if a in ZYX]
    return _triple([source.voxel_size[i] for i in spatial]), _triple([source.offset[i] for i in spatial])


def _presented(stored: Source, source: Source, voxel: Sequence[int]) -> tuple[int, int, int]:
    """The lattice point of the presented volume that is nearest to one of the stored; the end of one is the end of the other."""
    z, y, x = (
        m if voxel[i] == n else min(round(voxel[i] * old / new), m)
        for i, (a, old, new, n, m) in enumerate(
            zip(stored.axes, stored.voxel_size, source.voxel_size, stored.shape, source.shape, strict=True)
        )
        if a in ZYX
    )
    return z, y, x


def _triple(values: Sequence[float]) -> Triple:
    z, y, x = map(float, values)
    return z, y, x
