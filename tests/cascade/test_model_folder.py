import numpy as np
import pytest
import torch
import yaml

from blockwise.errors import ConfigError, MissingError, ModelError
from tasks.cascade.checkpoint import ARRAYS, read_checkpoint
from tasks.cascade.dense_network import DenseNetwork
from tasks.cascade.model import load_model
from tasks.cascade.model_folder import member_stem, read_config, read_member, training_config, write_config, write_member
from tasks.cascade.training import KERAS_NAMES, TrainingConfig, weights_of

CASCADE_KEYS = [
    *("model_name", "sampling_rate", "training_datasets", "noise_levels", "smoothing", "causal_kernel", "windowsize", "before_frac"),
    *("filter_sizes", "filter_numbers", "dense_expansion", "loss_function", "optimizer", "nr_of_epochs", "ensemble_size", "batch_size"),
    *("verbose", "training_finished"),
]


def weights():
    return weights_of(DenseNetwork(generator=torch.Generator().manual_seed(0)))


def write_model(folder, **changes):
    config = TrainingConfig(sampling_rate=7.5, smoothing=0.2, causal_kernel=True, **changes)
    folder.mkdir(exist_ok=True)
    write_config(folder, config, name="mine", datasets=["DS90-a"], levels=[2, 3], members=1, finished=True)
    for level in (2, 3):
        write_member(folder / f"{member_stem(level, 0)}.safetensors", weights())
    return config


def test_a_member_reads_back_in_order_and_twice_gives_the_same_bytes(tmp_path):
    path = write_member(tmp_path / "new" / "m.safetensors", weights(), {"losses": "[1]"})
    first = path.read_bytes()
    found = read_member(path)
    assert tuple(found) == KERAS_NAMES
    assert all(np.array_equal(found[k], v) for k, v in weights().items())
    assert write_member(path, weights(), {"losses": "[1]"}).read_bytes() == first
    assert list(path.parent.iterdir()) == [path]


def test_inference_reads_a_written_model(tmp_path):
    write_model(tmp_path / "m")
    model = load_model(tmp_path / "m")
    assert (model.name, model.frame_rate, model.smoothing, model.causal, list(model.levels)) == ("mine", 7.5, 0.2, True, [2, 3])
    layers = read_checkpoint(tmp_path / "m" / f"{member_stem(2, 0)}.safetensors").layers
    for name, layer in zip(ARRAYS, layers, strict=True):
        assert np.array_equal(layer.kernel, weights()[f"{name}.kernel"])


def test_config_has_the_keys_of_cascade(tmp_path):
    write_model(tmp_path / "m")
    values = yaml.safe_load((tmp_path / "m" / "config.yaml").read_text())
    assert list(values) == CASCADE_KEYS
    assert values["training_finished"] == "Yes"


def test_settings_are_taken_from_a_model_folder(tmp_path):
    config = write_model(tmp_path / "m", filter_numbers=(5, 6, 7), dense_expansion=9)
    found = training_config(tmp_path / "m", nr_of_epochs=2, batch_size=None)
    assert found == config.model_copy(update={"nr_of_epochs": 2})
    with pytest.raises(ConfigError, match="epochs"):
        training_config(tmp_path / "m", epochs=3)


@pytest.mark.parametrize(("text", "error"), [(None, MissingError), ("a: [", ModelError), ("7", ModelError)])
def test_a_config_that_cannot_be_used(tmp_path, text, error):
    if text is not None:
        (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(error, match=r"config\.yaml"):
        read_config(tmp_path)


def test_a_member_that_is_no_safetensors_file(tmp_path):
    (tmp_path / "m.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="is not a safetensors file"):
        read_member(tmp_path / "m.safetensors")
