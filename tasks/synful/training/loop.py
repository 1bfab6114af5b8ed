"""The training loop: batches in, checkpoints, figures, snapshots and scores out; goes on where an earlier start ended.

Iteration i learns from batch i, which seed and i decide, so that a resumed run takes the steps that an uninterrupted one would have
taken; with one thread on one machine its weights have the same bytes.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blockwise.errors import ConfigError, InputError, ModelError
from blockwise.storage import sweep_locks
from tasks.synful.training.cubes import Cube, open_cube
from tasks.synful.training.dataset import STOPPING, Batch, Samples, open_cubes
from tasks.synful.training.event_file import EventFile
from tasks.synful.training.grey_values import raw_percentiles
from tasks.synful.training.parameters import TrainingParameters
from tasks.synful.training.run_folder import TrainingFolder
from tasks.synful.training.samples import Geometry

if TYPE_CHECKING:
    from tasks.synful.network import UNet

MOST_SKIPPED = 100
Report = Callable[[str, Mapping[str, float]], None]
"""Called with "metrics" or "validation", and figures that name their iteration."""


@dataclass(frozen=True, slots=True)
class Trained:
    """How a start of training ended.

    iteration : iterations done, all starts together.  skipped : batches of this start that were not finite.
    interrupted : a signal asked for the end; the checkpoint is written all the same.
    """

    folder: Path
    checkpoint: Path
    iteration: int
    skipped: int
    interrupted: bool


def train(
    parameters: TrainingParameters,
    folder: str | Path,
    *,
    cubes: Sequence[Cube] | None = None,
    judged: Sequence[Cube] | None = None,
    adopt: Sequence[str] = (),
    report: Report | None = None,
) -> Trained:
    """Train a network, or go on with its training.

    Parameters
    ----------
    folder : of the run; made where it is new.
    cubes, judged : to learn from and to validate on, opened already; by default those that the parameters name.
    adopt : keys that may differ from those of the run that is there.
    report : called whenever figures are written.

    Raises
    ------
    MissingError, InputError, ConfigError : data that is not there or does not fit, nothing to validate on.  ModelError : parameters that
    make no network, weights of another network, or 100 batches in a row without a finite loss.  FingerprintMismatch : the folder holds
    another training.
    RunActive : another process trains there.
    """
    geometry = geometry_of(parameters)
    samples = Samples(parameters, geometry, cubes if cubes is not None else (open_cubes(parameters) if parameters.workers == 0 else None))
    samples.sampler.check()
    place = TrainingFolder(Path(folder))
    chosen = _judged(parameters, samples) if judged is None else list(judged)
    with place.held(), _threads(parameters.threads):
        place.adopt(parameters, adopt)
        sweep_locks(place.path)
        run = _Run(parameters, place, samples, chosen, report or (lambda kind, figures: None))
        return run.until(parameters.max_iteration)


def geometry_of(parameters: TrainingParameters) -> Geometry:
    """Input and output of the network.

    Raises
    ------
    InputError : an input that the network cannot take; names the nearest.
    """
    from tasks.synful.training.learner import network_parameters

    return Geometry(parameters.input_size, network_parameters(parameters).shape.output_shape(parameters.input_size))


def device_of(name: str) -> str:
    """ "auto" is a GPU where there is one."""
    import torch

    return name if name != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")


def starting_network(parameters: TrainingParameters) -> "UNet":
    """Random weights, or those of `initial_weights`.

    Raises
    ------
    ModelError : they are of another network, or of one whose vectors have another scale.
    """
    from tasks.synful.training.learner import activation, network_parameters, new_network

    if parameters.initial_weights is None:
        return new_network(parameters)
    from tasks.synful.checkpoint import load_network
    from tasks.synful.checkpoint_files import find_checkpoint

    wanted, stated = network_parameters(parameters), find_checkpoint(parameters.initial_weights).parameters
    for name in ("d_scale", "crop_to_factor") if stated is not None else ():
        theirs, ours = (getattr(p, name) or 1.0 if name == "d_scale" else getattr(p, name) for p in (stated, wanted))
        if theirs != ours:
            raise ModelError(
                f"{parameters.initial_weights} was trained with {name} {theirs}, the parameters say {ours}: set it to {theirs}"
            )
    return load_network(parameters.initial_weights, parameters=wanted, activation=activation(parameters))


class _Run:
    """One start of training in a folder that is held."""

    def __init__(
        self, parameters: TrainingParameters, folder: TrainingFolder, samples: Samples, judged: Sequence[Cube], report: Report
    ) -> None:
        from tasks.synful.training.learner import Learner, new_network
        from tasks.synful.training.sections import compute_by_sections

        self.parameters, self.folder, self.samples, self.judged, self.report = parameters, folder, samples, judged, report
        kept = folder.checkpoints()
        network = compute_by_sections(new_network(parameters) if kept else starting_network(parameters))
        network.config = network.config.with_training(raw_percentiles=raw_percentiles(samples.sampler.cubes))
        self.learner: Learner = Learner(network.to(device_of(parameters.device)).train(), parameters)
        self.done, self.skipped, self.in_a_row = 0, 0, 0
        if kept:
            self._resume(max(kept))
        folder.rewind(self.done)
        self.events = EventFile(folder.path / "events", step=self.done) if parameters.tensorboard else None

    def _resume(self, iteration: int) -> None:
        state = self.folder.load(iteration)
        self.learner.network.load_state_dict(state["network"])
        self.learner.restore(state["learner"])
        self.done = iteration

    def until(self, last: int) -> Trained:
        """Train until so many iterations are done, or a signal comes."""
        interrupted = False
        with _asked_to_stop() as stop:
            for iteration, batch in enumerate(self.samples.batches(self.done, last), self.done):
                self._iterate(iteration, batch)
                if interrupted := stop.is_set():
                    break
        if self.events is not None:
            self.events.close()
        return Trained(self.folder.path, self._save(), self.done, self.skipped, interrupted and self.done < last)

    def _iterate(self, iteration: int, batch: Batch) -> None:
        p = self.parameters
        if p.snapshot_every and iteration % p.snapshot_every == 0:
            from tasks.synful.training.snapshots import take_snapshot

            take_snapshot(self.folder, iteration, self.learner, batch, keep=p.keep_snapshots)
        step = self.learner.step(batch, iteration)
        self.done = iteration + 1
        self._count(step.learned)
        if self.done % p.log_every == 0 or self.done == 1:
            self._log("metrics", step.figures())
        if p.validation is not None and self.done % p.validation.every == 0:
            self._validate()
        if self.done % p.save_every == 0:
            self._save()

    def _count(self, learned: bool) -> None:
        """Batches that are not finite are left out; a hundred in a row mean that the network is lost."""
        self.skipped += not learned
        self.in_a_row = 0 if learned else self.in_a_row + 1
        if self.in_a_row >= MOST_SKIPPED:
            raise ModelError(
                f"{self.in_a_row} batches in a row had no finite loss, until iteration {self.done}: lower `learning_rate`, set "
                "`clip_gradients`, or go on from an earlier checkpoint (remove the later ones)"
            )

    def _validate(self) -> None:
        from tasks.synful.training.validation import validate

        assert self.parameters.validation is not None
        learned = [n for n, does in (("mask", self.parameters.learns_mask), ("vectors", self.parameters.learns_vectors)) if does]
        if scores := validate(self.learner.network, self.judged, self.parameters.validation, learned=learned):
            self._log("validation", scores)

    def _log(self, kind: str, figures: Mapping[str, float]) -> None:
        line = {"iteration": self.done, **figures}
        self.folder.append(f"{kind}.jsonl", line)
        if self.events is not None:
            self.events.add(self.done, {f"{kind}/{name}": value for name, value in figures.items()})
        self.report(kind, line)

    def _save(self) -> Path:
        from tasks.synful.checkpoint import training_state

        kept = self.folder.checkpoints()
        if self.done in kept:
            return kept[self.done]
        return self.folder.save(
            self.done, {**training_state(self.learner.network), "learner": self.learner.state(), "iteration": self.done}
        )


def _judged(parameters: TrainingParameters, samples: Samples) -> list[Cube]:
    """Cubes to validate on: those named for it, else those with a validation mask.

    Raises
    ------
    ConfigError : there are none.  InputError : nothing of one can be judged.
    """
    from tasks.synful.training.validation import judged_region

    if parameters.validation is None:
        return []
    chosen = [open_cube(options, parameters.voxel_size) for options in parameters.validation.cubes]
    chosen = chosen or [cube for cube in samples.sampler.cubes if cube.validation_mask is not None]
    if not chosen:
        raise ConfigError("validation has nothing to judge: give `validation` `cubes` of its own, or a cube a `validation_mask`")
    if empty := [cube.name for cube in chosen if judged_region(cube).size == 0]:
        raise InputError(f"cube {empty[0]}: its mask to validate in is 0 wherever targets are known; enlarge it, or leave the cube out")
    return chosen


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set instead of ending the process, so that a checkpoint can be written; main thread only."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {s: signal.signal(s, lambda number, frame: stop.set()) for s in STOPPING}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
