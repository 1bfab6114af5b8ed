"""Stored predictions: mask and vectors of one volume, or refused."""

import pytest

from blockwise.errors import InputError
from blockwise.storage import OutputArray
from tasks.synful.options import StoreOptions
from tasks.synful.stored_predictions import StoredPredictions
from tests.synful.small import OFFSET, SIZE

STORE = StoreOptions(mask="volumes/mask", vectors="volumes/vectors")


def write(path, name, lead, size, offset, unit):
    """An array of 4 x 8 x 8 voxels at a place."""
    OutputArray.create(
        path, f"volumes/{name}", shape=(*lead, 4, 8, 8), dtype="float32", chunks=(*lead, 4, 8, 8),
        axes=("c", "z", "y", "x")[1 - len(lead) :],
        voxel_size=(*(1.0 for _ in lead), *size), offset=(*(0.0 for _ in lead), *offset), units=(*("" for _ in lead), *(unit,) * 3),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("size", "offset", "words"),
    [
        ((40.0, 8.0, 4.0), OFFSET, r"volumes/mask has voxels of \[40.0, 4.0, 4.0\] nm, volumes/vectors \[40.0, 8.0, 4.0\] nm"),
        (SIZE, (400.0, 0.0, 120.0), r"volumes/mask has the offset \[400.0, 80.0, 120.0\] nm, volumes/vectors \[400.0, 0.0, 120.0\] nm"),
    ],
)
def test_vectors_that_lie_elsewhere_than_the_mask_are_refused(tmp_path, size, offset, words):
    write(tmp_path / "two.zarr", "mask", (), SIZE, OFFSET, "nm")
    write(tmp_path / "two.zarr", "vectors", (3,), size, offset, "nm")
    with pytest.raises(InputError, match=words):
        StoredPredictions.find(str(tmp_path / "two.zarr"), STORE)


@pytest.mark.parametrize(
    ("size", "offset", "unit"),
    [(SIZE, OFFSET, "nm"), ((0.04, 0.004, 0.004), (0.4, 0.08, 0.12), "um"), ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), "")],
)
def test_vectors_of_the_same_place_or_of_none_are_taken(tmp_path, size, offset, unit):
    write(tmp_path / "two.zarr", "mask", (), SIZE, OFFSET, "nm")
    write(tmp_path / "two.zarr", "vectors", (3,), size, offset, unit)
    assert StoredPredictions.find(str(tmp_path / "two.zarr"), STORE).domain.offset == OFFSET


def test_what_the_configuration_says_wins(tmp_path):
    write(tmp_path / "two.zarr", "mask", (), SIZE, OFFSET, "nm")
    write(tmp_path / "two.zarr", "vectors", (3,), (8.0, 8.0, 8.0), (0.0, 0.0, 0.0), "nm")
    found = StoredPredictions.find(str(tmp_path / "two.zarr"), STORE, (40.0, 8.0, 8.0), (80.0, 0.0, 0.0))
    assert (found.domain.voxel_size, found.domain.offset) == ((40.0, 8.0, 8.0), (80.0, 0.0, 0.0))
