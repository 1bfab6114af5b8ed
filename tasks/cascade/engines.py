"""Runtimes that evaluate an ensemble on a stretch of trace: torch, and TensorFlow as a second opinion. Both take the same arrays."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from blockwise.errors import ConfigError, DependencyError
from tasks.cascade.checkpoint import Float32, Weights
from tasks.torch_device import Limit, streamed

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.cascade.network import Network

FRAME_BYTES = 8_192
"""Memory of a GPU per frame that is evaluated at once: twice what all layers of a member hold."""
FRAMES = (10_240, 1 << 21)
"""Least and most frames evaluated at once. The least are enough for long matrix products of a CPU, and 35 MB with all layers."""
GPU_SHARE = 0.5
"""Of a GPU's free memory, for the frames that are evaluated at once."""

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


def frames_at_once(engine: str, device: str | None) -> int:
    """Frames to evaluate at once, over all rows of a tile: many on a GPU, by the memory that is free there, as a power of two."""
    place = torch_device(device) if engine == "torch" else "cpu"
    if not place.startswith("cuda"):
        return FRAMES[0]
    import torch

    fit = int(GPU_SHARE * torch.cuda.mem_get_info(place)[0]) // FRAME_BYTES
    return min(FRAMES[1], max(FRAMES[0], (1 << int(fit).bit_length()) >> 1))


def torch_device(device: str | None) -> str:
    """Where torch computes; None takes a GPU where there is one."""
    import torch

    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def stream(ensemble: Ensemble, traces: Iterable[Float32]) -> Iterator[npt.NDArray[Any]]:
    """What an ensemble gives for each trace, in order; a GPU is brought the next while it computes."""
    return ensemble.stream(traces) if isinstance(ensemble, TorchEnsemble) else map(ensemble, traces)


@dataclass(frozen=True, slots=True)
class TorchEnsemble:
    """Members on a device; a stretch that does not fit into its memory is evaluated in parts, with the same result."""

    networks: Sequence["Network"]
    device: str
    limit: Limit = field(default_factory=Limit)

    def __call__(self, trace: Float32) -> npt.NDArray[Any]:
        return next(self.stream([trace]))

    def stream(self, traces: Iterable[Float32]) -> Iterator[npt.NDArray[Any]]:
        """The outputs for each stretch, as `Ensemble` has them."""
        return streamed(traces, self._rates, self.device)

    def _rates(self, x: "Tensor") -> "Tensor":
        return self.limit.fit(len(x), lambda frames: self._in_parts(x, frames), least=2 * self._reach)

    @property
    def _reach(self) -> int:
        return self.networks[0].reach

    def _in_parts(self, x: "Tensor", frames: int) -> "Tensor":
        """Outputs of parts of so many frames, which overlap by what a window reaches, side by side."""
        import torch

        from tasks.cascade.network import dense_rates

        last = len(x) - self._reach + 1
        step = max(1, frames - self._reach + 1)
        with torch.inference_mode():
            parts = [x[begin : min(begin + step, last) + self._reach - 1] for begin in range(0, last, step)]
            found = [torch.stack([dense_rates(part, network) for network in self.networks]) for part in parts]
            return torch.cat(found, dim=1) if len(found) > 1 else found[0]


def _torch_ensemble(members: Sequence[Weights], device: str | None) -> TorchEnsemble:
    from tasks.cascade.network import Network

    place = torch_device(device)
    return TorchEnsemble([Network.of(weights, place) for weights in members], place)


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
