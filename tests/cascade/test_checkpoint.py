import h5py
import numpy as np
import pytest

from blockwise.errors import MissingError, ModelError
from tasks.cascade.checkpoint import ARRAYS, Layer, Weights, read_checkpoint, write_safetensors
from tests.cascade.random_model import random_weights

WEIGHTS = random_weights()
KERAS = ("conv1d_9", "conv1d_10", "conv1d_2", "dense_7", "dense_1")
"""Names whose alphabetical and numerical orders are both wrong."""


def same(a: Weights, b: Weights) -> bool:
    parts = [(getattr(x, p), getattr(y, p)) for x, y in zip(a.layers, b.layers, strict=True) for p in ("kernel", "bias")]
    return all(np.array_equal(x, y) and x.dtype == np.float32 for x, y in parts)


def write_named(path, *, group="model_weights", encode=True, inner="{layer}/kernel:0", layers=KERAS, weights=WEIGHTS):
    """An .h5 as Keras 1 to 3 save it: order in `layer_names`, arrays by `weight_names`."""
    text = (lambda s: s.encode()) if encode else (lambda s: s)
    with h5py.File(path, "w") as h5:
        root = h5.require_group(group) if group else h5
        root.attrs["layer_names"] = [text(n) for n in ("input_1", *layers[:2], "pool_1", *layers[2:], "flatten_3")]
        for name in ("input_1", "pool_1", "flatten_3"):
            root.create_group(name).attrs["weight_names"] = []
        for name, layer in zip(layers, weights.layers, strict=False):
            kernel = inner.format(layer=name)
            bias = kernel.replace("kernel", "bias")
            root.create_group(name).attrs["weight_names"] = [text(kernel), text(bias)]
            root[name][kernel], root[name][bias] = layer.kernel, layer.bias
    return path


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"encode": False},
        {"encode": False, "inner": "sequential_4/{layer}/kernel"},
        {"group": None},
    ],
    ids=["keras 2.1", "keras 2.15", "keras 3", "weights alone"],
)
def test_layers_are_read_in_the_order_of_the_network(tmp_path, form):
    assert same(read_checkpoint(write_named(tmp_path / "m.h5", **form)), WEIGHTS)


def test_weights_file_of_keras_3_is_read_by_its_numbers(tmp_path):
    with h5py.File(tmp_path / "m.weights.h5", "w") as h5:
        for name, layer in zip(("conv1d", "conv1d_1", "conv1d_2", "dense", "dense_1"), WEIGHTS.layers, strict=True):
            h5[f"layers/{name}/vars/0"], h5[f"layers/{name}/vars/1"] = layer.kernel, layer.bias
        h5.create_group("layers/flatten/vars")
    assert same(read_checkpoint(tmp_path / "m.weights.h5"), WEIGHTS)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_keras_saves_is_read(tmp_path):
    keras = pytest.importorskip("keras", reason="keras comes with blockwise[tensorflow]")
    conv, pool, dense = keras.layers.Conv1D, keras.layers.MaxPooling1D, keras.layers.Dense
    stack = [conv(6, 31), conv(8, 19), pool(2), conv(10, 5), pool(2), dense(7), keras.layers.Flatten(), dense(1)]
    model = keras.Sequential([keras.Input((64, 1)), *stack])
    model.save(tmp_path / "whole.h5")
    model.save_weights(tmp_path / "m.weights.h5")
    arrays = [np.array(w) for w in model.get_weights()]
    wanted = Weights(*(Layer(k, b) for k, b in zip(arrays[::2], arrays[1::2], strict=True)))
    assert same(read_checkpoint(tmp_path / "whole.h5"), wanted)
    assert same(read_checkpoint(tmp_path / "m.weights.h5"), wanted)


def test_safetensors_come_back_as_written(tmp_path):
    write_safetensors(tmp_path / "m.safetensors", WEIGHTS)
    assert same(read_checkpoint(tmp_path / "m.safetensors"), WEIGHTS)


def test_safetensors_of_another_network_name_what_is_missing(tmp_path):
    from safetensors.numpy import save_file

    save_file({"conv1.kernel": WEIGHTS.conv1.kernel}, tmp_path / "m.safetensors")
    with pytest.raises(ModelError, match=r"lacks conv1\.bias, .*output\.bias; it holds conv1\.kernel"):
        read_checkpoint(tmp_path / "m.safetensors")


def test_a_network_with_a_layer_less_is_refused(tmp_path):
    with pytest.raises(ModelError, match=f"4 layers with weights, a Cascade network has {len(ARRAYS)}"):
        read_checkpoint(write_named(tmp_path / "m.h5", layers=KERAS[:4]))


@pytest.mark.parametrize("suffix", [".h5", ".safetensors"])
def test_a_damaged_file_is_named(tmp_path, suffix):
    file = tmp_path / f"m{suffix}"
    file.write_bytes(b"\x89HDF\r\n\x1a\n" + b"cut off")
    with pytest.raises(ModelError, match=f"m{suffix} is not a readable checkpoint"):
        read_checkpoint(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingError, match=r"no checkpoint at .*nowhere\.h5"):
        read_checkpoint(tmp_path / "nowhere.h5")


def test_layers_that_do_not_fit_together_are_refused():
    first, second, *rest = WEIGHTS.layers
    with pytest.raises(ModelError, match="do not fit together"):
        Weights(first, Layer(second.kernel[:, :5], second.bias), *rest)
    with pytest.raises(ModelError, match=r"rank \[2, 3, 3, 2, 2\]"):
        Weights(Layer(first.kernel[:, 0], first.bias), second, *rest)


@pytest.mark.parametrize(("window", "steps", "reach"), [(64, 2, 64), (76, 5, 76), (66, 2, 64), (67, 2, 64), (68, 3, 68)])
def test_steps_and_reach_follow_from_the_window(window, steps, reach):
    weights = random_weights(window=window)
    assert (weights.steps, weights.reach, weights.fits(window)) == (steps, reach, True)
    assert not weights.fits(window + 20)
