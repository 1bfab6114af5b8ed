import numpy as np
import pytest

from blockwise.errors import InputError
from blockwise.geometry import Region
from blockwise.storage import ArraySource, Placement
from tasks.synful.resampling import Axis, resampled

ZYX = ("z", "y", "x")


def source(data, voxel_size=(40.0, 4.0, 4.0), reads=None):
    def fetch(box):
        if reads is not None:
            reads.append(box)
        return data[box]

    return ArraySource("raw", None, data.shape, data.dtype, Placement(ZYX, voxel_size, (400.0, 0.0, 8.0), ("nm",) * 3), fetch)


def whole(s):
    return s.read(Region((0, 0, 0), s.shape))


@pytest.fixture
def noise():
    return np.random.default_rng(3).integers(0, 256, (11, 23, 30), np.uint8)


def test_equal_voxels_are_the_same_source(noise):
    raw = source(noise)
    assert resampled(raw, (40, 4, 4 * (1 + 1e-9))) is raw


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "int32", "float64"])
@pytest.mark.parametrize("voxel_size", [(40, 8, 8), (33, 4.6, 3.1), (50, 3, 10), (13, 4, 40)])
def test_blocks_are_the_whole(noise, dtype, voxel_size):
    new = resampled(source(noise.astype(dtype)), voxel_size)
    expected = whole(new)
    assert (expected.dtype, expected.shape) == (np.dtype(dtype), new.shape)
    cuts = [(0, n // 3, n // 2 + 1, n) for n in new.shape]
    for z, y, x in np.ndindex(3, 3, 3):
        begin, end = (cuts[0][z], cuts[1][y], cuts[2][x]), (cuts[0][z + 1], cuts[1][y + 1], cuts[2][x + 1])
        region = Region(begin, end)
        assert np.array_equal(new.read(region), expected[region.slices])


def test_only_what_is_needed_is_read(noise):
    reads = []
    new = resampled(source(noise, reads=reads), (40, 8, 2))
    new.read(Region((4, 3, 20), (6, 5, 24)))
    assert reads == [(slice(4, 6), slice(6, 10), slice(9, 13))]


@pytest.mark.parametrize(("factor", "size"), [(2, 8.0), (3, 12.0), (5, 20.0)])
def test_whole_factors_average_the_area(noise, factor, size):
    data = noise[:, : 23 // factor * factor, : 30 // factor * factor].astype(np.float32)
    new = resampled(source(data), (40, size, size))
    expected = data.reshape(11, data.shape[1] // factor, factor, -1, factor).mean((2, 4))
    assert whole(new) == pytest.approx(expected, rel=1e-5)


def test_smaller_voxels_interpolate_linearly():
    ramp = np.broadcast_to(np.arange(10, dtype=np.float32), (1, 2, 10)).copy()
    new = whole(resampled(source(ramp), (40, 4, 1)))
    centres = (np.arange(40) + 0.5) / 4 - 0.5
    assert new[0, 0] == pytest.approx(np.clip(centres, 0, 9), abs=1e-5)


@pytest.mark.parametrize("size", [1.0, 2.5, 4.6, 6.0, 11.0])
def test_a_wave_keeps_its_place(size):
    """In world units, corner of the first voxel at the offset."""
    period = 160.0
    x = (np.arange(400) + 0.5) * 4
    data = np.broadcast_to(np.sin(2 * np.pi * x / period).astype(np.float32), (1, 1, 400)).copy()
    new = resampled(source(data), (40, 4, size))
    place = (np.arange(new.shape[2]) + 0.5) * size
    values = whole(new)[0, 0][5:-5]
    wave = np.exp(2j * np.pi * place[5:-5] / period)
    sine, cosine = np.linalg.lstsq(np.stack([wave.imag, wave.real], 1), values, rcond=None)[0]
    assert np.arctan2(cosine, sine) * period / (2 * np.pi) == pytest.approx(0, abs=0.03 * size)  # nm
    assert np.hypot(sine, cosine) > 0.98


def test_fine_structure_is_not_aliased():
    stripes = np.zeros((1, 1, 400), np.uint8)
    stripes[..., ::2] = 200
    assert np.ptp(whole(resampled(source(stripes), (40, 4, 16)))) == 0
    assert np.abs(whole(resampled(source(stripes), (40, 4, 15.2))).astype(int) - 100).max() <= 14


def test_placement_and_extent(noise):
    new = resampled(source(noise), (50, 8, 3))
    assert (new.voxel_size, new.offset, new.units) == ((50.0, 8.0, 3.0), (400.0, 0.0, 8.0), ("nm",) * 3)
    for n, size, old, old_size in zip(new.shape, new.voxel_size, noise.shape, (40, 4, 4), strict=True):
        assert abs(n * size - old * old_size) <= size / 2


def test_integers_are_rounded():
    pair = np.array([[[1, 2, 2, 3, 254, 255]]], np.uint8)
    assert whole(resampled(source(pair), (40, 4, 8))).tolist() == [[[2, 2, 254]]]


@pytest.mark.parametrize("length", [1, 7, 1000])
@pytest.mark.parametrize("ratio", [0.1, 0.999, 1.15, 2.0, 3.3])
def test_weights_sum_to_one_and_stay_inside(length, ratio):
    axis = Axis(length, ratio)
    voxels, weights = axis.weights(0, axis.output)
    assert weights.sum(axis=0) == pytest.approx(1)
    assert weights.min() >= 0
    used = voxels[weights > 0]
    assert (used.min(), used.max() + 1) == axis.needed(0, axis.output)


@pytest.mark.parametrize("voxel_size", [(4, 4), (0, 4, 4), (40, 4, -4)])
def test_bad_sizes_are_refused(noise, voxel_size):
    with pytest.raises(InputError, match="one number above 0 per axis"):
        resampled(source(noise), voxel_size)
