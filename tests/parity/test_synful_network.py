"""Synful's networks against the original's own numbers: sizes, variables, checkpoints, forward passes."""

import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from blockwise.errors import InputError
from tasks.synful import load_network
from tasks.synful.network import UNet
from tasks.synful.parameters import NetworkParameters
from tasks.synful.sizes import NetworkShape
from tasks.synful.tensorflow_checkpoint import TensorFlowCheckpoint
from tasks.synful.variables import is_weight, parameters_of, shapes_of
from tests.shared import shared

NETS = ("st_mask", "st_vectors", "mt2_dh_unet")
SETUPS = ("setup01", "setup02", "setup03")
GAINS = {"partner_vector_0": 60, "syn_indicator_0": 2}


def unet(name):
    return shared(f"golden/synful/unet/{name}")


def checkpoint(net, iteration=0):
    return unet(net) / f"train_net_checkpoint_{iteration}"


def golden_json(name):
    return json.loads(unet(name).read_text())


def raw(*, larger=False):
    values = np.load(unet("raw_42_241_241.npz"))["raw"].astype("f4") * np.float32(1 / 255) * 2 - 1
    return torch.from_numpy(np.pad(values, ((0, 3), (0, 54), (0, 54)), mode="reflect") if larger else values)[None, None]


def assert_equal_outputs(found, stored):
    np.testing.assert_allclose(found["mask_logits"][0, 0].detach().numpy(), stored["logits"], atol=2e-5, rtol=0)
    np.testing.assert_allclose(found["vectors"][0].detach().numpy(), stored["vectors"], atol=5e-4, rtol=0)


@pytest.mark.parametrize(("column", "crop"), [("pinned", False), ("master", True)])
def test_output_sizes(column, crop):
    shape = NetworkShape(((1, 3, 3), (1, 3, 3), (3, 3, 3)), crop_to_factor=crop)
    for row in golden_json("size_table.json"):
        if isinstance(row[column], list):
            assert list(shape.output_shape(row["input"])) == row[column]
        else:
            with pytest.raises(InputError, match="the nearest are"):
                shape.output_shape(row["input"])


@pytest.mark.parametrize("iteration", [0, 3])
@pytest.mark.parametrize("net", NETS)
def test_checkpoints_are_read_bit_by_bit(net, iteration):
    found, stored = TensorFlowCheckpoint(checkpoint(net, iteration)), np.load(unet(f"{net}/weights_{iteration}.npz"))
    assert set(found) == set(stored.files)
    for name in found:
        assert (found[name].dtype, found[name].shape) == (stored[name].dtype, stored[name].shape)
        assert found[name].tobytes() == stored[name].tobytes()


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("net", NETS)
def test_forward(net, gradients):
    network, stored = load_network(checkpoint(net)), np.load(unet(f"{net}/forward.npz"))
    with torch.set_grad_enabled(gradients):
        found = network(raw())
        assert_equal_outputs(found, stored)
        probabilities = network.probabilities(found["mask_logits"])[0, 0].detach()
    np.testing.assert_allclose(probabilities, stored["prob"], atol=5e-6)


@pytest.mark.parametrize("net", NETS)
def test_maps_within_the_network(net):
    network, stored, maps = load_network(unet(f"{net}/weights_0.npz")), np.load(unet(f"{net}/forward.npz")), {}

    def keep(name):
        return lambda _module, _inputs, output: maps.__setitem__(name, torch.relu(output.detach().clone()).numpy())

    network.left[-1].register_forward_hook(keep("bottleneck"))
    for number, decoder in enumerate(network.decoders):
        for level, (up, right) in enumerate(zip(decoder.up, decoder.right, strict=True)):
            up.register_forward_hook(keep(f"act/decoder_{number}_layer_{level}/unet_up_{level + 1}_to_{level}/Relu"))
            right.register_forward_hook(keep(f"act/decoder_{number}_layer_{level}/unet_layer_{level}_right_1/Relu"))
    network(raw())
    wanted = [n for n in stored.files if n.startswith("act/")] + ["bottleneck"]
    assert set(wanted) == set(maps)
    for name in wanted:
        np.testing.assert_allclose(maps[name], stored[name], atol=2e-5, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(("file", "crop"), [("forward_pinned_45_295_295", False), ("forward_master_crop_to_factor", True)])
@pytest.mark.parametrize("net", NETS)
def test_forward_of_a_larger_input(net, file, crop):
    stored = np.load(unet(f"{net}/{file}.npz"))
    parameters = replace(NetworkParameters.from_json(unet(f"{net}/parameter.json")), crop_to_factor=crop)
    network = load_network(checkpoint(net), parameters=parameters)
    with torch.inference_mode():
        assert_equal_outputs(network(raw(larger=True)), stored)


def trainable(setup):
    """Shapes of the weights of a real setup by name."""
    return {
        n.removesuffix(":0"): tuple(s)
        for n, s, _, ours in golden_json("tf_variables_real_setups.json")[f"{setup}/train_net"]["variables"]
        if ours
    }


@pytest.mark.parametrize("net", ["train_net", "test_net"])
@pytest.mark.parametrize("setup", SETUPS)
def test_variables_of_the_real_setups(setup, net):
    listed = golden_json("tf_variables_real_setups.json")
    facts, model = listed[f"{setup}/{net}"], "dh_unet" if setup == "setup03" else "vanilla"
    network = UNet(NetworkParameters(4, 5, ((1, 3, 3), (1, 3, 3), (3, 3, 3)), model))
    found, stored = shapes_of(network), {n.removesuffix(":0"): tuple(s) for n, s, _, ours in facts["variables"] if ours}
    assert list(found.items()) == list(stored.items())
    assert {n.removesuffix(":0") for n, *_ in facts["variables"] if is_weight(n.removesuffix(":0"))} == set(found)
    assert parameters_of(found) == network.config
    assert sum(p.numel() for p in network.parameters()) == facts["n_trainable"]
    assert list(network.shape.output_shape(facts["input_shape"])) == facts["output_shape"]


def test_parameters_of_the_large_networks():
    listed = golden_json("tf_variables_real_setups.json")
    with torch.device("meta"):
        large = UNet(NetworkParameters(12, 5, ((1, 3, 3), (1, 3, 3), (3, 3, 3))))
    assert sum(p.numel() for p in large.parameters()) == listed["n_params_alt_12_5"]


def formula_weights(setup):
    """The weights whose results are stored; the folder's README states the formula."""
    for name, shape in trainable(setup).items():
        random, (layer, _, part) = np.random.default_rng(zlib.crc32(f"real_{setup}/{name}".encode())), name.rpartition("/")
        scale = 0.05
        if part == "kernel":
            scale = GAINS.get(layer, 1) * np.sqrt(2 / (shape[4] if "unet_up" in name else np.prod(shape[:4])))
        yield name, (random.standard_normal(shape) * scale).astype(np.float32)


@pytest.mark.parametrize("setup", SETUPS)
def test_forward_of_the_real_setups(setup):
    stored = np.load(unet(f"real_{setup}_forward.npz"))
    network = load_network(dict(formula_weights(setup)))
    with torch.inference_mode():
        assert_equal_outputs(network(raw()), stored)
