import numpy as np
import pytest

from tasks.spikes.metrics import correlation, error_and_bias
from tests.shared import shared


@pytest.mark.parametrize("name", ["tiny_DS08", "tiny_DS09", "tiny_DS16", "ogb_DS02", "ogb_DS16"])
def test_metrics_of_the_original(name):
    golden = np.load(shared("golden/cascade/benchmark_metrics.npz"))
    truth, rates = golden[f"{name}_truth"], golden[f"{name}_pred"]
    found = correlation(truth, rates), *error_and_bias(truth, rates, float(golden[f"{name}_sigma_frames"]))
    np.testing.assert_allclose(found, golden[f"{name}_metrics_first30000_corr_err_bias"], rtol=1e-9)


def test_frames_without_a_rate_do_not_count():
    truth = np.random.default_rng(0).random(200)
    rates = np.where(np.arange(200) < 50, np.nan, truth + 0.5)
    assert correlation(truth, rates) == pytest.approx(1)
    error, bias = error_and_bias(truth, rates, 2.0)
    assert error == pytest.approx(bias) == pytest.approx(150 * 0.5 / truth[50:].sum(), rel=0.02)


@pytest.mark.parametrize(
    ("truth", "rates"), [(np.zeros(9), np.arange(9.0)), (np.arange(9.0), np.ones(9)), (np.full(9, np.nan), np.ones(9))]
)
def test_correlation_is_undefined_where_nothing_varies(truth, rates):
    assert np.isnan(correlation(truth, rates))


def test_error_is_undefined_without_spikes():
    assert np.isnan(error_and_bias(np.zeros(9), np.ones(9), 1.0)).all()
