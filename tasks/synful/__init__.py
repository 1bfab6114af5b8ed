"""Synful: synaptic partners in EM volumes, by a U-Net that finds post-synaptic sites and points from each to its pre-synaptic partner."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.synful.checkpoint import load_network
    from tasks.synful.clefts import assign_clefts
    from tasks.synful.detection import detect
    from tasks.synful.duplicates import cluster_duplicates
    from tasks.synful.edges import edge_list
    from tasks.synful.evaluation import evaluate
    from tasks.synful.segments import map_to_segments
    from tasks.synful.skeletons import map_to_skeletons

__all__ = [
    "assign_clefts",
    "cluster_duplicates",
    "detect",
    "edge_list",
    "evaluate",
    "load_network",
    "map_to_segments",
    "map_to_skeletons",
]

_HOMES = {
    "assign_clefts": "clefts",
    "cluster_duplicates": "duplicates",
    "detect": "detection",
    "edge_list": "edges",
    "evaluate": "evaluation",
    "load_network": "checkpoint",
    "map_to_segments": "segments",
    "map_to_skeletons": "skeletons",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, so that naming this package costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
