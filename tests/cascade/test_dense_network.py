import numpy as np
import pytest
import torch

from blockwise.errors import ConfigError
from tasks.cascade.checkpoint import ARRAYS, Layer, Weights
from tasks.cascade.dense_network import DenseNetwork, flatten_steps, from_keras, to_keras
from tasks.cascade.network import Network, dense_rates, windowed_rates


def network(**sizes) -> DenseNetwork:
    return DenseNetwork(**sizes, generator=torch.Generator().manual_seed(1))


def as_weights(module: DenseNetwork) -> Weights:
    arrays = to_keras(module)
    return Weights(**{name: Layer(*arrays[2 * i : 2 * i + 2]) for i, name in enumerate(ARRAYS)})


SIZES = [
    {},
    {"window": 76},
    {"window": 66, "filter_sizes": (30, 19, 5)},
    {"window": 40, "filter_sizes": (9, 7, 3), "filter_numbers": (4, 5, 6), "dense_expansion": 7},
]


@pytest.mark.parametrize("sizes", SIZES)
def test_equals_the_windows_taken_singly(sizes):
    """Training must fit the network that inference runs, window by window."""
    module, window = network(**sizes), sizes.get("window", 64)
    x = np.random.default_rng(0).normal(0, 1, (2, window + 50)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(x, window, axis=1).reshape(-1, window)
    with torch.no_grad():
        dense = module(torch.from_numpy(x)).numpy()
        single = windowed_rates(torch.from_numpy(windows.copy()), as_weights(module)).numpy().reshape(2, -1)
    assert dense.shape == (2, 51)
    np.testing.assert_allclose(dense, single, rtol=0, atol=1e-6)


def test_inference_runs_the_same_network():
    module = network()
    x = torch.randn(300, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        np.testing.assert_allclose(dense_rates(x, Network.of(as_weights(module))), module(x[None])[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("sizes", SIZES)
def test_weights_survive_the_way_to_keras_shapes_and_back(sizes):
    module = network(**sizes)
    again = from_keras(to_keras(module), sizes.get("window", 64))
    for name, value in module.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


def test_published_sizes():
    module = network()
    assert sum(p.numel() for p in module.parameters()) == 35_441
    assert [a.shape for a in to_keras(module)[::2]] == [(31, 1, 30), (19, 30, 40), (5, 40, 50), (50, 30), (60, 1)]


def test_start_weights_are_glorot_uniform():
    kernel = to_keras(network())[2]
    limit = np.sqrt(6 / (19 * 30 + 19 * 40))
    assert limit * 0.99 < np.abs(kernel).max() <= limit
    assert not any(bias.any() for bias in to_keras(network())[1::2])


@pytest.mark.parametrize(("window", "steps"), [(64, 2), (76, 5)])
def test_flatten_steps(window, steps):
    assert flatten_steps(window, (31, 19, 5)) == steps


def test_a_window_too_short_for_the_filters_is_refused():
    with pytest.raises(ConfigError, match="windowsize 50 is too short"):
        network(window=50)
