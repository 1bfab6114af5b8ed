from dataclasses import replace

import numpy as np
import pytest
import torch

from blockwise.geometry import Region
from tasks.synful.training import validation
from tasks.synful.training.cubes import Cube, Volume
from tasks.synful.training.learner import new_network
from tasks.synful.training.parameters import ValidationOptions
from tasks.synful.training.samples import scaled
from tests.synful.training.data import SIZE, simulated, tiny


@pytest.fixture(scope="module")
def cube():
    return simulated()


@pytest.mark.parametrize("tile", [(32, 400, 400), (3, 30, 30)])
def test_predictions_do_not_depend_on_tiles(cube, monkeypatch, tile):
    network = new_network(tiny()).eval()
    region = Region((3, 30, 30), (9, 75, 81))
    context = network.shape.aligned_context
    with torch.inference_mode():
        raw = scaled(cube.raw.read(region.grow(*zip(*context, strict=True))), "c", cube.raw.dtype) * 2 - 1
        whole = network(torch.from_numpy(raw)[None, None])
    monkeypatch.setattr(validation, "TILE", tile)
    found = validation.predict(network, cube, region)
    inner = (..., *(slice(n) for n in region.shape))
    np.testing.assert_allclose(found["probability"], torch.sigmoid(whole["mask_logits"])[0, 0][inner], atol=2e-6)
    np.testing.assert_allclose(found["vectors"], whole["vectors"][0][inner], atol=2e-3)


class Oracle:
    """Stands for a network that knows the answer: what `predict` gives."""

    def __init__(self, cube: Cube) -> None:
        self.cube = cube

    def __call__(self, network, cube, region):
        from tasks.synful.training.targets import Labels, partner_vectors, rasterize_points

        labels = Labels(cube.labels.read(cube.labels.region), cube.labels.region.begin)
        post, pre = cube.pairs.post, cube.pairs.pre
        mask = rasterize_points(post, region, SIZE, radius=16, labels=labels)
        return {
            "probability": mask.astype(np.float32),
            "vectors": partner_vectors(post, pre, region, SIZE, radius=40, target_context=400)[0],
        }


def test_the_truth_scores_one(cube, monkeypatch):
    monkeypatch.setattr(validation, "predict", Oracle(cube))
    scores = validation.validate(None, [cube], ValidationOptions(threshold=0.5))
    assert scores["f_score"] == 1
    assert scores["true_positives"] == len(cube.pairs)


def test_only_the_validation_mask_is_judged(cube, monkeypatch):
    monkeypatch.setattr(validation, "predict", Oracle(cube))
    mask = np.zeros(cube.raw.region.shape, np.uint8)
    mask[:, :, 55:] = 1
    held_out = replace(cube, validation_mask=Volume.of(mask))
    scores = validation.validate(None, [held_out], ValidationOptions(threshold=0.5))
    inside = (cube.pairs.post[:, 2] >= 55 * SIZE[2]).sum()
    assert 0 < inside < len(cube.pairs)
    assert scores["true_positives"] + scores["false_negatives"] == inside
    assert validation.judged_region(held_out).begin == (0, 0, 55)


def test_a_mask_of_what_is_annotated_limits_a_cube_that_is_only_judged(cube, monkeypatch):
    monkeypatch.setattr(validation, "predict", Oracle(cube))
    mask = np.zeros(cube.raw.region.shape, np.uint8)
    mask[2:10, 20:, 55:90] = 1
    annotated = replace(cube, mask=Volume.of(mask))
    assert validation.judged_region(annotated) == Region((2, 20, 55), (10, 110, 90))
    scores = validation.validate(None, [annotated], ValidationOptions(threshold=0.5))
    assert 0 < scores["true_positives"] + scores["false_negatives"] < len(cube.pairs)
    assert scores["false_positives"] <= 2, "balls that the mask cuts"


@pytest.mark.parametrize(
    ("learned", "told"),
    [(("mask", "vectors"), {"f_score", "vector_error_nm"}), (("mask",), {"f_score"}), (("vectors",), {"vector_error_nm"})],
    ids=str,
)
def test_a_head_that_is_not_trained_is_not_judged(cube, monkeypatch, learned, told):
    oracle = Oracle(cube)

    def half_right(*given):
        found = oracle(*given)
        wrong = {"mask": ("vectors", -10.0), "vectors": ("probability", 0.0)}.get(learned[0]) if len(learned) == 1 else None
        return found if wrong is None else {**found, wrong[0]: found[wrong[0]] * np.float32(wrong[1])}

    monkeypatch.setattr(validation, "predict", half_right)
    scores = validation.validate(None, [cube], ValidationOptions(threshold=0.5), learned=learned)
    assert told == {"f_score", "vector_error_nm"} & set(scores)
    assert scores.get("f_score", 1) == 1
    assert scores.get("vector_error_nm", 0) < 8


def test_mask_volumes_are_scored_by_voxel(cube):
    indicator = (cube.labels.read(cube.known) % 5 == 0).astype(np.uint8)
    network = new_network(tiny(heads=["mask"], unet_model="vanilla", d_loss_scale=0))
    scores = validation.validate(network, [replace(cube, indicator=Volume.of(indicator))], ValidationOptions())
    assert scores["prevalence"] == pytest.approx(indicator.mean())
    assert 0 < scores["average_precision"] < 1


@pytest.mark.parametrize(
    ("probabilities", "truth", "value"),
    [
        ([0.9, 0.8, 0.1, 0.0], [1, 1, 0, 0], 1.0),
        ([0.9, 0.8, 0.1, 0.0], [0, 0, 0, 1], 0.25),
        ([0.5, 0.5, 0.5, 0.5], [1, 0, 0, 0], 0.25),
        ([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0], (1 + 2 / 3) / 2),
    ],
)
def test_average_precision(probabilities, truth, value):
    found = validation.average_precision(np.array(probabilities), np.array(truth, bool))
    assert found == pytest.approx(value)


def test_average_precision_of_nothing_is_not_a_number():
    assert np.isnan(validation.average_precision(np.array([0.1]), np.array([False])))
