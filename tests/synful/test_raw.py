import json
import pickle
from dataclasses import replace

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from blockwise.errors import InputError
from blockwise.geometry import Region
from tasks.synful.histogram import bins_for, block_counts, check_voxel_size, histogram_text, sample_histogram, section_counts
from tasks.synful.normalisation import freeze_match, freeze_percentile, freeze_sections
from tasks.synful.raw import Raw, is_constant, open_raw
from tests.shared import shared

NM = (40.0, 4.0, 4.0)
WHOLE = Region((0, 0, 0), (8, 20, 24))


@pytest.fixture
def grey():
    return np.random.default_rng(5).integers(1, 256, (8, 20, 24), np.uint8)


def write(folder, data, name="volumes/raw", **attributes):
    """A zarr container with an array at 40 x 4 x 4 nm, offset (80, 400, 0) nm."""
    array = zarr.create_group(folder / "a.zarr").create_array(name, data=data, chunks=(4,) * data.ndim)
    array.attrs.update({"resolution": NM, "offset": (80, 400, 0)} | attributes)
    return folder / "a.zarr"


def test_a_volume_by_its_metadata(tmp_path, grey):
    reader = open_raw(write(tmp_path, grey))
    raw = reader.raw
    assert (raw.variable, raw.shape, raw.dtype, raw.voxel_size, raw.offset) == ("volumes/raw", (8, 20, 24), "uint8", NM, (80, 400, 0))
    assert raw.domain().units == ("nm",) * 3
    assert np.array_equal(reader.inside(WHOLE), grey)
    assert np.array_equal(reader.read(WHOLE), grey.astype(np.float32) * np.float32(1 / 255) * 2 - 1)


@pytest.mark.parametrize(
    "region",
    [
        Region((-3, -5, -7), (12, 30, 30)),
        Region((2, -5, 3), (5, 2, 9)),
        Region((7, 19, 20), (9, 40, 30)),
        Region((1, 1, 1), (2, 2, 2)),
        Region((8, 0, 0), (10, 2, 2)),
        Region((-4, -4, -4), (0, 3, 3)),
        Region((20, 30, 40), (22, 33, 44)),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_outside_is_padded_with_zeros_before_normalising(tmp_path, grey, region, dtype):
    data = grey.astype(dtype)
    padded = np.pad(data, 50)[region.shift((50, 50, 50)).slices]
    expected = padded.astype(np.float32) * np.float32(1 / np.iinfo(dtype).max) * 2 - 1
    found = open_raw(write(tmp_path, data)).read(region)
    assert (found.dtype, found.shape) == (np.float32, region.shape)
    assert np.array_equal(found, expected)


def test_outside_is_black_whatever_the_normalisation(tmp_path, grey):
    bins = bins_for(grey.dtype, (1, 255))
    counts = block_counts(grey, bins)
    path = write(tmp_path, grey)
    trained = {1.0: 0.3, 50.0: 0.5, 99.0: 0.7}
    for how in (
        freeze_percentile(counts, bins),
        freeze_match(counts, bins, trained),
        freeze_sections(section_counts(grey, bins), bins, "u1"),
    ):
        raw = open_raw(path).raw.normalised(how)
        found = raw.open().read(Region((-2, 0, 0), (4, 20, 30)))
        assert (found[:2] == -1).all()
        assert (found[:, :, 24:] == -1).all()
        assert np.array_equal(found[2:, :, :24], how.apply(grey)[:4])


def test_the_description_opens_the_same_volume(tmp_path, grey):
    how = freeze_percentile(block_counts(grey, bins_for("u1", (0, 255))), bins_for("u1", (0, 255)))
    raw = open_raw(write(tmp_path, grey), resample_to=(40, 8, 8), normalisation=how).raw
    assert Raw.from_json(json.loads(json.dumps(raw.to_json()))) == raw == pickle.loads(pickle.dumps(raw))
    assert (raw.is_resampled, raw.shape, raw.voxel_size, raw.stored_voxel_size) == (True, (8, 10, 12), (40, 8, 8), NM)
    assert raw.open().read(Region((0, 0, 0), raw.shape)).shape == (8, 10, 12)
    with pytest.raises(InputError, match="changed"):
        replace(raw, shape=(8, 10, 13)).open()


def test_a_part_sees_what_lies_around_it(tmp_path, grey):
    write(tmp_path, grey)
    (tmp_path / "part.json").write_text(json.dumps({"container": "a.zarr", "offset": [160, 416, 8], "size": [80, 32, 40]}))
    reader = open_raw(tmp_path / "part.json")
    assert (reader.shape, reader.raw.offset) == ((2, 8, 10), (160, 416, 8))
    region = Region((-1, -2, -5), (3, 9, 30))
    expected = np.pad(grey, 50)[region.shift((52, 54, 52)).slices]
    assert np.array_equal(reader.read(region), expected.astype(np.float32) * np.float32(1 / 255) * 2 - 1)
    half = open_raw(tmp_path / "part.json", resample_to=(40, 8, 8))
    assert (half.shape, half.raw.offset) == ((2, 4, 5), (160, 416, 8))
    blocks = grey[2:4, 4:12, 2:12].astype(np.float32).reshape(2, 4, 2, 5, 2).mean((2, 4))
    assert np.array_equal(half.inside(Region((0, 0, 0), (2, 4, 5))), np.rint(blocks))


@pytest.mark.parametrize("name", ["volumes/raw/s0", "raw", "raw/s0", "anything"])
def test_where_the_array_is_not_named(tmp_path, grey, name):
    path = write(tmp_path, grey, name)
    assert open_raw(path).raw.variable == name
    if name.endswith("s0"):
        zarr.open_group(path).create_array(f"{name[:-1]}1", data=grey[::2])
        assert open_raw(path, name[:-3]).raw.variable == name


def test_a_cremi_file(tmp_path, grey):
    with h5py.File(tmp_path / "sample_A.hdf", "w") as f:
        f.create_dataset("volumes/raw", data=grey).attrs["resolution"] = NM
        f.create_dataset("volumes/labels/neuron_ids", data=grey.astype("u8")).attrs["resolution"] = NM
        f.create_dataset("annotations/locations", data=np.zeros((3, 3)))
    reader = open_raw(tmp_path / "sample_A.hdf")
    assert (reader.raw.variable, reader.raw.voxel_size, reader.raw.offset) == ("volumes/raw", NM, (0, 0, 0))
    reader.close()


def test_the_finest_level_of_a_cremi_file(tmp_path, grey):
    with h5py.File(tmp_path / "a.hdf", "w") as f:
        for level in range(2):
            f.create_dataset(f"volumes/raw/s{level}", data=grey[:: level + 1]).attrs["resolution"] = NM
    for variable in (None, "volumes/raw"):
        reader = open_raw(tmp_path / "a.hdf", variable)
        assert (reader.raw.variable, reader.shape) == ("volumes/raw/s0", grey.shape)
        reader.close()


def test_a_stack_of_images_needs_a_voxel_size(tmp_path, grey):
    for z, section in enumerate(grey):
        Image.fromarray(section).save(tmp_path / f"{z}.png")
    with pytest.raises(InputError, match=r"not known.*set \[input\] voxel_size = \[z, y, x\] in nm"):
        open_raw(tmp_path)
    reader = open_raw(tmp_path, voxel_size=(45, 4.6, 4.6), offset=(0, 0, 92))
    assert (reader.raw.voxel_size, reader.raw.offset) == ((45, 4.6, 4.6), (0, 0, 92))
    assert np.array_equal(reader.raw.open().inside(WHOLE), grey)


def test_other_units_become_nm(tmp_path, grey):
    about = {"axes": "ZYX", "unit": "micron", "spacing": 0.04}
    tifffile.imwrite(tmp_path / "a.tif", grey, imagej=True, resolution=(250, 250), metadata=about)
    assert open_raw(tmp_path / "a.tif").raw.voxel_size == pytest.approx(NM)


def test_one_channel_is_grey(tmp_path, grey):
    path = write(tmp_path, grey[None], resolution=(1, *NM), offset=(0, 0, 0, 0))
    assert np.array_equal(open_raw(path).read(WHOLE), open_raw(path).raw.normalisation.apply(grey))


@pytest.mark.parametrize(
    ("data", "attributes", "message"),
    [
        (np.zeros((2, 4, 4, 4), np.uint8), {"resolution": (1, *NM), "offset": [0] * 4}, r"\{'c': 2\} beside z, y, x"),
        (np.zeros((4, 4), np.uint8), {"resolution": (4, 4), "offset": (0, 0)}, r"has the axes \('y', 'x'\) of \(4, 4\) voxels"),
        (np.zeros((4, 4, 4), np.uint8), {"axis_names": ["x", "y", "z"]}, r"axes \('x', 'y', 'z'\).*has \('z', 'y', 'x'\), in this order"),
        (np.zeros((4, 4, 4), np.int32), {}, "raw is int32.*normalize"),
        (np.zeros((4, 4, 4), np.uint8), {"units": "furlong"}, "voxel size of .* is not known"),
        (np.zeros((4, 4, 4), np.uint8), {"resolution": (40, 0, 4)}, "sizes are above 0"),
    ],
    ids=["channels", "flat", "axis order", "dtype", "units", "zero"],
)
def test_what_is_no_raw_volume_is_refused(tmp_path, data, attributes, message):
    with pytest.raises(InputError, match=message):
        open_raw(write(tmp_path, data, **attributes))


def test_bright_float_is_told_with_its_range(tmp_path, grey):
    reader = open_raw(write(tmp_path, grey.astype(np.float32)))
    with pytest.raises(InputError, match="float32 from 1 to 255"):
        reader.read(WHOLE)


@pytest.mark.parametrize(
    ("data", "expected"),
    [(np.zeros((2, 3, 4)), True), (np.full((2, 3, 4), 7), True), (np.zeros((0, 3, 4)), True), (np.eye(3)[None], False)],
)
def test_constant_blocks(data, expected):
    assert is_constant(data) is expected
    last = np.zeros((2, 3, 4))
    last[-1, -1, -1] = 1
    assert not is_constant(last)


def test_a_real_stack_near_the_trained_voxels():
    reader = open_raw(shared("data/em/vnc_sstem/raw"), voxel_size=(45, 4.6, 4.6))
    assert "15% off" in check_voxel_size(reader.raw.voxel_size, NM)[0]
    found = sample_histogram(reader)
    assert found.percentiles((50.0,))[50.0] == pytest.approx(0.5, abs=0.08)
    assert f"({found.voxels:,} voxels at {found.places} places)" in histogram_text(found, None)[0]
    block = reader.read(Region((-10, -100, -100), (30, 300, 300)))
    assert block.shape == (40, 400, 400)
    assert (block[:10] == -1).all()
    assert -0.2 < block[10:30, 100:, 100:].mean() < 0.2


def test_a_real_stack_of_other_voxels_is_resampled():
    reader = open_raw(shared("data/em/fib25_medulla/grayscale_maps"), voxel_size=(10, 10, 10), resample_to=NM)
    with pytest.raises(InputError, match=r"10 x 10 x 10 nm.*150% off"):
        check_voxel_size(reader.raw.stored_voxel_size, NM)
    assert reader.shape == (63, 625, 625)
    block = Region((10, 100, 200), (30, 300, 400))
    parts = [reader.inside(Region((z, *block.begin[1:]), (z + 5, *block.end[1:]))) for z in range(10, 30, 5)]
    assert np.array_equal(np.concatenate(parts), reader.inside(block))
