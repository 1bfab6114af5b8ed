"""Links hold the whole state of the page: sources with the schemes of their formats, places in nm with x first."""

import json
from urllib.parse import unquote, urlsplit

import h5py
import numpy as np
import pytest
import tensorstore as ts
import zarr

from tasks.synful.formats.links import Layer, Place, Scene, layer_of
from tests.synful.small import OFFSET, SIZE, write_volume

ROW = {"id": 7, "pre_z": 40, "pre_y": 8, "pre_x": 12, "post_z": 80, "post_y": 16, "post_x": 20, "score": 1.0}


def state(link):
    assert link.partition("#!")[0] == "https://neuroglancer-demo.appspot.com/"
    return json.loads(unquote(urlsplit(link).fragment[1:]))


def test_a_scene_has_its_layers():
    found = state(Scene(Layer("zarr3://http://h/raw/"), Layer("precomputed://gs://b/s"), "http://h/partners").link((40, 20, 10)))
    assert [(x["type"], x["source"]) for x in found["layers"]] == [
        ("image", "zarr3://http://h/raw/"),
        ("segmentation", "precomputed://gs://b/s"),
        ("annotation", "precomputed://http://h/partners"),
    ]
    assert found["position"] == [10, 20, 40]
    assert found["dimensions"] == {a: [1e-9, "m"] for a in "xyz"}


def test_one_partner_is_drawn_and_looked_at():
    found = state(Scene().link(line=ROW))
    assert found["position"] == [16, 12, 60]
    (line,) = found["layers"][0]["annotations"]
    assert (line["pointA"], line["pointB"], line["id"]) == ([12, 8, 40], [20, 16, 80], "7")


def test_another_page():
    assert Scene(page="https://view.example.org/ng").link().startswith("https://view.example.org/ng/#!")


def test_an_image_that_says_where_it_lies_is_named_by_its_group(tmp_path):
    write_volume(tmp_path / "raw.zarr", (8, 64, 64))
    assert layer_of(str(tmp_path / "raw.zarr"), "raw", served="http://h/volume") == Layer("zarr3://http://h/volume/raw/")


@pytest.mark.parametrize("version", [2, 3])
def test_a_bare_array_is_placed(tmp_path, version):
    zarr.create_array(tmp_path / "a.zarr", name="raw", shape=(4, 5, 6), dtype="u1", chunks=(4, 5, 6), zarr_format=version).attrs.update(
        {"resolution": list(SIZE), "offset": list(OFFSET)}
    )
    found = layer_of(str(tmp_path / "a.zarr"), "raw", served="http://h/v")
    assert found.url == f"zarr{version}://http://h/v/raw/"
    assert found.transform["outputDimensions"] == {a: [pytest.approx(v * 1e-9), "m"] for a, v in zip("zyx", SIZE, strict=True)}
    assert list(found.transform["inputDimensions"]) == ["d0", "d1", "d2"]
    np.testing.assert_allclose(found.transform["matrix"], np.column_stack([np.eye(3), np.array(OFFSET) / SIZE]))
    told = layer_of(str(tmp_path / "a.zarr"), "raw", served="http://h/v", place=Place((8, 8, 8), (0, 0, 80)))
    assert [row[-1] for row in told.transform["matrix"]] == [0, 0, 10]


def test_n5_and_precomputed_know_where_they_lie(tmp_path):
    n5 = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{tmp_path}/a.n5/raw/"}, "create": True}
    ts.open(
        n5 | {"metadata": {"dataType": "uint8", "dimensions": [4, 4, 4], "blockSize": [4, 4, 4], "compression": {"type": "raw"}}}
    ).result()
    assert layer_of(str(tmp_path / "a.n5"), "raw", served="http://h/v") == Layer("n5://http://h/v/raw/")
    ts.open(
        {"driver": "neuroglancer_precomputed", "kvstore": {"driver": "file", "path": f"{tmp_path}/p/"}, "create": True,
         "multiscale_metadata": {"data_type": "uint8", "num_channels": 1, "type": "image"},
         "scale_metadata": {"size": [4, 4, 4], "encoding": "raw", "chunk_size": [4, 4, 4], "resolution": [4, 4, 40]}}
    ).result()  # fmt: skip
    assert layer_of(str(tmp_path / "p"), served="http://h/v") == Layer("precomputed://http://h/v/")


def test_what_the_page_cannot_read_is_left_out(tmp_path):
    with h5py.File(tmp_path / "a.hdf", "w") as file:
        file["raw"] = np.zeros((2, 2, 2), np.uint8)
    assert layer_of(str(tmp_path / "a.hdf"), "raw", served="http://h/v") is None
    write_volume(tmp_path / "raw.zarr", (8, 64, 64))
    assert layer_of(str(tmp_path / "raw.zarr"), "raw") is None
