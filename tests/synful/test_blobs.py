"""Blobs of arrays, and the partners of a block in the data set."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from blockwise.errors import ConfigError, InputError
from tasks.synful.blobs import find_blobs, partners_of, whole_nm
from tasks.synful.partners import cantor_ids, points
from tests.synful.direct import smooth

SIZES = [(40, 4, 4), (8, 8, 8), (45, 8.6, 8.6), (50, 4.6, 4.6)]
METHODS = [{"method": "cc", "location": kind} for kind in ("edt", "edt_padded", "centroid", "peak")] + [
    {"method": "nms", "nms_radius": (50, 20, 20)}
]


@pytest.mark.parametrize("score", ["sum", "mean", "max", "count"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_scores(score, dtype):
    mask, _ = smooth(0)
    mask = mask if dtype == "float32" else (mask * 255).astype(dtype)
    threshold = 0.6 if dtype == "float32" else 153
    labels, n = ndimage.label(mask > threshold)
    found = find_blobs(mask, threshold=threshold, score=score, voxel_size=(40, 4, 4))
    want = {"sum": ndimage.sum, "mean": ndimage.mean, "max": ndimage.maximum, "count": lambda _, *where: ndimage.sum(labels > 0, *where)}
    np.testing.assert_allclose(found.score, want[score](mask.astype(float), labels, range(1, n + 1)), rtol=1e-12)
    assert found.voxels.tolist() == np.bincount(labels.ravel())[1:].tolist()


def test_taking_rows_and_a_least_score_are_the_same():
    mask, _ = smooth(1)
    everything = find_blobs(mask, threshold=0.6, voxel_size=(40, 4, 4))
    kept = find_blobs(mask, threshold=0.6, voxel_size=(40, 4, 4), min_score=5)
    assert 0 < len(kept) < len(everything)
    taken = everything.take(np.flatnonzero(everything.score > 5))
    assert all(np.array_equal(getattr(kept, name), getattr(taken, name)) for name in vars(kept))


def test_a_plateau_stands_at_its_centre():
    mask = np.zeros((5, 9, 9))
    mask[1:3, 4, 3:7] = 0.9
    mask[0, 0, 0] = 0.4
    found = find_blobs(mask, method="nms", threshold=0.5, voxel_size=(40, 4, 4), nms_radius=(40, 8, 8))
    assert (found.begin.tolist(), found.end.tolist(), found.first.tolist()) == ([[1, 4, 3]], [[3, 5, 7]], [[1, 4, 3]])
    assert (found.voxel.tolist(), found.post_nm.tolist()) == ([[1, 4, 4]], [[60, 16, 18]])
    assert (found.score.tolist(), found.voxels.tolist()) == ([0.9], [8])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(SIZES), st.sampled_from(METHODS), st.tuples(*[st.integers(0, 30)] * 3))
def test_a_block_gives_the_rows_of_the_data_set(seed, voxel_size, method, margin):
    """The same blobs seen in an array that begins elsewhere: same table, to the last digit of every coordinate."""
    mask, vectors = smooth(seed)
    given = {"threshold": 0.6, "voxel_size": voxel_size, **method}
    alone = partners_of(find_blobs(mask, **given), vectors, voxel_size, offset=(400, 80, 120), begin=margin)
    before = [(m, 0) for m in margin]
    grown = find_blobs(np.pad(mask, before), **given)
    assert partners_of(grown, np.pad(vectors, [(0, 0), *before]), voxel_size, offset=(400, 80, 120)).equals(alone)
    assert alone.num_rows == len(grown) > 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(SIZES), st.sampled_from(METHODS))
def test_the_voxel_follows_from_the_post_site(seed, voxel_size, method):
    mask, vectors = smooth(seed)
    blobs = find_blobs(mask, threshold=0.6, voxel_size=voxel_size, **method)
    table = partners_of(blobs, vectors, voxel_size)
    voxel = (points(table, "post") // voxel_size).astype(int)
    assert voxel.tolist() == blobs.voxel.tolist()
    assert table["id"].to_pylist() == cantor_ids(voxel).tolist()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(SIZES), st.sampled_from(METHODS))
def test_pre_sites_are_the_nearest_voxels(seed, voxel_size, method):
    mask, vectors = smooth(seed)
    blobs = find_blobs(mask, threshold=0.6, voxel_size=voxel_size, **method)
    pre = points(partners_of(blobs, vectors, voxel_size), "pre")
    wanted = blobs.post_nm + vectors[(slice(None), *blobs.voxel.T)].T
    assert (np.abs(pre - wanted) <= np.array(voxel_size) / 2 + 1.01).all()
    on_grid = pre / voxel_size
    assert (np.abs(on_grid - np.floor(on_grid + 1e-6)) * voxel_size < 1).all()


@pytest.mark.parametrize(("position", "want"), [(40.0, 40), (25.8, 26), (8.6 * 5, 43), (-17.2, -17), (0.1 * 3 * 10, 3)])
def test_whole_nm(position, want):
    assert whole_nm(np.array([position])).tolist() == [want]


def test_halves_go_to_even_voxels_of_the_data_set():
    mask, vectors = np.zeros((1, 1, 3)), np.zeros((3, 1, 1, 3))
    mask[0, 0, 1], vectors[2, 0, 0, 1] = 1, 2
    blobs = find_blobs(mask, threshold=0.5, voxel_size=(4, 4, 4))
    pre = [partners_of(blobs, vectors, (4, 4, 4), begin=(0, 0, b))["pre_x"][0].as_py() for b in range(4)]
    assert pre == [8, 8, 16, 16]


def test_stored_vectors_have_a_scale():
    mask, vectors = smooth(2)
    stored = np.trunc(vectors / 4).astype(np.int8)
    blobs = find_blobs(mask, threshold=0.6, voxel_size=(40, 4, 4))
    assert partners_of(blobs, stored, (40, 4, 4), vectors_scale=0.25).equals(partners_of(blobs, stored * 4.0, (40, 4, 4)))


def test_nothing_found_is_an_empty_table():
    for method in METHODS:
        blobs = find_blobs(np.zeros((3, 4, 5), np.float32), threshold=0.5, voxel_size=(40, 4, 4), **method)
        table = partners_of(blobs, np.zeros((3, 3, 4, 5), np.float32), (40, 4, 4))
        assert (len(blobs), table.num_rows, table.schema.field("id").type) == (0, 0, pa.uint64())


def test_a_vector_that_is_no_number_is_refused():
    mask, vectors = smooth(3)
    vectors[1] = np.nan
    with pytest.raises(InputError, match="not finite"):
        partners_of(find_blobs(mask, threshold=0.6, voxel_size=(40, 4, 4)), vectors, (40, 4, 4))


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"method": "ccs"}, ConfigError, "did you mean 'cc'"),
        ({"score": "summ"}, ConfigError, "did you mean 'sum'"),
        ({"location": "padded"}, ConfigError, "did you mean 'edt_padded'"),
        ({"method": "nms"}, ConfigError, "nms_radius"),
        ({"method": "nms", "nms_radius": (0, 1, 1)}, InputError, "positive"),
        ({"threshold": float("inf")}, InputError, "inf"),
    ],
)
def test_what_is_refused(given, error, said):
    with pytest.raises(error, match=said):
        find_blobs(np.zeros((2, 2, 2)), **{"threshold": 0.5, "voxel_size": (40, 4, 4), **given})
