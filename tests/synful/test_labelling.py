"""Components as runs, against scipy.ndimage.label on the dense volume."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from blockwise.errors import InputError
from tasks.synful.labelling import components_above, extents, in_units, mass_sums, require_volume, runs_above, voxels_within
from tests.synful.direct import painted

SHAPES = st.tuples(*[st.integers(1, 7)] * 3)


@settings(max_examples=200, deadline=None)
@given(SHAPES.flatmap(lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 3))), st.integers(0, 3))
def test_labels_are_those_of_scipy(volume, threshold):
    assert np.array_equal(painted(components_above(volume, threshold)), ndimage.label(volume > threshold)[0])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.2, 0.31, 0.5, 0.9]))
def test_labels_of_larger_volumes(seed, fraction):
    volume = np.random.default_rng(seed).random((9, 21, 40), np.float32)
    assert np.array_equal(painted(components_above(volume, 1 - fraction)), ndimage.label(volume > np.float32(1 - fraction))[0])


def test_boxes_first_voxels_sizes_and_sums():
    volume = np.random.default_rng(1).random((7, 12, 15), np.float32)
    labels, n = ndimage.label(volume > 0.6)
    begin, end, first, voxels = extents(components := components_above(volume, 0.6))
    boxes = ndimage.find_objects(labels)
    assert begin.tolist() == [[s.start for s in box] for box in boxes]
    assert end.tolist() == [[s.stop for s in box] for box in boxes]
    assert first.tolist() == [np.argwhere(labels == i + 1)[0].tolist() for i in range(n)]
    assert voxels.tolist() == np.bincount(labels.ravel())[1:].tolist()
    assert all(np.array_equal(voxels_within(components, i), np.argwhere(labels == i + 1)) for i in range(n))
    assert mass_sums(components).tolist() == [np.argwhere(labels == i + 1).sum(axis=0).tolist() for i in range(n)]


def test_many_runs_in_one_row_find_room():
    volume = np.zeros((2, 3, 5001), np.uint8)
    volume[..., ::2] = 1
    assert components_above(volume, 0).number == 2501
    assert len(runs_above(volume, 0).begin) == 6 * 2501


@pytest.mark.parametrize(
    ("dtype", "threshold", "above"),
    [
        ("uint8", 1, [2, 3]),
        ("uint8", 1.5, [2, 3]),
        ("uint8", -1, [0, 1, 2, 3]),
        ("uint8", 300, []),
        ("int32", -0.5, [0, 1, 2, 3]),
        ("float32", 1, [2, 3]),
        ("float64", 0.5, [1, 2, 3]),
        ("bool", 0, [1]),
    ],
)
def test_every_type_is_compared_as_numpy_does(dtype, threshold, above):
    values = np.arange(4).astype(dtype)
    volume = np.repeat(values, 2)[::2].reshape(4, 1, 1)
    runs = runs_above(volume, threshold)
    assert np.flatnonzero(np.diff(runs.first)).tolist() == np.flatnonzero(values > threshold).tolist()
    assert sorted({int(values[z]) for z in np.flatnonzero(np.diff(runs.first))}) == above


def test_a_float_threshold_is_rounded_to_the_type_of_the_volume():
    volume = np.full((1, 1, 1), 0.3, np.float32)
    assert float(volume[0, 0, 0]) > 0.3
    assert components_above(volume, 0.3).number == 0 == np.count_nonzero(volume > 0.3)
    assert in_units(volume, 0.3).dtype == np.float32


def test_nan_is_background():
    volume = np.array([0.9, np.nan, 0.9, 0.1, np.inf]).reshape(1, 1, 5)
    assert painted(components_above(volume, 0.5)).ravel().tolist() == [1, 0, 2, 0, 3]


def test_views_and_read_only_volumes():
    volume = np.random.default_rng(2).random((12, 9, 14), np.float32)
    view = volume[::2, 1:, ::3].transpose(2, 0, 1)
    view.flags.writeable = False
    assert np.array_equal(painted(components_above(view, 0.6)), ndimage.label(view > 0.6)[0])


@pytest.mark.parametrize("shape", [(0, 4, 4), (3, 0, 2), (2, 2, 0), (3, 4, 5)])
def test_nothing_above(shape):
    components = components_above(np.zeros(shape, np.float32), 0)
    assert components.number == 0
    assert [v.shape for v in extents(components)] == [(0, 3)] * 3 + [(0,)]


@pytest.mark.parametrize(
    ("volume", "said"),
    [
        (np.zeros((1, 2, 3, 4), "f4"), r"mask\[0\]"),
        (np.zeros((2, 3, 4), "f2"), "float16"),
        (np.zeros((2, 3, 4), ">f4"), "native byte order"),
        (np.zeros((2, 3, 4), "c8"), "complex64"),
    ],
)
def test_volumes_that_are_refused(volume, said):
    with pytest.raises(InputError, match=said):
        require_volume(volume, "mask")


def test_a_threshold_is_finite():
    with pytest.raises(InputError, match="nan"):
        components_above(np.zeros((1, 1, 1), np.float32), np.nan)
