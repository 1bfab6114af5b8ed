"""One schema: layers, refusals that name the nearest key, and a saved configuration that reads as itself."""

import math
from pathlib import Path

import pytest
from pydantic import BaseModel

from blockwise.config import Place, RunConfig, load_config, overridden, validated, with_places
from blockwise.errors import ConfigError, MissingError
from blockwise.folder import RunFolder, to_toml
from tasks.cascade.job import CascadeOptions

EXAMPLE = """task = "cascade"
[input]
path = "a.npy"
frame_rate = 30.0
[options]
threshold = 1
[cluster]
workers = 2
"""


def written(folder: Path, text: str = EXAMPLE) -> Path:
    file = folder / "run.toml"
    file.write_text(text, encoding="utf-8")
    return file


REFUSED = [
    ("tsk = 'x'", "unknown key 'tsk': did you mean 'task'"),
    ("zzz = 1", "unknown key 'zzz': known here: blocks, cluster, input"),
    ("[clutser]\nworkers = 2", "unknown key 'clutser': did you mean 'cluster'"),
    ("[cluster]\nworkrs = 2", "unknown key 'cluster.workrs': did you mean 'workers'"),
    ("[[input.sessions]]\npath = 'x'\nframerate = 3", "unknown key 'input.sessions.0.framerate': did you mean 'frame_rate'"),
    ("[cluster]\nworkers = 0", "cluster.workers: .*greater than or equal to 1, got 0"),
    ("[cluster]\nkind = 'cloud'", "cluster.kind: .*'local'.*got 'cloud'"),
    ("[input]\nframe_rate = -1", "input.frame_rate: .*greater than 0, got -1"),
    ("[blocks]\nmemory = '1 banana'", 'blocks.memory: .*no size such as "1GB"'),
    ("[blocks]\nshape = 'big'", "blocks.shape.*'auto', got 'big'"),
    ("input = 'a.npy'", "input: .*got 'a.npy'"),
    ("[run]\nretries = 1.5", "run.retries: .*got 1.5"),
    ("[output]\npath = false", "output.path: .*got false"),
    ("[[input.sessions]]\nname = 'x'", "input.sessions.0.path is missing: `blockwise init TASK INPUT`"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[r[0].replace("\n", " ") for r in REFUSED])
def test_what_does_not_fit_is_named(tmp_path, text, message):
    head = "" if text.startswith("tsk") else "task = 'cascade'\n"
    with pytest.raises(ConfigError, match=message):
        load_config(written(tmp_path, head + text))


def test_every_wrong_key_is_named_at_once(tmp_path):
    with pytest.raises(ConfigError, match=r"(?s)cluster.workers.*run.fodler"):
        load_config(written(tmp_path, "task = 'x'\n[cluster]\nworkers = 0\n[run]\nfodler = 'x'"))


@pytest.mark.parametrize("content", [b"task = ", b"task = 'caf\xe9'", b"a = 1\na = 2"])
def test_what_is_not_toml_is_refused_with_its_place(tmp_path, content):
    (tmp_path / "run.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"run\.toml is not valid TOML"):
        load_config(tmp_path / "run.toml")


@pytest.mark.parametrize("content", [b"", b"# a comment\n\n"])
def test_an_empty_file_is_refused_with_what_is_missing(tmp_path, content):
    (tmp_path / "run.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"run\.toml sets nothing: .*`task` and, under \[input\], `path`; `blockwise init"):
        load_config(tmp_path / "run.toml")
    with pytest.raises(ConfigError, match="task is missing"):
        load_config(tmp_path / "run.toml", ["input.path=a.npy"])


def test_a_missing_file_teaches_init(tmp_path):
    with pytest.raises(MissingError, match="write one with `blockwise init"):
        load_config(tmp_path / "run.toml")


def test_options_are_the_tasks(tmp_path):
    config = load_config(written(tmp_path, "task = 'cascade'\n[options]\nthreshhold = 1"))
    with pytest.raises(ConfigError, match=r"unknown key 'options\.threshhold': did you mean 'threshold'"):
        config.options_as(CascadeOptions)


def test_the_environment_goes_over_the_file_and_set_over_both(tmp_path, monkeypatch):
    file = written(tmp_path)
    monkeypatch.setenv("BLOCKWISE_CLUSTER__WORKERS", "3")
    monkeypatch.setenv("BLOCKWISE_OPTIONS__THRESHOLD", "false")
    monkeypatch.setenv("BLOCKWISE_TEST_MONGODB", "none of ours")
    assert load_config(file).cluster.workers == 3
    assert load_config(file).options == {"threshold": False}
    assert load_config(file, ["cluster.workers=5", "options.padding=nan"]).cluster.workers == 5
    assert math.isnan(load_config(file, ["options.padding=nan"]).options["padding"])


@pytest.mark.parametrize(
    ("override", "value"), [("a.npy", "a.npy"), ('"x y"', "x y"), ("/data/*.mat", "/data/*.mat"), ("a=b", "a=b")], ids=str
)
def test_values_on_the_command_line_need_no_quotes(tmp_path, override, value):
    assert load_config(written(tmp_path), [f"input.path={override}"]).input.path == value


NOTHING = [("workers", "write section.key=value"), ("task.x=1", "'task' is a value"), ("=3", "unknown key")]


@pytest.mark.parametrize(("override", "message"), NOTHING)
def test_overrides_that_say_nothing_are_refused(tmp_path, override, message):
    with pytest.raises(ConfigError, match=message):
        overridden(load_config(written(tmp_path)), [override])


FULL = {
    "task": "cascade",
    "input": {
        "sessions": [
            {"path": "/d/ä 'b' \"c\".npy", "frame_rate": 29.97, "model": "m"},
            {"path": "/d/\U0001f42d\\\x7f.mat", "variable": "x"},
        ]
    },
    "output": {"path": "/o.zarr"},
    "options": {"padding": float("nan"), "threshold": False, "export": ["npy"], "export_max_mb": float("inf"), "neuropil": 1e-30},
    "blocks": {"shape": [4, 500], "context": [[0, 0], [3, 2]], "edge": "snap"},
    "cluster": {"workers": 2},
    "run": {"folder": "/r.run", "lease_s": 2.5},
}


@pytest.mark.parametrize(("written_as", "text"), [("04:00:00", "04:00:00"), ("90", "90"), ('"1-12:00:00"', "1-12:00:00")])
def test_a_walltime_needs_no_quotation_marks(tmp_path, written_as, text):
    config = load_config(written(tmp_path, f"{EXAMPLE}walltime = {written_as}\n"))
    assert config.cluster.walltime == text
    assert overridden(load_config(written(tmp_path)), [f"cluster.walltime={written_as}"]).cluster.walltime == text


def test_the_saved_configuration_reads_as_itself(tmp_path):
    config = validated(RunConfig, FULL)
    folder = RunFolder.make(tmp_path / "run")
    folder.save_config(config)
    for again in (load_config(folder.path / "config.toml"), folder.load_config()):
        assert math.isnan(again.options["padding"])
        assert to_toml(again) == to_toml(config)
        assert again.model_dump(exclude={"options"}) == config.model_dump(exclude={"options"})
        assert again.options_as(CascadeOptions).export == ("npy",)


def test_places_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    text = "task = 'cascade'\n[model]\npath = 'm'\n[ledger]\nurl = 'l.sqlite'\n[[input.sessions]]\npath = 's3://b/x'\nmodel = 'Global'\n"
    config = with_places(load_config(written(tmp_path, text)), "run.toml")
    assert (config.model.path, config.ledger.url) == (str(tmp_path / "m"), str(tmp_path / "l.sqlite"))
    assert (config.input.sessions[0].path, config.input.sessions[0].model) == ("s3://b/x", "Global")
    assert (config.run.folder, config.output.path) == (str(tmp_path / "run.run"), str(tmp_path / "run.zarr"))
    assert with_places(config, "other.toml") == config


class Nested(BaseModel):
    segmentation: Place | None = None
    name: str = ""


class Placed(BaseModel):
    mask: Place | None = None
    mapping: Nested = Nested()


def test_places_among_options_become_absolute_where_they_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.zarr").mkdir()
    wishes = {"mask": "m.zarr", "mapping": {"segmentation": "m.zarr", "name": "m.zarr"}, "unknown": 1}
    found = with_places(validated(RunConfig, {"task": "x", "options": wishes}), "run.toml", Placed).options
    place = str(tmp_path / "m.zarr")
    assert found == {"mask": place, "mapping": {"segmentation": place, "name": "m.zarr"}, "unknown": 1}
