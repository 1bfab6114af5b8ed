"""Runtimes that evaluate an ensemble on a stretch of trace: torch, and TensorFlow as a second opinion. Both take the same arrays."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from blockwise.errors import ConfigError, DependencyError
from tasks.cascade.checkpoint import Float32, Weights

Engine = Literal["torch", "tensorflow"]

Ensemble = Callable[[Float32], npt.NDArray[Any]]
"""(frames,) float32, finite -> (members, frames - reach + 1) float32: the output of the window that starts at each frame."""


def load_ensemble(members: Sequence[Weights], engine: str = "torch", device: str | None = None) -> Ensemble:
    """One level's ensemble, ready to evaluate.

    Parameters
    ----------
    members : networks of one reach.
    engine : torch or tensorflow.
    device : of torch; None takes a GPU where there is one.

    Raises
    ------
    ConfigError : another engine.  DependencyError : TensorFlow is asked for and not installed.
    """
    if engine not in get_args(Engine):
        raise ConfigError(f"engine {engine!r}: use {' or '.join(get_args(Engine))}")
    return _torch_ensemble(members, device) if engine == "torch" else _tensorflow_ensemble(members)


def _torch_ensemble(members: Sequence[Weights], device: str | None) -> Ensemble:
    import torch

    from tasks.cascade.network import Network, dense_rates

    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    networks = [Network.of(weights, place) for weights in members]

    def rates(trace: Float32) -> npt.NDArray[Any]:
        with torch.inference_mode():
            x = torch.from_numpy(trace).to(place)
            return torch.stack([dense_rates(x, network) for network in networks]).cpu().numpy()

    return rates


def _tensorflow_ensemble(members: Sequence[Weights]) -> Ensemble:
    try:
        import tensorflow as tf
    except ImportError:
        raise DependencyError("engine 'tensorflow' needs TensorFlow: pip install -e '.[tensorflow]' in the checkout") from None

    def one(x: Any, weights: Weights) -> Any:
        c1 = tf.nn.relu(tf.nn.conv1d(x, weights.conv1.kernel, 1, "VALID") + weights.conv1.bias)
        c2 = tf.nn.relu(tf.nn.conv1d(c1, weights.conv2.kernel, 1, "VALID") + weights.conv2.bias)
        m1 = tf.maximum(c2[:, :-1], c2[:, 1:])
        c3 = tf.nn.relu(tf.nn.conv1d(m1, weights.conv3.kernel, 1, "VALID", dilations=2) + weights.conv3.bias)
        m2 = tf.maximum(c3[:, :-2], c3[:, 2:])
        z = tf.nn.relu(m2 @ weights.dense.kernel + weights.dense.bias)
        output = tf.nn.conv1d(z, weights.output.kernel.reshape(weights.steps, -1, 1), 1, "VALID", dilations=4)
        return output[0, :, 0] + weights.output.bias[0]

    def rates(trace: Float32) -> npt.NDArray[Any]:
        x = tf.constant(trace[None, :, None])
        return np.stack([one(x, weights).numpy() for weights in members])

    return rates
