"""Cascade's network as a Keras .h5 file: weights without optimiser state, in the layout of spec 3, written with h5py alone.

Keras 2 and 3 read it with `load_model(path, compile=False)`. The bytes depend on the weights alone.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blockwise.errors import ModelError
from blockwise.storage.durable import write_atomic
from tasks.cascade.model_folder import Weights
from tasks.cascade.training import KERAS_NAMES

KERAS_VERSION = "2.15.0"
"""What the file names as its writer: every Keras since reads that form."""


def write_keras_file(path: str | Path, weights: Weights, window: int) -> Path:
    """Save the network durably; returns the path.

    Parameters
    ----------
    weights : the ten arrays of `KERAS_NAMES`. window : frames of the input, which the weights do not tell.

    Raises
    ------
    ModelError : weights of another network.
    """
    import h5py

    if tuple(weights) != KERAS_NAMES:
        raise ModelError(f"{path}: a network with weights {', '.join(weights)} has no Keras form: keep it as .safetensors")
    layers = _layers([weights[name] for name in KERAS_NAMES], window)
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", track_order=False) as file:
        file.attrs.update(keras_version=KERAS_VERSION, backend="tensorflow", model_config=_model_config(layers))
        group = file.create_group("model_weights")
        group.attrs.update(keras_version=KERAS_VERSION, backend="tensorflow")
        group.attrs["layer_names"] = [layer["config"]["name"].encode() for layer in layers]
        values = iter([weights[name] for name in KERAS_NAMES])
        for layer in layers:
            _write_layer(group, layer, values)
    write_atomic(path, buffer.getvalue())
    return Path(path)


def _write_layer(group: Any, layer: Mapping[str, Any], values: Iterator[npt.NDArray[np.float32]]) -> None:
    name = layer["config"]["name"]
    parts = ("kernel:0", "bias:0") if layer["class_name"] in ("Conv1D", "Dense") else ()
    folder = group.create_group(name)
    if not parts:
        folder.attrs["weight_names"] = np.array([], "S1")
        return
    folder.attrs["weight_names"] = [f"{name}/{part}".encode() for part in parts]
    for part in parts:
        folder.create_dataset(f"{name}/{part}", data=next(values), track_times=False)


def _layers(arrays: Sequence[npt.NDArray[np.float32]], window: int) -> list[dict[str, Any]]:
    """The nine layers in the form Keras saves them; sizes come from the arrays."""

    def conv(index: int, name: str) -> dict[str, Any]:
        taps, _, filters = arrays[2 * index].shape
        return _layer(
            "Conv1D", name, filters=filters, kernel_size=[taps], strides=[1], padding="valid", dilation_rate=[1], activation="relu"
        )

    def pool(name: str) -> dict[str, Any]:
        return _layer("MaxPooling1D", name, pool_size=[2], strides=[2], padding="valid")

    def dense(index: int, name: str, activation: str) -> dict[str, Any]:
        return _layer("Dense", name, units=arrays[2 * index].shape[1], activation=activation, use_bias=True)

    return [
        {"class_name": "InputLayer", "config": {"batch_input_shape": [None, window, 1], "dtype": "float32", "name": "input_1"}},
        conv(0, "conv1d"),
        conv(1, "conv1d_1"),
        pool("max_pooling1d"),
        conv(2, "conv1d_2"),
        pool("max_pooling1d_1"),
        dense(3, "dense", "relu"),
        _layer("Flatten", "flatten", data_format="channels_last"),
        dense(4, "dense_1", "linear"),
    ]


def _layer(kind: str, name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": name, "trainable": True, "dtype": "float32", **config}}


def _model_config(layers: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps({"class_name": "Sequential", "config": {"name": "cascade", "layers": list(layers)}})
