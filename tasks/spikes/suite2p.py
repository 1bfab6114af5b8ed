"""Suite2p folders: dF/F of the cells of one imaging plane, and spike rates written back beside them.

A plane folder holds F.npy and Fneu.npy, both (ROIs, frames) float32, iscell.npy, (ROIs, 2), and ops.npy (or settings.npy, ops.json,
settings.json) with the frame rate `fs`. dF/F of a row, in float64, is

    Fc = F - coefficient * Fneu          coefficient 0.7
    F0 = percentile of Fc over all frames of the row          8th percentile, linear interpolation
    dF/F = (Fc - F0) / F0

F0 belongs to the whole row and is frozen when the row is first read, so every block of a recording sees the same dF/F whatever its extent.
A row with F0 <= 0 has no dF/F: it reads as NaN, with one warning.

ops.npy is a pickle. Nothing of it is executed: numpy arrays and plain types are read, anything else is refused.
"""

import json
import pickle
import threading
import warnings
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from blockwise.errors import BlockwiseWarning, InputError, MissingError
from blockwise.geometry import Region
from blockwise.storage import Source, identity, open_source
from tasks.spikes.traces import Contents, Traces2D, box

FILES = ("F.npy", "Fneu.npy", "iscell.npy")
"""Files of a plane that decide its traces."""

SETTINGS = ("ops.npy", "settings.npy", "ops.json", "settings.json")
"""Files that may carry the frame rate, in the order they are asked."""


@dataclass(frozen=True, slots=True)
class Correction:
    """How fluorescence becomes dF/F.

    coefficient : share of the neuropil signal that is subtracted.
    percentile : of the corrected row, taken as its baseline F0, 0 to 100.
    cells_only : read the ROIs that Suite2p calls cells; otherwise all ROIs.
    """

    coefficient: float = 0.7
    percentile: float = 8.0
    cells_only: bool = True


def is_plane(folder: Path) -> bool:
    """Whether a folder holds the traces of one Suite2p plane."""
    return (folder / "F.npy").is_file() and (folder / "iscell.npy").is_file()


def find_planes(folder: Path) -> list[Path]:
    """The plane folders of a Suite2p output: the folder itself, its plane*/, or those of its suite2p/; empty where it is none."""
    if is_plane(folder):
        return [folder]
    planes = [p for root in (folder, folder / "suite2p") for p in root.glob("plane*") if is_plane(p)]
    return sorted(planes, key=_plane_number)


def _plane_number(plane: Path) -> tuple[int, str]:
    digits = plane.name.removeprefix("plane")
    return (int(digits) if digits.isdigit() else 1 << 30, plane.name)


def contents(plane: Path, correction: Correction) -> Contents:
    """What a plane folder holds.

    Raises
    ------
    MissingError : no Fneu.npy.  InputError : files that do not fit each other, or no cell among the ROIs.
    """
    with closing(_open(plane, "F.npy")) as fluorescence, closing(_open(plane, "Fneu.npy")) as neuropil:
        shapes = fluorescence.shape, neuropil.shape
    if shapes[0] != shapes[1] or len(shapes[0]) != 2:
        raise InputError(f"{plane}: F.npy is {shapes[0]} and Fneu.npy {shapes[1]}: both must be (ROIs, frames) of one Suite2p run")
    return Contents(None, (len(rois(plane, correction, shapes[0][0])), shapes[0][1]), "float32")


def rois(plane: Path, correction: Correction, count: int) -> npt.NDArray[np.int64]:
    """Index of the ROI in F.npy for every neuron read, (neurons,) int64."""
    iscell = np.load(plane / "iscell.npy", allow_pickle=False)
    if len(iscell) != count:
        raise InputError(f"{plane}: iscell.npy has {len(iscell)} rows, F.npy {count}: both must be of one Suite2p run")
    chosen = iscell.reshape(count, -1)[:, 0] == 1
    if correction.cells_only and not chosen.any():
        raise InputError(f"{plane}: none of {count} ROIs is called a cell in iscell.npy: curate it in Suite2p or read all ROIs")
    return np.flatnonzero(chosen | (not correction.cells_only))


class Suite2pTraces:
    """dF/F of one plane folder; see the module's header for the formula."""

    def __init__(self, plane: Path, correction: Correction) -> None:
        self._plane, self._correction = plane, correction
        self._fluorescence, self._neuropil = _open(plane, "F.npy"), _open(plane, "Fneu.npy")
        count, frames = self._fluorescence.shape
        self.rois = rois(plane, correction, count)
        self.roi_count: int = count
        self.shape: tuple[int, int] = (len(self.rois), frames)
        self._baselines = np.full(len(self.rois), np.nan)
        self._known = np.zeros(len(self.rois), bool)
        self._lock = threading.Lock()

    def read(self, rows: slice, frames: slice) -> Traces2D:
        wanted = box(self.shape, rows, frames)
        neurons = range(wanted.begin[0], wanted.end[0])
        result = np.empty(wanted.shape, np.float32)
        baselines = self._baseline(neurons)
        for i, neuron in enumerate(neurons):
            result[i] = (self._corrected(neuron, wanted.begin[1], wanted.end[1]) - baselines[i]) / baselines[i]
        return result

    def _baseline(self, neurons: range) -> npt.NDArray[np.float64]:
        """F0 of the given neurons, float64; NaN where it is not above 0."""
        with self._lock:
            new = [n for n in neurons if not self._known[n]]
            for neuron in new:
                self._baselines[neuron] = _percentile(self._corrected(neuron, 0, self.shape[1]), self._correction.percentile)
            self._known[new] = True
            dark = [n for n in new if not self._baselines[n] > 0]
            self._baselines[dark] = np.nan
        if dark:
            names = ", ".join(str(self.rois[n]) for n in dark[:5]) + (", ..." if len(dark) > 5 else "")
            text = f"{self._plane}: {len(dark)} ROIs have a baseline of 0 or less after neuropil subtraction and read as NaN (ROI {names})"
            warnings.warn(text, BlockwiseWarning, stacklevel=3)
        return self._baselines[neurons.start : neurons.stop].copy()

    def _corrected(self, neuron: int, begin: int, end: int) -> npt.NDArray[np.float64]:
        roi = int(self.rois[neuron])
        region = Region((roi, begin), (roi + 1, end))
        fluorescence, neuropil = (np.asarray(s.read(region)[0], np.float64) for s in (self._fluorescence, self._neuropil))
        return fluorescence - self._correction.coefficient * neuropil

    def identity(self) -> dict[str, str]:
        files = {name: identity(str(self._plane / name)) for name in FILES}
        return files | {"correction": json.dumps(asdict(self._correction))}

    def close(self) -> None:
        self._fluorescence.close()
        self._neuropil.close()


def _percentile(row: npt.NDArray[np.float64], percentile: float) -> float:
    finite = row[np.isfinite(row)]
    return float(np.percentile(finite, percentile)) if finite.size else np.nan


def _open(plane: Path, name: str) -> Source:
    if not (plane / name).is_file():
        raise MissingError(f"no {name} in {plane}: a Suite2p plane folder holds F.npy, Fneu.npy and iscell.npy")
    return open_source(str(plane / name))


def frame_rate(plane: Path) -> float | None:
    """Frames per second of this plane as Suite2p's settings state it, None without settings.

    Raises
    ------
    InputError : a pickle that asks for more than data, or that cannot be parsed.
    """
    for file in (plane / name for name in SETTINGS):
        if file.is_file():
            rate = _settings(file).get("fs")
            if isinstance(rate, int | float | np.number) and rate > 0:
                return float(rate)
    return None


def _settings(file: Path) -> dict[str, Any]:
    try:
        if file.suffix == ".json":
            value = json.loads(file.read_text())
        else:
            with file.open("rb") as stream:
                value = _load_object(stream)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    except (ValueError, pickle.UnpicklingError, EOFError, AttributeError, IndexError, TypeError) as error:
        raise InputError(f"{file} cannot be parsed ({error}): set input.frame_rate") from None
    return value if isinstance(value, dict) else {}


def _load_object(stream: BinaryIO) -> Any:
    """The object that `numpy.save` wrapped in an array of rank 0."""
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    _, _, dtype = read_header(stream)
    if not dtype.hasobject:
        return None
    return np.asarray(_DataUnpickler(stream).load(), object).reshape(-1)[0]


def _path_text(*parts: str) -> str:
    return str(PurePath(*parts))


class _DataUnpickler(pickle.Unpickler):
    """Reads arrays and plain types; a name outside the table is refused before anything is called."""

    _arrays = {  # noqa: RUF012
        "numpy": ("ndarray", "dtype"),
        "numpy.core.multiarray": ("_reconstruct", "scalar"),
        "numpy._core.multiarray": ("_reconstruct", "scalar"),
        "numpy.core.numeric": ("_frombuffer",),
        "numpy._core.numeric": ("_frombuffer",),
        "builtins": ("set", "frozenset", "slice", "complex", "bytearray", "range"),
        "collections": ("OrderedDict",),
        "datetime": ("datetime", "date", "time", "timedelta", "timezone"),
        "_codecs": ("encode",),
    }

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "pathlib":
            return _path_text
        if name in self._arrays.get(module, ()):
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise InputError(f"the pickle asks for {module}.{name}, which is no plain data, and was not read: set input.frame_rate")
