"""Recordings: found from `[input]`, checked before anything is written, opened where a block is computed.

A recording is one session of dF/F traces, (neurons, frames) at one frame rate. Names depend on the file and on how it was asked for, never
on its position among others, so a file that joins a glob leaves the names, and with them the finished work, of the others alone:

    "data/mouse1.mat"        mouse1            the stem
    "data/*.mat"             mouse1            the part the pattern leaves open, without suffix
    "data/*/rec.mat"         mouse1_rec        from the first open folder on
    "data/mouse1/suite2p"    plane0, plane1    one per plane; under "data/*/suite2p" mouse1_plane0

Where two still share a name, all of them get what tells them apart: the variable, the parent folder, the suffix, or a digest of the path.
"""

import glob
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias

import numpy as np

from blockwise.config import InputConfig, SessionConfig
from blockwise.errors import ConfigError, InputError, MissingError
from blockwise.storage import group_attributes
from tasks.spikes import arrays, nwb, suite2p
from tasks.spikes.suite2p import Correction
from tasks.spikes.traces import Contents, Traces, rows_and_frames

Kind: TypeAlias = Literal["array", "suite2p", "nwb"]

RESULT_NAME = re.compile(r"predictions_.*\.npy|(full_prediction|discrete_spikes)_.*\.mat|spks_cascade\.npy|.*_cascade\.nwb")
"""Exports of rates, which no glob finds; name one as a session to read it all the same."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One session, known but not opened.

    shape : (neurons, frames).
    frame_rate : Hz.
    dtype : of the traces as stored.
    model : path or registry name of its model, None where none was given.
    correction : how a Suite2p folder becomes dF/F, None for other kinds.
    """

    name: str
    path: str
    variable: str | None
    frame_rate: float
    kind: Kind
    shape: tuple[int, int]
    dtype: str
    model: str | None = None
    correction: Correction | None = None

    @property
    def duration_s(self) -> float:
        return self.shape[1] / self.frame_rate

    @property
    def warnings(self) -> tuple[str, ...]:
        """What looks odd about it and is no error."""
        neurons, frames = self.shape
        if neurons <= frames:
            return ()
        text = (
            f"{self.name}: {neurons} neurons of {frames} frames each: traces are (neurons, frames); transpose them if the axes are swapped"
        )
        return (text,)


@dataclass(frozen=True, slots=True)
class _Place:
    """One file or folder to read, with what was said about it."""

    path: str
    name: str
    given: bool
    session: SessionConfig


def find_recordings(
    config: InputConfig, default_model: str | None = None, *, correction: Correction | None = None
) -> tuple[Recording, ...]:
    """All recordings that `[input]` names, in the order of their paths (of the list, where sessions are listed).

    Parameters
    ----------
    config : a path or URL, a Suite2p folder, a glob, or sessions; a session inherits `variable` and `frame_rate` where it has none.
    default_model : model of the sessions that name none.
    correction : for Suite2p folders; None takes the defaults.

    Raises
    ------
    ConfigError : neither or both of path and sessions; a session name given twice.
    MissingError : no such file, nothing matches the glob, no such variable (the message lists those there are).
    InputError : wrong rank or dtype, no traces, or a frame rate that neither the configuration nor the file states.
    """
    places = [p for session in _sessions(config) for p in _expand(session)]
    recordings = [_inspect(place, default_model, correction or Correction()) for place in places]
    return _named(recordings, [p.given for p in places])


def open_recording(recording: Recording) -> Traces:
    """Open a recording for reading in this process; the reader may be shared between threads.

    Raises
    ------
    MissingError, InputError : it changed since it was found.
    """
    traces: Traces
    if recording.kind == "suite2p":
        traces = suite2p.Suite2pTraces(Path(recording.path), recording.correction or Correction())
    elif recording.kind == "nwb":
        traces = nwb.NwbTraces(recording.path, recording.variable)
    else:
        traces = arrays.ArrayTraces(recording.path, recording.variable)
    if traces.shape != recording.shape:
        traces.close()
        raise InputError(
            f"{recording.path}: found with shape {recording.shape}, now {traces.shape}: it changed under the run; start a new one"
        )
    return traces


def _sessions(config: InputConfig) -> Sequence[SessionConfig]:
    if bool(config.path) == bool(config.sessions):
        found = "both" if config.path else "neither"
        raise ConfigError(f"[input] has {found} of path and sessions: give one of them")
    if config.path:
        return (SessionConfig(path=config.path, variable=config.variable, frame_rate=config.frame_rate),)
    inherit = {"variable": config.variable, "frame_rate": config.frame_rate}
    return [s.model_copy(update={k: v for k, v in inherit.items() if getattr(s, k) is None}) for s in config.sessions]


def _expand(session: SessionConfig) -> list[_Place]:
    """The files and plane folders of one session: several for a glob or a Suite2p root."""
    if "://" in session.path:
        name = session.name or _clean(PurePosixPath(session.path.rstrip("/")).stem)
        return [_Place(session.path, name, bool(session.name), session)]
    asked = Path(session.path).expanduser().absolute()
    is_glob = not asked.exists()
    paths = [p for p in sorted(map(Path, glob.glob(str(asked), recursive=True))) if not _is_result(p)] if is_glob else [asked]
    if not paths:
        what = "matches" if glob.has_magic(str(asked)) else "is at"
        raise MissingError(f"no recording {what} {session.path} (looked for {asked}): check [input] path")
    units = [unit for path in paths for unit in _units(path)]
    names = [_derived_name(unit, asked if is_glob else unit) for unit in units]
    if session.name and len(units) == 1:
        return [_Place(str(units[0]), session.name, True, session)]
    prefix = f"{session.name}_" if session.name else ""
    return [_Place(str(unit), prefix + name, False, session) for unit, name in zip(units, names, strict=True)]


def _is_result(path: Path) -> bool:
    """Whether it was written by a run: the outputs of one glob must not become its next inputs."""
    if RESULT_NAME.fullmatch(path.name):
        return True
    return path.is_dir() and "blockwise" in group_attributes(path)


def _units(file: Path) -> list[Path]:
    """The recordings of one path: itself, or the planes of a Suite2p output."""
    if not file.is_dir() or _is_array_folder(file):
        return [file]
    planes = suite2p.find_planes(file)
    if not planes:
        raise InputError(
            f"{file} is a folder but no zarr, N5 or Suite2p output: to read the files in it, write a glob such as {file}/*.mat"
        )
    return planes


def _is_array_folder(folder: Path) -> bool:
    return any((folder / mark).exists() for mark in ("zarr.json", ".zarray", ".zgroup", "attributes.json", "info"))


def _derived_name(unit: Path, asked: Path) -> str:
    """The part of a path that the pattern leaves open, without suffix; the last part where it leaves nothing open."""
    first_open = next((i for i, part in enumerate(asked.parts) if glob.has_magic(part)), len(unit.parts) - 1)
    *folders, last = unit.parts[first_open:]
    return _clean("_".join([f for f in folders if f != "suite2p"] + [PurePosixPath(last).stem]))


def _clean(name: str) -> str:
    """A name that is one part of a path on every system: other characters become underscores."""
    return re.sub(r"[^\w.+-]", "_", name).lstrip(".") or "session"


def _inspect(place: _Place, default_model: str | None, correction: Correction) -> Recording:
    """Everything about one recording that needs no trace, or an error that says what is wrong with it."""
    session, path = place.session, place.path
    kind = _kind(path)
    if kind == "suite2p":
        found = suite2p.contents(Path(path), correction)
    elif kind == "nwb":
        found = nwb.contents(path, session.variable)
    else:
        found = arrays.contents(path, session.variable)
    _check(path, found)
    return Recording(
        name=place.name,
        path=path,
        variable=found.variable,
        frame_rate=session.frame_rate or _frame_rate(path, kind, found.variable),
        kind=kind,
        shape=rows_and_frames(found.shape),
        dtype=found.dtype,
        model=session.model or default_model,
        correction=correction if kind == "suite2p" else None,
    )


def _kind(path: str) -> Kind:
    if path.endswith(".nwb"):
        return "nwb"
    return "suite2p" if "://" not in path and suite2p.is_plane(Path(path)) else "array"


def _check(path: str, found: Contents) -> None:
    where = f"{path}" + (f", variable {found.variable!r}" if found.variable else "")
    if len(found.shape) not in (1, 2):
        raise InputError(f"{where} has {len(found.shape)} dimensions, shape {found.shape}: traces have 2, (neurons, frames)")
    if 0 in found.shape:
        raise InputError(f"{where} is empty, shape {found.shape}: traces are (neurons, frames) with at least one of each")
    if np.dtype(found.dtype).kind not in "fiu":
        raise InputError(f"{where} is of type {found.dtype}: traces are real numbers, float or integer")


def _frame_rate(path: str, kind: Kind, variable: str | None) -> float:
    """The frame rate that the file itself states, in Hz."""
    if kind == "suite2p":
        rate = suite2p.frame_rate(Path(path))
    else:
        rate = nwb.frame_rate(path, variable) if kind == "nwb" else arrays.frame_rate(path, variable)
    if rate is None or not np.isfinite(rate) or rate <= 0:
        raise InputError(f"{path} states no frame rate: set frame_rate (Hz) under [input] or in its session")
    return rate


def _named(recordings: Sequence[Recording], given: Sequence[bool]) -> tuple[Recording, ...]:
    """The recordings under unique names; given names stay as they are."""
    _check_given([r.name for r, g in zip(recordings, given, strict=True) if g])
    shared = {name for name, count in Counter(r.name for r in recordings).items() if count > 1}
    suffixes: dict[Recording, str] = {}
    for name in shared:
        suffixes |= _distinguished([r for r, g in zip(recordings, given, strict=True) if r.name == name and not g])
    named = tuple(replace(r, name=_clean(f"{r.name}_{suffixes[r]}")) if r in suffixes else r for r in recordings)
    for name, count in Counter(r.name for r in named).items():
        if count > 1:
            paths = ", ".join(r.path for r in named if r.name == name)
            raise ConfigError(f"{count} sessions come to the name {name!r} ({paths}): list each once, or give each a name")
    return named


def _check_given(names: Sequence[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise ConfigError(f"{count} sessions of [input] are named {name!r}: give each its own name")
        if name != _clean(name):
            raise ConfigError(f"session name {name!r} cannot be a folder's name everywhere: write it {_clean(name)!r}")


def _distinguished(group: Sequence[Recording]) -> dict[Recording, str]:
    """For each recording of a group that shares a name, the first kind of label that differs between all of them."""
    labels = zip(*map(_labels, group), strict=True)
    chosen = next((of for of in labels if all(of) and len(set(of)) == len(of)), [_labels(r)[-1] for r in group])
    return dict(zip(group, chosen, strict=True))


def _labels(recording: Recording) -> tuple[str, ...]:
    """What may tell a recording from others of its name: variable, folders above it, suffix, and a digest of all."""
    path = PurePosixPath(recording.path)
    folders = [part for part in path.parts[-2:-5:-1] if part != "suite2p"] + [""] * 3
    digest = hashlib.sha256(f"{path}:{recording.variable}".encode()).hexdigest()[:8]
    return (PurePosixPath(recording.variable or "").name, *folders[:3], path.suffix.removeprefix("."), digest)
