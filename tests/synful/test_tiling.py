"""Tiles cover what they must, and boxes are predicted on the tiles' own lattice."""

import numpy as np
import pytest

from blockwise.errors import ConfigError
from blockwise.geometry import Region
from tasks.synful.sizes import NetworkShape
from tasks.synful.tiling import Tiling, in_voxels

SETUP = NetworkShape(((1, 3, 3), (1, 3, 3), (3, 3, 3)))
SMALL = NetworkShape(((1, 2, 2),))


def test_the_published_tile_is_the_originals():
    tiling = Tiling((SETUP,), (6, 218, 218), aligned=False)
    assert tiling.context == ((18, 18), (106, 106), (106, 106))
    assert tiling.spec().edge == "overhang"
    fused = Tiling((SETUP,), (4, 198, 198), (1, 10, 10), aligned=False)
    assert fused.spec().context == ((19, 19), (116, 116), (116, 116))


def test_an_aligned_core_is_a_multiple_of_the_pooling():
    with pytest.raises(ConfigError, match=r"multiple of the pooling \[3, 27, 27\]"):
        Tiling((SETUP,), (6, 218, 218))
    with pytest.raises(ConfigError, match="extraction context"):
        Tiling((SETUP,), (6, 216, 216), (1, 27, 27))


@pytest.mark.parametrize("networks", [(SETUP,), (SETUP, SMALL), (SMALL, SETUP)])
def test_every_network_gets_an_exact_input(networks):
    tiling = Tiling(networks, (6, 54, 54), (3, 54, 54))
    read = tiling.read_for(Region((0, 0, 0), tiling.output)).shape
    for network in networks:
        shape = tuple(n - b - a for n, (b, a) in zip(read, tiling.crop(network), strict=True))
        assert all(o >= n for o, n in zip(network.output_shape(shape), tiling.output, strict=True))
        assert all((n - m) % p == 0 for n, m, p in zip(shape, network.smallest_input, network.product, strict=True))


@pytest.mark.parametrize("aligned", [True, False])
def test_pieces_cover_a_box_once(aligned):
    tiling = Tiling((SMALL,), (4, 8, 8), (2, 2, 2) if aligned else (1, 1, 1), aligned=aligned)
    region, seen = Region((3, 5, 9), (17, 30, 21)), np.zeros((24, 48, 48), int)
    for piece, read in tiling.pieces(region):
        seen[piece.slices] += 1
        assert all(b % s == 0 for b, s in zip(piece.begin, tiling.step, strict=True))
        assert read.contains(piece)
    assert (seen[region.slices] == 1).all()
    assert seen.max() == 1


def test_lengths_are_rounded_up_to_the_lattice():
    assert in_voxels(120, (40, 4, 4)) == (3, 30, 30)
    assert in_voxels((120, 100, 100), (40, 4, 4), (3, 27, 27)) == (3, 27, 27)
    assert in_voxels(0, (40, 4, 4), (3, 27, 27)) == (0, 0, 0)
