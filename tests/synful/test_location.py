"""Sites of components, against the description followed literally with SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tasks.synful.labelling import components_above, extents
from tasks.synful.location import locate
from tests.synful.direct import innermost

SIZES = [(40, 4, 4), (8, 8, 8), (45, 8.6, 8.6), (1.3, 2.7, 0.9)]


def located(volume, threshold, voxel_size=(40, 4, 4), kind="edt"):
    components = components_above(volume, threshold)
    return locate(volume, threshold, components, extents(components)[:2], voxel_size=voxel_size, kind=kind).tolist()


def blobs(seed, fraction):
    volume = ndimage.gaussian_filter(np.random.default_rng(seed).random((7, 13, 12)), (0.5, 1, 1))
    threshold = float(np.quantile(volume, 1 - fraction))
    return volume, threshold, *ndimage.label(volume > threshold)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.3, 0.5, 0.8]), st.sampled_from(SIZES), st.booleans())
def test_innermost_voxels(seed, fraction, voxel_size, padded):
    volume, threshold, labels, n = blobs(seed, fraction)
    want = [innermost(labels, i + 1, voxel_size, padded) for i in range(n)]
    assert located(volume, threshold, voxel_size, "edt_padded" if padded else "edt") == want


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(SIZES))
def test_central_and_highest_voxels(seed, voxel_size):
    volume, threshold, labels, n = blobs(seed, 0.3)
    centroids, peaks = located(volume, threshold, voxel_size, "centroid"), located(volume, threshold, voxel_size, "peak")
    for i, voxels in enumerate(np.argwhere(labels == i + 1) for i in range(n)):
        away = np.linalg.norm((voxels - voxels.mean(axis=0)) * voxel_size, axis=1).astype(np.float32)
        assert centroids[i] in voxels[np.isclose(away, away.min(), rtol=1e-6, atol=1e-4)].tolist()
        assert peaks[i] == voxels[np.argmax(volume[tuple(voxels.T)])].tolist()


@pytest.mark.parametrize(("kind", "want"), [("edt", [4, 6, 8]), ("edt_padded", [3, 4, 4]), ("centroid", [3, 4, 5]), ("peak", [2, 3, 3])])
def test_a_full_box_has_no_boundary_inside(kind, want):
    volume = np.zeros((9, 9, 12))
    volume[2:5, 3:7, 3:9] = 1
    assert located(volume, 0.5, (8, 8, 8), kind) == [want]


def test_where_the_volume_begins_changes_nothing():
    volume, threshold, *_ = blobs(5, 0.3)
    moved = np.pad(volume, ((3, 0), (50, 2), (7, 0)), constant_values=-1)
    for kind in ("edt", "edt_padded", "centroid", "peak"):
        away = np.array(located(moved, threshold, (45, 8.6, 8.6), kind)) - (3, 50, 7)
        assert away.tolist() == located(volume, threshold, (45, 8.6, 8.6), kind)
