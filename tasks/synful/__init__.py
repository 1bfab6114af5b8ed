"""Synful: synaptic partners in EM volumes, by a U-Net that finds post-synaptic sites and points from each to its pre-synaptic partner."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.synful.bodies import map_to_bodies
    from tasks.synful.cells import read_partners
    from tasks.synful.challenge import cremi_metric
    from tasks.synful.checkpoint import load_network
    from tasks.synful.clefts import assign_clefts
    from tasks.synful.curves import precision_recall
    from tasks.synful.detection import detect
    from tasks.synful.duplicates import cluster_duplicates
    from tasks.synful.edge_agreement import edge_accuracy
    from tasks.synful.edges import edge_list, merge_edge_lists
    from tasks.synful.evaluation import evaluate
    from tasks.synful.filters import FilterOptions, filter_partners
    from tasks.synful.prediction import predict
    from tasks.synful.segments import map_to_segments
    from tasks.synful.skeleton_files import read_skeletons
    from tasks.synful.skeletons import map_to_skeletons

__all__ = [
    "FilterOptions",
    "assign_clefts",
    "cluster_duplicates",
    "cremi_metric",
    "detect",
    "edge_accuracy",
    "edge_list",
    "evaluate",
    "filter_partners",
    "load_network",
    "map_to_bodies",
    "map_to_segments",
    "map_to_skeletons",
    "merge_edge_lists",
    "precision_recall",
    "predict",
    "read_partners",
    "read_skeletons",
]

_HOMES = {
    "FilterOptions": "filters",
    "assign_clefts": "clefts",
    "cluster_duplicates": "duplicates",
    "cremi_metric": "challenge",
    "detect": "detection",
    "edge_accuracy": "edge_agreement",
    "edge_list": "edges",
    "evaluate": "evaluation",
    "filter_partners": "filters",
    "load_network": "checkpoint",
    "map_to_bodies": "bodies",
    "map_to_segments": "segments",
    "map_to_skeletons": "skeletons",
    "merge_edge_lists": "edges",
    "precision_recall": "curves",
    "predict": "prediction",
    "read_partners": "cells",
    "read_skeletons": "skeleton_files",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, so that naming this package costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
