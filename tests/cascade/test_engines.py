import sys

import numpy as np
import pytest

from blockwise.errors import DependencyError
from tasks.cascade.engines import load_ensemble
from tests.cascade.random_model import random_weights


@pytest.mark.parametrize(("window", "frames"), [(64, 64), (64, 301), (76, 200)])
def test_tensorflow_gives_the_numbers_of_torch(window, frames):
    pytest.importorskip("tensorflow", reason="TensorFlow comes with blockwise[tensorflow]")
    members = [random_weights(seed, window=window) for seed in range(3)]
    trace = np.random.default_rng(0).normal(0, 0.2, frames).astype(np.float32)
    torch_rates, tensorflow_rates = (load_ensemble(members, engine, "cpu")(trace) for engine in ("torch", "tensorflow"))
    assert torch_rates.shape == (3, frames - window + 1)
    np.testing.assert_allclose(tensorflow_rates, torch_rates, atol=5e-6)


def test_a_missing_tensorflow_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(DependencyError, match=r"pip install -e '.\[tensorflow\]'"):
        load_ensemble([random_weights()], "tensorflow")
