"""Values of a segmentation at many sites: sites are sorted by chunk, every chunk is read once, a few at a time ahead of their use."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from math import prod
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from blockwise.errors import ConfigError, InputError
from blockwise.geometry import Region
from blockwise.storage import Source
from tasks.synful.placed import placement_nm

Rounding = Literal["truncate", "cremi"]
Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
Voxels = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

QUOTIENT = 1e-6
"""Voxels: what dividing by a size such as 4.4 nm may lose, which would be the voxel before."""

READS_AHEAD: int = 8
"""Chunks under way at once, memory permitting."""


def voxels_of(positions_nm: npt.ArrayLike, voxel_size: float, offset: float, rounding: Rounding = "truncate") -> Voxels:
    """Voxel indices of positions along one axis, (n,) int32; positions further off get the last number there is.

    Parameters
    ----------
    positions_nm : (n,) nm.
    rounding : "truncate" is the voxel that holds the position, floor((p - offset) / voxel_size): what lies before the first voxel gets -1,
        not 0. "cremi" is the voxel whose corner is nearest, ties to even: what the CREMI metric looks at (spec 9.2).

    Raises
    ------
    ConfigError : an unknown rounding.
    """
    if rounding not in ("truncate", "cremi"):
        raise ConfigError(f"rounding = {rounding!r}: it is 'truncate' or 'cremi'")
    snap, limits = np.floor if rounding == "truncate" else np.rint, np.iinfo(np.int32)
    places = np.asarray(positions_nm) - np.float64(offset)
    places /= voxel_size
    if rounding == "truncate":
        places += QUOTIENT
    return np.clip(snap(places, out=places), limits.min, limits.max, out=places).astype(np.int32)


def placement_of(
    segmentation: Array | Source, voxel_size: Sequence[float] | None, offset: Sequence[float] | None, what: str = "segmentation"
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Voxel size and offset in nm, given or the source's own, of a volume of ids.

    Raises
    ------
    InputError : not a (z, y, x) volume of integers, or an array without a voxel size.
    """
    if len(segmentation.shape) != 3 or segmentation.dtype.kind not in "iu":
        raise InputError(
            f"{what} has shape {tuple(segmentation.shape)} and dtype {segmentation.dtype}: a (z, y, x) volume of integers is needed"
        )
    if isinstance(segmentation, np.ndarray) and voxel_size is None:
        raise InputError(f"{what} is an array: give its voxel_size in nm, z y x")
    told = ((1.0,) * 3, (0.0,) * 3) if isinstance(segmentation, np.ndarray) else placement_nm(segmentation, what, voxel_size=voxel_size)
    size = tuple(map(float, voxel_size or told[0]))
    begin = tuple(map(float, told[1] if offset is None else offset))
    if len(size) != 3 or len(begin) != 3 or min(size) <= 0:
        raise InputError(f"{what}: voxel_size {size} and offset {begin} must be three numbers each, z y x, sizes above 0")
    return size, begin


def values_at(segmentation: Array | Source, voxels: Iterable[Voxels], *, memory: int) -> tuple[npt.NDArray[np.uint64], Mask]:
    """Ids at voxels.

    Parameters
    ----------
    segmentation : (z, y, x) integers; an array, or a source that is read chunk by chunk.
    voxels : z, y and x, each (n,) int32; anywhere. They are asked for one after the other and not kept.
    memory : bytes that chunks under way may fill, beside the sites themselves.

    Returns
    -------
    values (n,) uint64, 0 where outside; inside (n,) bool.

    Raises
    ------
    InputError : an id below 0.  StorageError : a chunk that cannot be read.
    """
    shape = segmentation.shape
    tiles = shape if isinstance(segmentation, np.ndarray) else _tile(segmentation, memory)
    tile, local, inside = _addresses(voxels, shape, tiles)
    values = np.zeros(len(inside), np.uint64)
    if isinstance(segmentation, np.ndarray):
        values[inside] = _ids(segmentation.flat[local[inside]])
        return values, inside
    ahead = max(1, min(READS_AHEAD, memory // (prod(tiles) * segmentation.dtype.itemsize)))
    order, begins = _by_tile(tile)
    regions = (_region(int(t), shape, tiles) for t in tile[order[begins[:-1]]])
    del tile
    for (begin, end), block in zip(pairwise(begins), _read_ahead(segmentation, regions, ahead), strict=True):
        rows = order[begin:end]
        values[rows] = _ids(block.reshape(-1)[local[rows]])
    return values, inside


def _ids(values: Array) -> npt.NDArray[np.uint64]:
    if values.dtype.kind == "i" and values.size and values.min() < 0:
        raise InputError(f"the segmentation holds the id {values.min()}: ids are 0 or more")
    return values.astype(np.uint64)


def _tile(source: Source, memory: int) -> tuple[int, ...]:
    """What is read at once: a chunk, or sections that fit where any region is as cheap."""
    section = prod(source.shape[1:]) * source.dtype.itemsize
    wanted = source.chunks or (max(1, memory // (2 * max(1, section))), *source.shape[1:])
    return tuple(max(1, min(t, n)) for t, n in zip(wanted, source.shape, strict=True))


def _addresses(voxels: Iterable[Voxels], shape: Sequence[int], tiles: Sequence[int]) -> tuple[Array, Array, Mask]:
    """The tile that holds each voxel, numbered in C order (-1: outside), its place in the tile as the border cuts it, and if inside."""
    tile: Any = 0
    local: Any = 0
    inside: Any = True
    counts = [-(-n // t) for n, t in zip(shape, tiles, strict=True)]
    number_type, place_type = (np.int32 if prod(n) < 2**31 else np.int64 for n in (counts, tiles))
    for v, n, t, count in zip(voxels, shape, tiles, counts, strict=True):
        inside = inside & (v >= 0) & (v < n)
        number, rest = np.divmod(np.clip(v, 0, max(0, n - 1)), np.int32(t))
        tile = tile * number_type(count) + number
        local = local * np.where(number == count - 1, n - (count - 1) * t, t).astype(place_type) + rest
    tile[~inside] = -1
    return tile, local, inside


def _by_tile(tile: Array) -> tuple[Ints, Ints]:
    """Rows sorted by tile, those outside left out, and where each tile's rows begin, with the end of the last."""
    order = np.argsort(tile, kind="stable")
    order = order[np.count_nonzero(tile < 0) :]
    sorted_tiles = tile[order]
    return order, np.flatnonzero(np.r_[sorted_tiles[:1] >= 0, sorted_tiles[1:] != sorted_tiles[:-1], True])


def _region(tile: int, shape: Sequence[int], tiles: Sequence[int]) -> Region:
    counts = [-(-n // t) for n, t in zip(shape, tiles, strict=True)]
    begin = tuple(int(i) * t for i, t in zip(np.unravel_index(tile, counts), tiles, strict=True))
    return Region(begin, tuple(min(b + t, n) for b, t, n in zip(begin, tiles, shape, strict=True)))


def _read_ahead(source: Source, regions: Iterator[Region], ahead: int) -> Iterator[Array]:
    """Blocks in the order of their regions, up to `ahead` of them read at once."""
    with ThreadPoolExecutor(ahead) as pool:
        under_way: deque[Any] = deque()
        for region in regions:
            under_way.append(pool.submit(source.read, region))
            if len(under_way) == ahead:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
