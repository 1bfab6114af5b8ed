"""Model folders on disk: `config.yaml` in Cascade's key names and one file of weights per member.

A member is `Model_NoiseLevel_<level>_Ensemble_<member>.safetensors` (beside it, for Keras, `.h5`: keras_file.py).
Every file appears under its name only when it is complete and on stable storage. The bytes depend
on what is saved alone, so that writing a member twice, even at once, does no harm.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from blockwise.config import validated
from blockwise.errors import MissingError, ModelError
from blockwise.storage.durable import make_folders, write_atomic
from tasks.cascade.training import KERAS_NAMES, TrainingConfig

Weights = Mapping[str, npt.NDArray[np.float32]]


def member_stem(level: int, member: int) -> str:
    """File name of one member without suffix, as Cascade names it."""
    return f"Model_NoiseLevel_{level}_Ensemble_{member}"


def write_member(path: str | Path, weights: Weights, metadata: Mapping[str, str] | None = None) -> Path:
    """Save weights by name as safetensors, durably; returns the path."""
    from safetensors.numpy import save

    target = Path(path)
    make_folders(target.parent)
    write_atomic(target, save({k: np.ascontiguousarray(v) for k, v in weights.items()}, dict(metadata or {})))
    return target


def read_member(path: str | Path) -> dict[str, npt.NDArray[np.float32]]:
    """Weights by name, in the order they were saved in.

    Raises
    ------
    ModelError : not a safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        weights = load(Path(path).read_bytes())
    except SafetensorError as error:
        raise ModelError(f"{path} is not a safetensors file ({error}): train the member anew, or copy the file again") from None
    return {k: weights[k] for k in sorted(weights, key=lambda n: (KERAS_NAMES.index(n) if n in KERAS_NAMES else 0, n))}


def write_config(
    folder: str | Path, config: TrainingConfig, *, name: str, datasets: Sequence[str], levels: Sequence[int], members: int, finished: bool
) -> Path:
    """Write `config.yaml` with the keys Cascade reads (spec 1.1), durably; returns the path."""
    values = config_values(config, name=name, datasets=datasets, levels=levels, members=members)
    text = yaml.safe_dump({**values, "training_finished": "Yes" if finished else "Running"}, sort_keys=False)
    path = Path(folder) / "config.yaml"
    write_atomic(path, f"# Cascade model, trained by blockwise\n{text}".encode())
    return path


def config_values(config: TrainingConfig, *, name: str, datasets: Sequence[str], levels: Sequence[int], members: int) -> dict[str, Any]:
    """The content of `config.yaml` but for the state of training: what decides the weights, and what inference must know."""
    return {
        "model_name": name,
        "sampling_rate": config.sampling_rate,
        "training_datasets": list(datasets),
        "noise_levels": list(levels),
        "smoothing": config.smoothing,
        "causal_kernel": int(config.causal_kernel),
        "windowsize": config.windowsize,
        "before_frac": config.before_frac,
        "filter_sizes": list(config.filter_sizes),
        "filter_numbers": list(config.filter_numbers),
        "dense_expansion": config.dense_expansion,
        "loss_function": "mean_squared_error",
        "optimizer": {"adam": "Adam", "adagrad": "Adagrad"}[config.optimizer],
        "nr_of_epochs": config.nr_of_epochs,
        "ensemble_size": members,
        "batch_size": config.batch_size,
        "verbose": 0,
    }


def read_config(folder: str | Path) -> dict[str, Any]:
    """All keys of a folder's `config.yaml`.

    Raises
    ------
    MissingError : there is none.  ModelError : it is not a YAML mapping.
    """
    path = Path(folder) / "config.yaml"
    if not path.is_file():
        raise MissingError(f"no config.yaml in {folder}: a model folder holds one beside its weights")
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ModelError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path} holds no keys: copy the model folder again")
    return values


def training_config(folder: str | Path, **changes: Any) -> TrainingConfig:
    """Settings to train a model like the one in a folder: its rate, smoothing and network; `changes` go over them.

    Raises
    ------
    MissingError, ModelError : as `read_config`.  ConfigError : values that cannot be used.
    """
    values = read_config(folder)
    kept = ("sampling_rate", "smoothing", "causal_kernel", "windowsize", "before_frac", "filter_sizes", "filter_numbers", "dense_expansion")
    chosen = {k: values[k] for k in kept if k in values} | {k: v for k, v in changes.items() if v is not None}
    return validated(TrainingConfig, chosen, str(Path(folder) / "config.yaml"))
