"""Finds a network's checkpoint, and beside it what says how the network is to be used; reads variables by TensorFlow's names."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blockwise.errors import MissingError, ModelError
from tasks.synful.graph_definition import activation_of
from tasks.synful.parameters import NetworkParameters
from tasks.synful.tensorflow_checkpoint import TensorFlowCheckpoint

KEY = "blockwise"
"""Of the one metadata entry of our own files: JSON of parameters, activation and source."""

PARAMETERS = "parameter.json"
_NUMBERED = re.compile(r".*_checkpoint_(\d+)\.index")


@dataclass(frozen=True)
class Found:
    """A checkpoint: variables by TensorFlow's names, read when asked for, and what is known besides."""

    variables: Mapping[str, npt.ArrayLike]
    source: str
    parameters: NetworkParameters | None = None
    activation: str | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.shapes:
            shapes = getattr(self.variables, "shapes", None) or {n: np.shape(v) for n, v in self.variables.items()}
            object.__setattr__(self, "shapes", shapes)


def find_checkpoint(checkpoint: str | Path) -> Found:
    """The checkpoint at a path, in a folder, or of a model by name.

    Raises
    ------
    MissingError : there is none.  ModelError : it cannot be read.
    """
    path = _located(Path(checkpoint).expanduser())
    if path.suffix == ".npz":
        return _with_neighbours(_arrays(path), path)
    if path.suffix in (".safetensors", ".pt"):
        return _own(path)
    return _with_neighbours(TensorFlowCheckpoint(path), path)


def _located(path: Path) -> Path:
    """The file, or the prefix of TensorFlow's files."""
    if path.is_dir():
        return newest(path)
    if path.is_file() and path.suffix in (".npz", ".safetensors", ".pt", ".index"):
        return path
    if Path(f"{path}.index").is_file():
        return path
    if path.name == str(path) and not path.suffix:
        from blockwise.models import find
        from tasks.synful.registry import registry

        return newest(find(str(path), registry()))
    what = "is no checkpoint" if path.exists() else "is not there"
    raise MissingError(f"{path} {what}: a TensorFlow prefix (with PREFIX.index), a folder of them, .safetensors, .npz or .pt is wanted")


def newest(folder: Path) -> Path:
    """The checkpoint of a setup folder: that of the highest iteration, else the one that has no number, else the last of our own.

    Raises
    ------
    MissingError : none, or several that no number orders.
    """
    if not folder.is_dir():
        return folder
    numbered = {int(m[1]): f for f in folder.glob("*.index") if (m := _NUMBERED.fullmatch(f.name))}
    if numbered:
        return numbered[max(numbered)]
    for pattern in ("*.index", "*.safetensors", "*.npz"):
        files = sorted(folder.glob(pattern))
        if len(files) > 1:
            raise MissingError(f"{folder} holds {len(files)} checkpoints, {files[0].name} and others: name one of them")
        if files:
            return files[0]
    if trained := sorted(folder.glob("*.pt"), key=_iteration):
        return trained[-1]
    raise MissingError(f"{folder} holds no checkpoint: train_net_checkpoint_N.index and .data-*, .safetensors, .npz or .pt")


def _iteration(file: Path) -> tuple[int, str]:
    return int((re.findall(r"\d+", file.stem) or ["-1"])[-1]), file.name


def _with_neighbours(variables: Mapping[str, npt.ArrayLike], path: Path) -> Found:
    """Parameters and activation of the files that the original lays beside its checkpoints.

    Its experiments had keys that nobody documented; the network's form is checked against its variables all the same.
    """
    stated = path.parent / PARAMETERS
    parameters = NetworkParameters.from_json(stated, strict=False) if stated.is_file() else None
    return Found(variables, str(path).removesuffix(".index"), parameters, _activation(path))


def _activation(path: Path) -> str | None:
    if any(_output_is_sigmoid(file) for file in _configs(path.parent)):
        return "sigmoid"
    metas = [Path(f"{str(path).removesuffix('.index')}.meta"), *(path.parent / f"{n}_net.meta" for n in ("train", "test"))]
    return next((activation_of(file) for file in metas if file.is_file()), None)


def _configs(folder: Path) -> Iterator[Path]:
    return (f for f in (folder / f"{n}_net_config.json" for n in ("train", "test")) if f.is_file())


def _output_is_sigmoid(file: Path) -> bool:
    try:
        return str(json.loads(file.read_text(encoding="utf-8")).get("pred_syn_indicator_out", "")).startswith("Sigmoid")
    except (ValueError, AttributeError) as error:
        raise ModelError(f"{file} is not the configuration of a network: {error}") from None


def _arrays(file: Path) -> dict[str, npt.NDArray[Any]]:
    from tasks.synful.variables import is_weight

    try:
        with np.load(file) as stored:
            return {name: stored[name] for name in stored.files if is_weight(name)}
    except Exception as error:  # zipfile, zlib and numpy raise classes of their own for damaged files
        raise ModelError(f"{file} is not a readable .npz ({error})") from error


def _own(file: Path) -> Found:
    """A file that this project wrote."""
    from tasks.synful.variables import as_tensorflow

    try:
        state, facts = _safetensors(file) if file.suffix == ".safetensors" else _trained(file)
        parameters = NetworkParameters.from_json(facts["parameters"])
        source = str(facts.get("source") or file) if file.suffix == ".safetensors" else str(file)
        return Found(as_tensorflow(state, parameters), source, parameters, facts.get("activation"))
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from None
    except Exception as error:  # torch and safetensors raise classes of their own for damaged or foreign files
        raise ModelError(f"{file} is not a checkpoint that blockwise wrote ({type(error).__name__}: {error})") from error


def _safetensors(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}, json.loads((opened.metadata() or {})[KEY])  # noqa: SIM118


def _trained(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    import torch

    stored = torch.load(file, map_location="cpu", weights_only=True)
    return stored["network"], json.loads(stored[KEY])
