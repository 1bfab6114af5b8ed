import pytest

from blockwise.errors import ConfigError
from tasks.cascade.kernels import single_spike


def test_a_single_spike_at_30_hz():
    spike = single_spike(30, 0.05)
    assert spike.peak == pytest.approx(0.266, abs=5e-4)
    assert spike.peak_hz == pytest.approx(30 * spike.peak)
    assert spike.fwhm == pytest.approx(0.1177, abs=1e-4)
    assert spike.threshold == pytest.approx(0.0978428, abs=1e-7)


@pytest.mark.parametrize(("rate", "smoothing"), [(0, 0.1), (30, 0), (-1, 0.1), (float("nan"), 0.1)])
def test_rates_and_smoothing_must_be_positive(rate, smoothing):
    with pytest.raises(ConfigError, match="must be above 0"):
        single_spike(rate, smoothing)
