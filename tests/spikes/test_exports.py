from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import loadmat

from blockwise.config import InputConfig
from blockwise.errors import InputError, StorageError
from blockwise.storage import open_source
from tasks.spikes import exports, rates
from tasks.spikes.recordings import find_recordings
from tests.spikes.folders import suite2p_plane, traces, zarr_array


@pytest.fixture
def session(tmp_path):
    """Rates in a zarr of chunks 2 x 100, and their values."""
    values = np.abs(traces(7, 430))
    values[:, :32] = np.nan
    zarr_array(tmp_path / "rates.zarr", values)
    return open_source(tmp_path / "rates.zarr"), values


@pytest.mark.parametrize("piece_bytes", [1000, 2**25])
def test_npy_holds_the_rates(tmp_path, session, monkeypatch, piece_bytes):
    monkeypatch.setattr(rates, "PIECE_BYTES", piece_bytes)
    source, values = session
    path = exports.export_npy(source, tmp_path, "m1")
    assert path.name == "predictions_m1.npy"
    np.testing.assert_array_equal(np.load(path), values)


def test_mat_holds_the_rates_in_both_versions(tmp_path, session):
    source, values = session
    small = exports.export_mat(source, tmp_path, "small")
    large = exports.export_mat(source, tmp_path, "large", v5_limit_bytes=100)
    assert (small.name, large.name) == ("full_prediction_small.mat", "full_prediction_large.mat")
    found = loadmat(small)["spike_rates"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values)
    assert large.read_bytes().startswith(b"MATLAB 7.3 MAT-file")
    again = open_source(large, "spike_rates")
    np.testing.assert_array_equal(again.read(rates.Region((0, 0), again.shape)), values)


SPIKES = [np.array([3, 3, 10]), np.array([], int), *[np.array([i]) for i in range(5)]]


def test_discrete_spikes_keep_their_names_in_v5(tmp_path, session):
    source, values = session
    found = loadmat(exports.export_discrete(source, source, SPIKES, tmp_path, "m1"))
    assert {"spike_rates", "discrete_approximation", "spike_time_estimates"} <= set(found)
    np.testing.assert_array_equal(found["discrete_approximation"], values)
    cells = found["spike_time_estimates"]
    assert cells.shape == (1, 7)
    for cell, spikes in zip(cells[0], SPIKES, strict=True):
        np.testing.assert_array_equal(cell.reshape(-1), spikes)


def test_discrete_spikes_are_cells_in_v73(tmp_path, session):
    path = exports.export_discrete(session[0], session[0], SPIKES, tmp_path, "m1", v5_limit_bytes=100)
    assert path.name == "discrete_spikes_m1.mat"
    with h5py.File(path) as file:
        cell = file["spike_time_estimates"]
        assert (cell.shape, cell.attrs["MATLAB_class"]) == ((7, 1), b"cell")
        found = [file[reference] for reference in cell[:, 0]]
        np.testing.assert_array_equal(found[0][:].reshape(-1), SPIKES[0])
        assert [f.attrs.get("MATLAB_empty", 0) for f in found] == [0, 1, 0, 0, 0, 0, 0]


def test_spikes_of_other_neurons_are_refused(tmp_path, session):
    with pytest.raises(InputError, match="spikes of 6 neurons, but rates of 7"):
        exports.export_discrete(session[0], session[0], SPIKES[:6], tmp_path, "m1")
    assert not list(tmp_path.glob("*.mat"))


def test_suite2p_gets_its_cells_back(tmp_path):
    suite2p_plane(tmp_path / "suite2p/plane0", ops={"fs": 15.0})
    (recording,) = find_recordings(InputConfig(path=str(tmp_path)))
    values = np.abs(traces(4, 400))
    zarr_array(tmp_path / "rates.zarr", values)
    path = exports.write_suite2p(open_source(tmp_path / "rates.zarr"), recording)
    assert path == tmp_path / "suite2p/plane0/spks_cascade.npy"
    written = np.load(path)
    assert (written.shape, written.dtype) == ((6, 400), np.float32)
    np.testing.assert_array_equal(written[[0, 2, 3, 5]], values)
    assert np.isnan(written[[1, 4]]).all()


def test_suite2p_takes_no_rates_of_another_recording(tmp_path, session):
    suite2p_plane(tmp_path / "plane0")
    (recording,) = find_recordings(InputConfig(path=str(tmp_path / "plane0"), frame_rate=30.0))
    with pytest.raises(InputError, match=r"\(7, 430\), the recording \(4, 400\)"):
        exports.write_suite2p(session[0], recording)
    np.save(tmp_path / "a.npy", traces())
    (other,) = find_recordings(InputConfig(path=str(tmp_path / "a.npy"), frame_rate=30.0))
    with pytest.raises(InputError, match="no Suite2p folder"):
        exports.write_suite2p(session[0], other)


class _Failing:
    shape, dtype, chunks = (4, 100), np.dtype(np.float32), (2, 100)

    def read(self, region):
        if region.begin[0] >= 2:
            raise OSError("the disk went away")
        return np.ones(region.shape, np.float32)


@pytest.mark.parametrize("export", [exports.export_npy, exports.export_mat])
def test_a_failed_export_leaves_the_old_file_and_nothing_else(tmp_path, session, export):
    old = export(session[0], tmp_path, "m1")
    content, files = old.read_bytes(), sorted(tmp_path.iterdir())
    with pytest.raises((StorageError, OSError)):
        export(_Failing(), tmp_path, "m1", **({"v5_limit_bytes": 10} if export is exports.export_mat else {}))
    assert old.read_bytes() == content
    assert sorted(tmp_path.iterdir()) == files


def test_a_missing_folder_is_a_storage_error(session):
    with pytest.raises(StorageError, match="cannot write /nowhere/at/all"):
        exports.export_npy(session[0], Path("/nowhere/at/all"), "m1")


@pytest.mark.parametrize(("shape", "chunks"), [((7, 430), (2, 100)), ((1, 5), None), ((130, 11), None), ((3, 1000), (50, 10))])
def test_pieces_cover_the_rates_once(shape, chunks, monkeypatch):
    monkeypatch.setattr(rates, "PIECE_BYTES", 640)

    class Shaped:
        dtype = np.dtype(np.float32)

    shaped = Shaped()
    shaped.shape, shaped.chunks = shape, chunks
    count = np.zeros(shape, int)
    for region in rates.pieces(shaped):
        count[region.slices] += 1
    assert (count == 1).all()
