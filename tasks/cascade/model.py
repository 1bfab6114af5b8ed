"""A trained model: a folder with config.yaml and one checkpoint per noise level and member of the ensemble.

    config.yaml
    Model_NoiseLevel_2_Ensemble_0.h5      (or .safetensors; where both are there, .h5 is read)
    Model_NoiseLevel_2_Ensemble_1.h5
    Model_NoiseLevel_3_Ensemble_0.h5 ...

Levels and members are the files on disk: neither the level list nor the ensemble size of the configuration limits them.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blockwise.errors import InputError, MissingError, ModelError
from tasks.cascade.checkpoint import Weights, read_checkpoint

LARGEST_RATE_ERROR = 0.05
"""Share by which a recording's frame rate may differ from the model's."""

_CHECKPOINT = re.compile(r"_NoiseLevel_(\d+)")


@dataclass(frozen=True)
class Model:
    """What a model folder says; weights are read when asked for.

    Parameters
    ----------
    frame_rate : Hz, of the recordings it was trained for.
    smoothing : s, standard deviation of the kernel that its training targets were smoothed with.
    windowsize : frames that one rate is inferred from.
    before_frac : share of the window before the frame it is inferred for.
    causal : the target kernel was zero before the spike.
    levels : noise level (% s^1/2) -> checkpoints of its members, ascending.
    config : all of config.yaml.
    """

    path: Path
    name: str
    frame_rate: float
    smoothing: float
    windowsize: int
    before_frac: float
    causal: bool
    levels: Mapping[int, tuple[Path, ...]] = field(repr=False)
    config: Mapping[str, Any] = field(repr=False)

    @property
    def sigma(self) -> float:
        """Smoothing in frames."""
        return self.smoothing * self.frame_rate

    @property
    def position(self) -> int:
        """Place in the window of the frame that the rate belongs to: 32 of 64 (Cascade spec 4.2)."""
        return int(self.before_frac * self.windowsize)

    @property
    def ends(self) -> tuple[int, int]:
        """Frames without a rate at the beginning and the end of a recording, (32, 32) for windows of 64 (Cascade spec 4, step 6)."""
        return self.position, max(int((1 - self.before_frac) * self.windowsize), self.windowsize - 1 - self.position)

    @cached_property
    def digest(self) -> str:
        """sha256 over config.yaml and every checkpoint, in order, 64 characters."""
        digest = hashlib.sha256()
        for file in [self.path / "config.yaml", *(f for files in self.levels.values() for f in files)]:
            content = file.read_bytes()
            digest.update(f"{file.name} {len(content)}\n".encode())
            digest.update(content)
        return digest.hexdigest()

    def members(self, level: int) -> tuple[Weights, ...]:
        """The weights of one level's ensemble.

        Raises
        ------
        ModelError : a checkpoint cannot be read, or is not for windows of this model's size.
        """
        members = tuple(read_checkpoint(f) for f in self.levels[level])
        for file, weights in zip(self.levels[level], members, strict=True):
            if not weights.fits(self.windowsize):
                raise ModelError(
                    f"{file} ends in {weights.steps} time steps, which no window of {self.windowsize} frames (config.yaml) gives"
                )
        if len({weights.reach for weights in members}) > 1:
            raise ModelError(f"{self.path}: the members of level {level} have filters of different sizes")
        return members

    def levels_for(self, noise: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The level that serves each noise level: the nearest, half-way the higher; beyond the ends the last; -1 where it is not finite.

        For levels one apart these are the published bins (Cascade spec 4).
        """
        levels = np.array(list(self.levels))
        finite = np.nan_to_num(np.asarray(noise, np.float64), nan=0, posinf=0, neginf=0)
        chosen = levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, finite, side="right")]
        return np.where(np.isfinite(noise), chosen, -1)

    def check_frame_rate(self, frame_rate: float, where: str = "the traces") -> None:
        """Refuse a recording whose rate is not the model's.

        Raises
        ------
        InputError : more than 5 % off.
        """
        if not abs(frame_rate - self.frame_rate) <= LARGEST_RATE_ERROR * self.frame_rate:
            raise InputError(
                f"{where}: {frame_rate:g} Hz, but {self.name} was trained for {self.frame_rate:g} Hz; more than "
                f"{LARGEST_RATE_ERROR:.0%} apart: choose another model (`blockwise models suggest --frame-rate {frame_rate:g}`) or resample"
            )


def load_model(model: "str | Path | Model") -> Model:
    """The model in a folder, or the one of that name in the registry.

    Raises
    ------
    MissingError : no such folder, no such name, or not downloaded yet.  ModelError : the folder holds no usable model.
    """
    if isinstance(model, Model):
        return model
    folder = Path(model).expanduser()
    if not folder.is_dir():
        from blockwise.models import find
        from tasks.cascade.registry import registry

        folder = find(str(model), registry())
    return _read_folder(folder)


def _read_folder(folder: Path) -> Model:
    import yaml

    file = folder / "config.yaml"
    if not file.is_file():
        raise MissingError(f"{folder} is not a model folder: it has no config.yaml")
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
        model = Model(
            path=folder,
            name=str(config.get("model_name") or folder.name),
            frame_rate=float(config["sampling_rate"]),
            smoothing=float(config["smoothing"]),
            windowsize=int(config.get("windowsize", 64)),
            before_frac=float(config.get("before_frac", 0.5)),
            causal=bool(int(config.get("causal_kernel", 0))),
            levels=_find_levels(folder),
            config=config,
        )
    except KeyError as error:
        raise ModelError(f"{file} lacks the key {error}") from None
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise ModelError(f"{file} cannot be used: {error}") from None
    _check(model, file)
    return model


def _check(model: Model, file: Path) -> None:
    if not (model.frame_rate > 0 and model.smoothing > 0):
        raise ModelError(f"{file}: sampling_rate {model.frame_rate:g} Hz and smoothing {model.smoothing:g} s must be above 0")
    if not 0 <= model.position < model.windowsize:
        raise ModelError(f"{file}: before_frac {model.before_frac:g} puts the frame outside its window of {model.windowsize} frames")
    if not model.levels:
        raise MissingError(f"{model.path} holds no checkpoints: files named Model_NoiseLevel_<level>_Ensemble_<member>.h5 are expected")


def _find_levels(folder: Path) -> dict[int, tuple[Path, ...]]:
    files: dict[str, Path] = {}
    for file in sorted([*folder.glob("*.h5"), *folder.glob("*.safetensors")], key=lambda f: (f.stem, f.suffix)):
        files.setdefault(file.stem, file)
    levels: dict[int, list[Path]] = {}
    for file in files.values():
        if found := _CHECKPOINT.search(file.name):
            levels.setdefault(int(found[1]), []).append(file)
    return {level: tuple(levels[level]) for level in sorted(levels)}
