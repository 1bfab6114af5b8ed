"""A commented configuration for a recording: what `blockwise init cascade RECORDING` prints."""

import json
from pathlib import Path

from blockwise.config import InputConfig
from tasks.cascade.registry import registry
from tasks.spikes.recordings import Recording, find_recordings

ASSUMED_RATE = 30.0


def template(source: str) -> str:
    """A configuration that `plan` accepts, with shape, variable and rate read from the recording and a model suggested for it.

    Raises
    ------
    MissingError, InputError : the recording cannot be read.
    """
    from blockwise.errors import InputError

    try:
        recordings, assumed = find_recordings(InputConfig(path=source)), False
    except InputError as error:
        if "states no frame rate" not in str(error):
            raise
        recordings, assumed = find_recordings(InputConfig(path=source, frame_rate=ASSUMED_RATE)), True
    return _text(source, recordings, assumed)


def _text(source: str, recordings: tuple[Recording, ...], assumed: bool) -> str:
    first = recordings[0]
    suggestion = registry().suggest(frame_rate=first.frame_rate)
    shapes = "\n".join(f"#   {r.name}: {r.shape[0]} neurons x {r.shape[1]} frames, {r.duration_s:.0f} s" for r in recordings[:20])
    rate_note = "assumed: the file states none. CHECK IT" if assumed else "Hz, as the file states"
    stem = Path(source.rstrip("/*")).stem.replace("*", "set") or "recording"
    variable = f"variable = {json.dumps(first.variable)}\n" if first.variable and len(recordings) == 1 else ""
    return f"""# Spike rates from calcium traces with Cascade, made for
{shapes}
# Look at the plan first:  blockwise plan THIS_FILE      then:  blockwise run THIS_FILE
task = "cascade"

[input]
path = {json.dumps(source)}
{variable}frame_rate = {first.frame_rate:g}  # {rate_note}

[model]
# {suggestion.reason}
# Others: blockwise models list. To fetch a published one: blockwise models get NAME
path = {json.dumps(suggestion.name)}

[output]
path = "{stem}_rates.zarr"

[options]
threshold = 0      # negative rates become 0; 1: rates below a spike's too; false: as they are
discrete = false   # also infer discrete spikes

[cluster]
kind = "local"     # one worker per core where workers is not given
"""
