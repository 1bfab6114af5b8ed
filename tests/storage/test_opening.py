import warnings
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
import scipy.io
import zarr

from blockwise.errors import InputError, MissingError, StorageError
from blockwise.geometry import Region
from blockwise.storage import open_source
from tests.shared import shared
from tests.storage.formats import FORMATS, write_mat73, write_precomputed, write_zarr2, write_zarr3

WHOLE, PART = Region((0, 0, 0), (6, 7, 8)), Region((1, 2, 3), (5, 3, 8))


@pytest.mark.parametrize(("write", "name"), FORMATS.values(), ids=FORMATS)
def test_every_format_gives_the_same_array(tmp_path, volume, write, name):
    write(tmp_path / name, volume)
    source = open_source(tmp_path / name)
    assert (source.shape, source.dtype, source.axes) == ((6, 7, 8), np.dtype("u2"), ("z", "y", "x"))
    for region in (WHOLE, PART):
        data = source.read(region)
        assert np.array_equal(data, volume[region.slices])
        assert data.flags.c_contiguous
        assert data.flags.writeable
        assert data.dtype == np.dtype("=u2")
    source.close()


@pytest.mark.parametrize(("write", "name"), FORMATS.values(), ids=FORMATS)
def test_reading_twice_gives_separate_memory(tmp_path, volume, write, name):
    write(tmp_path / name, volume)
    source = open_source(tmp_path / name)
    source.read(PART)[:] = 0
    assert np.array_equal(source.read(PART), volume[PART.slices])
    source.close()


@pytest.mark.parametrize(("write", "name"), FORMATS.values(), ids=FORMATS)
def test_reads_from_many_threads(tmp_path, volume, write, name):
    write(tmp_path / name, volume)
    source = open_source(tmp_path / name)
    planes = [Region((z, 0, 0), (z + 1, 7, 8)) for z in range(6)] * 8
    with ThreadPoolExecutor(8) as pool:
        assert all(np.array_equal(d, volume[r.slices]) for r, d in zip(planes, pool.map(source.read, planes), strict=True))
    source.close()


@pytest.mark.parametrize(("write", "name"), FORMATS.values(), ids=FORMATS)
def test_errors_of_a_reading_thread_surface(tmp_path, volume, write, name):
    write(tmp_path / name, volume)
    source = open_source(tmp_path / name)
    with ThreadPoolExecutor(2) as pool, pytest.raises(InputError, match="leaves"):
        pool.submit(source.read, Region((0, 0, 0), (6, 7, 9))).result()
    with pytest.raises(InputError, match="has 2 axes"):
        source.read(Region((0, 0), (1, 1)))
    source.close()


@pytest.mark.parametrize("kind", ["zarr v2 group", "zarr v3 group", "n5", "precomputed"])
def test_sources_over_http(tmp_path, server, volume, kind):
    write, name = FORMATS[kind]
    write(tmp_path / name, volume)
    variable = {"zarr v2 group": "raw", "precomputed": None}.get(kind, "volumes/raw")
    source = open_source(f"{server}/{name}", variable)
    assert np.array_equal(source.read(PART), volume[PART.slices])
    assert np.array_equal(open_source((tmp_path / name).as_uri(), variable).read(PART), volume[PART.slices])


@pytest.mark.parametrize("version", [2, 3])
def test_consolidated_metadata_lists_the_arrays_of_a_url(tmp_path, server, volume, version):
    root = zarr.create_group(tmp_path / "a.zarr", zarr_format=version)
    for name in ("volumes/raw", "labels/0", "labels/1"):
        root.create_array(name, data=volume)
    root["labels"].attrs["multiscales"] = [{"axes": list("zyx"), "datasets": [{"path": "0"}, {"path": "1"}]}]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # consolidated metadata is not yet in the text of zarr v3
        zarr.consolidate_metadata(tmp_path / "a.zarr")
    with pytest.raises(MissingError, match=r"2 arrays.*'labels/0', 'volumes/raw'"):
        open_source(f"{server}/a.zarr")
    assert open_source(f"{server}/a.zarr", "volumes").variable == "volumes/raw"


def test_a_url_that_holds_nothing_or_does_not_answer(tmp_path, server):
    with pytest.raises(InputError, match="no zarr, N5 or precomputed"):
        open_source(f"{server}/nothing.zarr")
    with pytest.raises(InputError, match="cannot open gopher"):
        open_source("gopher://somewhere/a.zarr")


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (lambda p, d: np.savez(p, **d), "a.npz"),
        (lambda p, d: scipy.io.savemat(p, d), "a.mat"),
        (lambda p, d: [h5py.File(p, "a").create_dataset(k, data=v).file.close() for k, v in d.items()], "a.h5"),
        (lambda p, d: [zarr.open_group(p, mode="a").create_array(k, data=v) for k, v in d.items()], "a.zarr"),
    ],
    ids=["npz", "mat", "hdf5", "zarr"],
)
def test_which_of_several_variables(tmp_path, write, name):
    write(tmp_path / name, {"time": np.zeros((1, 5)), "dF_traces": np.ones((3, 5))})
    path = tmp_path / name
    with pytest.raises(MissingError, match=r"holds 2 arrays: name one as \[input\] variable"):
        open_source(path)
    with pytest.raises(MissingError, match="it holds 'dF_traces', 'time'"):
        open_source(path, "dF_trace")
    assert open_source(path, "time").shape == (1, 5)
    assert open_source(path, defaults=("dF_traces",)).read(Region((0, 0), (3, 5))).sum() == 15


def test_matlab_traces_are_neurons_by_frames(tmp_path):
    traces = np.arange(15, dtype=np.float64).reshape(3, 5)
    write_mat73(tmp_path / "a.mat", traces, "dF_traces")
    with h5py.File(tmp_path / "a.mat") as f:
        assert f["dF_traces"].shape == (5, 3)
    source = open_source(tmp_path / "a.mat")
    assert (source.variable, source.shape) == ("dF_traces", (3, 5))
    assert np.array_equal(source.read(Region((1, 2), (3, 5))), traces[1:3, 2:5])
    source.close()


def test_matlab_logical_and_missing_numbers(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"mask": np.array([[True, False]]), "small": np.array([[1.0, 2.0]])})
    assert open_source(tmp_path / "a.mat", "mask").read(Region((0, 0), (1, 2))).tolist() == [[1, 0]]
    assert open_source(tmp_path / "a.mat", "small").dtype == np.float64


def test_multiscale_containers_open_at_their_finest_level(tmp_path, volume):
    group = zarr.create_group(tmp_path / "a.zarr").create_group("em")
    for name, data in (("s0", volume), ("s1", volume[::2, ::2, ::2])):
        group.create_array(name, data=data)
    assert open_source(tmp_path / "a.zarr", "em").shape == volume.shape
    assert open_source(tmp_path / "a.zarr").variable == "em/s0"


def test_precomputed_scales_are_named_by_key_or_number(tmp_path, volume):
    write_precomputed(tmp_path / "layer", volume)
    assert open_source(tmp_path / "layer", "0").variable == "4_4_40"
    with pytest.raises(MissingError, match="4_4_40"):
        open_source(tmp_path / "layer", "8_8_40")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", b"no numbers here", "not a readable .npy"),
        (
            "a.npy",
            b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (9999,), }".ljust(127) + b"\n",
            "not a readable",
        ),
        ("a.npz", b"PK\x03\x04 broken", "not a readable .npz"),
        ("a.mat", b"MATLAB 5.0 MAT-file, cut".ljust(140), "not a readable MATLAB"),
        ("a.h5", b"text", "not a readable HDF5"),
        ("a.txt", b"1 2 3", "no known format"),
        ("a.zarr/zarr.json", b"{", "not JSON"),
        ("a.zarr/readme", b"", "holds no zarr, N5"),
    ],
)
def test_wrong_content_is_told(tmp_path, name, content, message):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_source(tmp_path / name.split("/")[0])


def test_what_is_no_array_of_numbers_is_refused(tmp_path):
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    np.save(tmp_path / "one.npy", np.float64(3))
    scipy.io.savemat(tmp_path / "text.mat", {"note": "text"})
    for name, message in (("words.npy", "not numbers"), ("one.npy", "single number"), ("text.mat", "no array of numbers")):
        with pytest.raises(InputError, match=message):
            open_source(tmp_path / name)


def test_a_missing_file_names_the_nearest(tmp_path):
    np.save(tmp_path / "session_01.npy", np.zeros(3))
    np.save(tmp_path / "other.npy", np.zeros(3))
    with pytest.raises(MissingError, match=r"nearest name in .* is 'session_01.npy'"):
        open_source(tmp_path / "session_1.npy")
    with pytest.raises(MissingError, match="does not exist either"):
        open_source(tmp_path / "nowhere" / "a.npy")


def test_a_missing_array_of_a_zarr_names_the_nearest(tmp_path, volume):
    write_zarr2(tmp_path / "a.zarr", volume)
    with pytest.raises(MissingError, match="no array 'rav': it holds 'raw'"):
        open_source(tmp_path / "a.zarr", "rav")


def test_a_broken_chunk_is_a_storage_error(tmp_path, volume):
    write_zarr3(tmp_path / "a.zarr", volume)
    source = open_source(tmp_path / "a.zarr")
    (tmp_path / "a.zarr/volumes/raw/c/0/1/2").write_bytes(b"broken")
    with pytest.raises(StorageError, match="volumes/raw"):
        source.read(WHOLE)


def test_a_closed_hdf5_source_says_so(tmp_path, volume):
    write, name = FORMATS["hdf5"]
    write(tmp_path / name, volume)
    source = open_source(tmp_path / name)
    source.close()
    with pytest.raises(StorageError, match="cannot read"):
        source.read(PART)


def test_a_published_recording():
    source = open_source(shared("data/spikes/cascade/Example_datasets/Multiplane-OGB1-zf-pDp-Rupprecht-7.5Hz/Calcium_traces_01.mat"))
    assert (source.variable, source.shape, source.dtype) == ("dF_traces", (1005, 260), np.float64)
    assert np.isfinite(source.read(Region((0, 100), (1005, 110)))).any()
