import json

import h5py
import numpy as np
import pytest
import zarr

from blockwise.errors import InputError
from blockwise.geometry import Region
from blockwise.storage import Placement, open_source
from blockwise.storage.placement import from_attributes, from_ngff
from tests.storage.formats import write_hdf5, write_n5, write_precomputed

ZYX, NM = ("z", "y", "x"), ("nm",) * 3


def placement(source):
    return source.axes, source.voxel_size, source.offset, source.units


@pytest.mark.parametrize(
    ("rank", "attributes", "names", "expected"),
    [
        # nothing known
        (1, {}, (), Placement(("d0",))),
        (2, {}, (), Placement(("d0", "d1"))),
        (3, {}, (), Placement(ZYX)),
        (4, {}, (), Placement(("c", *ZYX))),
        # attributes
        (3, {"resolution": [40, 4, 5], "offset": [80, 0, 7]}, (), Placement(ZYX, (40.0, 4.0, 5.0), (80.0, 0.0, 7.0), NM)),
        (4, {"resolution": [40, 4, 5]}, (), Placement(("c", *ZYX), (1.0, 40.0, 4.0, 5.0), (), ("", *NM))),
        (3, {"voxel_size": [1, 2, 3], "units": "um"}, (), Placement(ZYX, (1.0, 2.0, 3.0), (), ("um",) * 3)),
        (2, {"voxel_size": [1, 0.1], "units": ["", "s"]}, ("neuron", "time"), Placement(("neuron", "time"), (1.0, 0.1), (), ("", "s"))),
        (2, {"resolution": [4, 4]}, (), Placement(("y", "x"), (4.0, 4.0), (), ("nm", "nm"))),
        # unusable ones are passed over
        (3, {"resolution": "fine", "offset": []}, ("z", None, "x"), Placement(ZYX)),
    ],
)
def test_from_attributes(rank, attributes, names, expected):
    assert from_attributes(rank, attributes, names) == expected


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_ngff_is_read(tmp_path, version):
    axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    steps = [{"type": "scale", "scale": [2.0, 1.0, 1.0]}, {"type": "translation", "translation": [10.0, 0.0, 3.0]}]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}
    image["coordinateTransformations"] = [{"type": "scale", "scale": [10.0, 1.0, 1.0]}]
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=2 if version == "0.4" else 3)
    group.attrs.update({"multiscales": [image]} if version == "0.4" else {"ome": {"version": "0.5", "multiscales": [image]}})
    group.create_array("0", shape=(4, 4, 4), dtype="u1")
    expected = (ZYX, (20.0, 1.0, 1.0), (100.0, 0.0, 3.0), ("um",) * 3)
    assert placement(open_source(tmp_path / "a.zarr")) == expected
    assert placement(open_source(tmp_path / "a.zarr", "0")) == expected
    assert placement(open_source(tmp_path / "a.zarr" / "0")) == expected


def test_ome_ngff_over_http(tmp_path, server):
    group = zarr.create_group(tmp_path / "a.zarr").create_group("em")
    steps = [{"type": "scale", "scale": [40.0, 4.0, 4.0]}]
    image = {"axes": [{"name": a} for a in "zyx"], "datasets": [{"path": "s0", "coordinateTransformations": steps}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    group.create_array("s0", shape=(4, 4, 4), dtype="u1")
    assert placement(open_source(f"{server}/a.zarr", "em")) == (ZYX, (40.0, 4.0, 4.0), (0.0,) * 3, ("",) * 3)


def test_ome_ngff_that_contradicts_the_array():
    image = {"axes": ["y", "x"], "datasets": [{"path": "0"}]}
    with pytest.raises(InputError, match="names 2 axes, but array '0' has 3"):
        from_ngff(3, image, "0")
    assert from_ngff(2, image, "1") is None
    assert from_ngff(2, image, "0") == Placement(("y", "x"))


@pytest.mark.parametrize(
    "extra",
    [
        {"resolution": [5, 4, 40], "offset": [7, 0, 80], "units": ["nm"] * 3, "axes": ["x", "y", "z"]},
        {"pixelResolution": {"dimensions": [5, 4, 40], "unit": "nm"}, "offset": [7, 0, 80]},
    ],
    ids=["resolution", "pixelResolution"],
)
def test_n5_lists_x_first(tmp_path, volume, extra):
    write_n5(tmp_path / "a.n5", volume)
    file = tmp_path / "a.n5/volumes/raw/attributes.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | extra))
    assert placement(open_source(tmp_path / "a.n5")) == (ZYX, (40.0, 4.0, 5.0), (80.0, 0.0, 7.0), NM)


def test_precomputed_places_its_first_voxel(tmp_path, volume):
    write_precomputed(tmp_path / "layer", volume, resolution=(5, 4, 40), origin=(10, 20, 30))
    source = open_source(tmp_path / "layer")
    assert placement(source) == (ZYX, (40.0, 4.0, 5.0), (1200.0, 80.0, 50.0), NM)
    assert source.chunks == (4, 4, 4)


def test_precomputed_channels_come_first(tmp_path, volume):
    data = np.stack([volume, volume + 1])
    write_precomputed(tmp_path / "layer", data)
    source = open_source(tmp_path / "layer")
    assert placement(source) == (("c", *ZYX), (1.0, 40.0, 4.0, 4.0), (0.0,) * 4, ("", *NM))
    assert np.array_equal(source.read(Region((1, 0, 0, 0), (2, 6, 7, 8)))[0], volume + 1)


def test_hdf5_attributes_and_dimension_labels(tmp_path, volume):
    write_hdf5(tmp_path / "a.h5", volume)
    with h5py.File(tmp_path / "a.h5", "a") as f:
        f["volumes/raw"].attrs.update({"resolution": np.array([40, 4, 4]), "offset": (0, 8, 0), "author": b"me", "flag": np.bool_(True)})
        for dimension, label in zip(f["volumes/raw"].dims, "zyx", strict=True):
            dimension.label = label
    source = open_source(tmp_path / "a.h5")
    assert placement(source) == (ZYX, (40.0, 4.0, 4.0), (0.0, 8.0, 0.0), NM)
    assert source.attributes["author"] == "me"
    assert source.chunks == (3, 3, 3)
    source.close()


def test_lengths_must_agree():
    with pytest.raises(InputError, match=r"voxel_size \(1.0,\) has 1 entries for the 3 axes"):
        Placement(ZYX, (1.0,))
