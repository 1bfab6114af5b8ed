import json

import h5py
import numpy as np
import pytest

from blockwise.errors import InputError, MissingError
from blockwise.geometry import Region
from blockwise.storage import identity, open_source
from tests.storage.formats import write_n5, write_precomputed


@pytest.fixture
def container(tmp_path, volume):
    """A CREMI file: 40 x 4 x 4 nm, its first voxel at (80, 0, 400) nm."""
    with h5py.File(tmp_path / "cremi.hdf", "w") as f:
        raw = f.create_dataset("volumes/raw", data=volume)
        raw.attrs["resolution"], raw.attrs["offset"] = [40.0, 4.0, 4.0], [80.0, 0.0, 400.0]
        f.create_dataset("annotations/ids", data=np.arange(4))
    return tmp_path / "cremi.hdf"


def write_json(folder, **changes):
    content = {"container": "cremi.hdf", "offset": [120, 8, 404], "size": [160, 12, 16]} | changes
    (folder / "part.json").write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return folder / "part.json"


def test_a_part_is_a_volume_of_its_own(tmp_path, container, volume):
    source = open_source(write_json(tmp_path), "volumes/raw")
    assert (source.shape, source.voxel_size, source.offset) == ((4, 3, 4), (40, 4, 4), (120, 8, 404))
    assert np.array_equal(source.read(Region((0, 0, 0), (4, 3, 4))), volume[1:5, 2:5, 1:5])
    assert np.array_equal(source.read(Region((1, 1, 2), (2, 3, 4))), volume[2:3, 3:5, 3:5])
    with pytest.raises(InputError, match="leaves"):
        source.read(Region((0, 0, 0), (5, 3, 4)))
    source.close()
    assert open_source(write_json(tmp_path), defaults=("volumes/raw",)).variable == "volumes/raw"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offset": [121, 8, 404]}, "41 along z is 1.025 voxels of 40"),
        ({"size": [160, 13, 16]}, "13 along y is 3.25 voxels of 4"),
        ({"size": [280, 12, 16]}, r"voxels \(1, 2, 1\)..\(8, 5, 5\), .* has the shape \(6, 7, 8\)"),
        ({"offset": [40, 8, 404]}, r"voxels \(-1, 2, 1\)"),
        ({"size": [0, 12, 16]}, "the box is voxels"),
        ({"size": [12, 16]}, "offset has 3 entries, size 2"),
        ({"offset": [8, 404], "size": [12, 16]}, "offset has 2 entries"),
        ({"size": None}, "has no size"),
        ({"size": "all"}, "size is 'all', not a list of numbers"),
    ],
)
def test_a_box_that_does_not_fit_is_refused(tmp_path, container, changes, message):
    with pytest.raises(InputError, match=message):
        open_source(write_json(tmp_path, **changes), "volumes/raw")


def test_what_is_no_sub_volume(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match="not readable as JSON"):
        open_source(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(InputError, match="has no container, offset, size"):
        open_source(tmp_path / "a.json")
    with pytest.raises(MissingError, match=r"no file or folder .*nowhere\.zarr"):
        open_source(write_json(tmp_path, container="nowhere.zarr"))


def test_parts_of_folders_and_urls(tmp_path, server, volume):
    write_precomputed(tmp_path / "layer", volume)
    box = {"offset": [40, 0, 8], "size": [80, 8, 8]}
    for container in ("layer", str(tmp_path / "layer"), f"{server}/layer"):
        source = open_source(write_json(tmp_path, container=container, **box))
        assert np.array_equal(source.read(Region((0, 0, 0), (2, 2, 2))), volume[1:3, :2, 2:4])


def test_identity_is_that_of_the_box(tmp_path, container):
    before = identity(write_json(tmp_path))
    assert identity(write_json(tmp_path, container=str(container))) == before
    assert identity(write_json(tmp_path, size=[160, 12, 12])) != before
    with h5py.File(container, "a") as f:
        f["volumes/raw"][0, 0, 0] = 99
    assert identity(write_json(tmp_path)) != before


def test_n5_lists_resolution_and_offset_x_first(tmp_path, volume):
    write_n5(tmp_path / "a.n5", volume, resolution=[4, 5, 40], offset=[400, 0, 80])
    source = open_source(tmp_path / "a.n5", "volumes/raw")
    assert (source.voxel_size, source.offset, source.units) == ((40, 5, 4), (80, 0, 400), ("nm",) * 3)
    part = open_source(write_json(tmp_path, container="a.n5", offset=[120, 10, 404], size=[80, 15, 16]))
    assert np.array_equal(part.read(Region((0, 0, 0), (2, 3, 4))), volume[1:3, 2:5, 1:5])
