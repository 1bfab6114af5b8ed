"""A commented configuration for a recording: what `blockwise init cascade RECORDING` prints."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from blockwise.config import InputConfig, validated
from blockwise.errors import InputError
from blockwise.models import Suggestion
from tasks.cascade.registry import suggest
from tasks.spikes.recordings import Recording, find_recordings

ASSUMED_RATE = 30.0

Origin = Literal["read", "given", "assumed"]
"""Where a frame rate comes from: the file, --frame-rate, or nowhere."""

RATE_NOTES: dict[Origin, str] = {
    "read": "Hz, as the file states",
    "given": "Hz, as given",
    "assumed": "assumed: the file states none. CHECK IT, or say it: blockwise init --frame-rate",
}
WHOSE: dict[Origin, str] = {"read": "the file's", "given": "your", "assumed": "the assumed"}
NAMED = 20
"""Most recordings of a set that the head of the configuration lists."""


def template(source: str, frame_rate: float | None = None) -> str:
    """A configuration that `plan` accepts, with shape, variable and rate read from the recording and a model suggested for it.

    Parameters
    ----------
    frame_rate : Hz, of every recording; None takes what the files state, or 30 Hz where one states none.

    Raises
    ------
    MissingError, InputError : the recording cannot be read.  ConfigError : a frame rate not above 0.
    """
    recordings, origin = _found(source, frame_rate)
    models = {r.frame_rate: model_for(r.frame_rate, WHOSE[origin]) for r in recordings}
    same = len({m.name for m in models.values()}) == 1
    parts = [_head(recordings), _input(source, recordings, origin) if same else "", _model(models.values())]
    return "\n".join([*filter(None, parts), _rest(source), *([] if same else _sessions(recordings, models))])


def _found(source: str, frame_rate: float | None) -> tuple[tuple[Recording, ...], Origin]:
    given = validated(InputConfig, {"path": source, "frame_rate": frame_rate}, "input")
    try:
        return find_recordings(given), "read" if frame_rate is None else "given"
    except InputError as error:
        if "states no frame rate" not in str(error):
            raise
        return find_recordings(InputConfig(path=source, frame_rate=ASSUMED_RATE)), "assumed"


def model_for(frame_rate: float, whose: str = "your") -> Suggestion:
    """The model to suggest: one that is on this machine where one fits, else the published one that fits best."""
    here = suggest(frame_rate=frame_rate, present=True, whose=whose)
    return suggest(frame_rate=frame_rate, whose=whose) if here.warnings else here


def _head(recordings: tuple[Recording, ...]) -> str:
    shapes = [f"#   {r.name}: {r.shape[0]} neurons x {r.shape[1]} frames, {r.duration_s:.0f} s" for r in recordings[:NAMED]]
    more = [f"#   and {len(recordings) - NAMED} more"] if len(recordings) > NAMED else []
    lines = ["# Spike rates from calcium traces with Cascade, made for", *shapes, *more]
    return "\n".join(
        [*lines, "# Look at the plan first:  blockwise plan THIS_FILE      then:  blockwise run THIS_FILE", 'task = "cascade"\n']
    )


def _input(source: str, recordings: tuple[Recording, ...], origin: Origin) -> str:
    first = recordings[0]
    lines = ["[input]", f"path = {_text(source)}"]
    if first.variable and len(recordings) == 1:
        lines.append(f"variable = {_text(first.variable)}")
    rates = sorted({r.frame_rate for r in recordings})
    if len(rates) == 1:
        lines.append(f"frame_rate = {first.frame_rate:g}  # {RATE_NOTES[origin]}")
    else:
        lines.append(f"# frame_rate: every file states its own, {rates[0]:g} to {rates[-1]:g} Hz")
    return "\n".join([*lines, ""])


def _model(models: Iterable[Suggestion]) -> str:
    chosen = {m.name: m for m in models}
    comments = [f"# {line}" for m in chosen.values() for line in (m.reason, *m.warnings)]
    lines = [*comments, "# Others: blockwise models list. To fetch a published one: blockwise models get NAME"]
    if len(chosen) > 1:
        return "\n".join([*lines, "# Each session below names its own.", ""])
    return "\n".join(["[model]", *lines, f"path = {_text(next(iter(chosen)))}", ""])


def _rest(source: str) -> str:
    stem = Path(source.rstrip("/*")).stem.replace("*", "set") or "recording"
    return f"""[output]
path = {_text(f"{stem}_rates.zarr")}

[options]
threshold = 0      # negative rates become 0; 1: rates below a spike's too; false: as they are
discrete = false   # also infer discrete spikes

[cluster]
kind = "local"     # one worker per core where workers is not given
"""


def _sessions(recordings: tuple[Recording, ...], models: dict[float, Suggestion]) -> Iterator[str]:
    """One section per recording, for sets whose frame rates need several models."""
    for r in recordings:
        keys = {"path": r.path, "name": r.name, "variable": r.variable, "model": models[r.frame_rate].name}
        text = [f"{k} = {_text(v)}" for k, v in keys.items() if v]
        yield "\n".join(["[[input.sessions]]", *text, f"frame_rate = {r.frame_rate:g}", ""])


def _text(value: str) -> str:
    """A TOML string."""
    return json.dumps(value, ensure_ascii=False)
