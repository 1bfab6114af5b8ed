"""Three steps of training against TensorFlow 1 with the original's network and optimiser (golden/synful/unet)."""

import json

import numpy as np
import pytest
import torch

from tasks.synful import load_network
from tasks.synful.training.learner import Learner
from tasks.synful.training.parameters import load_parameters
from tests.shared import shared

NETWORKS = ("st_mask", "st_vectors", "mt2_dh_unet")


def golden(name: str):
    return shared(f"golden/synful/unet/{name}")


def batch() -> dict[str, torch.Tensor]:
    arrays = np.load(golden("train_batch.npz"))
    raw = next(iter(np.load(golden("raw_42_241_241.npz")).values())).astype(np.float32) * np.float32(1 / 255) * 2 - 1
    names = {"gt_syn_indicator": "indicator", "gt_partner_vectors": "vectors"}
    made = {names.get(k, k): torch.from_numpy(v)[None] for k, v in arrays.items()}
    return {**made, "raw": torch.from_numpy(raw)[None]}


def learner_of(name: str) -> Learner:
    return Learner(network_of(name, 0).train(), load_parameters(golden(f"{name}/parameter.json")))


def network_of(name: str, steps: int):
    weights = {k: v for k, v in np.load(golden(f"{name}/weights_{steps}.npz")).items() if "Adam" not in k}
    return load_network(weights, parameters=golden(f"{name}/parameter.json"), activation="sigmoid")


def check_gradients(name: str, learner: Learner) -> None:
    """Of the loss with respect to what the network says."""
    with torch.no_grad():
        leaves = {k: v.requires_grad_() for k, v in learner.predict(batch()["raw"]).items()}
    learner.losses_of(leaves, batch(), 0)["loss"].backward()
    stored = np.load(golden(f"{name}/train_grads.npz"))
    for key, kept in (("mask_logits", "grad_logits"), ("vectors", "grad_vectors")):
        found = np.zeros(stored[kept].size) if leaves[key].grad is None else leaves[key].grad.numpy().reshape(-1)
        np.testing.assert_allclose(found, stored[kept].reshape(-1), rtol=2e-4, atol=1e-6 * max(1, np.abs(stored[kept]).max()), err_msg=key)


@pytest.mark.parametrize("name", NETWORKS)
def test_three_steps_are_the_originals(name):
    learner = learner_of(name)
    check_gradients(name, learner)
    rows = [learner.step(batch(), i).figures() for i in range(3)]
    with torch.no_grad():
        rows.append({k: v.item() for k, v in learner.losses(batch(), 3).items()})
    stored = json.loads(golden(f"{name}/train_losses.json").read_text())["before_step_1_2_3_and_after_3"]
    for got, (total, vectors, mask) in zip(rows, stored, strict=True):
        assert got["loss"] == pytest.approx(total, rel=2e-5)
        assert got["mask_loss"] == pytest.approx(mask * learner.parameters.learns_mask, rel=2e-5)
        assert got["vector_loss"] == pytest.approx(vectors * learner.parameters.learns_vectors, rel=2e-5)
    wanted = network_of(name, 3).state_dict()
    off = torch.cat([(v - wanted[k]).abs().flatten() for k, v in learner.network.state_dict().items()])
    # a step goes up to 5e-5 whatever the gradient, and where that is next to nothing it has the sign of its rounding
    assert all(off.quantile(q) < most for q, most in ((0.5, 1e-7), (0.99, 5e-6), (0.999, 2e-5)))
