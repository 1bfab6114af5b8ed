"""Where the voxels of an array lie: axis names, voxel size, offset and units, read from and written as the field's metadata.

Read: OME-NGFF 0.4 and 0.5 multiscales, `resolution` (or `voxel_size`), `offset`, `units` and `axis_names` attributes, N5's
`pixelResolution`. Written: OME-NGFF 0.5. Units are short here ("nm", "s") and long in OME-NGFF ("nanometer", "second").

The offset is the world position that OME-NGFF's `translation` gives to the first voxel.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blockwise.errors import InputError

SPATIAL = ("z", "y", "x")
UNITS = {"nm": "nanometer", "um": "micrometer", "mm": "millimeter", "s": "second", "ms": "millisecond"}
"""Short units and their OME-NGFF names."""

_SHORT = {long: short for short, long in UNITS.items()} | dict.fromkeys(("µm", "μm", "\\u00B5m", "micron", "microns", "micrometre"), "um")


def short_unit(name: str) -> str:
    """`name` as it is written here ("micrometer", "µm", "micron" -> "um"); an unknown one as it is."""
    return _SHORT.get(name.strip(), name.strip())


@dataclass(frozen=True, slots=True)
class Placement:
    """World geometry of an array, one entry per axis."""

    axes: tuple[str, ...]
    voxel_size: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    units: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field, default in (("voxel_size", 1.0), ("offset", 0.0), ("units", "")):
            value = tuple(getattr(self, field)) or (default,) * len(self.axes)
            object.__setattr__(self, field, value)
            if len(value) != len(self.axes):
                raise InputError(f"{field} {value} has {len(value)} entries for the {len(self.axes)} axes {self.axes}")

    @property
    def is_volume(self) -> bool:
        """All axes among c, z, y, x, and at least two of them spatial."""
        return set(self.axes) <= {"c", *SPATIAL} and len(set(self.axes) & set(SPATIAL)) >= 2

    def attributes(self) -> dict[str, list[Any]]:
        """The same as plain array attributes, which `from_attributes` reads."""
        return {"voxel_size": list(self.voxel_size), "offset": list(self.offset), "units": list(self.units)}


def default_axes(rank: int) -> tuple[str, ...]:
    """Names where nothing tells: z, y, x (after c, after t) from rank 3 on; d0, d1 below, where it may be anything."""
    return ("t", "c", *SPATIAL)[5 - rank :] if 3 <= rank <= 5 else tuple(f"d{i}" for i in range(rank))


def from_attributes(rank: int, attributes: Mapping[str, Any], names: Sequence[str | None] = ()) -> Placement:
    """Placement from the attributes that neuroscience tools put on zarr, N5 and HDF5 arrays, in nm where no unit is given.

    Lists shorter than the rank describe the last axes (a resolution in z, y, x on a c, z, y, x array).
    """
    size = _numbers(attributes, "voxel_size", "resolution")
    offset = _numbers(attributes, "offset")
    units = attributes.get("units", "nm" if size and "resolution" in attributes else "")
    units = [units] * max(len(size), 1) if isinstance(units, str) else list(units)
    axes = attributes.get("axis_names") or names
    usable = len(axes) == rank and all(isinstance(a, str) and a for a in axes)
    if not usable and size and 2 <= len(size) <= 3 and rank == 2:
        axes, usable = SPATIAL[-rank:], True
    return Placement(
        tuple(map(str, axes)) if usable else default_axes(rank),
        _padded(size, rank, 1.0),
        _padded(offset, rank, 0.0),
        _padded([short_unit(str(u)) for u in units], rank, ""),
    )


def _numbers(attributes: Mapping[str, Any], *names: str) -> list[float]:
    """The first of the named attributes that is a list of numbers."""
    for name in names:
        value = attributes.get(name)
        if isinstance(value, list | tuple) and value and all(isinstance(v, int | float) for v in value):
            return [float(v) for v in value]
    return []


def _padded(values: Sequence[Any], rank: int, default: Any) -> tuple[Any, ...]:
    last = tuple(values)[-rank:]
    return (default,) * (rank - len(last)) + last


def multiscales(attributes: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The first OME-NGFF multiscale image of a group's attributes (0.5: below `ome`; 0.4: at the top), or None."""
    ome = attributes.get("ome", attributes)
    found = ome.get("multiscales") if isinstance(ome, Mapping) else None
    first = found[0] if isinstance(found, list) and found else None
    return first if isinstance(first, Mapping) and first.get("datasets") else None


def from_ngff(rank: int, image: Mapping[str, Any], dataset: str) -> Placement | None:
    """Placement of one dataset of a multiscale image; None where the image does not list it.

    The dataset's scale and translation come first, then the image's own, which hold for every level.
    """
    found = next((d for d in image["datasets"] if d.get("path") == dataset), None)
    if found is None:
        return None
    axes = [a if isinstance(a, Mapping) else {"name": a} for a in image.get("axes", [])]
    if len(axes) != rank:
        raise InputError(f"OME-NGFF metadata names {len(axes)} axes, but array {dataset!r} has {rank}")
    size, offset = [1.0] * rank, [0.0] * rank
    for step in (*found.get("coordinateTransformations", ()), *image.get("coordinateTransformations", ())):
        scale, move = step.get("scale", [1.0] * rank), step.get("translation", [0.0] * rank)
        size = [s * float(f) for s, f in zip(size, scale, strict=True)]
        offset = [o * float(f) + float(m) for o, f, m in zip(offset, scale, move, strict=True)]
    units = tuple(short_unit(str(a.get("unit") or "")) for a in axes)
    return Placement(tuple(str(a["name"]) for a in axes), tuple(size), tuple(offset), units)


def to_ngff(placement: Placement, name: str, dataset: str = "0") -> dict[str, Any]:
    """The `ome` attribute (version 0.5) of a group that holds one volume at one scale."""
    steps = [
        {"type": "scale", "scale": list(placement.voxel_size)},
        {"type": "translation", "translation": list(placement.offset)},
    ]
    axes = [_axis(a, u) for a, u in zip(placement.axes, placement.units, strict=True)]
    datasets = [{"path": dataset, "coordinateTransformations": steps}]
    return {"version": "0.5", "multiscales": [{"name": name, "axes": axes, "datasets": datasets}]}


def _axis(name: str, unit: str) -> dict[str, str]:
    if name == "c":
        return {"name": name, "type": "channel"}
    return {"name": name, "type": "space"} | ({"unit": UNITS.get(unit, unit)} if unit else {})
