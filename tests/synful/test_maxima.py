"""Local maxima, against scipy.ndimage.maximum_filter with the footprint of the description."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from blockwise.errors import InputError
from tasks.synful.maxima import find_maxima, maxima_above, neighbours, radius_voxels
from tests.synful.direct import ellipsoid, painted

RADII = [(1, 1, 1), (1, 3, 3), (2, 2, 4), (3, 1, 9)]


def filtered(volume, threshold, radius):
    """Plateaus of the voxels that equal the largest value in the footprint, the volume reflected at its borders.

    SciPy reflects wrongly where an axis is shorter than a quarter of the radius: volumes here are at least half as long.
    """
    highest = ndimage.maximum_filter(volume, footprint=ellipsoid(radius), mode="reflect")
    return ndimage.label((volume == highest) & (volume > threshold) & (volume > 0))[0]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(RADII), st.sampled_from([-5, 0, 3, 6]), st.sampled_from([3, 9]))
def test_plateaus_are_those_of_a_maximum_filter(seed, radius, threshold, steps):
    random = np.random.default_rng(seed)
    volume = random.integers(0, steps, random.integers((np.array(radius) + 1) // 2, 9)).astype(np.uint8)
    assert np.array_equal(painted(maxima_above(volume, threshold, radius)), filtered(volume, threshold, radius))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(RADII), st.floats(0.2, 0.8))
def test_plateaus_of_smooth_volumes(seed, radius, threshold):
    volume = ndimage.gaussian_filter(np.random.default_rng(seed).random((6, 17, 20), np.float32), (0.5, 2, 2))
    volume = np.round(volume * 20) / np.float32(20)
    assert np.array_equal(painted(maxima_above(volume, threshold, radius)), filtered(volume, np.float32(threshold), radius))


def test_centres_and_values():
    volume = np.random.default_rng(3).integers(0, 5, (6, 14, 15)).astype(np.float64)
    labels = filtered(volume, 2, (1, 2, 2))
    centres, values = find_maxima(volume, (40, 4, 4), (40, 8, 8), threshold=2)
    index = range(1, labels.max() + 1)
    np.testing.assert_allclose(centres, ndimage.center_of_mass(labels > 0, labels, index), atol=1e-12)
    assert values.tolist() == ndimage.maximum(volume, labels, index).tolist()


def test_smoothing_comes_first():
    volume = np.random.default_rng(4).random((6, 20, 21), np.float32)
    smooth = ndimage.gaussian_filter(volume, (0.5, 2, 2), mode="constant")
    got = find_maxima(volume, (40, 4, 4), (40, 12, 12), sigma=(20, 8, 8))
    want = find_maxima(smooth, (40, 4, 4), (40, 12, 12))
    assert all(np.array_equal(g, w) for g, w in zip(got, want, strict=True))


@pytest.mark.parametrize("radius", RADII)
def test_neighbours_are_the_ellipsoid_without_its_centre(radius):
    offsets = neighbours(radius)
    footprint = np.zeros(ellipsoid(radius).shape, bool)
    footprint[tuple((offsets + radius).T)] = True
    footprint[radius] = True
    assert np.array_equal(footprint, ellipsoid(radius))
    assert (np.diff((offsets**2).sum(axis=1)) >= 0).all()


@pytest.mark.parametrize(("voxel_size", "radius", "want"), [((40, 4, 4), (40, 40, 42), (1, 10, 11)), ((8, 8, 8), (1, 8, 9), (1, 1, 2))])
def test_radii_are_rounded_up(voxel_size, radius, want):
    assert radius_voxels(voxel_size, radius) == want


@pytest.mark.parametrize("radius", [(40, 40), (0, 40, 40), (40, -1, 40), (40, np.nan, 40), ()])
def test_radii_are_three_positive_numbers(radius):
    with pytest.raises(InputError, match="three positive numbers"):
        find_maxima(np.zeros((2, 2, 2)), (40, 4, 4), radius)
