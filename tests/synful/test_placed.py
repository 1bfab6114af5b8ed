"""Volumes beside the raw one lie where they say, in nm, or are refused."""

import numpy as np
import pytest

from blockwise.errors import InputError
from blockwise.geometry import Domain, Region
from blockwise.storage import OutputArray
from tasks.synful.options import StoreOptions
from tasks.synful.placed import open_placed
from tasks.synful.stored_predictions import StoredPredictions

SHAPE = (2, 3, 4)
LIKE = Domain("volume", ("z", "y", "x"), SHAPE, (40.0, 4.0, 4.0), (400.0, 80.0, 0.0), ("nm",) * 3)
IN_UM = {"voxel_size": (0.04, 0.004, 0.004), "offset": (0.4, 0.08, 0.0), "units": ("um",) * 3}


def write(path, name="ids", lead=(), *, axes=("z", "y", "x"), voxel_size, offset, units):
    made = OutputArray.create(
        path, name, shape=(*lead, *SHAPE), dtype="uint8", chunks=(*lead, *SHAPE), axes=(*("c" for _ in lead), *axes),
        voxel_size=(*(1.0 for _ in lead), *voxel_size), offset=(*(0.0 for _ in lead), *offset), units=(*("" for _ in lead), *units),
        attributes={"scale": 255},
    )  # fmt: skip
    made.write(Region((0,) * (3 + len(lead)), (*lead, *SHAPE)), np.ones((*lead, *SHAPE), np.uint8)).future.result()
    return str(path)


def test_micrometres_become_nm(tmp_path):
    found = open_placed(write(tmp_path / "a.zarr", **IN_UM), "ids", "mask")
    np.testing.assert_allclose((found.voxel_size, found.offset), (LIKE.voxel_size, LIKE.offset))


def test_predictions_in_micrometres_too(tmp_path):
    write(tmp_path / "a.zarr", "mask", **IN_UM)
    path = write(tmp_path / "a.zarr", "vectors", (3,), **IN_UM)
    found = StoredPredictions.find(path, StoreOptions(mask="mask", vectors="vectors")).domain
    np.testing.assert_allclose((found.voxel_size, found.offset), (LIKE.voxel_size, LIKE.offset))


def test_what_says_nothing_lies_like_the_volume_of_its_shape(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(SHAPE, np.uint8))
    found = open_placed(str(tmp_path / "a.npy"), None, "mask", like=LIKE)
    assert (found.voxel_size, found.offset) == (LIKE.voxel_size, LIKE.offset)


def test_what_says_nothing_and_has_another_shape_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((1, 1, 1), np.uint8))
    with pytest.raises(InputError, match=r"voxel size of mask .*a.npy is not known.*\(1, 1, 1\) is not the volume's \(2, 3, 4\)"):
        open_placed(str(tmp_path / "a.npy"), None, "mask", like=LIKE)


def test_another_order_of_axes_is_refused(tmp_path):
    path = write(tmp_path / "a.zarr", axes=("x", "y", "z"), **IN_UM)
    with pytest.raises(InputError, match=r"axes \('x', 'y', 'z'\)"):
        open_placed(path, "ids", "segmentation")
