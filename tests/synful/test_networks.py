"""What is known of networks before they are used."""

import pytest

from tasks.synful.networks import read_networks
from tasks.synful.options import NetworkOptions
from tests.synful.small import random_network


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({}, ()),
        ({"m_loss_scale": 1.0, "d_loss_scale": 1.0}, ()),
        ({"d_loss_scale": 0}, ("was not trained for the vectors (d_loss_scale = 0 in its parameters)",)),
        ({"m_loss_scale": 0}, ("was not trained for the mask (m_loss_scale = 0 in its parameters)",)),
    ],
)
def test_a_head_that_was_not_trained_is_warned_of(training, said, tmp_path):
    random_network(tmp_path / "net.safetensors", **training)
    (network,) = read_networks(str(tmp_path / "net.safetensors"), NetworkOptions())
    assert len(network.warnings) == len(said)
    assert all(part in warning for part, warning in zip(said, network.warnings, strict=True))


def test_the_head_of_another_network_need_not_be_trained(tmp_path):
    random_network(tmp_path / "mask.safetensors", d_loss_scale=0)
    random_network(tmp_path / "vectors.safetensors", m_loss_scale=0)
    found = read_networks(str(tmp_path / "mask.safetensors"), NetworkOptions(vectors=str(tmp_path / "vectors.safetensors")))
    assert [n.warnings for n in found] == [(), ()]
