import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from blockwise.errors import ConfigError, MissingError, ModelError
from blockwise.models import get
from blockwise.models_command import app
from tasks.synful import load_network
from tasks.synful.checkpoint import digest
from tasks.synful.registry import INPUT_SHAPE, OUTPUT_SHAPE, published, registry
from tasks.synful.sizes import NetworkShape
from tests.synful.tensorflow_files import write_checkpoint
from tests.synful.test_checkpoint import arrays, network

NAMES = {"p_setup05", "p_setup10", "p_setup45", "p_setup51", "p_setup52", "p_setup54", "cremi_v01"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("BLOCKWISE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def command(*words):
    return CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)


def test_the_published_networks_are_known():
    rows = json.loads(command("list", "--json", "--task", "synful").stdout)
    assert {r["name"] for r in rows} - {"synful-demo"} == NAMES == set(published())
    assert {n.partner for n in published().values()} <= {None, *NAMES}
    assert NetworkShape(((1, 3, 3), (1, 3, 3), (3, 3, 3))).output_shape(INPUT_SHAPE) == OUTPUT_SHAPE
    assert all(n.activation == ("sigmoid" if n.loss == "cross-entropy" else None) for n in published().values())


def test_every_published_network_has_a_preset():
    presets = (Path(__file__).parents[2] / "configs").glob("synful-*.toml")
    assert {p.stem.removeprefix("synful-") for p in presets} >= NAMES


@pytest.mark.parametrize(
    ("name", "file"), [("p_setup52", "train_net_checkpoint_390000.index"), ("cremi_v01", "train_net_checkpoint_N.index")]
)
def test_where_no_link_is_known_the_files_are_named(folder, name, file):
    with pytest.raises(MissingError, match=f"model {name} is not at {folder / name}: no link is known here.*{file}"):
        get(name, registry=registry())


def test_a_list_of_links_of_ones_own(tmp_path):
    (tmp_path / "list.yaml").write_text("p_setup52: {Link: 'https://example.org/p_setup52.zip'}")
    assert "1 models read, 0 of them new" in command("update", tmp_path / "list.yaml", "--task", "synful").stdout
    assert registry().entries["p_setup52"].url == "https://example.org/p_setup52.zip"


def test_convert_writes_what_needs_no_other_file(tmp_path):
    made = network()
    prefix = write_checkpoint(tmp_path / "train_net_checkpoint_7", arrays(made, adam=True))
    done = command("convert", prefix, tmp_path / "net.safetensors", "--activation", "relu")
    assert done.stdout == f"{tmp_path / 'net.safetensors'}\n"
    assert "vanilla, feature maps (2, 4, 8), pooling 1x2x2 2x3x3, activation relu" in done.stderr
    found = load_network(tmp_path / "net.safetensors")
    assert found.activation == "relu"
    assert digest(found) == digest(load_network(prefix, activation="relu"))


def test_convert_refuses_what_it_cannot_write(tmp_path):
    with pytest.raises(ConfigError, match=r"ends in \.safetensors"):
        command("convert", tmp_path / "a", tmp_path / "a.h5")
    with pytest.raises(ConfigError, match="say whose checkpoint it is"):
        command("convert", tmp_path / "a", tmp_path / "a.safetensors", "--task", "cascade")
    prefix = write_checkpoint(tmp_path / "a", {"b": arrays(network())["syn_indicator_0/bias"]})
    with pytest.raises(ModelError, match="not a Synful network"):
        command("convert", prefix, tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()
