"""`detect` on arrays: what it returns, refuses and warns of."""

import numpy as np
import pytest

from blockwise.errors import BlockwiseWarning, InputError
from tasks.synful import detect
from tasks.synful.blobs import find_blobs, partners_of
from tasks.synful.detection import remove_close
from tasks.synful.partners import points, schema
from tests.synful.direct import smooth

SIZE = (40, 4, 4)


def test_a_pair_of_sites():
    mask, vectors = np.zeros((4, 8, 8), np.float32), np.zeros((3, 4, 8, 8), np.float32)
    mask[2, 3, 3:6], vectors[:, 2, 3, 5] = (0.9, 1, 0.8), (-40, 30, -7)
    table = detect(mask, vectors, SIZE, threshold=0.5, offset=(400, 40, 8))
    assert table.schema == schema()
    row = table.to_pylist()[0]
    assert [row[f"post_{a}"] for a in "zyx"] == [480, 52, 28]
    assert [row[f"pre_{a}"] for a in "zyx"] == [440, 80, 20]
    assert row["score"] == pytest.approx(2.7)


@pytest.mark.parametrize("method", [{"method": "cc"}, {"method": "nms", "nms_radius": (40, 12, 12)}])
def test_it_is_the_partners_of_the_blobs(method):
    mask, vectors = smooth(7)
    blobs = find_blobs(mask, threshold=0.6, voxel_size=SIZE, **method)
    assert detect(mask, vectors, SIZE, threshold=0.6, **method).equals(partners_of(blobs, vectors, SIZE))


def test_comparisons_are_strict():
    mask, vectors = np.zeros((1, 1, 5)), np.zeros((3, 1, 1, 5))
    mask[0, 0, [1, 3]] = 0.5, 0.75
    assert detect(mask, vectors, SIZE, threshold=0.5)["score"].to_pylist() == [0.75]
    assert detect(mask, vectors, SIZE, threshold=0.4, min_score=0.75).num_rows == 0
    assert detect(mask, vectors, SIZE, method="nms", nms_radius=(4, 4, 4), threshold=0.5)["score"].to_pylist() == [0.75]


@pytest.mark.parametrize("method", [{"method": "cc"}, {"method": "nms", "nms_radius": (40, 12, 12)}])
def test_nan_is_background(method):
    mask, vectors = smooth(8)
    holed = np.where(mask > 0.6, mask, np.float32(np.nan))
    assert detect(holed, vectors, SIZE, threshold=0.6, **method).equals(detect(mask, vectors, SIZE, threshold=0.6, **method))


def test_the_input_is_left_as_it_is():
    mask, vectors = smooth(9)
    mask.flags.writeable = vectors.flags.writeable = False
    assert detect(mask, vectors, SIZE, threshold=0.6).num_rows > 0


@pytest.mark.parametrize(
    ("mask", "vectors", "said"),
    [
        ((2, 3, 4, 5), (3, 2, 3, 4, 5), r"mask of shape \(2, 3, 4, 5\)"),
        ((3, 4, 5), (3, 4, 5, 3), "moveaxis"),
        ((3, 4, 5), (3, 3, 4, 6), r"\(3, 3, 4, 5\) is wanted"),
        ((3, 4, 5), (3, 4, 5), r"\(3, 3, 4, 5\) is wanted"),
    ],
)
def test_shapes_that_are_refused(mask, vectors, said):
    with pytest.raises(InputError, match=said):
        detect(np.zeros(mask), np.zeros(vectors), SIZE, threshold=0.5)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"voxel_size": (40, 4)}, "three positive"),
        ({"voxel_size": (40, 0, 4)}, "three positive"),
        ({"offset": (0, -4, 0)}, ">= 0"),
        ({"offset": (0, 4)}, ">= 0"),
    ],
)
def test_geometry_that_is_refused(given, said):
    with pytest.raises(InputError, match=said):
        detect(np.zeros((2, 2, 2)), np.zeros((3, 2, 2, 2)), **{"voxel_size": SIZE, "threshold": 0.5, **given})


def test_a_fraction_for_a_mask_of_bytes_is_told():
    mask, vectors = smooth(10)
    stored = (mask * 255).astype(np.uint8)
    with pytest.warns(BlockwiseWarning, match=r"0\.95 of the full scale is 242\.25"):
        detect(stored, vectors, SIZE, threshold=0.95)
    assert detect((mask > 0.6).astype(np.uint8), vectors, SIZE, threshold=0.5).num_rows > 0


def test_a_byte_for_a_mask_of_probabilities_is_told():
    mask, vectors = smooth(11)
    with pytest.warns(BlockwiseWarning, match=r"127 of 255 is 0\.498"):
        assert detect(mask, vectors, SIZE, threshold=127).num_rows == 0
    assert detect(mask * 255, vectors, SIZE, threshold=127).num_rows > 0


def test_close_pairs_go_with_their_scores():
    mask, vectors = smooth(12)
    found = detect(mask, vectors, SIZE, threshold=0.6)
    apart = remove_close(found, 80)
    far = np.linalg.norm(points(found, "pre") - points(found, "post"), axis=1) >= 80
    assert 0 < apart.num_rows < found.num_rows
    assert apart.to_pylist() == [row for row, kept in zip(found.to_pylist(), far, strict=True) if kept]
