from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from blockwise.config import InputConfig, SessionConfig
from blockwise.errors import ConfigError, InputError, MissingError
from tasks.spikes.recordings import find_recordings, open_recording
from tests.shared import shared
from tests.spikes.folders import suite2p_plane, traces, zarr_array

ALL = slice(None)


def find(path, **values):
    return find_recordings(InputConfig(path=str(path), **{"frame_rate": 30.0} | values), "model")


def names(path):
    return [r.name for r in find(path)]


def write_npy(path, data):
    np.save(path, data)


def write_npz(path, data):
    np.savez(path, dff=data, frame_rate=30.0)


def write_mat(path, data):
    savemat(path, {"dF_traces": data, "other": data[:2], "frame_rate": 30.0})


def write_mat73(path, data):
    with h5py.File(path, "w", userblock_size=512) as file:
        file["dF_traces"] = data.T
        file["dF_traces"].attrs["MATLAB_class"] = np.bytes_("single")
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(116) + bytes(8) + b"\x00\x02IM")


def write_hdf5(path, data):
    with h5py.File(path, "w") as file:
        file["session/dff"] = data
        file["session/dff"].attrs["frame_rate"] = 30.0
        file["session/times"] = np.arange(data.shape[1])


def write_zarr(path, data):
    zarr_array(path, data, {"frame_rate": 30.0})


FORMATS = [
    ("a.npy", write_npy, None),
    ("a.npz", write_npz, "dff"),
    ("a.mat", write_mat, "dF_traces"),
    ("b.mat", write_mat73, "dF_traces"),
    ("a.h5", write_hdf5, "session/dff"),
    ("a.zarr", write_zarr, None),
]


@pytest.mark.parametrize(("file", "write", "variable"), FORMATS)
def test_every_format_reads_the_same_traces(tmp_path, file, write, variable):
    data = traces()
    write(tmp_path / file, data)
    (recording,) = find(tmp_path / file)
    assert (recording.shape, recording.dtype, recording.kind, recording.model) == (data.shape, "float32", "array", "model")
    assert recording.variable == variable
    opened = open_recording(recording)
    np.testing.assert_array_equal(opened.read(ALL, ALL), data)
    np.testing.assert_array_equal(opened.read(slice(1, 3), slice(50, 70)), data[1:3, 50:70])
    assert len(opened.identity()["traces"]) >= 16
    opened.close()


@pytest.mark.parametrize(("file", "write"), [("a.npz", write_npz), ("a.mat", write_mat), ("a.h5", write_hdf5), ("a.zarr", write_zarr)])
def test_frame_rate_of_the_file_serves_where_none_is_given(tmp_path, file, write):
    write(tmp_path / file, traces())
    assert find(tmp_path / file, frame_rate=None)[0].frame_rate == 30.0
    assert find(tmp_path / file, frame_rate=31.0)[0].frame_rate == 31.0


@pytest.mark.parametrize(
    ("variables", "asked", "error", "text"),
    [
        ({"a": np.ones((2, 9)), "b": np.ones((2, 9))}, None, MissingError, "'a', 'b'"),
        ({"a": np.ones((2, 9))}, "dff", MissingError, "'a'"),
        ({"a": np.ones((2, 3, 4))}, None, InputError, "3 dimensions, shape (2, 3, 4)"),
        ({"a": np.ones((2, 9), complex)}, None, InputError, "complex128"),
        ({"a": np.ones((0, 9))}, None, InputError, "shape (0, 9)"),
        ({"a": np.ones((2, 9))}, None, InputError, "set frame_rate"),
        ({"a": np.ones((2, 9)), "frame_rate": np.array(0.0)}, None, InputError, "set frame_rate"),
    ],
)
def test_what_cannot_be_read_is_told_before_it_is_read(tmp_path, variables, asked, error, text):
    np.savez(tmp_path / "a.npz", **variables)
    with pytest.raises(error, match=r".") as caught:
        find(tmp_path / "a.npz", variable=asked, frame_rate=None)
    assert text in str(caught.value)


@pytest.mark.parametrize("path", ["nothing.mat", "no/*.mat"])
def test_missing_files_are_missing(tmp_path, path):
    with pytest.raises(MissingError, match=r"input\] path"):
        find(tmp_path / path)


def test_a_folder_of_files_asks_for_a_glob(tmp_path):
    write_npy(tmp_path / "a.npy", traces())
    with pytest.raises(InputError, match=r"a glob such as .*/\*\.mat"):
        find(tmp_path)


@pytest.mark.parametrize(("dtype", "read"), [("int16", "float32"), ("uint8", "float32"), ("int32", "float64"), (">f8", "float64")])
def test_numbers_of_any_kind_are_read_as_floats(tmp_path, dtype, read):
    data = np.arange(20).reshape(2, 10).astype(dtype)
    np.save(tmp_path / "a.npy", data)
    got = open_recording(find(tmp_path / "a.npy")[0]).read(ALL, ALL)
    assert got.dtype == read
    np.testing.assert_array_equal(got, data)


def test_one_dimension_is_one_neuron(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(9.0))
    (recording,) = find(tmp_path / "a.npy")
    assert recording.shape == (1, 9)
    opened = open_recording(recording)
    np.testing.assert_array_equal(opened.read(ALL, slice(2, 5)), [[2, 3, 4]])
    assert opened.read(slice(0, 0), ALL).shape == (0, 9)


def test_more_neurons_than_frames_are_remarked(tmp_path):
    np.save(tmp_path / "a.npy", traces(50, 20))
    (recording,) = find(tmp_path / "a.npy")
    assert "50 neurons of 20 frames" in recording.warnings[0]
    assert recording.duration_s == pytest.approx(20 / 30)


def test_a_file_that_joins_a_glob_leaves_the_other_names_alone(tmp_path):
    for folder in ("m1", "m2"):
        (tmp_path / folder).mkdir()
        write_npy(tmp_path / folder / "rec.npy", traces())
    before = names(tmp_path / "m*" / "*.npy")
    assert before == ["m1_rec", "m2_rec"]
    (tmp_path / "m0").mkdir()
    write_npy(tmp_path / "m0" / "rec.npy", traces())
    write_npy(tmp_path / "m1" / "again.npy", traces())
    assert names(tmp_path / "m*" / "*.npy") == ["m0_rec", "m1_again", *before]
    assert names(tmp_path / "m1" / "*.npy") == ["again", "rec"]
    assert names(tmp_path / "m1" / "rec.npy") == ["rec"]


def test_a_name_with_magic_characters_is_taken_as_it_is(tmp_path):
    write_npy(tmp_path / "rec[1] a.npy", traces())
    assert names(tmp_path / "rec[1] a.npy") == ["rec_1__a"]


def sessions(*values, **common):
    return find_recordings(InputConfig(sessions=tuple(SessionConfig(**v) for v in values), **common), "default")


@pytest.fixture
def two_mice(tmp_path):
    for mouse in ("m1", "m2"):
        (tmp_path / mouse).mkdir()
        np.savez(tmp_path / mouse / "rec.npz", dff=traces(), raw=traces(3))
    return str(tmp_path / "m1/rec.npz"), str(tmp_path / "m2/rec.npz")


def test_sessions_have_their_own_rate_variable_and_model_and_inherit_the_rest(two_mice):
    first, second = two_mice
    found = sessions(
        {"path": first}, {"path": second, "variable": "raw", "frame_rate": 7.5, "model": "slow"}, variable="dff", frame_rate=30.0
    )
    assert [(r.variable, r.frame_rate, r.model, r.shape[0]) for r in found] == [("dff", 30.0, "default", 5), ("raw", 7.5, "slow", 3)]


def test_sessions_of_one_stem_get_what_tells_them_apart(two_mice):
    first, second = two_mice
    common = {"variable": "dff", "frame_rate": 30.0}
    assert [r.name for r in sessions({"path": first}, {"path": second}, **common)] == ["rec_m1", "rec_m2"]
    assert [r.name for r in sessions({"path": first}, {"path": first, "variable": "raw"}, **common)] == ["rec_dff", "rec_raw"]
    assert [r.name for r in sessions({"path": first, "name": "rec"}, {"path": second}, **common)] == ["rec", "rec_dff"]


def test_files_of_one_folder_and_stem_get_their_suffix(tmp_path):
    write_npy(tmp_path / "rec.npy", traces())
    write_mat(tmp_path / "rec.mat", traces())
    assert names(tmp_path / "rec.*") == ["rec_mat", "rec_npy"]


def test_a_recording_listed_twice_is_refused(two_mice):
    with pytest.raises(ConfigError, match=r"2 sessions come to the name 'rec_.*list each once"):
        sessions({"path": two_mice[0]}, {"path": two_mice[0]}, variable="dff", frame_rate=30.0)


@pytest.mark.parametrize(("given", "text"), [(("a", "a"), "2 sessions of .* named 'a'"), (("a/b", "c"), "write it 'a_b'")])
def test_given_names_are_unique_and_usable(two_mice, given, text):
    with pytest.raises(ConfigError, match=text):
        sessions(*({"path": p, "name": n, "variable": "dff"} for p, n in zip(two_mice, given, strict=True)), frame_rate=30.0)


@pytest.mark.parametrize("values", [{}, {"path": "a.npy", "sessions": (SessionConfig(path="b.npy"),)}])
def test_path_and_sessions_exclude_each_other(values):
    with pytest.raises(ConfigError, match="of path and sessions"):
        find_recordings(InputConfig(**values))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [(".", ["plane0", "plane1", "plane10"]), ("suite2p", ["plane0", "plane1", "plane10"]), ("suite2p/plane1", ["plane1"])],
)
def test_suite2p_folders_give_one_recording_per_plane(tmp_path, asked, expected):
    for plane in (10, 0, 1):
        suite2p_plane(tmp_path / f"suite2p/plane{plane}", ops={"fs": 15.0})
    (tmp_path / "suite2p/combined").mkdir()
    found = find(tmp_path / asked, frame_rate=None)
    assert [r.name for r in found] == expected
    assert {(r.kind, r.frame_rate, r.shape) for r in found} == {("suite2p", 15.0, (4, 400))}


def test_suite2p_folders_of_a_glob_are_named_by_their_mouse(tmp_path):
    for mouse in ("m1", "m2"):
        suite2p_plane(tmp_path / mouse / "suite2p/plane0")
    assert names(tmp_path / "m*") == names(tmp_path / "m*" / "suite2p") == ["m1_plane0", "m2_plane0"]


def test_suite2p_folders_of_a_list_are_told_apart_by_their_mouse(tmp_path):
    for mouse in ("m1", "m2"):
        suite2p_plane(tmp_path / mouse / "suite2p/plane0")
    found = sessions({"path": str(tmp_path / "m1/suite2p")}, {"path": str(tmp_path / "m2")}, frame_rate=30.0)
    assert [r.name for r in found] == ["plane0_m1", "plane0_m2"]


def test_a_named_session_of_several_planes_names_them_all(tmp_path):
    for plane in (0, 1):
        suite2p_plane(tmp_path / f"suite2p/plane{plane}")
    found = sessions({"path": str(tmp_path), "name": "m1"}, frame_rate=30.0)
    assert [r.name for r in found] == ["m1_plane0", "m1_plane1"]


def test_a_url_is_read_as_its_folder(tmp_path):
    write_zarr(tmp_path / "m1.zarr", traces())
    (recording,) = find(f"file://{tmp_path}/m1.zarr", frame_rate=None)
    assert (recording.name, recording.frame_rate) == ("m1", 30.0)
    np.testing.assert_array_equal(open_recording(recording).read(ALL, ALL), traces())


def test_a_recording_that_changed_since_is_refused(tmp_path):
    write_npy(tmp_path / "a.npy", traces())
    (recording,) = find(tmp_path / "a.npy")
    write_npy(tmp_path / "a.npy", traces(4))
    with pytest.raises(InputError, match=r"\(5, 300\), now \(4, 300\)"):
        open_recording(recording)


def test_identity_follows_the_content(tmp_path):
    write_npy(tmp_path / "a.npy", traces())
    (recording,) = find(tmp_path / "a.npy")
    before = open_recording(recording).identity()
    assert open_recording(recording).identity() == before
    write_npy(tmp_path / "a.npy", traces(seed=1))
    assert open_recording(recording).identity() != before


@pytest.mark.parametrize("write", [write_npy, write_hdf5])
def test_threads_share_an_opened_recording(tmp_path, write):
    data = traces(16, 2000)
    write(tmp_path / ("a.npy" if write is write_npy else "a.h5"), data)
    opened = open_recording(find(tmp_path / "a.*")[0])
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda r: opened.read(slice(r, r + 1), ALL), range(16)))
    np.testing.assert_array_equal(np.concatenate(rows), data)


EXAMPLES = "data/spikes/cascade/Example_datasets"


@pytest.mark.parametrize(
    ("file", "shape", "dtype"),
    [
        ("Allen-Brain-Observatory-Visual-Coding-30Hz/Experiment_552195520_excerpt.mat", (74, 6001), "float32"),
        ("Multiplane-OGB1-zf-pDp-Rupprecht-7.5Hz/Calcium_traces_04.mat", (1005, 260), "float64"),
    ],
)
def test_published_examples(file, shape, dtype):
    (recording,) = find(shared(f"{EXAMPLES}/{file}"))
    assert (recording.shape, recording.dtype, recording.variable) == (shape, dtype, "dF_traces")
    excerpt = open_recording(recording).read(slice(3, 5), slice(100, 200))
    assert excerpt.shape == (2, 100)
    assert excerpt.dtype == dtype
    assert np.isfinite(excerpt).all()


def test_published_examples_as_a_glob():
    assert [r.name for r in find(shared(f"{EXAMPLES}/Multiplane-OGB1-zf-pDp-Rupprecht-7.5Hz") / "*.mat")] == [
        "Calcium_traces_01",
        "Calcium_traces_04",
    ]
