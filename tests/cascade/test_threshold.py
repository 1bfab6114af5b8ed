import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from blockwise.errors import ConfigError
from tasks.cascade.threshold import apply_threshold, check_threshold, spike_threshold

NAN = float("nan")


def original(rates, threshold, sigma):
    """The original's steps, row by row."""
    rates = rates.copy()
    if threshold == 1:
        for row in rates:
            mask = row > spike_threshold(sigma)
            row[~binary_dilation(mask, iterations=int(sigma))] = 0
    if threshold is not None:
        rates[rates < 0] = 0
    return rates


@pytest.mark.parametrize("sigma", [0.4, 1.5, 2.0, 6.2, 400.0])
@pytest.mark.parametrize("threshold", [None, 0, 1])
def test_thresholds_are_the_originals(threshold, sigma):
    rates = np.random.default_rng(0).normal(0, 0.1, (6, 80))
    rates[0], rates[1, :32], rates[2] = NAN, NAN, -1
    wanted = original(rates, threshold, sigma)
    apply_threshold(rates, threshold, sigma)
    np.testing.assert_array_equal(rates, wanted)


@pytest.mark.parametrize(
    ("given", "meant"), [(False, None), (0, 0), (0.0, 0), (np.False_, 0), (1, 1), (True, 1), (1.0, 1), (np.int8(1), 1)]
)
def test_thresholds_as_the_original_takes_them(given, meant):
    assert check_threshold(given) == meant


@pytest.mark.parametrize("given", [2, None, "False", "1", 0.5, NAN, [0, 1], -1])
def test_other_thresholds_are_refused(given):
    with pytest.raises(ConfigError, match=r"threshold .*: use 0 .* or false \("):
        check_threshold(given)


def test_the_threshold_of_a_spike():
    assert spike_threshold(1.5) == pytest.approx(0.0978428, abs=1e-7)
