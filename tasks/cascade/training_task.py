"""Training an ensemble as a run: one block per (noise level, member), so that members train on many workers and a kill costs one of them.

    [input]  path = the folder of ground-truth datasets
    [output] path = the model folder to make
    [options]       TrainingOptions

Each block writes one `.safetensors` file (model_folder.py). `finish` adds the Keras files and says in `config.yaml` that training is done.
"""

import hashlib
import importlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from blockwise.config import RunConfig
from blockwise.errors import ConfigError, FingerprintMismatch
from blockwise.geometry import Domain
from blockwise.grid import Block, GridSpec
from blockwise.storage.writes import Array, Write
from blockwise.task import FrozenResult, Picture, Task
from tasks.cascade.keras_file import write_keras_file
from tasks.cascade.model_folder import config_values, member_stem, read_config, read_member, write_config, write_member
from tasks.cascade.training import KERAS_NAMES, Member, NetworkFactory, TrainingConfig, train_member
from tasks.spikes.ground_truth import Neuron, dataset_folders, list_ground_truth, load_ground_truth, neuron_files

TEMPLATE = """# A Cascade model trained on this ground truth:
{rows}
# Look at the plan first:  blockwise plan --pilot 0 THIS_FILE      then:  blockwise train THIS_FILE   (a minute or so per member)
task = "cascade-training"

[input]
path = {path}

[output]
path = "models/my_model_30Hz_smoothing50ms_causalkernel"

[options]
sampling_rate = 30       # Hz, of the recordings the model is for
smoothing = 0.05         # s, standard deviation of the kernel that spikes are smoothed with
causal_kernel = true     # spread a spike over later frames only
noise_levels = [2, 3, 4, 5, 6, 7, 8]
ensemble_size = 3        # members per noise level
# training_datasets = ["DS06", "DS07"]   # all where not given

[run]
folder = "runs/training"
"""


class TrainingOptions(TrainingConfig):
    """Options of the task "cascade-training": how to train, and what.

    model_name : None takes the name of the output folder. training_datasets : names or their first part ("DS06"); None takes all.
    seed : of noise, start weights and order. keras : also write `.h5` files. network : "package.module:function" that builds another
    network (`tasks.cascade.training.NetworkFactory`).
    """

    model_name: str | None = None
    training_datasets: tuple[str, ...] | None = None
    noise_levels: tuple[int, ...] = tuple(range(1, 10))
    ensemble_size: int = Field(5, ge=1)
    seed: int = Field(0, ge=0)
    keras: bool = True
    network: str | None = None

    @field_validator("noise_levels")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 1 or len(set(value)) != len(value):
            raise ValueError("give each noise level (a whole number from 1) once")
        return tuple(sorted(value))

    @property
    def training(self) -> TrainingConfig:
        """The part that `train_member` takes."""
        return TrainingConfig(**{k: getattr(self, k) for k in TrainingConfig.model_fields})


@dataclass
class CascadeTraining(Task):
    """Trains `noise_levels` x `ensemble_size` members. A mutable dataclass, for `open` keeps the ground truth of its process in it."""

    name: ClassVar[str] = "cascade-training"
    Options: ClassVar[type[TrainingOptions]] = TrainingOptions

    folder: Path
    model_folder: Path
    options: TrainingOptions
    datasets: tuple[str, ...]
    neurons: list[Neuron] = field(default_factory=list, repr=False)

    @classmethod
    def from_config(cls, config: RunConfig) -> Self:
        """Checks folders, dataset names, options and that the output holds no other model."""
        options = config.options_as(TrainingOptions)
        if config.input.path is None or config.output.path is None:
            raise ConfigError("training needs [input] path (the folder of ground-truth datasets) and [output] path (the model folder)")
        folder = Path(config.input.path)
        datasets = tuple(p.name for p in dataset_folders(folder, options.training_datasets))
        task = cls(folder, Path(config.output.path), options, datasets)
        network_factory(options.network)
        task.refuse_other_model()
        return task

    @classmethod
    def template(cls, source: str) -> str:
        """A configuration that trains a 30 Hz model on all datasets of a folder, which it lists."""
        rows = "\n".join(
            f"#   {s.dataset:40} {s.neurons:4} neurons {s.hours:6.2f} h {s.frame_rate:6.1f} Hz  noise {s.noise_level:.2f}"
            for s in list_ground_truth(source)
        )
        return TEMPLATE.format(rows=rows, path=json.dumps(source))

    @property
    def levels(self) -> tuple[int, ...]:
        return self.options.noise_levels

    def refuse_other_model(self) -> None:
        """Raise FingerprintMismatch where the output folder holds a model with other settings."""
        if not (self.model_folder / "config.yaml").exists():
            return
        found, wanted = read_config(self.model_folder), self._config_values()
        differing = [f"{k} = {found.get(k)!r}, now {v!r}" for k, v in wanted.items() if found.get(k) != v]
        if differing:
            raise FingerprintMismatch(f"{self.model_folder} holds another model ({'; '.join(differing)}): choose another [output] path")

    def _config_values(self) -> dict[str, object]:
        size = self.options.ensemble_size
        return config_values(self.options, name=self._model_name, datasets=self.datasets, levels=self.levels, members=size)

    @property
    def _model_name(self) -> str:
        return self.options.model_name or self.model_folder.name

    def domains(self) -> Sequence[Domain]:
        return (Domain("ensemble", ("level", "member"), (len(self.levels), self.options.ensemble_size)),)

    def spec(self) -> GridSpec:
        return GridSpec((1, 1))

    def relevant_options(self) -> Mapping[str, object]:
        return self.options.model_dump(mode="json", exclude={"keras"})

    def fingerprint(self, domain: int) -> Mapping[str, object]:
        return {"input.ground_truth": digest(self.folder, self.datasets)}

    def memory(self) -> Mapping[str, int]:
        """The ground truth with the arrays made of it, and an epoch of pieces twice (while they are joined)."""
        files = sum(f.stat().st_size for name in self.datasets for f in neuron_files(self.folder / name))
        piece = self.options.windows_per_piece
        epoch = 4 * self.options.epoch_windows * (2 * piece + self.options.windowsize) // piece
        return {"ground truth": 4 * files, "pieces": 3 * epoch}

    def prepare(self) -> None:
        self.model_folder.mkdir(parents=True, exist_ok=True)
        if not (self.model_folder / "config.yaml").exists():
            self._write_config(finished=False)

    def _write_config(self, *, finished: bool) -> None:
        name, size = self._model_name, self.options.ensemble_size
        write_config(
            self.model_folder, self.options, name=name, datasets=self.datasets, levels=self.levels, members=size, finished=finished
        )

    def open(self) -> None:
        self.neurons = load_ground_truth(self.folder, self.datasets, legacy=self.options.legacy)

    def read(self, block: Block) -> tuple[int, int]:
        """The level and the member's number; the ground truth is in memory since `open`."""
        level, member = block.core.begin
        return self.levels[level], member

    def compute(self, inputs: tuple[int, int], state: object) -> Member:
        level, member = inputs
        options = self.options
        network = network_factory(options.network)
        return train_member(self.neurons, options.training, noise_level=level, member=member, seed=options.seed, network=network)

    def write(self, block: Block, result: Member) -> Sequence[Write]:
        """Durable when it returns, for a member is 140 kB."""
        losses = json.dumps([float(f"{v:.6g}") for v in result.losses])
        write_member(self._path(block), result.weights, {"losses": losses, "windows": str(result.windows)})
        return [Write(flat(result.weights))]

    def stored(self, block: Block) -> Sequence[Array] | None:
        path = self._path(block)
        return [flat(read_member(path))] if path.exists() else None

    def _path(self, block: Block) -> Path:
        level, member = block.core.begin
        return self.model_folder / f"{member_stem(self.levels[level], member)}.safetensors"

    def finish(self) -> FrozenResult:
        """Keras files of all members and the final `config.yaml`; figures: last loss per member, by level."""
        losses: dict[str, list[float]] = {}
        for path in sorted(self.model_folder.glob("Model_NoiseLevel_*.safetensors")):
            weights = read_member(path)
            if self.options.keras and tuple(weights) == KERAS_NAMES:
                write_keras_file(path.with_suffix(".h5"), weights, self.options.windowsize)
            losses.setdefault(path.stem.split("_")[2], []).append(read_losses(path)[-1])
        complete = sum(map(len, losses.values())) == len(self.levels) * self.options.ensemble_size
        self._write_config(finished=complete)
        return FrozenResult({"model_folder": str(self.model_folder), "loss": losses, "complete": complete})

    def pictures(self) -> Sequence[Picture]:
        import io

        from tasks.spikes.ground_truth import plot_ground_truth

        buffer = io.BytesIO()
        plot_ground_truth(self.neurons or load_ground_truth(self.folder, self.datasets)).savefig(buffer, format="png", dpi=100)
        return [Picture("Ground truth", buffer.getvalue(), "dF/F of some neurons, their spikes as ticks.")]

    def describe(self) -> Mapping[str, object]:
        """What is trained on what; files that cannot be read are named under `warnings`."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            neurons = load_ground_truth(self.folder, self.datasets, legacy=self.options.legacy)
        own = np.array([t.noise_level for n in neurons for t in n.trials])
        return {
            "model": str(self.model_folder),
            "datasets": list(self.datasets),
            "noise levels": list(self.levels),
            "trials per level": {level: f"{np.count_nonzero(own <= level)} of {own.size} quiet enough" for level in self.levels},
            "members": self.options.ensemble_size,
            "windows per member": self.options.epoch_windows * self.options.nr_of_epochs,
            "warnings": [str(w.message) for w in caught],
        }


def flat(weights: Mapping[str, npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """All weights in one vector, in their order."""
    return np.concatenate([w.ravel() for w in weights.values()])


def read_losses(path: Path) -> list[float]:
    """Loss per epoch of a member file, from its metadata."""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        return [float(v) for v in json.loads((file.metadata() or {}).get("losses", "[NaN]"))]


def digest(folder: Path, datasets: Sequence[str]) -> str:
    """SHA-256 over names and bytes of all files of some datasets, 16 characters."""
    total = hashlib.sha256()
    for name in datasets:
        for file in neuron_files(folder / name):
            total.update(f"{name}/{file.name}".encode())
            total.update(file.read_bytes())
    return total.hexdigest()[:16]


def network_factory(name: str | None) -> NetworkFactory | None:
    """The function named "package.module:function"; None for Cascade's network.

    Raises
    ------
    ConfigError : it cannot be imported.
    """
    if name is None:
        return None
    module, _, function = name.partition(":")
    try:
        factory: NetworkFactory = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"[options] network = {name!r} cannot be imported ({error}): write package.module:function") from None
    return factory
