import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from blockwise.errors import MissingError, ModelError
from tasks.synful import load_network
from tasks.synful.checkpoint import digest, save_safetensors, training_state
from tasks.synful.network import UNet
from tasks.synful.parameters import NetworkParameters
from tasks.synful.variables import variables_of
from tests.synful.tensorflow_files import write_checkpoint, write_meta

CONFIG = NetworkParameters(2, 2, ((1, 2, 2), (2, 3, 3)), kernel_sizes=((1, 3, 3), (3, 3, 3), (3, 3, 3)))


def network(config=CONFIG, **options):
    torch.manual_seed(1)
    return UNet(config, **options)


def arrays(of, *, adam=False):
    """Variables as TensorFlow has them, by its names."""
    found = {n: w.detach().numpy() for n, w in variables_of(of).items()}
    found = {n: a.transpose(2, 3, 4, 1, 0) if n.endswith("/kernel") else a for n, a in found.items()}
    slots = {f"{n}/Adam{i}": np.ones_like(a) for n, a in found.items() for i in ("", "_1")} | {"beta1_power": np.array(0.9, "f4")}
    return found | (slots if adam else {})


@pytest.fixture
def setup(tmp_path):
    folder = tmp_path / "setup01"
    folder.mkdir()
    for iteration in (90, 1000):
        write_checkpoint(folder / f"train_net_checkpoint_{iteration}", arrays(network(), adam=True), shards=2)
    (folder / "parameter.json").write_text(json.dumps({**CONFIG.to_json(), "d_scale": 0.5, "blob_radius": 10}))
    (folder / "train_net_config.json").write_text(json.dumps({"pred_syn_indicator_out": "Sigmoid:0"}))
    return folder


def as_npz(folder, of):
    np.savez(folder / "net.npz", **arrays(of, adam=True))
    return folder / "net.npz"


def as_safetensors(folder, of):
    save_safetensors(of, folder / "net.safetensors")
    return folder / "net.safetensors"


def as_trained(folder, of):
    torch.save({**training_state(of), "iteration": 5}, folder / "net.pt")
    return folder / "net.pt"


FORMS = {
    "tensorflow": lambda folder, of: write_checkpoint(folder / "net_1", arrays(of, adam=True)),
    "npz": as_npz,
    "mapping": lambda _folder, of: arrays(of, adam=True),
    "safetensors": as_safetensors,
    "pt": as_trained,
}


@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, unet_model="dh_unet"), replace(CONFIG, heads=("vectors",))])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_network(tmp_path, form, config):
    made = network(config)
    found = load_network(FORMS[form](tmp_path, made))
    assert digest(found) == digest(made)
    assert found.config == config
    x = torch.rand((1, 1, *made.shape.smallest_input))
    with torch.inference_mode():
        for name, values in made(x).items():
            assert torch.equal(found(x)[name], values)


def test_the_newest_of_a_setup_is_taken(setup):
    found = load_network(setup)
    assert found.source.endswith("setup01/train_net_checkpoint_1000")
    assert (found.activation, found.config.d_scale, found.config.training) == ("sigmoid", 0.5, {"blob_radius": 10})
    assert load_network(setup / "train_net_checkpoint_90").source.endswith("_90")
    assert load_network(str(setup / "train_net_checkpoint_90.index")).source.endswith("_90")


def test_a_model_is_found_by_name(setup, tmp_path, monkeypatch):
    monkeypatch.setenv("BLOCKWISE_MODELS", str(tmp_path / "models"))
    with pytest.raises(MissingError, match="model p_setup52 is not on this machine"):
        load_network("p_setup52")
    shutil.copytree(setup, tmp_path / "models" / "p_setup52")
    assert load_network("p_setup52").source.endswith("p_setup52/train_net_checkpoint_1000")


HEAD = ("syn_indicator_0/BiasAdd", "BiasAdd")
RELU, NOTHING = (HEAD, ("r", "Relu", HEAD[0])), (HEAD, ("r", "Reshape", HEAD[0]))


@pytest.mark.parametrize(
    ("output", "graph", "said", "wanted"),
    [
        ("Sigmoid:0", None, None, "sigmoid"),
        ("Sigmoid:0", RELU, None, "sigmoid"),
        ("Reshape_2:0", RELU, None, "relu"),
        ("Reshape_2:0", NOTHING, None, "none"),
        ("Reshape_2:0", RELU, "sigmoid", "sigmoid"),
        ("Reshape_2:0", None, None, None),
    ],
)
@pytest.mark.parametrize("name", ["train_net.meta", "train_net_checkpoint_1000.meta"])
def test_what_follows_the_logits(setup, output, graph, said, wanted, name):
    (setup / "train_net_config.json").write_text(json.dumps({"pred_syn_indicator_out": output}))
    if graph:
        write_meta(setup / name, *graph)
    assert load_network(setup, activation=said).activation == wanted


def test_without_an_activation_only_probabilities_are_refused():
    found = load_network(arrays(network()))
    logits = found(torch.rand((1, 1, *found.shape.smallest_input)))["mask_logits"]
    with pytest.raises(ModelError, match="the mapping: neither a net_config"):
        found.probabilities(logits)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"fmap_num": 12}, "fmap_num is 2 in the checkpoint, 12 in the parameters"),
        ({"kernel_sizes": ()}, "kernel_sizes is "),
        ({"unet_model": "dh_unet"}, "unet_model is vanilla in the checkpoint, dh_unet in the parameters"),
        ({"downsample_factors": [[1, 2, 2], [3, 3, 3]]}, r"downsample_factors is \(\(1, 2, 2\), \(2, 3, 3\)\)"),
    ],
)
def test_parameters_of_another_network_are_refused(setup, changes, why):
    with pytest.raises(ModelError, match=why):
        load_network(setup, parameters={**CONFIG.to_json(), **changes})


def _change(name, value):
    return lambda found: {k: v for k, v in {**found, name: value}.items() if v is not None}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda _: {}, "it has no variables"),
        (lambda _: {"dense/kernel": np.zeros((2, 2))}, "it has dense/kernel"),
        (_change("unet_layer_1_left_1/bias", np.zeros(3)), r"unet_layer_1_left_1/bias has shape \[3\]; .* it is \[4\]"),
        (_change("unet_layer_2_left_1/kernel", None), "unet_layer_2_left_1/kernel is not there; .* it is"),
        (_change("decoder_0_layer_1/unet_up_2_to_1/kernel", None), "unet_up_2_to_1/kernel is not there"),
        (_change("unet_layer_1_left_0/kernel", np.zeros((3, 3, 3, 2, 5))), r"feature maps \[2, 5, 8\] by level"),
        (_change("unet_layer_1_left_0/kernel", np.zeros((4, 5))), r"of shape \[4, 5\]: five axes"),
        (_change("decoder_1_layer_1/unet_up_2_to_1/bias", np.zeros(4)), "has no place in a network of these levels"),
    ],
)
def test_variables_of_no_network_are_refused(change, why):
    with pytest.raises(ModelError, match=why):
        load_network(change(arrays(network())))


def test_files_of_no_network_are_refused(tmp_path):
    for name in ("a.npz", "a.safetensors", "a.pt", "a.index"):
        (tmp_path / name).write_bytes(b"not a network at all, not at all, by no means whatever")
        with pytest.raises(ModelError, match=f"{name[2:]}"):
            load_network(tmp_path / name)
    torch.save({"model": 1}, tmp_path / "b.pt")
    with pytest.raises(ModelError, match="is not a checkpoint that blockwise wrote"):
        load_network(tmp_path / "b.pt")


def test_no_or_several_checkpoints_are_missing(tmp_path):
    with pytest.raises(MissingError, match="holds no checkpoint: train_net_checkpoint_N"):
        load_network(tmp_path)
    for name in ("a", "b"):
        save_safetensors(network(), tmp_path / f"{name}.safetensors")
    with pytest.raises(MissingError, match="holds 2 checkpoints"):
        load_network(tmp_path)
    with pytest.raises(MissingError, match="is not there: a TensorFlow prefix"):
        load_network(tmp_path / "c")


def test_the_same_network_is_written_as_the_same_bytes(tmp_path, setup):
    found = load_network(setup)
    written = [as_safetensors(tmp_path, found).read_bytes() for _ in range(3)]
    assert len(set(written)) == 1
    assert str(tmp_path).encode() not in written[0]
    again = load_network(tmp_path / "net.safetensors")
    assert (again.config, again.activation, again.source) == (found.config, "sigmoid", "setup01/train_net_checkpoint_1000")


def test_keys_that_nobody_knows_are_kept_beside_a_checkpoint_and_refused_where_they_are_asked_for(setup):
    values = {**CONFIG.to_json(), "of_an_experiment": 3}
    (setup / "parameter.json").write_text(json.dumps(values))
    assert load_network(setup).config.training["of_an_experiment"] == 3
    with pytest.raises(ModelError, match="unknown keys of_an_experiment"):
        load_network(setup, parameters=values)


@pytest.mark.parametrize("change", [{"d_scale": 2.0}, {"crop_to_factor": True}])
def test_the_digest_follows_what_is_computed(change):
    made, other = network(), network(replace(CONFIG, **change))
    assert digest(made) == digest(network(replace(CONFIG, training={"blob_radius": 10})))
    assert digest(made) != digest(other)
    assert digest(made) != digest(network(activation="relu"))
    with torch.no_grad():
        next(other.parameters())[0] += 1e-6
    assert digest(other) != digest(network(other.config))
