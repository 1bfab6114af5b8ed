"""The CREMI metric on a segmentation of two neurons."""

import numpy as np
import pytest

from tasks.synful.challenge import cremi_metric
from tasks.synful.partners import table

SEGMENTATION = np.tile(np.repeat(np.array([1, 2], np.uint64), 10), (4, 10, 1))
"""Neuron 1 in x 0..9, neuron 2 in x 10..19, voxels of 40 x 4 x 4 nm."""


def partners(*rows):
    return table([[40, 8, pre] for pre, _ in rows], [[40, 8, post] for _, post in rows], [1.0] * len(rows), np.arange(len(rows)))


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ((30, 60), (1, 0, 0)),
        ((60, 30), (0, 1, 1)),
        ((37, 60), (1, 0, 0)),
        ((39, 60), (0, 1, 1)),  # in voxel 9 of neuron 1, but nearest to the corner of voxel 10
        ((-30, 60), (0, 1, 1)),
        ((30, 81), (0, 1, 1)),
    ],
)
def test_sites_are_looked_up_by_rounding(predicted, expected):
    found = cremi_metric(partners(predicted), partners((20, 60)), SEGMENTATION, voxel_size=(40, 4, 4))
    assert (found.true_positives, found.false_positives, found.false_negatives) == expected


def test_empty_tables_divide_by_nothing():
    assert cremi_metric(partners(), partners(), SEGMENTATION, voxel_size=(40, 4, 4)).f_score == 1
    assert cremi_metric(partners(), partners((20, 60)), SEGMENTATION, voxel_size=(40, 4, 4)).f_score == 0


def test_an_offset_moves_the_segmentation():
    moved = cremi_metric(partners((30, 60)), partners((20, 60)), SEGMENTATION, voxel_size=(40, 4, 4), offset=(0, 0, 24))
    assert moved.false_positives == 1
