"""The run folder: made once, read anywhere, torn lines skipped."""

import json
import tomllib

import pytest

from blockwise.config import BlocksConfig, ClusterConfig, InputConfig, RunConfig, SessionConfig, overridden, validated
from blockwise.errors import ConfigError, MissingError, StorageError
from blockwise.folder import RunFolder, refuse_redacted, to_toml
from blockwise.status import Counts, HistoryPoint, Status


@pytest.fixture
def folder(tmp_path):
    return RunFolder.make(tmp_path / "run")


def test_a_run_keeps_its_id(folder):
    assert folder.run
    assert RunFolder.make(folder.path).run == folder.run
    assert RunFolder.find(folder.path).run == folder.run


def test_a_folder_that_is_not_there_or_cannot_be_made(tmp_path):
    with pytest.raises(MissingError, match="no run folder"):
        RunFolder.find(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        RunFolder.make(tmp_path / "file" / "run")


def test_the_configuration_comes_back_from_both_files(folder):
    sessions = (SessionConfig(path="/a.npy", frame_rate=30.0), SessionConfig(path='/b "quoted".npy'))
    config = RunConfig(
        task="map", input=InputConfig(sessions=sessions), options={"threshold": 0.5, "names": ["x"]}, cluster=ClusterConfig(workers=2)
    )
    folder.save_config(config)
    assert folder.load_config() == config
    assert RunConfig.model_validate(tomllib.loads((folder.path / "config.toml").read_text())) == config
    assert tomllib.loads(to_toml(config))["input"]["sessions"][1]["path"] == '/b "quoted".npy'


def test_a_run_that_never_began_has_no_configuration_and_is_planned(folder):
    with pytest.raises(MissingError, match=r"config\.json"):
        folder.load_config()
    assert folder.read_status().state == "planned"


def test_a_status_is_replaced_whole(folder):
    for done in (1, 2):
        status = Status(run=folder.run, task="t", folder="f", output="", state="running", blocks=Counts(total=3, done=done), stages=())
        folder.write_status(status)
        assert folder.read_status() == status
    assert not list(folder.path.glob(".status*"))


def test_torn_lines_are_skipped(folder):
    folder.note_history(HistoryPoint(1.0, 2, 3))
    folder.note_start(adopted={})
    for name in ("history.jsonl", "provenance.jsonl"):
        with (folder.path / name).open("a") as file:
            file.write('{"at_s": 1')
    assert folder.history() == [HistoryPoint(1.0, 2, 3)]
    (start,) = folder.starts()
    assert start["versions"]["numpy"]
    assert json.dumps(start)


def test_what_the_first_start_decided_stays(folder):
    folder.keep_resolved({"blocks.shape": [6, 216, 216]})
    folder.keep_resolved({"blocks.shape": [6, 27, 27]})
    assert folder.settled(RunConfig(task="x")).blocks.shape == (6, 216, 216)
    asked = RunConfig(task="x", blocks=BlocksConfig(shape=(3, 27, 27)))
    assert folder.settled(asked) == asked


@pytest.mark.parametrize("url", ["https://anna:pw1234@h/em.zarr", "https://h/em.zarr?X-Amz-Signature=pw1234"])
def test_secrets_of_urls_are_not_kept_and_are_asked_for_again(tmp_path, url):
    folder = RunFolder.make(tmp_path / "r")
    config = validated(RunConfig, {"task": "t", "input": {"path": url}, "options": {"mask": [url], "n": 3}})
    folder.save_config(config)
    assert "pw1234" not in "".join(f.read_text() for f in folder.path.iterdir())
    kept = folder.load_config()
    assert kept.options["n"] == 3
    with pytest.raises(ConfigError, match=r"input\.path = .* --set input\.path="):
        refuse_redacted(kept)
    with pytest.raises(ConfigError, match=r"--set options\.mask="):
        refuse_redacted(overridden(kept, [f"input.path={url}"]))
    refuse_redacted(config)
