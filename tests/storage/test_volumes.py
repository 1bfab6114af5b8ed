import gzip

import nibabel
import nrrd
import numpy as np
import pytest

from blockwise.errors import InputError, StorageError
from blockwise.geometry import Region
from blockwise.storage import identity, open_source

ZYX, NM = ("z", "y", "x"), ("nm", "nm", "nm")
SPACE = {
    "space": "left-posterior-superior",
    "space directions": np.diag([4, 5, 40.0]),
    "space origin": [0, 10, 80],
    "space units": ["nm"] * 3,
}


def placement(source):
    return source.axes, source.voxel_size, source.offset, source.units


def whole(source):
    return source.read(Region((0,) * len(source.shape), source.shape))


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
def test_nrrd_lies_in_nm(tmp_path, volume, encoding):
    nrrd.write(str(tmp_path / "a.nrrd"), volume.T, header=SPACE | {"encoding": encoding})
    source = open_source(tmp_path / "a.nrrd")
    assert placement(source) == (ZYX, (40, 5, 4), (80, 10, 0), NM)
    assert np.array_equal(source.read(Region((1, 2, 3), (4, 7, 5))), volume[1:4, 2:7, 3:5])
    assert source.attributes["space origin"] == [0, 10, 80]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({}, (ZYX, (1, 1, 1), (0, 0, 0), ("", "", ""))),
        ({"spacings": [4, 5, 40], "units": ["nm"] * 3}, (ZYX, (40, 5, 4), (0, 0, 0), NM)),
        (
            {"space directions": np.array([[0, 0, 25.0], [0, 25, 0], [-25, 0, 0]]), "space origin": [1, 2, 3], "space": "LPS"},
            (ZYX, (25, 25, 25), (0, 0, 0), ("", "", "")),
        ),
    ],
    ids=["nothing", "spacings", "turned"],
)
def test_other_headers(tmp_path, volume, header, expected):
    nrrd.write(str(tmp_path / "a.nrrd"), volume.T, header=header)
    assert placement(open_source(tmp_path / "a.nrrd")) == expected


def test_colours_of_nrrd_are_the_last_axis(tmp_path):
    colour = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    directions = np.array([[np.nan] * 3, [4, 0, 0], [0, 5, 0], [0, 0, 40.0]])
    header = {"kinds": ["RGB-color", *["domain"] * 3], "space directions": directions, "space dimension": 3}
    nrrd.write(str(tmp_path / "a.nrrd"), colour.transpose(3, 2, 1, 0), header=header)
    source = open_source(tmp_path / "a.nrrd")
    assert (source.axes, source.voxel_size) == (("z", "y", "x", "c"), (40, 5, 4, 1))
    assert np.array_equal(whole(source), colour)


def test_a_detached_header_counts_with_its_data(tmp_path, volume):
    nrrd.write(str(tmp_path / "a.nhdr"), volume.T, detached_header=True)
    source, before = open_source(tmp_path / "a.nhdr"), identity(tmp_path / "a.nhdr")
    assert np.array_equal(whole(source), volume)
    (tmp_path / "a.raw.gz").write_bytes(gzip.compress(bytes(volume.nbytes)))
    assert identity(tmp_path / "a.nhdr") != before


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"])
def test_dtypes_of_nrrd(tmp_path, volume, dtype):
    nrrd.write(str(tmp_path / "a.nrrd"), (volume % 100).astype(dtype).T, header={"encoding": "raw"})
    source = open_source(tmp_path / "a.nrrd")
    assert source.dtype == np.dtype(dtype)
    assert np.array_equal(whole(source), volume % 100)


def save(file, data, affine, units=("unknown", "unknown")):
    image = nibabel.Nifti1Image(data, affine)
    image.header.set_xyzt_units(*units)
    nibabel.save(image, file)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize(
    ("affine", "units", "expected"),
    [
        (np.diag([0.1, 5, 40, 1]), ("micron", "unknown"), (ZYX, (40, 5, 0.1), (0, 0, 0), ("um",) * 3)),
        (np.array([[4, 0, 0, 7], [0, 5, 0, 8], [0, 0, 40, 9], [0, 0, 0, 1.0]]), ("mm", "sec"), (ZYX, (40, 5, 4), (9, 8, 7), ("mm",) * 3)),
        (np.array([[-4, 0, 0, 7], [0, 5, 0, 8], [0, 0, 40, 9], [0, 0, 0, 1.0]]), ("mm", "sec"), (ZYX, (40, 5, 4), (0, 0, 0), ("mm",) * 3)),
    ],
    ids=["micron", "moved", "mirrored"],
)
def test_nifti(tmp_path, volume, name, affine, units, expected):
    save(tmp_path / name, volume.T, affine, units)
    source = open_source(tmp_path / name)
    assert placement(source) == expected
    assert source.dtype == np.uint16
    assert np.array_equal(source.read(Region((1, 2, 3), (4, 7, 5))), volume[1:4, 2:7, 3:5])
    assert source.attributes["affine"] == affine.tolist() or source.voxel_size[2] == 0.1


def test_films_of_nifti(tmp_path):
    film = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
    save(tmp_path / "a.nii", film.T, np.eye(4), ("mm", "msec"))
    source = open_source(tmp_path / "a.nii")
    assert (source.axes, source.units) == (("t", "z", "y", "x"), ("ms", "mm", "mm", "mm"))
    assert np.array_equal(source.read(Region((1, 0, 1, 2), (2, 3, 4, 5))), film[1:, :, 1:, 2:])


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_scaled_values_of_nifti(tmp_path, volume, name):
    image = nibabel.Nifti1Image(volume.astype(np.int16).T, np.eye(4))
    image.header.set_slope_inter(0.5, 10)
    nibabel.save(image, tmp_path / name)
    source = open_source(tmp_path / name)
    stored = np.asarray(nibabel.load(tmp_path / name).dataobj).T
    assert source.dtype == np.float32
    assert whole(source) == pytest.approx(stored, rel=1e-6)
    assert np.array_equal(whole(source), volume * 0.5 + 10)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.nrrd", b"NRRD0004\ntype: block\ndimension: 1\nsizes: 3\nencoding: raw\n\nabc", "'block', not numbers"),
        ("a.nrrd", b"NRRD0004\ndimension: 1\n\n", "not a readable NRRD"),
        ("a.nii", b"nothing", "not a readable NIfTI"),
        ("a.nii.gz", b"nothing", "not a readable NIfTI"),
    ],
)
def test_wrong_content_is_told(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_source(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nrrd", "a.nii.gz"])
def test_cut_files_are_storage_errors(tmp_path, name):
    volume = np.random.default_rng(0).integers(0, 9, (20, 50, 60), np.uint8)
    if name == "a.nrrd":
        nrrd.write(str(tmp_path / name), volume.T)
    else:
        save(tmp_path / name, volume.T, np.eye(4))
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-60])
    source = open_source(tmp_path / name)
    with pytest.raises(StorageError, match=name):
        whole(source)
