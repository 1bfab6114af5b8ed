"""Annotated volumes to train on: raw data, labels, masks and points, each with its own extent in one world (spec 5.1).

Positions are voxels of the world: voxel v begins at v * voxel_size nm, so that an array's offset is a number of voxels. Arrays are read
by region and never whole, unless they were given as arrays.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blockwise.errors import InputError, MissingError
from blockwise.geometry import Region
from blockwise.storage import open_source
from tasks.synful.training.parameters import CubeOptions, TrainingParameters
from tasks.synful.training.points import Pairs, no_pairs, read_cremi, read_table

Array = npt.NDArray[Any]
CREMI_RAW, CREMI_LABELS = "volumes/raw", "volumes/labels/neuron_ids"
HDF = (".hdf", ".h5", ".hdf5")


@dataclass(frozen=True, eq=False)
class Volume:
    """An array somewhere in the world.

    region : the voxels it holds.  fetch : a region inside it -> array.
    """

    region: Region
    dtype: np.dtype[Any]
    fetch: Callable[[Region], Array]

    @classmethod
    def of(cls, values: Array, begin: Sequence[int] = (0, 0, 0)) -> "Volume":
        """An array in memory, (z, y, x), that begins at a voxel."""
        region = Region(tuple(begin), tuple(b + n for b, n in zip(begin, values.shape, strict=True)))
        return cls(region, values.dtype, lambda r: values[r.shift([-b for b in begin]).slices])

    def read(self, region: Region) -> Array:
        """Voxels of a region, 0 where the volume has none."""
        common = region.intersect(self.region)
        if common == region:
            return self.fetch(region)
        found = np.zeros(region.shape, self.dtype)
        if common.size:
            found[common.shift([-b for b in region.begin]).slices] = self.fetch(common)
        return found


@dataclass(frozen=True, eq=False)
class Cube:
    """One annotated volume.

    Parameters
    ----------
    voxel_size : nm.  pairs : annotated partners, nm in the world.
    labels, indicator, mask, validation_mask : see `CubeOptions`.
    complete : voxels within which points are complete; outputs are drawn from it.
    """

    name: str
    voxel_size: tuple[float, float, float]
    raw: Volume
    labels: Volume | None = None
    indicator: Volume | None = None
    mask: Volume | None = None
    validation_mask: Volume | None = None
    pairs: Pairs = field(default_factory=no_pairs)
    complete: Region | None = None
    weight: float = 1.0

    @property
    def known(self) -> Region:
        """Voxels whose targets are known."""
        known = self.raw.region
        for limit in (self.complete, self.labels and self.labels.region, self.indicator and self.indicator.region):
            if limit is not None:
                known = known.intersect(limit)
        return known

    @cached_property
    def sites(self) -> npt.NDArray[np.int64]:
        """Voxels that samples are drawn around, (n, 3), inside the mask and outside the validation mask.

        The post-synaptic sites; one voxel of each component where the mask to learn is a volume.
        """
        voxels = np.trunc(self.pairs.post / np.asarray(self.voxel_size)).astype(np.int64)
        if self.indicator is not None:
            voxels = _one_of_each(self.indicator.read(self.indicator.region) > 0) + self.indicator.region.begin
        for volume, inside in ((self.mask, True), (self.validation_mask, False)):
            if volume is not None:
                voxels = voxels[np.array([_value_at(volume, v) != 0 for v in voxels], bool) == inside]
        return voxels


def _one_of_each(foreground: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """A voxel of every component, the middle one in raster order."""
    from scipy.ndimage import label

    labels = label(foreground, np.ones((3, 3, 3)))[0].ravel()
    order = np.argsort(labels, kind="stable")[np.count_nonzero(labels == 0) :]
    ids, first, count = np.unique(labels[order], return_index=True, return_counts=True)
    return np.stack(np.unravel_index(order[first + count // 2], foreground.shape), axis=1).astype(np.int64).reshape(len(ids), 3)


def _value_at(volume: Volume, voxel: npt.NDArray[np.int64]) -> Any:
    return volume.read(Region(tuple(voxel.tolist()), tuple((voxel + 1).tolist())))[0, 0, 0]


def cube_options(parameters: TrainingParameters) -> tuple[CubeOptions, ...]:
    """The cubes of a run; those of `cremi_dir` where no others are named.

    Raises
    ------
    MissingError : neither, or a sample without a file.
    """
    if parameters.cubes:
        return parameters.cubes
    if parameters.cremi_dir is None:
        raise MissingError("no cubes to train on: name them under `cubes`, or the folder of the CREMI samples as `cremi_dir`")
    return tuple(CubeOptions(raw=str(_sample(Path(parameters.cremi_dir), s)), **_CREMI_ROI) for s in parameters.samples)


_CREMI_ROI: Any = {"roi_offset": (1520.0, 3644.0, 3644.0), "roi_shape": (5000.0, 5000.0, 5000.0)}


def _sample(folder: Path, name: str) -> Path:
    """A padded CREMI sample by its letter."""
    patterns = [f"{stem}{suffix}" for stem in (name, f"sample_{name}*padded*", f"sample_{name}*") for suffix in HDF]
    found = [file for pattern in patterns for file in sorted(folder.glob(pattern))]
    if not found:
        raise MissingError(f"no CREMI sample {name!r} in {folder}: looked for {', '.join(patterns[:2])}")
    return found[0]


def open_cube(options: CubeOptions, voxel_size: Sequence[float]) -> Cube:
    """Open the arrays of a cube and read its points.

    Parameters
    ----------
    voxel_size : nm that the network is trained at.

    Raises
    ------
    MissingError, InputError : something is not there, or of another voxel size, rank or type; names it and both numbers.
    """
    raw_path, raw_name = split(options.raw)
    cremi = raw_path.endswith(HDF)
    size = _triple(voxel_size)
    raw = open_volume(raw_path, raw_name, size, given=options, defaults=(CREMI_RAW,))
    labels = options.labels
    if labels is None and cremi and _has(raw_path, CREMI_LABELS):
        labels = f"{raw_path}:{CREMI_LABELS}"
    others = {
        kind: None if place is None else open_volume(*split(place), size, defaults=(CREMI_LABELS,) if kind == "labels" else ())
        for kind, place in (("labels", labels), *((k, getattr(options, k)) for k in ("indicator", "mask", "validation_mask")))
    }
    return Cube(
        Path(raw_path).stem,
        size,
        raw,
        pairs=_pairs(options, raw_path, raw, size),
        complete=_box(options, size),
        weight=options.weight,
        **others,
    )


def open_volume(
    path: str, name: str | None, voxel_size: tuple[float, ...], *, given: CubeOptions | None = None, defaults: Sequence[str] = ()
) -> Volume:
    """One array as a volume of the world; its metadata must agree with the voxel size, unless `given` states it.

    Raises
    ------
    InputError : not z y x, or another voxel size.
    """
    if given is not None and given.voxel_size is not None and not np.allclose(given.voxel_size, voxel_size, rtol=0.02):
        raise InputError(
            f"cube {path} is said to have voxels of {list(given.voxel_size)} nm, the network is trained at {list(voxel_size)}: set the "
            "`voxel_size` of the training to it, which holds for all cubes, or resample the cube"
        )
    source = open_source(path, name, defaults=defaults)
    if len(source.shape) != 3:
        raise InputError(f"{path} has the shape {source.shape}: three axes are wanted, z y x")
    stated = tuple(source.voxel_size)
    free = set(stated) == {1.0} or (given is not None and given.voxel_size is not None)
    if not free and not np.allclose(stated, voxel_size, rtol=0.02):
        raise InputError(
            f"{path}{f':{name}' if name else ''} has voxels of {list(stated)} nm, the network is trained at {list(voxel_size)}: "
            "set `voxel_size` to train there, or the cube's own `voxel_size` if its metadata is wrong"
        )
    offset = source.offset if given is None or given.offset is None else given.offset
    begin = tuple(round(o / n) for o, n in zip(offset, voxel_size, strict=True))
    region = Region(begin, tuple(b + n for b, n in zip(begin, source.shape, strict=True)))
    return Volume(region, source.dtype, lambda r: source.read(r.shift([-b for b in begin])))


def split(place: str) -> tuple[str, str | None]:
    """Path and array name of "path:name"; a URL's colon is none."""
    head, colon, tail = place.rpartition(":")
    return (head, tail) if colon and not tail.startswith("//") and "/" not in tail[:1] and len(head) > 1 else (place, None)


def _has(path: str, name: str) -> bool:
    import h5py

    with h5py.File(path, "r") as file:
        return name in file


def _pairs(options: CubeOptions, raw_path: str, raw: Volume, size: tuple[float, ...]) -> Pairs:
    """The cube's points in nm of the world, those outside its box left out."""
    if options.points is not None:
        pairs = read_table(options.points, options.columns)
        if options.points_unit == "voxel":
            begin = np.asarray(raw.region.begin)
            pairs = Pairs((pairs.pre + begin) * size, (pairs.post + begin) * size)
    else:
        pairs = (read_cremi(raw_path) if raw_path.endswith(HDF) else None) or no_pairs()
    box = _box(options, size) or raw.region
    return pairs.within(np.multiply(box.begin, size).tolist(), np.multiply(box.end, size).tolist())


def _box(options: CubeOptions, size: tuple[float, ...]) -> Region | None:
    if options.roi_offset is None or options.roi_shape is None:
        return None
    ends = np.add(options.roi_offset, options.roi_shape)
    return Region(
        tuple(int(np.ceil(o / n)) for o, n in zip(options.roi_offset, size, strict=True)),
        tuple(int(e // n) for e, n in zip(ends, size, strict=True)),
    )


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    z, y, x = (float(v) for v in values)
    return z, y, x
