import copy

import numpy as np
import pytest
import torch

from tasks.synful.network import UNet
from tasks.synful.parameters import NetworkParameters
from tasks.synful.training.sections import SectionPass, SectionUpsampling, compute_by_sections

NETWORKS = {
    "flat": NetworkParameters(3, 2, ((1, 3, 3), (1, 2, 2)), unet_model="dh_unet", kernel_sizes=((1, 3, 3), (1, 3, 3), (3, 3, 3))),
    "cubic": NetworkParameters(2, 2, ((2, 2, 2),)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_gradients_are_the_same(name):
    torch.manual_seed(0)
    plain = UNet(NETWORKS[name])
    changed = compute_by_sections(copy.deepcopy(plain))
    raw = torch.randn(2, 1, *(s + p for s, p in zip(plain.shape.smallest_input, plain.shape.product, strict=True)))
    for network in (plain, changed):
        sum(v.square().sum() for v in network(raw).values()).backward()
    with torch.no_grad():
        for key, values in changed(raw).items():
            np.testing.assert_allclose(values, plain(raw)[key], atol=1e-5)
    for (key, a), (other, b) in zip(plain.named_parameters(), changed.named_parameters(), strict=True):
        assert key == other
        np.testing.assert_allclose(b.grad, a.grad, atol=2e-5 * float(a.grad.abs().max()), err_msg=key)


def test_only_flat_levels_are_changed():
    changed = compute_by_sections(UNet(NETWORKS["flat"]))
    assert [isinstance(p, SectionPass) for p in changed.left] == [True, True, False]
    assert all(isinstance(u, SectionUpsampling) for d in changed.decoders for u in d.up)
    assert not any(isinstance(p, SectionPass) for p in compute_by_sections(UNet(NETWORKS["cubic"])).left)
