"""A part of a volume as an input of its own: a JSON file {"container", "offset", "size"} (Synful spec 1.1).

    container   path or URL of the volume; a relative path counts from the JSON file's folder
    offset      world position of the part's first corner, z y x, in the volume's units (nm)
    size        its extent, likewise

Both are whole numbers of voxels. The part is read as a volume of that shape, its offset where it lies in the world; who needs voxels around
it opens the container and asks `SubVolume.region`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blockwise.errors import InputError
from blockwise.geometry import Region
from blockwise.storage.placement import SPATIAL, Placement
from blockwise.storage.source import ArraySource, Source

KEYS = ("container", "offset", "size")
TOLERANCE: float = 1e-3
"""Of a voxel: how far an offset may lie from the lattice."""


@dataclass(frozen=True, slots=True)
class SubVolume:
    """What the JSON file says: a container and a box of it in world units."""

    file: Path
    container: str
    offset: tuple[float, ...]
    size: tuple[float, ...]

    def region(self, source: Source) -> Region:
        """The box in voxels of the container; axes that are not spatial are whole.

        Raises
        ------
        InputError : the box is off the voxel lattice, empty, leaves the container, or has another number of axes.
        """
        axes = [i for i, a in enumerate(source.axes) if a in SPATIAL]
        if len(axes) != len(self.offset):
            raise InputError(f"{self.file}: offset has {len(self.offset)} entries, {source.path} has the spatial axes {len(axes)}")
        begin, end = [0] * len(source.shape), list(source.shape)
        for axis, offset, size in zip(axes, self.offset, self.size, strict=True):
            begin[axis] = self._voxels(offset - source.offset[axis], source.voxel_size[axis], source.axes[axis])
            end[axis] = begin[axis] + self._voxels(size, source.voxel_size[axis], source.axes[axis])
        box = Region(tuple(begin), tuple(end))
        if not Region((0,) * len(begin), source.shape).contains(box) or not box.size:
            raise InputError(f"{self.file}: the box is voxels {box.begin}..{box.end}, {source.path} has the shape {source.shape}")
        return box

    def _voxels(self, length: float, voxel: float, axis: str) -> int:
        count = round(length / voxel)
        if abs(length / voxel - count) > TOLERANCE:
            raise InputError(
                f"{self.file}: {length:g} along {axis} is {length / voxel:g} voxels of {voxel:g}: give a whole number of voxels"
            )
        return count


def read_sub_volume(file: Path) -> SubVolume:
    """The JSON file, checked.

    Raises
    ------
    InputError : no JSON object with container, offset and size of equal length; names what is wrong.
    """
    try:
        value = json.loads(file.read_text())
    except (ValueError, OSError) as error:
        raise InputError(f"{file} is not readable as JSON: {error}") from error
    missing = [k for k in KEYS if not isinstance(value, dict) or k not in value]
    if missing:
        raise InputError(f"{file} is no sub-volume: it has no {', '.join(missing)}")
    offset, size = _numbers(file, value, "offset"), _numbers(file, value, "size")
    if len(offset) != len(size):
        raise InputError(f"{file}: offset has {len(offset)} entries, size {len(size)}")
    container = str(value["container"])
    return SubVolume(file, container if "://" in container else str(file.parent / container), offset, size)


def _numbers(file: Path, value: dict[str, Any], key: str) -> tuple[float, ...]:
    entries = value[key]
    if not isinstance(entries, list) or not all(isinstance(v, int | float) for v in entries):
        raise InputError(f"{file}: {key} is {entries!r}, not a list of numbers")
    return tuple(map(float, entries))


def part_of(source: Source, path: str, region: Region) -> ArraySource:
    """A box of a source as a source of its own; closing it closes the other."""
    offset = tuple(o + n * s for o, n, s in zip(source.offset, region.begin, source.voxel_size, strict=True))
    placement = Placement(source.axes, source.voxel_size, offset, source.units)

    def fetch(box: tuple[slice, ...]) -> Any:
        begin = tuple(b.start for b in box)
        return source.read(Region(begin, tuple(b.stop for b in box)).shift(region.begin))

    chunks, attributes = source.chunks, source.attributes
    return ArraySource(path, source.variable, region.shape, source.dtype, placement, fetch, chunks, attributes, source.close)
