import pytest
import torch

from tasks.cascade.network import PAIRED_WIDTH, HalvedKernel, Kernel, Network, convolve, convolve_halves, dense_rates, windowed_rates
from tests.cascade.random_model import random_weights

SIZES = [(64, (31, 19, 5)), (76, (31, 19, 5)), (66, (31, 19, 5)), (63, (10, 7, 4)), (64, (31, 12, 5)), (40, (1, 1, 1)), (24, (3, 2, 2))]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("extra", [0, 1, 2, 3, 4, 150, 407])
@pytest.mark.parametrize(("window", "sizes"), SIZES)
def test_dense_evaluation_equals_the_network_window_by_window(window, sizes, extra):
    weights = random_weights(window=window, sizes=sizes)
    x = torch.randn(window + extra)
    dense, windowed = dense_rates(x, Network.of(weights)), windowed_rates(x.unfold(0, window, 1), weights)
    assert len(dense) == len(x) - weights.reach + 1
    torch.testing.assert_close(dense[: len(windowed)], windowed, atol=2e-6, rtol=0)


@pytest.mark.parametrize("out", [4, PAIRED_WIDTH + 1])
@pytest.mark.parametrize(("frames", "taps"), [(5, 5), (6, 5), (4, 5), (40, 7), (41, 1), (100, 19), (101, 2)])
def test_convolution_by_matrix_products(frames, taps, out):
    x, kernel = torch.randn(frames, 3), torch.randn(taps, 3, out)
    got = convolve(x, Kernel.of(kernel, "cpu"))
    if frames < taps:
        assert got.shape == (0, out)
        return
    wanted = torch.nn.functional.conv1d(x.T[None], kernel.permute(2, 1, 0))[0].T
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", [30, 31, 32, 33])
def test_convolution_by_halves(frames):
    layer = random_weights().conv2
    x = torch.randn(frames, layer.kernel.shape[1])
    even, odd = convolve_halves((x[::2].contiguous(), x[1::2].contiguous()), HalvedKernel.of(layer, "cpu"))
    wanted = convolve(x, Kernel.of(torch.from_numpy(layer.kernel), "cpu"))
    torch.testing.assert_close(even, wanted[::2], atol=1e-5, rtol=0)
    torch.testing.assert_close(odd, wanted[1::2], atol=1e-5, rtol=0)
