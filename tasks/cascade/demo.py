"""`blockwise demo cascade`: simulate recordings with known spikes, infer their rates blockwise with the shipped model, and compare."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from tasks.demonstration import Shown, draw, run_shown

MODEL = "blockwise_EXC_30Hz_smoothing50ms_causalkernel"


@dataclass(frozen=True, slots=True)
class Session:
    """One simulated recording of the demo."""

    name: str
    neurons: int
    frames: int
    frame_rate: float
    noise_level: float

    @property
    def neuron_hours(self) -> float:
        return self.neurons * self.frames / self.frame_rate / 3600


SESSIONS = (
    Session("monday", 60, 9_000, 29.0, 2.0),
    Session("tuesday", 90, 6_000, 30.0, 3.0),
    Session("wednesday", 40, 12_000, 31.0, 4.5),
)
"""Ragged on purpose: other neurons, other lengths, other rates, other noise."""


def demo(
    folder: Annotated[Path, typer.Argument(help="Where everything goes.")] = Path("demo"),
    workers: Annotated[int, typer.Option(help="Local workers.")] = 2,
) -> None:
    """Simulate three recordings, infer their spike rates on local workers, compare with the true spikes, draw a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    spikes = {s.name: _simulate(s, number, folder) for number, s in enumerate(SESSIONS)}
    file = folder / "run.toml"
    file.write_text(configuration(folder, workers))
    shown = run_shown(file)
    draw(file, folder / "demo.png")
    _print_results(folder, spikes, shown)


def _simulate(session: Session, number: int, folder: Path) -> npt.NDArray[np.uint8]:
    """Write a session's dF/F once, return its true spikes."""
    from tasks.spikes.simulate import simulate_session

    dff, spikes = simulate_session(session.neurons, session.frames, session.frame_rate, noise_level=session.noise_level, seed=number)
    path = folder / f"{session.name}.npy"
    if not path.exists():
        partial = path.with_suffix(".partial.npy")
        np.save(partial, dff)
        os.replace(partial, path)
    return spikes


def configuration(folder: Path, workers: int) -> str:
    """The run as a configuration that a user could have written."""
    sessions = "\n".join(f'[[input.sessions]]\npath = "{folder / s.name}.npy"\nframe_rate = {s.frame_rate}\n' for s in SESSIONS)
    return f"""# Written by `blockwise demo cascade`: three simulated recordings, spike rates with the model that blockwise ships.
task = "cascade"

[model]
path = "{MODEL}"

[blocks]
shape = [16, 4096]

[cluster]
workers = {workers}

{sessions}"""


def _print_results(folder: Path, spikes: dict[str, npt.NDArray[np.uint8]], shown: Shown) -> None:
    for session in SESSIONS:
        rates = np.load(folder / f"predictions_{session.name}.npy", mmap_mode="r")
        found = median_correlation(spikes[session.name], rates, session.frame_rate)
        typer.echo(
            f"{session.name:10} {session.neurons:3} neurons x {session.frames:6} frames at {session.frame_rate:g} Hz, "
            f"noise {session.noise_level:g}: median correlation with the true spikes {found:.2f}"
        )
    hours = sum(s.neuron_hours for s in SESSIONS)
    if shown.addresses:
        typer.echo(
            f"{hours:.1f} neuron-hours in {shown.took_s:.1f} s, {hours / shown.took_s:.2f} neuron-hours/s, start of the workers included"
        )
    else:
        typer.echo(f"{hours:.1f} neuron-hours, all done before: delete {folder} to see it run again")
    shown.echo(picture=folder / "demo.png", rates=folder / "run.zarr")


def median_correlation(spikes: npt.NDArray[np.uint8], rates: npt.NDArray[np.float32], frame_rate: float, smoothing: float = 0.05) -> float:
    """Median over neurons of the correlation between inferred rates and true spikes smoothed as the model was trained to see them.

    spikes, rates : (neurons, frames).
    """
    from tasks.cascade.targets import smooth_counts
    from tasks.spikes.metrics import correlation

    truth = [smooth_counts(row.astype(np.float64), smoothing, frame_rate, causal=True) for row in spikes]
    return float(np.nanmedian([correlation(t, np.asarray(r, np.float64)) for t, r in zip(truth, rates, strict=True)]))
