"""Cascade: spike rates from calcium imaging, by ensembles of small networks, one ensemble per noise level."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.cascade.discrete import infer_discrete_spikes
    from tasks.cascade.inference import predict
    from tasks.cascade.kernels import single_spike
    from tasks.cascade.model import load_model
    from tasks.cascade.noise import noise_levels

__all__ = ["infer_discrete_spikes", "load_model", "noise_levels", "predict", "single_spike"]

_HOMES = {
    "infer_discrete_spikes": "discrete",
    "load_model": "model",
    "noise_levels": "noise",
    "predict": "inference",
    "single_spike": "kernels",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, so that naming this package costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
