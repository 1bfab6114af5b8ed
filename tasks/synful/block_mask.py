"""Which blocks are computed: those whose core meets the region of interest and some voxel of the mask."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from blockwise.errors import ConfigError, InputError
from blockwise.geometry import Domain, Region
from blockwise.grid import Ids

LARGEST_MASK = 2 * 10**9
"""Voxels of a mask, which is held in memory as 4 bytes each."""


@dataclass(frozen=True, slots=True)
class BlockMask:
    """Callable on ids of blocks of the one domain, in any process; nothing is read before it is called.

    Parameters
    ----------
    domain, core : of the grid.
    roi : voxels of the domain.
    path, variable : a volume of any voxel size, 0 where nothing is to be computed; what it does not cover is not computed either. A
        block is computed where any voxel of the mask that its core touches is not 0.
    """

    domain: Domain
    core: tuple[int, ...]
    roi: Region | None = None
    path: str | None = None
    variable: str | None = None

    def __call__(self, ids: Ids) -> npt.NDArray[np.bool_]:
        shape, core = np.array(self.domain.shape), np.array(self.core)
        counts = tuple((-(-shape // core)).tolist())
        begin = np.stack(np.unravel_index(ids, counts), axis=1) * core
        end = np.minimum(begin + core, shape)
        found = np.ones(len(ids), np.bool_)
        if self.roi is not None:
            found &= ((begin < self.roi.end) & (end > self.roi.begin)).all(axis=1)
        if self.path is not None:
            found[found] = self._any(begin[found], end[found])
        return found

    def _any(self, begin: Ids, end: Ids) -> npt.NDArray[np.bool_]:
        """Whether any voxel of the mask is set in each box of the domain's voxels."""
        sums, voxel_size, offset = _summed(str(self.path), self.variable, self.domain)
        size = np.array(self.domain.voxel_size) / voxel_size
        shift = (np.array(self.domain.offset) - offset) / voxel_size
        top = np.array(sums.shape) - 1
        low = np.clip(np.floor(begin * size + shift + 1e-6).astype(np.int64), 0, top)
        high = np.clip(np.ceil(end * size + shift - 1e-6).astype(np.int64), 0, top)
        total = np.zeros(len(begin), np.int64)
        for corner in np.ndindex(2, 2, 2):
            at = np.where(np.array(corner, np.bool_), high, low)
            total += sums[tuple(at.T)].astype(np.int64) * (-1) ** (3 - sum(corner))
        return total > 0


@lru_cache(maxsize=2)
def _summed(
    path: str, variable: str | None, volume: Domain
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The mask's summed volume with a border of zeros in front, its voxel size and its offset."""
    source = open_mask(path, variable, volume)
    mask = source.read(Region((0, 0, 0), source.shape)) != 0
    sums = np.zeros([n + 1 for n in mask.shape], np.uint32)
    sums[1:, 1:, 1:] = mask
    for axis in range(3):
        np.cumsum(sums, axis=axis, out=sums)
    return sums, np.array(source.voxel_size), np.array(source.offset)


def open_mask(path: str, variable: str | None, volume: Domain) -> Any:
    """The mask of a volume, its place in nm.

    Raises
    ------
    MissingError : it is not there.  InputError : no volume, at an unknown place, or too fine to be held in memory.
    """
    from tasks.synful.placed import open_placed

    source = open_placed(path, variable, "mask", like=volume)
    if np.prod(source.shape) > LARGEST_MASK:
        raise InputError(
            f"mask {source.path}: {np.prod(source.shape):.3g} voxels are more than {LARGEST_MASK:.3g}; give a coarser level, for it only "
            "decides about blocks"
        )
    return source


def roi_in_voxels(domain: Domain, offset: tuple[float, ...] | None, shape: tuple[float, ...] | None) -> Region | None:
    """A box of world nm as voxels of a domain, grown to whole ones.

    Raises
    ------
    ConfigError : it does not meet the domain.
    """
    if offset is None or shape is None:
        return None
    size, origin = np.array(domain.voxel_size), np.array(domain.offset)
    low = np.floor((np.array(offset) - origin) / size).astype(int)
    high = np.ceil((np.array(offset) + np.array(shape) - origin) / size).astype(int)
    region = Region(tuple(low.tolist()), tuple(high.tolist())).intersect(domain.region)
    if not region.size:
        end = (origin + np.array(domain.shape) * size).tolist()
        raise ConfigError(
            f"[options.volume] roi_offset {list(offset)} nm with roi_shape {list(shape)} nm does not meet the volume, which goes from "
            f"{origin.tolist()} to {end} nm"
        )
    return region
