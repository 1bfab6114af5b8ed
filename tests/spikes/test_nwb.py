import datetime
import sys

import h5py
import numpy as np
import pytest

from blockwise.config import InputConfig
from blockwise.errors import DependencyError, InputError, MissingError
from blockwise.storage import open_source
from tasks.spikes import nwb
from tasks.spikes.recordings import find_recordings, open_recording
from tests.spikes.folders import traces, zarr_array

pytest.importorskip("pynwb", reason="writing NWB needs the extra nwb")

ALL = slice(None)
DFF = "processing/ophys/DfOverF/RoiResponseSeries"


def write_nwb(path, dff, *, rate=30.0, timestamps=None, raw=True, scale=1.0):
    """An NWB file as pynwb writes it: dF/F and, if `raw`, fluorescence of the same ROIs."""
    from pynwb import NWBHDF5IO, NWBFile, ophys

    file = NWBFile(session_description="test", identifier="m1", session_start_time=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
    device = file.create_device(name="scope")
    channel = ophys.OpticalChannel(name="green", description="GFP", emission_lambda=510.0)
    plane = file.create_imaging_plane(
        name="plane", optical_channel=channel, description="V1", device=device, excitation_lambda=920.0, indicator="GCaMP6f", location="V1"
    )
    module = file.create_processing_module(name="ophys", description="optical physiology")
    segmentation = ophys.ImageSegmentation()
    module.add(segmentation)
    table = segmentation.create_plane_segmentation(name="cells", description="ROIs", imaging_plane=plane)
    for _ in range(len(dff)):
        table.add_roi(image_mask=np.ones((2, 2)))
    timing = {"rate": rate} if timestamps is None else {"timestamps": timestamps}
    for container, name in [(ophys.DfOverF(), "dff"), *([(ophys.Fluorescence(), "F")] if raw else [])]:
        module.add(container)
        rois = table.create_roi_table_region(region=list(range(len(dff))), description="all")
        container.create_roi_response_series(name="RoiResponseSeries", data=dff.T / scale, rois=rois, unit=name, conversion=scale, **timing)
    with NWBHDF5IO(str(path), "w") as io:
        io.write(file)


@pytest.fixture
def recorded(tmp_path):
    dff = traces(4, 200)
    write_nwb(tmp_path / "m1.nwb", dff)
    return tmp_path / "m1.nwb", dff


def find(path, **values):
    return find_recordings(InputConfig(path=str(path), **values))


def test_dff_is_found_and_read_by_region(recorded):
    path, dff = recorded
    (recording,) = find(path)
    assert (recording.kind, recording.name, recording.variable, recording.frame_rate) == ("nwb", "m1", DFF, 30.0)
    assert recording.shape == (4, 200)
    opened = open_recording(recording)
    np.testing.assert_array_equal(opened.read(ALL, ALL), dff)
    np.testing.assert_array_equal(opened.read(slice(1, 3), slice(20, 50)), dff[1:3, 20:50])
    assert opened.read(slice(1, 3), ALL).flags.c_contiguous
    opened.close()


@pytest.mark.parametrize("variable", [DFF, f"/{DFF}/data", "DfOverF"])
def test_a_series_is_chosen_by_path_or_container(recorded, variable):
    assert find(recorded[0], variable=variable)[0].variable == DFF


@pytest.mark.parametrize(("variable", "text"), [("RoiResponseSeries", "2 series are called"), ("spikes", "0 series are called 'spikes'")])
def test_a_series_that_is_not_clear_lists_all(recorded, variable, text):
    with pytest.raises(MissingError, match=rf"{text}.*DfOverF/RoiResponseSeries, .*Fluorescence"):
        find(recorded[0], variable=variable)


def test_fluorescence_serves_where_it_is_the_only_series(recorded):
    with h5py.File(recorded[0], "a") as file:
        del file["processing/ophys/DfOverF"]
    assert "Fluorescence" in find(recorded[0])[0].variable
    with h5py.File(recorded[0], "a") as file:
        del file["processing/ophys/Fluorescence"]
    with pytest.raises(MissingError, match="holds no RoiResponseSeries"):
        find(recorded[0])


def test_conversion_is_applied_and_timestamps_give_the_rate(tmp_path):
    dff = traces(3, 101)
    write_nwb(tmp_path / "m1.nwb", dff, timestamps=np.linspace(0, 10, 101), scale=0.25, raw=False)
    (recording,) = find(tmp_path / "m1.nwb")
    assert recording.frame_rate == pytest.approx(10.0)
    np.testing.assert_allclose(open_recording(recording).read(ALL, ALL), dff, rtol=1e-6)


def test_what_is_no_nwb_file_is_told(tmp_path):
    (tmp_path / "m1.nwb").write_bytes(b"nothing")
    with pytest.raises(InputError, match="no HDF5 file"):
        find(tmp_path / "m1.nwb")


@pytest.fixture
def rates(tmp_path):
    values = np.abs(traces(4, 200, seed=1))
    zarr_array(tmp_path / "rates.zarr", values)
    return open_source(tmp_path / "rates.zarr"), values


@pytest.mark.parametrize(("in_place", "name"), [(False, "m1_cascade.nwb"), (True, "m1.nwb")])
@pytest.mark.parametrize("timestamps", [None, np.linspace(0, 10, 200)])
def test_rates_are_written_back_beside_their_traces(tmp_path, rates, in_place, name, timestamps):
    from pynwb import NWBHDF5IO

    write_nwb(tmp_path / "m1.nwb", traces(4, 200), timestamps=timestamps)
    before = (tmp_path / "m1.nwb").read_bytes()
    written = nwb.write_back(str(tmp_path / "m1.nwb"), rates[0], in_place=in_place, description="model X")
    assert written == tmp_path / name
    assert ((tmp_path / "m1.nwb").read_bytes() == before) is not in_place
    assert {p.name for p in tmp_path.iterdir()} == {"rates.zarr", "m1.nwb", name}
    with NWBHDF5IO(str(written), "r") as io:
        series = io.read().processing["ophys"]["spike_rates_cascade"]
        np.testing.assert_array_equal(series.data[:], rates[1].T)
        assert (series.description, series.unit, len(series.rois)) == ("model X", "spikes per frame", 4)
        assert series.rate == (30.0 if timestamps is None else None)
        assert timestamps is None or len(series.timestamps) == 200


def test_a_file_with_rates_is_read_as_before_and_not_written_twice(recorded, rates):
    written = nwb.write_back(str(recorded[0]), rates[0])
    assert find(written)[0].variable == DFF
    with pytest.raises(InputError, match="holds spike_rates_cascade already"):
        nwb.write_back(str(written), rates[0])


def test_rates_of_another_shape_are_refused(recorded, rates, tmp_path):
    write_nwb(tmp_path / "other.nwb", traces(3, 200))
    with pytest.raises(InputError, match=r"\(3, 200\), the rates \(4, 200\)"):
        nwb.write_back(str(tmp_path / "other.nwb"), rates[0])


def test_writing_without_pynwb_names_the_extra(recorded, rates, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynwb", None)
    with pytest.raises(DependencyError, match=r"pip install -e '.\[nwb\]'"):
        nwb.write_back(str(recorded[0]), rates[0])
    assert find(recorded[0])[0].shape == (4, 200)
