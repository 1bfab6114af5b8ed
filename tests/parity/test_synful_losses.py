"""Losses, their gradients and class weights against the original's (golden/synful/train)."""

import json

import numpy as np
import pytest
import torch

from tasks.synful.training import losses
from tasks.synful.training.balance import balanced_weights, class_weights
from tests.shared import shared


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(shared("golden/synful/train/losses.npz")))


def tensors(golden, *names: str) -> list[torch.Tensor]:
    return [torch.from_numpy(golden[n])[None] for n in names]


def check(loss: torch.Tensor, over: torch.Tensor, value: np.ndarray, gradient: np.ndarray) -> None:
    loss.backward()
    np.testing.assert_allclose(loss.item(), value, rtol=1e-6)
    np.testing.assert_allclose(over.grad[0].numpy(), gradient, rtol=1e-5, atol=1e-7)


def test_cross_entropy_and_its_gradient(golden):
    logits, labels, weights = tensors(golden, "logits", "labels", "weights")
    logits.requires_grad_()
    check(losses.mask_cross_entropy(logits, labels, weights), logits, golden["ce"], golden["grad_ce"])


def test_squared_error_of_the_mask_and_its_gradient(golden):
    logits, labels, weights = tensors(golden, "logits", "labels", "weights")
    logits.requires_grad_()
    check(losses.mask_squared_error(logits, labels, weights), logits, golden["mse_mask_inferred"], golden["grad_mse_mask_inferred"])


def test_squared_error_of_vectors_and_its_gradient(golden):
    vectors, truth, mask = tensors(golden, "pred_vec", "gt_vec", "vec_mask")
    vectors.requires_grad_()
    check(losses.vector_squared_error(vectors, truth, mask), vectors, golden["mse_vectors"], golden["grad_mse_vectors"])


def test_nothing_counted_is_no_loss(golden):
    logits, labels, vectors, truth, mask = tensors(golden, "logits", "labels", "pred_vec", "gt_vec", "vec_mask")
    assert losses.mask_cross_entropy(logits, labels, torch.zeros_like(labels)).item() == golden["ce_zero_weights"]
    assert losses.vector_squared_error(vectors, truth, torch.zeros_like(mask)).item() == golden["mse_empty_mask"]


def test_sums_of_losses():
    stored = json.loads(shared("golden/synful/train/losses.json").read_text())
    for scales, value in stored["combined_m_d_scale"].items():
        m, d = json.loads(scales.replace("(", "[").replace(")", "]"))
        both = [torch.tensor(stored[k], dtype=torch.float64) for k in ("ce", "mse_vectors")]
        assert losses.combined(*both, m_loss_scale=m, d_loss_scale=d, how="sum").item() == pytest.approx(value, rel=1e-9)


def test_class_weights():
    for case in json.loads(shared("golden/synful/train/balance_labels.json").read_text()):
        indicator = np.zeros(case["shape"], np.uint8)
        indicator.reshape(-1)[: case["n_pos"]] = 1
        weights = class_weights(indicator, cliprange=tuple(case["clip"]))
        volume = balanced_weights(indicator, cliprange=tuple(case["clip"]))
        for name, value, found in zip(("w_neg", "w_pos"), weights, (volume[indicator == 0], volume[indicator == 1]), strict=True):
            if case[name] is not None:
                assert value == pytest.approx(case[name], rel=1e-6)
                assert found == pytest.approx(case[name], rel=1e-6)


def test_class_weights_of_the_drawn_targets():
    golden = np.load(shared("golden/synful/train/targets.npz"))
    for name in (n for n in golden if n.startswith("weight_values_")):
        found = class_weights(golden[f"indicator_{name.removeprefix('weight_values_')}"])
        np.testing.assert_allclose(found, golden[name], rtol=1e-6, err_msg=name)
