"""What a Cascade run leaves beside its zarr: exports, the picture of a session, the table of what was found in the recordings."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blockwise.geometry import Region
from blockwise.storage import OutputArray, Source, open_source
from blockwise.task import FrozenResult, Picture
from tasks.cascade.inference import noise_notes
from tasks.cascade.job import Job
from tasks.spikes import exports
from tasks.spikes.quality import quality_table
from tasks.spikes.recordings import open_recording

PICTURE_ROWS, PICTURE_FRAMES = 64, 20_000
"""Most of a session that is drawn."""


def open_result(job: Job, session: int, name: str) -> Source:
    """One array of a session's results, for reading."""
    return open_source(f"{job.output}/{job.recordings[session].name}/{name}")


def _wanted(job: Job, session: int) -> tuple[str, ...]:
    """Exports to write for one session; "auto" leaves out what would be larger than `export_max_mb`."""
    if job.options.export != "auto":
        return tuple(job.options.export)
    neurons, frames = job.recordings[session].shape
    return ("npy", "mat") if 4e-6 * neurons * frames <= job.options.export_max_mb else ()


def export_folder(job: Job) -> Path:
    """Where exports go: beside the output."""
    return Path(job.output).absolute().parent


def rate_exports(job: Job) -> list[Path]:
    """The files that `export_rates` writes there."""
    names = {"npy": exports.NPY_NAME, "mat": exports.MAT_NAME}
    return [export_folder(job) / names[kind].format(r.name) for i, r in enumerate(job.recordings) for kind in _wanted(job, i)]


def discrete_exports(job: Job) -> list[Path]:
    """The files that `export_discrete_spikes` writes there."""
    return [export_folder(job) / exports.DISCRETE_NAME.format(r.name) for i, r in enumerate(job.recordings) if "mat" in _wanted(job, i)]


def export_rates(job: Job) -> FrozenResult:
    """Write the exports of every session and hand the quality table over."""
    folder, files = export_folder(job), []
    for i, recording in enumerate(job.recordings):
        with closing(open_result(job, i, "spike_rates")) as rates:
            if "npy" in _wanted(job, i):
                files.append(exports.export_npy(rates, folder, recording.name))
            if "mat" in _wanted(job, i):
                files.append(exports.export_mat(rates, folder, recording.name))
            if job.options.write_back:
                files += _write_back(job, i, rates)
    notes = tuple(f"{r.name}: {note}" for i, r in enumerate(job.recordings) for note in noise_notes(measured_noise(job, i), job.models[i]))
    return FrozenResult({"files": [str(f) for f in files], "quality": quality_table(job.qualities)}, notes)


def measured_noise(job: Job, session: int) -> npt.NDArray[np.float64]:
    """The frozen noise levels of a session, (neurons,) % s^1/2."""
    recording = job.recordings[session]
    return OutputArray.open(job.output, f"{recording.name}/noise_levels").read(Region((0,), recording.shape[:1]))


def _write_back(job: Job, session: int, rates: Source) -> list[Path]:
    recording = job.recordings[session]
    if recording.kind == "suite2p":
        return [exports.write_suite2p(rates, recording)]
    if recording.kind == "nwb":
        from tasks.spikes import nwb

        return [nwb.write_back(recording.path, rates, variable=recording.variable, description=f"Cascade, {job.models[session].name}")]
    return []


def export_discrete_spikes(job: Job) -> FrozenResult:
    """Write `discrete_spikes_<name>.mat` of every session that is small enough."""
    folder, files, total = export_folder(job), [], 0
    for i, recording in enumerate(job.recordings):
        with closing(open_result(job, i, "spike_counts")) as counts:
            spikes = [_frames(counts, row) for row in range(recording.shape[0])]
        total += sum(map(len, spikes))
        if "mat" in _wanted(job, i):
            with closing(open_result(job, i, "spike_rates")) as r, closing(open_result(job, i, "discrete_approximation")) as a:
                files.append(exports.export_discrete(r, a, spikes, folder, recording.name))
    return FrozenResult({"files": [str(f) for f in files], "spikes": total})


def _frames(counts: Source, row: int) -> npt.NDArray[np.int64]:
    """Spike frames of one row as the original counts them: one less than the frame, several for several spikes."""
    line = counts.read(Region((row, 0), (row + 1, counts.shape[1])))[0]
    return np.repeat(np.arange(len(line)), line) - 1


def describe(job: Job) -> Mapping[str, object]:
    """Models, sessions and what looks odd, for `plan`."""
    neuron_hours = sum(r.shape[0] * r.duration_s for r in job.recordings) / 3600
    notes = [w for q in job.qualities for w in q.warnings]
    return {
        "models": sorted({m.name for m in job.models}),
        "sessions": len(job.recordings),
        "neuron_hours": round(neuron_hours, 3),
        "quality": quality_table(job.qualities),
        "warnings": notes,
    }


def pictures(job: Job) -> Sequence[Picture]:
    """One page for the first session and one for the last, where there are more."""
    return [_picture(job, i) for i in sorted({0, len(job.recordings) - 1})]


def _picture(job: Job, session: int) -> Picture:
    from tasks.spikes.plots import plot_session, png

    recording, model = job.recordings[session], job.models[session]
    rows, frames = min(PICTURE_ROWS, recording.shape[0]), min(PICTURE_FRAMES, recording.shape[1])
    with closing(open_recording(recording)) as opened:
        traces = opened.read(slice(0, rows), slice(0, frames))
    with closing(open_result(job, session, "spike_rates")) as source:
        rates: npt.NDArray[Any] = source.read(Region((0, 0), (rows, frames)))
    figure = plot_session(
        traces, rates, measured_noise(job, session), recording.frame_rate, levels=tuple(model.levels), title=recording.name
    )
    caption = f"dF/F with inferred spike rates, noise levels, and the rates of {rows} neurons; model {model.name}."
    return Picture(recording.name, png(figure), caption)
