"""Ground truth: calcium recordings whose spikes are known from electrophysiology, from files or from a user's own arrays.

A ground-truth folder holds one folder per dataset, and that one file per neuron:

    DS06-GCaMP6f-zf-aDp/CAttached_<name>_mini.mat    the published collection (Cascade spec 6)
    my-dataset/<neuron>.npz                          written by `import_ground_truth`

Readers give neurons in the order of their dataset's and file's name, so that an index means the same neuron everywhere.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blockwise.errors import BlockwiseWarning, ConfigError, InputError, MissingError
from tasks.spikes.rates import replacing

Vector = npt.NDArray[np.float64]

SPIKE_CLOCK_HZ: float = 1e4
"""Samples per second of the electrophysiology in the published files; their events are sample indices."""

FEWEST_FRAMES: int = 65
"""An imported trial must hold at least one window of 64 frames and one frame more."""

LARGEST_MEDIAN_STD: float = 2.0
"""A trace whose standard deviation exceeds this is taken for percent, not a fraction (Cascade spec 4)."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One uninterrupted recording of one neuron.

    dff : (frames,) float64, dF/F as a fraction. time_s : (frames,) float64, when each frame was taken.
    spike_times_s : (spikes,) float64, on the same clock. frame_rate : Hz, one over the mean interval.
    """

    dataset: str
    neuron: str
    trial: int
    dff: Vector
    time_s: Vector
    spike_times_s: Vector
    frame_rate: float

    @property
    def noise_level(self) -> float:
        """100 median |dx| / sqrt(frame rate), in % s^1/2 (Cascade spec 2)."""
        return float(100 * np.nanmedian(np.abs(np.diff(self.dff))) / np.sqrt(self.frame_rate))


@dataclass(frozen=True, slots=True)
class Neuron:
    dataset: str
    name: str
    trials: tuple[Trial, ...]


@dataclass(frozen=True, slots=True)
class DatasetSummary:
    """One row of the table of datasets. `frame_rate` (Hz) and `noise_level` are medians over trials; `hours` sums their spans."""

    dataset: str
    neurons: int
    trials: int
    hours: float
    spikes: int
    frame_rate: float
    noise_level: float


def load_ground_truth(folder: str | Path, datasets: Sequence[str] | None = None, *, legacy: bool = False) -> list[Neuron]:
    """Neurons of all or some datasets, sorted by dataset and file name.

    Files and trials that cannot be read are left out and named in one warning.

    Parameters
    ----------
    folder : the folder of datasets.
    datasets : names, or what stands before the first hyphen ("DS06"); None takes all.
    legacy : leave out a whole dataset where one of its trials cannot be read, as the original does (Cascade spec 6.1).

    Raises
    ------
    MissingError : no such folder or dataset, or none of the files can be read.
    """
    problems: list[str] = []
    neurons: list[Neuron] = []
    for dataset in dataset_folders(Path(folder), datasets):
        found = len(problems)
        part = [_read_neuron(file, problems) for file in neuron_files(dataset)]
        if not legacy or len(problems) == found:
            neurons += [n for n in part if n.trials]
    if problems:
        what = "with all of their dataset (legacy)" if legacy else "the rest is used"
        warnings.warn(f"{len(problems)} trials or files left out, {what}: " + "; ".join(problems), BlockwiseWarning, stacklevel=2)
    if not neurons:
        raise MissingError(f"no readable ground truth in {folder}: expected <dataset>/CAttached*_mini.mat or <dataset>/<neuron>.npz")
    return neurons


def list_ground_truth(folder: str | Path) -> list[DatasetSummary]:
    """One row per dataset of a ground-truth folder."""
    neurons = load_ground_truth(folder)
    names = dict.fromkeys(n.dataset for n in neurons)
    return [_summary(name, [n for n in neurons if n.dataset == name]) for name in names]


def _summary(name: str, neurons: Sequence[Neuron]) -> DatasetSummary:
    trials = [t for n in neurons for t in n.trials]
    return DatasetSummary(
        dataset=name,
        neurons=len(neurons),
        trials=len(trials),
        hours=sum(float(t.time_s[-1] - t.time_s[0]) for t in trials) / 3600,
        spikes=sum(t.spike_times_s.size for t in trials),
        frame_rate=float(np.median([t.frame_rate for t in trials])),
        noise_level=float(np.median([t.noise_level for t in trials])),
    )


def import_ground_truth(
    dff: Any, time_s: Any, spike_times_s: Any, folder: str | Path, *, dataset: str, neuron: str, overwrite: bool = False
) -> Path:
    """Check one neuron of one's own and save it where `load_ground_truth` finds it; returns the file.

    Parameters
    ----------
    dff : (frames,) dF/F as a fraction, or a list of such arrays, one per trial.
    time_s : (frames,) seconds, rising; spike_times_s : (spikes,) seconds on the same clock. Lists where `dff` is one.
    folder, dataset, neuron : saved as `<folder>/<dataset>/<neuron>.npz`.

    Raises
    ------
    InputError : arrays that do not fit each other; names the trial, both numbers and what to change.
    ConfigError : the file exists and `overwrite` is False.
    """
    several = isinstance(dff, (list, tuple)) and len(dff) > 0 and np.ndim(dff[0]) > 0
    columns = (dff, time_s, spike_times_s) if several else ([dff], [time_s], [spike_times_s])
    if len({len(c) for c in columns}) != 1:
        raise InputError(f"{len(columns[0])} trials of dff, {len(columns[1])} of time_s, {len(columns[2])} of spike_times_s: give one each")
    trials = [_checked_trial(i, *map(_vector, parts)) for i, parts in enumerate(zip(*columns, strict=True))]
    target = Path(folder) / dataset / f"{neuron}.npz"
    if target.exists() and not overwrite:
        raise ConfigError(f"{target} exists: choose another neuron name, or pass overwrite=True")
    target.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"{key}_{i}": part for i, trial in enumerate(trials) for key, part in zip(_KEYS, trial, strict=True)}
    with replacing(target) as part, part.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)
    return target


_KEYS = ("dff", "time_s", "spike_times_s")


def _vector(values: Any) -> Vector:
    return np.asarray(values, np.float64).ravel()


def _checked_trial(index: int, dff: Vector, time_s: Vector, spikes: Vector) -> tuple[Vector, Vector, Vector]:
    where = f"trial {index}"
    if dff.size != time_s.size:
        raise InputError(f"{where}: {dff.size} frames of dF/F but {time_s.size} times: give one time per frame")
    if dff.size < FEWEST_FRAMES:
        raise InputError(f"{where}: {dff.size} frames, at least {FEWEST_FRAMES} are needed: join short trials or leave this one out")
    for name, values in zip(_KEYS, (dff, time_s, spikes), strict=True):
        if not np.isfinite(values).all():
            raise InputError(f"{where}: {np.sum(~np.isfinite(values))} of {values.size} values of {name} are not finite: cut them out")
    if np.diff(time_s).min() <= 0:
        frame = int(np.argmin(np.diff(time_s))) + 1
        raise InputError(f"{where}: time_s does not rise at frame {frame} ({time_s[frame - 1]} then {time_s[frame]}): sort the frames")
    if dff.std() > LARGEST_MEDIAN_STD:
        raise InputError(
            f"{where}: dF/F has a standard deviation of {dff.std():.3g}, above {LARGEST_MEDIAN_STD}: it looks like percent, divide by 100"
        )
    margin = float(np.diff(time_s).mean())
    outside = spikes[(spikes < time_s[0] - margin) | (spikes > time_s[-1] + margin)]
    if outside.size:
        raise InputError(
            f"{where}: {outside.size} of {spikes.size} spikes lie outside the recording ({time_s[0]:g} to {time_s[-1]:g} s), "
            f"the first at {outside[0]:g}: give spike times in seconds on the clock of time_s, not in frames, samples or ms"
        )
    return dff, time_s, np.sort(spikes)


def dataset_folders(folder: Path, datasets: Sequence[str] | None = None) -> list[Path]:
    """Folders of all or some datasets, sorted; names as `load_ground_truth` takes them.

    Raises
    ------
    MissingError : no such folder, or no such dataset in it.
    """
    if not folder.is_dir():
        raise MissingError(f"no ground-truth folder at {folder}: give the folder that holds one folder per dataset")
    known = sorted(p for p in folder.iterdir() if p.is_dir() and neuron_files(p))
    if datasets is None:
        return known
    chosen = {p for name in datasets for p in known if name in (p.name, p.name.split("-")[0])}
    unknown = [n for n in datasets if not any(n in (p.name, p.name.split("-")[0]) for p in known)]
    if unknown:
        raise MissingError(f"no dataset {', '.join(unknown)} in {folder}: there are {', '.join(p.name for p in known) or 'none'}")
    return sorted(chosen)


def neuron_files(dataset: Path) -> list[Path]:
    """Files of one dataset that may hold a neuron, sorted by name."""
    return sorted([*dataset.glob("CAttached*_mini.mat"), *dataset.glob("*.npz")], key=lambda p: p.name)


def _read_neuron(file: Path, problems: list[str]) -> Neuron:
    """The readable trials of one file; what is wrong with the others is added to `problems`."""
    trials = []
    try:
        for index, values in enumerate(_mat_trials(file) if file.suffix == ".mat" else _npz_trials(file)):
            try:
                trials.append(_trial(file, index, values))
            except (KeyError, ValueError, TypeError, IndexError) as error:
                problems.append(f"{file.parent.name}/{file.name} trial {index} ({error})")
    except Exception as error:  # whatever a torn or foreign file makes the parser raise
        problems.append(f"{file.parent.name}/{file.name} ({type(error).__name__}: {error})")
    return Neuron(file.parent.name, file.stem, tuple(trials))


def _mat_trials(file: Path) -> Iterator[dict[str, Any]]:
    from scipy.io import loadmat

    for cell in loadmat(file, variable_names=["CAttached"])["CAttached"].ravel():
        names = cell.dtype.names or ()
        values = {name: np.asarray(cell[name].ravel()[0]) for name in ("fluo_time", "fluo_mean", "events_AP") if name in names}
        lacking = {"fluo_time", "fluo_mean", "events_AP"} - {n for n, v in values.items() if n == "events_AP" or v.size}
        spikes = values["events_AP"].astype(np.float64).ravel() / SPIKE_CLOCK_HZ if "events_AP" in values else None
        yield {"lacking": lacking, "dff": values.get("fluo_mean"), "time_s": values.get("fluo_time"), "spike_times_s": spikes}


def _npz_trials(file: Path) -> Iterator[dict[str, Any]]:
    with np.load(file, allow_pickle=False) as archive:
        for index in range(sum(name.startswith("dff_") for name in archive.files)):
            yield {"lacking": set(), **{key: archive[f"{key}_{index}"] for key in _KEYS}}


def _trial(file: Path, index: int, values: dict[str, Any]) -> Trial:
    """Frames without a time are dropped after the frame rate was taken, spikes without one too (Cascade spec 6.1)."""
    if values["lacking"]:
        raise ValueError(f"lacks {', '.join(sorted(values['lacking']))}")
    time_s = _vector(values["time_s"])
    dff = _vector(values["dff"])[: time_s.size]
    frame_rate = float(1 / np.nanmean(np.diff(time_s)))
    timed = ~np.isnan(time_s)
    spikes = _vector(values["spike_times_s"])
    dff = dff[timed[: dff.size]]
    if np.isnan(dff).any():
        raise ValueError(f"{int(np.isnan(dff).sum())} of {dff.size} frames have a time but no dF/F")
    return Trial(file.parent.name, file.stem, index, dff, time_s[timed], spikes[~np.isnan(spikes)], frame_rate)


def plot_ground_truth(neurons: Sequence[Neuron], *, excerpt_s: float = 50.0, rows: int = 8, seed: int = 0) -> Any:
    """A matplotlib figure: an excerpt of up to `rows` neurons drawn at random, dF/F as a line and every spike as a tick below."""
    from matplotlib.figure import Figure

    random = np.random.default_rng(seed)
    chosen = [neurons[i] for i in sorted(random.choice(len(neurons), min(rows, len(neurons)), replace=False))]
    figure = Figure(figsize=(10, 1.3 * len(chosen) + 0.6), layout="constrained")
    axes = figure.subplots(len(chosen), 1, squeeze=False)[:, 0]
    for axis, neuron in zip(axes, chosen, strict=True):
        trial = neuron.trials[int(random.integers(len(neuron.trials)))]
        start = float(random.uniform(trial.time_s[0], max(trial.time_s[0], trial.time_s[-1] - excerpt_s)))
        shown = (trial.time_s >= start) & (trial.time_s < start + excerpt_s)
        spikes = trial.spike_times_s[(trial.spike_times_s >= start) & (trial.spike_times_s < start + excerpt_s)]
        axis.plot(trial.time_s[shown] - start, trial.dff[shown], lw=0.8, color="tab:blue")
        axis.eventplot(spikes - start, lineoffsets=float(trial.dff[shown].min()) - 0.2, linelengths=0.2, colors="black", lw=0.8)
        axis.set(title=f"{neuron.dataset}  {neuron.name}  trial {trial.trial}", ylabel="dF/F", xlim=(0, excerpt_s))
        axis.title.set_fontsize(8)
    axes[-1].set_xlabel("time (s)")
    return figure
