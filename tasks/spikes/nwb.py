"""NWB files: dF/F read by region, spike rates written back as a series of their own.

Series are found by what NWB says of them (`neurodata_type`), with h5py alone; writing goes through pynwb, so that the result is valid NWB.
A series is stored (frames, ROIs); everything here speaks (neurons, frames). Writing makes a copy beside the destination, adds to it, forces
it to disk and renames it: a crash leaves the old file, or none.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from blockwise.errors import DependencyError, InputError, MissingError
from blockwise.geometry import Region
from blockwise.storage import identity, open_source
from tasks.spikes.rates import Rates, replacing
from tasks.spikes.traces import Contents, Traces2D, as_float, box, rows_and_frames

SERIES_TYPE = "RoiResponseSeries"

RATES_NAME = "spike_rates_cascade"
"""Name of the series that is written back."""


def contents(path: str, variable: str | None = None) -> Contents:
    """What an NWB file holds of traces; `variable` names a series by its name, its container's, or its path in the file.

    Without a name it is the only series in a DfOverF container, else the only series.

    Raises
    ------
    MissingError : no such file, no series, none of this name, or several to choose from (the message lists them).
    """
    with _open(path) as file:
        series = _choose(path, _series(file), variable)
        data = file[series]["data"]
        shape = tuple(data.shape[::-1])
        return Contents(series, shape, str(data.dtype))


def frame_rate(path: str, variable: str | None = None) -> float | None:
    """Frames per second: the stated rate, or the mean over the timestamps; None where there is neither."""
    with _open(path) as file:
        series = file[_choose(path, _series(file), variable)]
        if "starting_time" in series:
            return float(series["starting_time"].attrs["rate"])
        times = series.get("timestamps")
        if times is None or len(times) < 2 or not times[-1] > times[0]:
            return None
        return float((len(times) - 1) / (times[-1] - times[0]))


class NwbTraces:
    """Traces of one series, scaled as its `conversion` and `offset` say."""

    def __init__(self, path: str, variable: str | None) -> None:
        with _open(path) as file:
            series = _choose(path, _series(file), variable)
        self._source = open_source(path, f"{series}/data")
        self._conversion = float(self._source.attributes.get("conversion", 1.0))
        self._offset = float(self._source.attributes.get("offset", 0.0))
        self.shape: tuple[int, int] = rows_and_frames(self._source.shape[::-1])

    def read(self, rows: slice, frames: slice) -> Traces2D:
        wanted = box(self.shape, rows, frames)
        rank = len(self._source.shape)
        stored = self._source.read(Region(wanted.begin[::-1][:rank], wanted.end[::-1][:rank]))
        data = as_float(np.ascontiguousarray(stored.reshape(stored.shape[0], -1).T[: wanted.shape[0]]))
        if (self._conversion, self._offset) == (1.0, 0.0):
            return data
        return data * data.dtype.type(self._conversion) + data.dtype.type(self._offset)

    def identity(self) -> dict[str, str]:
        return {"traces": identity(self._source.path), "series": f"{self._source.variable} {self._conversion} {self._offset}"}

    def close(self) -> None:
        self._source.close()


def _open(path: str) -> Any:
    import h5py

    if not Path(path).is_file():
        raise MissingError(f"no NWB file at {path}")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path} is no HDF5 file, and NWB is read from HDF5 only: {error}") from None


def _series(file: Any) -> list[str]:
    """Paths of all series of ROI responses with data, sorted."""
    import h5py

    found: list[str] = []

    def visit(name: str, item: Any) -> None:
        kind = item.attrs.get("neurodata_type")
        if isinstance(item, h5py.Group) and kind in (SERIES_TYPE, SERIES_TYPE.encode()) and "data" in item:
            found.append(name)

    file.visititems(visit)
    return sorted(found)


def _choose(path: str, series: list[str], variable: str | None) -> str:
    if not series:
        raise MissingError(f"{path} holds no {SERIES_TYPE}: export dF/F into a DfOverF container of a processing module first")
    listing = ", ".join(series)
    if variable is None:
        ratios = [s for s in series if "/DfOverF" in s and not s.endswith(RATES_NAME)] or [s for s in series if not s.endswith(RATES_NAME)]
        if len(ratios) != 1:
            raise MissingError(f"{path} holds {len(ratios)} series to choose from: set input.variable to one of {listing}")
        return ratios[0]
    wanted = variable.strip("/").removesuffix("/data")
    matches = [s for s in series if s == wanted] or [s for s in series if wanted in s.split("/")[-2:]]
    if len(matches) != 1:
        raise MissingError(f"{path}: {len(matches)} series are called {variable!r}: set input.variable to one of {listing}")
    return matches[0]


def write_back(path: str, rates: Rates, *, variable: str | None = None, in_place: bool = False, description: str = "") -> Path:
    """Add spike rates as the series `spike_rates_cascade` beside the traces they were inferred from.

    Parameters
    ----------
    path : NWB file the traces came from.
    rates : (neurons, frames) expected spikes per frame, in the order of the series' ROIs.
    variable : the series of the traces, as for reading.
    in_place : False writes the copy `<stem>_cascade.nwb` beside it; True replaces the file itself.
    description : of the new series, e.g. model and citation.

    Returns
    -------
    The file that now holds the rates.

    Raises
    ------
    DependencyError : without pynwb.  InputError : rates of another shape, or a file that holds such a series already.
    StorageError : the file could not be written.
    """
    _need_pynwb()
    with _open(path) as file:
        found = _series(file)
        series = _choose(path, found, variable)
        shape = tuple(file[series]["data"].shape[::-1])
    if shape != tuple(rates.shape):
        raise InputError(f"{path}: {series} has shape {shape}, the rates {tuple(rates.shape)}: both are (neurons, frames) of one recording")
    if any(s.endswith(RATES_NAME) for s in found):
        raise InputError(f"{path} holds {RATES_NAME} already: write to the file it was made from, or remove the series")
    source = Path(path)
    target = source if in_place else source.with_name(f"{source.stem}_cascade.nwb")
    with replacing(target) as part:
        shutil.copyfile(source, part)
        _append(part, series, rates, description)
    return target


def _need_pynwb() -> None:
    try:
        import pynwb  # noqa: F401
    except ImportError:
        raise DependencyError("writing NWB needs pynwb: pip install -e '.[nwb]' in the checkout") from None


def _append(file: Path, series: str, rates: Rates, description: str) -> None:
    from hdmf.common import DynamicTableRegion
    from pynwb import NWBHDF5IO
    from pynwb.ophys import RoiResponseSeries

    with NWBHDF5IO(str(file), "a") as io:
        nwb = io.read()
        responses = [o for o in nwb.objects.values() if isinstance(o, RoiResponseSeries)]
        origin = next(o for o in responses if o.data.parent.name == f"/{series}")
        rois = DynamicTableRegion(name="rois", data=list(origin.rois.data[:]), description="ROIs of the traces", table=origin.rois.table)
        timing = {"rate": origin.rate, "starting_time": origin.starting_time} if origin.rate else {"timestamps": origin}
        text = description or "Spike rates inferred by Cascade"
        _module(nwb, origin).add(
            RoiResponseSeries(
                name=RATES_NAME,
                data=_chunks(rates),
                rois=rois,
                unit="spikes per frame",
                description=text,
                comments="see description",
                **timing,
            )
        )
        io.write(nwb)


def _module(nwb: Any, origin: Any) -> Any:
    """The processing module that holds the traces; `ophys` where they lie outside of one."""
    from pynwb import ProcessingModule

    parent = origin.parent
    while parent is not None and not isinstance(parent, ProcessingModule):
        parent = parent.parent
    if parent is None and "ophys" not in nwb.processing:
        return nwb.create_processing_module(name="ophys", description="optical physiology")
    return parent or nwb.processing["ophys"]


def _chunks(rates: Rates) -> Any:
    """The rates as hdmf writes them without holding them all: (frames, neurons) in pieces."""
    from hdmf.data_utils import GenericDataChunkIterator

    class Chunks(GenericDataChunkIterator):  # type: ignore[misc]
        def _get_data(self, selection: tuple[slice, ...]) -> Any:
            frames, neurons = selection
            return rates.read(box(rows_and_frames(rates.shape), neurons, frames)).T

        def _get_maxshape(self) -> tuple[int, ...]:
            return rates.shape[::-1]

        def _get_dtype(self) -> np.dtype[Any]:
            return np.dtype(rates.dtype)

    return Chunks(buffer_gb=0.05)
