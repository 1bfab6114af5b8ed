"""Masks and regions of interest choose blocks, whatever their voxel size."""

import itertools

import numpy as np
import pytest

from blockwise.errors import ConfigError
from blockwise.geometry import Domain, Region
from blockwise.grid import Grid, GridSpec
from blockwise.storage import OutputArray
from tasks.synful.block_mask import BlockMask, roi_in_voxels

DOMAIN = Domain("volume", ("z", "y", "x"), (20, 50, 60), (40.0, 4.0, 4.0), (400.0, 0.0, 80.0), ("nm",) * 3)
CORE = (6, 20, 16)
GRID = Grid(DOMAIN, GridSpec(CORE))
IDS = np.arange(len(GRID))


def write_mask(path, values, voxel_size, offset):
    array = OutputArray.create(
        path,
        "mask",
        shape=values.shape,
        dtype="uint8",
        chunks=values.shape,
        axes=("z", "y", "x"),
        voxel_size=voxel_size,
        offset=offset,
        units=("nm",) * 3,
    )
    array.write(Region((0, 0, 0), values.shape), values).future.result()
    return BlockMask(DOMAIN, CORE, path=str(path), variable="mask")


@pytest.mark.parametrize("factor", [(1, 1, 1), (2, 5, 5), (1, 7, 3)])
def test_blocks_that_meet_the_mask_are_computed(tmp_path, factor):
    random = np.random.default_rng(1)
    shape = [-(-n // f) for n, f in zip(DOMAIN.shape, factor, strict=True)]
    values = (random.random(shape) < 1.5 / np.prod([c / f for c, f in zip(CORE, factor, strict=True)])).astype(np.uint8)
    mask = write_mask(tmp_path / "m.zarr", values, [v * f for v, f in zip(DOMAIN.voxel_size, factor, strict=True)], DOMAIN.offset)
    fine = np.kron(values, np.ones(factor, np.uint8))[: DOMAIN.shape[0], : DOMAIN.shape[1], : DOMAIN.shape[2]]
    expected = [fine[b.core.slices].any() for b in GRID.blocks(IDS)]
    assert 0 < sum(expected) < len(IDS)
    assert mask(IDS).tolist() == expected


def test_what_the_mask_does_not_cover_is_left_out(tmp_path):
    mask = write_mask(tmp_path / "m.zarr", np.ones((5, 10, 10), np.uint8), (40.0, 4.0, 4.0), DOMAIN.offset)
    assert mask(IDS).tolist() == [i == 0 for i in IDS]


def test_a_region_of_interest(tmp_path):
    roi = roi_in_voxels(DOMAIN, (640, 80, 144), (40, 4, 4.5))
    assert roi == Region((6, 20, 16), (7, 21, 18))
    chosen = BlockMask(DOMAIN, CORE, roi)(IDS)
    assert [b.position for b in itertools.compress(GRID.blocks(IDS), chosen)] == [(1, 1, 1)]
    with pytest.raises(ConfigError, match="does not meet the volume"):
        roi_in_voxels(DOMAIN, (0, 0, 0), (400, 10, 10))
