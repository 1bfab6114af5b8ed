import json
from pathlib import Path

import pytest

from blockwise.config import validated
from blockwise.errors import ConfigError, MissingError
from tasks.synful.parameters import NetworkParameters
from tasks.synful.training.learner import network_parameters
from tasks.synful.training.loop import geometry_of
from tasks.synful.training.parameters import TrainingParameters, load_parameters, with_changes
from tests.shared import shared

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


@pytest.mark.parametrize(
    ("setup", "mask", "vectors", "share", "model"),
    [("01", 1, 0, 0.95, "vanilla"), ("02", 0, 1, 1.0, "vanilla"), ("03", 1, 1, 0.95, "dh_unet")],
)
def test_the_originals_setups(setup, mask, vectors, share, model):
    parameters = load_parameters(CONFIGS / f"synful-setup{setup}.json")
    assert (parameters.m_loss_scale, parameters.d_loss_scale, parameters.share_with_points) == (mask, vectors, share)
    assert parameters.unet_model == model
    assert geometry_of(parameters).output == (6, 218, 218)
    assert Path(parameters.cremi_dir) == CONFIGS / "cremi"
    assert Path(parameters.folder) == CONFIGS / f"synful-setup{setup}.run"


def test_defaults_are_the_originals():
    assert TrainingParameters() == validated(TrainingParameters, load_parameters(CONFIGS / "synful-setup01.json").model_dump(
        exclude={"cremi_dir", "folder", "num_heads", "d_scale", "d_loss_scale", "reject_probability"}
    ))  # fmt: skip


@pytest.mark.parametrize("name", ["st_mask", "st_vectors", "mt2_dh_unet"])
def test_parameter_files_of_the_original_are_read(name):
    file = shared(f"golden/synful/unet/{name}/parameter.json")
    parameters = load_parameters(file)
    assert network_parameters(parameters).shape == NetworkParameters.from_json(file).shape


def test_the_readmes_spellings():
    parameters = validated(TrainingParameters, {"downsample_factor": [[1, 2, 2]], "clip_range": [0.1, 0.9]})
    assert (parameters.downsample_factors, parameters.cliprange) == (((1, 2, 2),), (0.1, 0.9))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"blob_radus": 3}, "did you mean 'blob_radius'"),
        ({"validation": {"evry": 3}}, "did you mean 'every'"),
        ({"clip_range": [0.1, 0.9], "cliprange": [0.1, 0.9]}, "are one key"),
        ({"cliprange": [0.9, 0.1]}, "0 < low < high < 1"),
        ({"m_loss_scale": 0, "d_loss_scale": 0}, "nothing to learn"),
        ({"loss_comb_type": "product", "d_loss_scale": 0}, "nothing is learned: use 'sum'"),
        ({"num_heads": 2}, "num_heads 2 with unet_model 'vanilla'"),
        ({"blob_mode": "peak"}, "use m_loss_type 'mean_squared_error'"),
        ({"learning_rate": -1}, "greater than 0"),
    ],
)
def test_wrong_values_are_named(values, words):
    with pytest.raises(ConfigError, match=words):
        validated(TrainingParameters, values)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [("[1]", ConfigError, "holds a list"), ("{", ConfigError, "not valid JSON"), (None, MissingError, "no parameters")],
)
def test_files_that_are_no_parameters(tmp_path, text, error, words):
    if text is not None:
        (tmp_path / "p.json").write_text(text)
    with pytest.raises(error, match=words):
        load_parameters(tmp_path / "p.json")


def test_paths_are_those_of_the_files_folder(tmp_path):
    cubes = [{"raw": "a.hdf:volumes/raw", "mask": "/elsewhere/m.zarr"}, {"raw": "https://host/raw.zarr", "points": "p.csv"}]
    (tmp_path / "p.json").write_text(
        json.dumps({"cubes": cubes, "validation": {"cubes": [{"raw": "v.hdf"}]}, "initial_weights": "p_setup51"})
    )
    made = load_parameters(tmp_path / "p.json")
    assert [c.raw for c in made.cubes] == [f"{tmp_path}/a.hdf:volumes/raw", "https://host/raw.zarr"]
    assert (made.cubes[0].mask, made.cubes[1].points) == ("/elsewhere/m.zarr", f"{tmp_path}/p.csv")
    assert made.validation.cubes[0].raw == f"{tmp_path}/v.hdf"
    assert made.initial_weights == "p_setup51"


def test_weights_beside_the_file_are_found(tmp_path):
    (tmp_path / "train_net_checkpoint_3.index").touch()
    (tmp_path / "p.json").write_text(json.dumps({"initial_weights": "train_net_checkpoint_3"}))
    assert load_parameters(tmp_path / "p.json").initial_weights == f"{tmp_path}/train_net_checkpoint_3"


def test_a_model_is_not_the_file_that_is_called_after_it(tmp_path):
    (tmp_path / "p_setup51-tuned.json").write_text(json.dumps({"initial_weights": "p_setup51"}))
    assert load_parameters(tmp_path / "p_setup51-tuned.json").initial_weights == "p_setup51"


def test_changes_over_a_file():
    values = {"seed": 1, "validation": {"every": 5}}
    assert with_changes(values, ["seed=2", "validation.every=7", "augment.elastic=null", "precision=bf16"]) == {
        "seed": 2,
        "validation": {"every": 7},
        "augment": {"elastic": None},
        "precision": "bf16",
    }
    for wrong, words in (("seed", "key=value is wanted"), ("seed.a=1", "seed holds 1")):
        with pytest.raises(ConfigError, match=words):
            with_changes(values, [wrong])
