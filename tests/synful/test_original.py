"""A configuration of the original, read as ours."""

import json

import pytest

from blockwise.config import load_config
from blockwise.errors import ConfigError, MissingError
from tasks.synful.options import SynfulOptions

TEMPLATE = {
    "experiment": "cremi",
    "setup": "setup01",
    "iteration": 90000,
    "raw_file": "../data/sampleA.hdf",
    "raw_dataset": "volumes/raw",
    "out_directory": "out",
    "out_filename": "A.zarr",
    "num_workers": 1,
    "out_properties": {
        "pred_syn_indicator_out": {"dsname": "pred_syn_indicator", "dtype": "uint8", "scale": 255},
        "pred_partner_vectors": {"dtype": "int8", "scale": 0.25},
    },
}


@pytest.fixture
def predict(tmp_path):
    """A predict.json with a setup where the original has it, `../train/<setup>`."""
    setup = tmp_path / "train" / "setup01"
    setup.mkdir(parents=True)
    (setup / "parameter.json").write_text("{}")
    (setup / "train_net_checkpoint_90000.index").write_text("")
    (setup / "train_net_config.json").write_text(json.dumps({"output_shape": [6, 218, 218]}))
    (tmp_path / "predict").mkdir()

    def write(**more):
        file = tmp_path / "predict" / "predict.json"
        file.write_text(json.dumps(TEMPLATE | more))
        return file

    return write


def test_the_template_runs_unchanged(predict, tmp_path):
    config = load_config(predict(configname="train"))
    options = config.options_as(SynfulOptions)
    assert config.model.path == str(tmp_path / "train" / "setup01" / "train_net_checkpoint_90000")
    assert config.input.variable == "volumes/raw"
    assert config.output.path == str(tmp_path / "predict" / "out" / "setup01" / "90000" / "A.zarr")
    assert (options.mode, options.grid, config.blocks.shape) == ("predict", "compat", (6, 218, 218))
    assert (options.store.mask, options.store.vectors) == ("volumes/pred_syn_indicator", "volumes/pred_partner_vectors")
    assert (options.store.mask_scale, options.store.vectors_scale) == (255, 0.25)
    assert config.output.make_folders
    assert config.ledger.url is None


def test_extraction_parameters_make_it_fused(predict, tmp_path):
    wishes = {"extract_type": "cc", "cc_threshold": 0.9, "loc_type": "edt", "score_thr": 5, "score_type": "sum", "nms_radius": None}
    (tmp_path / "predict" / "extract.json").write_text(json.dumps(wishes))
    options = load_config(predict(extraction_parameters="extract.json", synapse_context=120)).options_as(SynfulOptions)
    assert (options.mode, options.extract.threshold, options.extract.min_score, options.extract.context) == ("fused", 0.9, 5, 120)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("localhost:27017", "mongodb://localhost:27017/synful_setup01_90000"),
        ("mongodb://a/old?tls=true", "mongodb://a/synful_setup01_90000?tls=true"),
    ],
)
def test_db_host_is_the_ledger(predict, host, url):
    assert load_config(predict(db_host=host)).ledger.url == url
    assert load_config(predict(db_host=host), ["ledger.url=here.sqlite"]).ledger.url == "here.sqlite"


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"setup": "setup09"}, MissingError, r"no setup 'setup09': looked for .*train.cremi.*train.setup09"),
        ({"iteration": 5}, MissingError, "holds the iterations 90000"),
        ({"overwrite": True}, ConfigError, r"blockwise clean predict.run --all"),
        ({"num_worker": 2}, ConfigError, "did you mean 'num_workers'"),
    ],
)
def test_what_cannot_be_run_is_said(predict, more, error, words):
    with pytest.raises(error, match=words):
        load_config(predict(**more))


def test_any_other_json_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ConfigError, match="is no configuration that synful knows"):
        load_config(tmp_path / "x.json")
