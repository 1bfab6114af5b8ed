import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch

from blockwise.errors import ModelError
from tasks.cascade.checkpoint import read_checkpoint
from tasks.cascade.dense_network import DenseNetwork
from tasks.cascade.keras_file import write_keras_file
from tasks.cascade.training import KERAS_NAMES, weights_of


def network(**sizes):
    return DenseNetwork(**sizes, generator=torch.Generator().manual_seed(3))


def test_our_reader_finds_the_same_weights_and_the_bytes_repeat(tmp_path):
    weights = weights_of(network())
    path = write_keras_file(tmp_path / "m.h5", weights, 64)
    first = path.read_bytes()
    found = [a for layer in read_checkpoint(path).layers for a in (layer.kernel, layer.bias)]
    assert all(np.array_equal(a, weights[name]) for a, name in zip(found, KERAS_NAMES, strict=True))
    assert write_keras_file(path, weights, 64).read_bytes() == first


def test_there_is_no_optimiser_state(tmp_path):
    import h5py

    with h5py.File(write_keras_file(tmp_path / "m.h5", weights_of(network()), 64)) as file:
        assert list(file) == ["model_weights"]
        assert "training_config" not in file.attrs
        assert len(file["model_weights"].attrs["layer_names"]) == 9


def test_another_network_has_no_keras_form(tmp_path):
    with pytest.raises(ModelError, match="has no Keras form"):
        write_keras_file(tmp_path / "m.h5", {"filter.weight": np.zeros((1, 1, 64), np.float32)}, 64)


KERAS = """
import sys, numpy, keras
for path in sys.argv[1:]:
    model = keras.models.load_model(path + ".h5", compile=False)
    numpy.save(path + ".out.npy", model.predict(numpy.load(path + ".npy")[..., None], verbose=0, batch_size=64)[:, 0])
"""

SIZES = {"published": {}, "other": {"window": 76, "filter_numbers": (5, 6, 7), "dense_expansion": 4}}


def test_keras_loads_the_files_and_answers_alike(tmp_path):
    """In a process of its own: TensorFlow beside torch is no business of the other tests."""
    if importlib.util.find_spec("keras") is None:
        pytest.skip("Keras is not installed (extra `tensorflow`)")
    random = np.random.default_rng(0)
    for name, sizes in SIZES.items():
        write_keras_file(tmp_path / f"{name}.h5", weights_of(network(**sizes)), sizes.get("window", 64))
        np.save(tmp_path / f"{name}.npy", random.normal(size=(20, sizes.get("window", 64))).astype(np.float32))
    call = [sys.executable, "-c", KERAS, *(str(tmp_path / name) for name in SIZES)]
    done = subprocess.run(call, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    for name, sizes in SIZES.items():
        with torch.no_grad():
            expected = network(**sizes)(torch.from_numpy(np.load(tmp_path / f"{name}.npy")))[:, 0].numpy()
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.out.npy"), expected, rtol=0, atol=1e-6)
