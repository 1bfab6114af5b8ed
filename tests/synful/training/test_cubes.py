import numpy as np
import pytest

from blockwise.errors import InputError, MissingError
from blockwise.geometry import Region
from tasks.synful.training.cubes import Cube, Volume, cube_options, open_cube, split
from tasks.synful.training.parameters import CubeOptions, TrainingParameters
from tasks.synful.training.points import Pairs
from tests.synful.training.data import SIZE, write_cremi

RANDOM = np.random.default_rng(0)
RAW = RANDOM.integers(0, 255, (8, 30, 32), np.uint8)
LABELS = RANDOM.integers(1, 9, (4, 20, 20)).astype(np.uint64)
PAIRS = Pairs(np.array([[100.0, 90, 90], [100, 20, 20]]), np.array([[120.0, 96, 100], [100, 8, 8]]))


@pytest.fixture
def cremi(tmp_path):
    return write_cremi(tmp_path / "sample_A_padded.hdf", RAW, LABELS, PAIRS, offset=(80, 40, 48))


def test_a_cremi_file_needs_only_its_name(cremi):
    cube = open_cube(CubeOptions(raw=str(cremi)), SIZE)
    assert cube.raw.region == Region((0, 0, 0), (8, 30, 32))
    assert cube.labels.region == Region((2, 5, 6), (6, 25, 26))
    assert cube.known == cube.labels.region
    assert (cube.labels.read(Region((1, 5, 6), (3, 25, 26)))[1] == LABELS[0]).all()
    assert len(cube.pairs) == 2


def test_a_box_limits_points_and_outputs(cremi):
    cube = open_cube(CubeOptions(raw=str(cremi), roi_offset=(80, 80, 80), roi_shape=(120, 100, 100)), SIZE)
    assert cube.pairs.post.tolist() == [[120, 96, 100]]
    assert cube.known == Region((2, 10, 10), (5, 22, 22))


def test_zarr_with_a_table_in_voxels(tmp_path):
    import zarr

    array = zarr.create_array(str(tmp_path / "raw.zarr"), data=RAW)
    array.attrs.update({"resolution": list(SIZE), "offset": [400, 80, 80]})
    (tmp_path / "p.csv").write_text("pre_z,pre_y,pre_x,post_z,post_y,post_x\n1,2,3,4,5,6\n")
    cube = open_cube(CubeOptions(raw=str(tmp_path / "raw.zarr"), points=str(tmp_path / "p.csv"), points_unit="voxel"), SIZE)
    assert cube.raw.region.begin == (10, 10, 10)
    assert cube.sites.tolist() == [[14, 15, 16]]
    assert cube.pairs.pre.tolist() == [[11 * 40, 12 * 8, 13 * 8]]


def test_masks_of_any_extent_limit_the_sites(tmp_path, cremi):
    mask = np.zeros((8, 30, 32), np.uint8)
    mask[:, 10:, 10:] = 1
    np.save(tmp_path / "mask.npy", mask)
    sites = {
        kind: open_cube(CubeOptions(raw=str(cremi), **{kind: str(tmp_path / "mask.npy")}), SIZE).sites.tolist()
        for kind in ("mask", "validation_mask")
    }
    assert sites == {"mask": [[3, 12, 12]], "validation_mask": [[2, 1, 1]]}


def test_an_indicator_has_a_site_for_each_component():
    indicator = np.zeros((4, 20, 20), np.uint8)
    indicator[1, 2:5, 3], indicator[2:4, 10, 10:14] = 1, 7
    sites = Cube("c", SIZE, Volume.of(indicator), indicator=Volume.of(indicator, (1, 0, 0))).sites - (1, 0, 0)
    assert len(sites) == 2
    assert indicator[tuple(sites.T)].tolist() == [1, 7]


@pytest.mark.parametrize(
    ("size", "words"), [((40, 4, 4), r"voxels of \[40.0, 8.0, 8.0\] nm, the network is trained at \[40.0, 4.0, 4.0\]")]
)
def test_another_voxel_size_is_refused_unless_stated(cremi, size, words):
    with pytest.raises(InputError, match=words):
        open_cube(CubeOptions(raw=str(cremi)), size)
    stated = CubeOptions(raw=f"{cremi}:volumes/raw", labels=f"{cremi}:volumes/raw", voxel_size=size)
    with pytest.raises(InputError, match="volumes/raw has voxels"):
        open_cube(stated, size)


def test_a_cube_is_not_read_as_if_of_another_voxel_size(tmp_path):
    np.save(tmp_path / "raw.npy", RAW)
    assert open_cube(CubeOptions(raw=str(tmp_path / "raw.npy"), voxel_size=SIZE), SIZE).voxel_size == SIZE
    with pytest.raises(InputError, match=r"voxels of \[50.0, 10.0, 10.0\] nm, the network is trained at \[40.0, 8.0, 8.0\]"):
        open_cube(CubeOptions(raw=str(tmp_path / "raw.npy"), voxel_size=(50, 10, 10)), SIZE)


def test_four_axes_are_refused(tmp_path):
    np.save(tmp_path / "raw.npy", np.zeros((3, 2, 2, 2), np.uint8))
    with pytest.raises(InputError, match=r"shape \(3, 2, 2, 2\): three axes"):
        open_cube(CubeOptions(raw=str(tmp_path / "raw.npy")), SIZE)


def test_cremi_samples_by_letter(cremi):
    options = cube_options(TrainingParameters(cremi_dir=str(cremi.parent), samples=("A",)))
    assert options[0].raw == str(cremi)
    assert options[0].roi_offset == (1520, 3644, 3644)
    with pytest.raises(MissingError, match="no CREMI sample 'B'"):
        cube_options(TrainingParameters(cremi_dir=str(cremi.parent)))
    with pytest.raises(MissingError, match="no cubes to train on"):
        cube_options(TrainingParameters())


@pytest.mark.parametrize(
    ("place", "parts"),
    [
        ("a.hdf:volumes/raw", ("a.hdf", "volumes/raw")),
        ("a.zarr", ("a.zarr", None)),
        ("https://host/a.zarr", ("https://host/a.zarr", None)),
        ("s3://bucket/a.zarr:raw", ("s3://bucket/a.zarr", "raw")),
    ],
)
def test_path_and_name(place, parts):
    assert split(place) == parts
