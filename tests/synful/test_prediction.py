"""Prediction of an array: the same whatever memory it may take, and the same as the network's own forward pass."""

import numpy as np
import pytest
import torch

from blockwise.errors import InputError
from tasks import synful
from tests.synful.small import noise, random_network


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return random_network(tmp_path_factory.mktemp("n") / "net.safetensors")


@pytest.fixture(scope="module")
def raw():
    return ((noise((14, 66, 70)) + 1) / 2 * 255).astype(np.uint8)


def test_the_result_does_not_depend_on_the_memory(network, raw):
    large, small = synful.predict(raw, network), synful.predict(raw, network, memory="8MB")
    assert large[0].shape == raw.shape
    assert large[1].shape == (3, *raw.shape)
    np.testing.assert_allclose(large[0], small[0], atol=2e-5)
    np.testing.assert_allclose(large[1], small[1], atol=5e-4)


def test_it_is_the_forward_pass_of_the_padded_volume(network, raw):
    (z, y, x), context = raw.shape, network.shape.aligned_context
    shape = [-(-n // p) * p for n, p in zip(raw.shape, network.shape.product, strict=True)]
    pads = [(b, a + s - n) for (b, a), s, n in zip(context, shape, raw.shape, strict=True)]
    inputs = np.pad(raw, pads).astype(np.float32) * np.float32(1 / 255) * 2 - 1
    with torch.inference_mode():
        logits = network(torch.from_numpy(inputs)[None, None])["mask_logits"][0, 0, :z, :y, :x]
    np.testing.assert_allclose(synful.predict(raw, network)[0], torch.sigmoid(logits).numpy(), atol=2e-5)


@pytest.mark.parametrize("shape", [(4, 4), (0, 3, 3)])
def test_what_is_no_volume_is_refused(network, shape):
    with pytest.raises(InputError, match="a volume"):
        synful.predict(np.zeros(shape, np.uint8), network)


def test_no_public_name_is_a_modules():
    assert not set(synful._HOMES) & set(synful._HOMES.values()), "importing the module would hide the function"
