"""Training one member of a Cascade ensemble: a pure function of ground truth, settings and seed.

The loss runs over all windows of a piece at once (spec 12), which is the same sum as over single windows at a tenth of the cost.
The default optimiser is Adam with a learning rate that falls along a cosine: it reaches in a few epochs what the original's Adagrad with a
constant rate needs ten for; `optimizer="adagrad"` trains as the original does (spec 5).
Every epoch draws new noise, where the original repeats the copies of the first: there is nothing to learn by heart.
With one torch thread the same arguments give the same bytes on the same machine and torch version.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from blockwise.errors import ModelError
from blockwise.task import TaskOptions
from tasks.cascade.checkpoint import ARRAYS
from tasks.cascade.pieces import CleanSet, Pieces, clean_sets, draw_pieces
from tasks.spikes.ground_truth import Neuron

if TYPE_CHECKING:
    import torch

    from tasks.cascade.optimizers import Optimizer

NetworkFactory = Callable[["TrainingConfig", "torch.Generator"], "torch.nn.Module"]
"""Builds a network that maps (pieces, frames) float32 to (pieces, frames - windowsize + 1): one answer per window."""


class TrainingConfig(TaskOptions):
    """How a model is trained; names and units are those of Cascade's config.yaml where it has them.

    smoothing : s. before_frac : share of the window before the answered frame. batch_size, epoch_windows : in windows.
    learning_rate : None takes 2e-3 for Adam, 0.05 for Adagrad. legacy : resample with the original's faults (resampling.py).
    """

    sampling_rate: float = Field(30.0, gt=0)
    smoothing: float = Field(0.2, gt=0)
    causal_kernel: bool = False
    windowsize: int = Field(64, ge=8)
    before_frac: float = Field(0.5, ge=0, le=1)
    filter_sizes: tuple[int, int, int] = (31, 19, 5)
    filter_numbers: tuple[int, int, int] = (30, 40, 50)
    dense_expansion: int = Field(30, ge=1)
    nr_of_epochs: int = Field(6, ge=1)
    batch_size: int = Field(1024, ge=1)
    optimizer: Literal["adam", "adagrad"] = "adam"
    learning_rate: float | None = Field(None, gt=0)
    windows_per_piece: int = Field(128, ge=1)
    epoch_windows: int = Field(1_000_000, ge=1)
    legacy: bool = False

    @field_validator("filter_sizes")
    @classmethod
    def _positive(cls, value: tuple[int, int, int]) -> tuple[int, int, int]:
        if min(value) < 1:
            raise ValueError("every filter needs at least one tap")
        return value

    @property
    def before(self) -> int:
        """Frames of a window before the frame it answers for."""
        return int(self.before_frac * self.windowsize)


@dataclass(frozen=True, slots=True)
class Member:
    """One trained network.

    weights : arrays by name, float32: `conv1.kernel` (31, 1, 30), `conv1.bias`, ... `output.bias` in Keras' shapes and order for the
    default network, the module's own state otherwise. losses : mean squared error per epoch, (spikes per frame)^2.
    windows : how many it was trained on, summed over the epochs.
    """

    weights: Mapping[str, npt.NDArray[np.float32]]
    losses: tuple[float, ...]
    windows: int


KERAS_NAMES: tuple[str, ...] = tuple(f"{layer}.{part}" for layer in ARRAYS for part in ("kernel", "bias"))
"""Weights of Cascade's network in Keras' order."""


def train_member(
    neurons: Sequence[Neuron],
    config: TrainingConfig,
    *,
    noise_level: float,
    member: int,
    seed: int = 0,
    network: NetworkFactory | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Member:
    """Train one network for one noise level.

    Parameters
    ----------
    neurons : from `load_ground_truth`, of all datasets to train on.
    member : its number in the ensemble; with `seed` and the level it decides noise, start weights and order.
    network : builds another network than Cascade's.
    progress : called after each epoch with its number and loss.

    Raises
    ------
    InputError : no trial fits the level.  ModelError : the network's output has another shape.
    """
    root = int(np.random.SeedSequence([seed, round(1000 * noise_level), member]).generate_state(1)[0])
    sets = clean_sets(
        neurons,
        noise_level=noise_level,
        frame_rate=config.sampling_rate,
        smoothing=config.smoothing,
        causal=config.causal_kernel,
        window=config.windowsize,
        seed=root,
        legacy=config.legacy,
    )
    return fit(sets, config, seed=root, network=network, progress=progress)


def fit(
    sets: Sequence[CleanSet],
    config: TrainingConfig,
    *,
    seed: int,
    network: NetworkFactory | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Member:
    """Train on sets that are resampled already; the rest as `train_member`.

    torch's own generator is seeded for the time, and put back, so that a user's network may draw from it and still repeat.
    """
    import torch

    random = np.random.RandomState(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = (network or cascade_network)(config, torch.Generator().manual_seed(seed))
        _check(module, config)
        descent = _Descent(module, config)
        losses: list[float] = []
        windows = 0
        for epoch in range(config.nr_of_epochs):
            pieces = draw_pieces(
                sets,
                window=config.windowsize,
                before=config.before,
                windows_per_piece=config.windows_per_piece,
                most_windows=config.epoch_windows,
                random=random,
            )
            windows += pieces.windows
            losses.append(descent.epoch(pieces, random, epoch))
            if progress is not None:
                progress(epoch, losses[-1])
    return Member(weights_of(module), tuple(losses), windows)


def cascade_network(config: TrainingConfig, generator: "torch.Generator") -> "torch.nn.Module":
    """Cascade's network (spec 3), 35,441 weights with the published sizes."""
    from tasks.cascade.dense_network import DenseNetwork

    return DenseNetwork(config.windowsize, config.filter_sizes, config.filter_numbers, config.dense_expansion, generator)


def weights_of(module: "torch.nn.Module") -> dict[str, npt.NDArray[np.float32]]:
    """A network's weights by name: Keras' shapes for Cascade's network, its state dict for any other."""
    from tasks.cascade.dense_network import DenseNetwork, to_keras

    if isinstance(module, DenseNetwork):
        return dict(zip(KERAS_NAMES, to_keras(module), strict=True))
    return {name: value.detach().float().numpy().copy() for name, value in module.state_dict().items()}


class _Descent:
    """Gradient descent over epochs of pieces, with one optimiser and its schedule."""

    def __init__(self, module: "torch.nn.Module", config: TrainingConfig) -> None:
        from tasks.cascade.optimizers import Adagrad, Adam

        self.module, self.config = module, config
        self.batch = max(1, round(config.batch_size / config.windows_per_piece))
        kind, self.rate = (Adam, config.learning_rate or 2e-3) if config.optimizer == "adam" else (Adagrad, config.learning_rate or 0.05)
        self.optimizer: Optimizer = kind([p for p in module.parameters() if p.requires_grad], self.rate)

    def epoch(self, pieces: Pieces, random: np.random.RandomState, number: int) -> float:
        """One pass over the pieces in random order; returns the mean loss."""
        import torch

        inputs, targets = torch.from_numpy(pieces.inputs), torch.from_numpy(pieces.targets)
        order = torch.from_numpy(random.permutation(len(inputs)))
        total = 0.0
        for start in range(0, len(order), self.batch):
            self._set_rate((number + start / len(order)) / self.config.nr_of_epochs)
            chosen = order[start : start + self.batch]
            target = targets[chosen]
            known = ~torch.isnan(target)
            difference = torch.where(known, self.module(inputs[chosen]) - torch.nan_to_num(target), 0.0)
            loss = difference.square().sum() / known.sum().clamp(min=1)
            loss.backward()
            self.optimizer.step()
            total += float(loss.detach()) * len(chosen)
        return total / len(order)

    def _set_rate(self, done: float) -> None:
        """Adam: a short rise, then half a cosine down to a hundredth; Adagrad: constant."""
        if self.config.optimizer == "adam":
            self.optimizer.rate = self.rate * min(1.0, done / 0.02 + 0.05) * (0.01 + 0.99 * (1 + np.cos(np.pi * done)) / 2)


def _check(module: "torch.nn.Module", config: TrainingConfig) -> None:
    import torch

    frames = config.windowsize + config.windows_per_piece - 1
    with torch.no_grad():
        shape = tuple(module(torch.zeros(2, frames)).shape)
    if shape != (2, config.windows_per_piece):
        raise ModelError(
            f"the network answers (2, {frames}) with {shape}, expected (2, {config.windows_per_piece}): "
            f"one value per window of {config.windowsize} frames"
        )
