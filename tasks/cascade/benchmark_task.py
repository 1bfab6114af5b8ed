"""Leave-one-dataset-out as a run: one block per fold, so that folds train on many workers and a kill costs one of them.

    [input]  path = the folder of ground-truth datasets
    [output] path = the folder of results
    [model]  path = a model to score on the same traces, for comparison (optional; say whether it has seen these neurons)
    [options]       BenchmarkOptions

Each fold writes `<held-out datasets>.json`; `finish` joins them into `scores.json` (medians per dataset) and `scores.csv` (every neuron).
"""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field

from blockwise.config import RunConfig
from blockwise.errors import ConfigError
from blockwise.geometry import Domain
from blockwise.grid import Block, GridSpec
from blockwise.storage.durable import make_folders, write_atomic
from blockwise.storage.writes import Array, Write
from blockwise.task import FrozenResult, Task
from tasks.cascade.benchmark import DatasetScore, Rates, Score, held_out_traces, member_rates, model_rates, score_neurons, summarise
from tasks.cascade.training import TrainingConfig, train_member
from tasks.cascade.training_task import digest, network_factory
from tasks.spikes.ground_truth import Neuron, dataset_folders, load_ground_truth


class BenchmarkOptions(TrainingConfig):
    """Options of the task "cascade-benchmark": how to train the folds, and what to hold out.

    datasets : to train on and to hold out, names or their first part; None takes all. held_out : the folds, each a list of datasets that
    are left out together; None leaves out each dataset alone. test_seed : of the noise of the held-out traces.
    """

    datasets: tuple[str, ...] | None = None
    held_out: tuple[tuple[str, ...], ...] | None = None
    noise_level: int = Field(2, ge=1)
    ensemble_size: int = Field(3, ge=1)
    seed: int = Field(0, ge=0)
    test_seed: int = Field(1, ge=0)
    network: str | None = None

    @property
    def training(self) -> TrainingConfig:
        return TrainingConfig(**{k: getattr(self, k) for k in TrainingConfig.model_fields})


@dataclass
class CascadeBenchmark(Task):
    """Scores ensembles on datasets they have not seen."""

    name: ClassVar[str] = "cascade-benchmark"
    Options: ClassVar[type[BenchmarkOptions]] = BenchmarkOptions

    folder: Path
    results: Path
    model: str | None
    options: BenchmarkOptions
    datasets: tuple[str, ...]
    folds: tuple[tuple[str, ...], ...]
    neurons: list[Neuron] = field(default_factory=list, repr=False)

    @classmethod
    def from_config(cls, config: RunConfig) -> Self:
        """Checks folders, dataset names and options, and that every fold leaves something to train on."""
        options = config.options_as(BenchmarkOptions)
        if config.input.path is None or config.output.path is None:
            raise ConfigError("a benchmark needs [input] path (the folder of ground-truth datasets) and [output] path (the results)")
        folder = Path(config.input.path)
        datasets = tuple(p.name for p in dataset_folders(folder, options.datasets))
        held_out = options.held_out or tuple((d,) for d in datasets)
        folds = tuple(tuple(p.name for p in dataset_folders(folder, fold)) for fold in held_out)
        for fold in folds:
            if not set(datasets) - set(fold):
                raise ConfigError(f"holding out {', '.join(fold)} leaves none of {len(datasets)} datasets to train on: add others")
        network_factory(options.network)
        return cls(folder, Path(config.output.path), config.model.path, options, datasets, folds)

    def domains(self) -> Sequence[Domain]:
        return (Domain("folds", ("fold",), (len(self.folds),)),)

    def spec(self) -> GridSpec:
        return GridSpec((1,))

    def fingerprint(self, domain: int) -> Mapping[str, object]:
        model = {}
        if self.model is not None:
            from tasks.cascade.model import load_model

            model = {"model": load_model(self.model).digest}
        return {"input.ground_truth": digest(self.folder, sorted({*self.datasets, *(d for f in self.folds for d in f)})), **model}

    def prepare(self) -> None:
        make_folders(self.results)

    def open(self) -> None:
        names = sorted({*self.datasets, *(d for f in self.folds for d in f)})
        self.neurons = load_ground_truth(self.folder, names, legacy=self.options.legacy)

    def read(self, block: Block) -> tuple[str, ...]:
        """The datasets to hold out; the ground truth is in memory since `open`."""
        return self.folds[block.core.begin[0]]

    def compute(self, inputs: tuple[str, ...], state: object) -> dict[str, Any]:
        """Train the ensemble without the held-out datasets and score it on them, and the model to compare with."""
        options, network = self.options, network_factory(self.options.network)
        seen = [n for n in self.neurons if n.dataset in self.datasets and n.dataset not in inputs]
        members = [
            train_member(seen, options.training, noise_level=options.noise_level, member=m, seed=options.seed, network=network)
            for m in range(options.ensemble_size)
        ]
        scores = {"trained": self.score(inputs, member_rates(members, options.training, network))}
        if self.model is not None:
            scores["model"] = self.score(inputs, model_rates(self.model))
        return {"held_out": list(inputs), "scores": {k: [asdict(s) for s in v] for k, v in scores.items()}}

    def score(self, held_out: Sequence[str], rates: Rates) -> list[Score]:
        """Scores of the held-out neurons."""
        options = self.options
        neurons = [n for n in self.neurons if n.dataset in held_out]
        traces = held_out_traces(neurons, options.training, noise_level=options.noise_level, seed=options.test_seed)
        return score_neurons(traces, [rates(t) for t in traces], options.smoothing * options.sampling_rate)

    def write(self, block: Block, result: dict[str, Any]) -> Sequence[Write]:
        data = json.dumps(result, indent=1).encode()
        write_atomic(self._path(block.core.begin[0]), data)
        return [Write(np.frombuffer(data, np.uint8))]

    def stored(self, block: Block) -> Sequence[Array] | None:
        path = self._path(block.core.begin[0])
        return [np.frombuffer(path.read_bytes(), np.uint8)] if path.exists() else None

    def _path(self, fold: int) -> Path:
        return self.results / f"{'+'.join(name.split('-')[0] for name in self.folds[fold])}.json"

    def finish(self) -> FrozenResult:
        """`scores.json` and `scores.csv`; figures: rows of medians per dataset and scored model."""
        folds = [json.loads(self._path(i).read_text()) for i in range(len(self.folds)) if self._path(i).exists()]
        rows = [row for fold in folds for row in _rows(fold)]
        figures = {"noise_level": self.options.noise_level, "members": self.options.ensemble_size, "datasets": rows}
        write_atomic(self.results / "scores.json", json.dumps(figures, indent=1).encode())
        write_atomic(self.results / "scores.csv", _csv(folds).encode())
        return FrozenResult(figures)

    def describe(self) -> Mapping[str, object]:
        return {"datasets": list(self.datasets), "folds": [list(f) for f in self.folds], "compared with": self.model or "nothing"}


def _rows(fold: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One row per dataset and scored model, medians with four digits."""
    for scored, values in fold["scores"].items():
        for row in summarise([Score(**v) for v in values]):
            yield {"scored": scored, "held_out": fold["held_out"], **_rounded(row)}


def _rounded(row: DatasetScore) -> dict[str, Any]:
    return {k: (None if math.isnan(v) else round(v, 4)) if isinstance(v, float) else v for k, v in asdict(row).items()}


def _csv(folds: Sequence[Mapping[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, ["scored", "dataset", "neuron", "correlation", "error", "bias"])
    writer.writeheader()
    for fold in folds:
        for scored, values in fold["scores"].items():
            writer.writerows({"scored": scored, **v} for v in values if v["neuron"])
    return stream.getvalue()
