import hashlib
import io
import json
import zipfile

import pytest
from typer.testing import CliRunner

from blockwise.errors import ConfigError, MissingError, ModelError, StorageError
from blockwise.models import Entry, Registry, Suggestion, find, get, models_folder, read_list, registries, update, updated_list
from blockwise.models_command import app
from tests.http_server import serve
from tests.runs import blockwise


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("BLOCKWISE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def site():
    with serve() as site:
        yield site


def zipped(**files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, content in files.items():
            z.writestr(name.replace("__", "."), content)
    return out.getvalue()


def registry(site, check=None, **entry):
    return Registry("toy", {"m": Entry("m", f"{site.url}/m", **entry)}, check=check)


def test_a_model_is_fetched_once_and_found(site, folder):
    site.files["/m"], models = zipped(config__yaml="a"), registry(site)
    with pytest.raises(MissingError, match="model m is not on this machine: blockwise models get m"):
        find("m", models)
    for _ in range(2):
        assert get("m", registry=models) == folder / "m"
    assert find("m", models) == folder / "m"
    assert len(site.requests) == 1
    assert [p.name for p in folder.iterdir()] == ["m"]


def test_a_model_goes_where_it_is_asked_to(site, tmp_path, folder):
    site.files["/m"] = zipped(config__yaml="a")
    assert get("m", tmp_path / "here", registry=registry(site)) == tmp_path / "here" / "m"
    assert not folder.exists()


def test_a_single_file_is_a_model_too(site, folder):
    site.files["/m"] = b"weights"
    models = registry(site, kind="file", sha256=hashlib.sha256(b"weights").hexdigest())
    assert get("m", registry=models).read_bytes() == b"weights"
    assert find("m", models) == folder / "m"


def _refuse(_path):
    raise ModelError("no config.yaml")


@pytest.mark.parametrize("kind", ["zip", "file"])
def test_what_is_no_model_does_not_stay(site, folder, kind):
    site.files["/m"] = zipped(a="b")
    with pytest.raises(ModelError, match=r"no config\.yaml"):
        get("m", registry=registry(site, check=_refuse, kind=kind))
    assert list(folder.iterdir()) == []


def test_a_wrong_checksum_is_refused(site, folder):
    site.files["/m"] = zipped(a="b")
    with pytest.raises(ModelError, match="another sha256"):
        get("m", registry=registry(site, sha256="0" * 64))
    assert list(folder.iterdir()) == []


def test_offline_names_the_model(site):
    models = registry(site)
    site.files.clear()
    with pytest.raises(StorageError, match=r"cannot download m\.zip: the server answers 404"):
        get("m", registry=models)


def test_a_model_of_a_package_is_not_fetched(tmp_path):
    models = Registry("toy", {n: Entry(n, folder=tmp_path / n) for n in ("there", "gone")})
    (tmp_path / "there").mkdir()
    assert get("there", registry=models) == find("there", models) == tmp_path / "there"
    with pytest.raises(MissingError, match="install the package again"):
        get("gone", registry=models)


def test_an_unknown_name_suggests_the_nearest(site):
    with pytest.raises(MissingError, match="did you mean 'Global_EXC_30Hz_smoothing50ms'"):
        get("Global_EXC_30Hz_smooth50ms")
    with pytest.raises(MissingError, match=r"'\.\./m' is neither"):
        find("../m", registry(site))


def test_a_newer_list_is_read_and_kept(site, tmp_path):
    site.files["/list"] = b"new_30Hz: {Link: 'https://example.org/a', Info: text}\nold:\n    Link: http://example.org/b\n    Info:\n"
    assert update(f"{site.url}/list", "toy") == ["new_30Hz", "old"]
    assert updated_list("toy")["new_30Hz"] == Entry("new_30Hz", "https://example.org/a", info="text")
    (tmp_path / "list.yaml").write_text("third: {Link: 'http://example.org/c'}")
    assert update(str(tmp_path / "list.yaml"), "toy") == ["third"]
    assert updated_list("other") == {}


@pytest.mark.parametrize(
    "text",
    [
        "<html></html>",
        "- a",
        "a: b",
        "a: {Info: x}",
        "../a: {Link: 'http://x/y'}",
        "a: {Link: 'file:///etc/passwd'}",
        "a: [",
        "!!python/name:os.system",
    ],
)
def test_what_is_no_list_is_refused_and_not_kept(text, tmp_path):
    (tmp_path / "list.yaml").write_text(text)
    with pytest.raises(ModelError, match="is not a list of models"):
        update(str(tmp_path / "list.yaml"), "toy")
    assert updated_list("toy") == {}


def test_checksums_of_a_list_are_used():
    assert read_list("a: {Link: 'http://x/y', Sha256: ABC}", "list")["a"].sha256 == "abc"


def test_the_folder_of_models(monkeypatch, folder):
    assert models_folder() == folder
    monkeypatch.delenv("BLOCKWISE_MODELS")
    assert models_folder().parts[-2:] == ("blockwise", "models")


def test_advice_is_the_sciences_own():
    assert Registry("toy", advise=lambda _r, rate: Suggestion(f"m{rate}", "why")).suggest(rate=3).name == "m3"
    with pytest.raises(ConfigError, match="toy suggests no models"):
        Registry("toy").suggest(rate=3)
    assert "cascade" in registries()


# the command


def command(*words):
    return CliRunner().invoke(app, words, catch_exceptions=False)


def test_list_shows_the_published_models():
    rows = json.loads(command("list", "--json").stdout)
    published = [r for r in rows if r["task"] == "cascade" and r["url"]]
    assert len(published) == 39
    assert set(rows[0]) == {"task", "name", "present", "path", "url", "info"}
    assert "Global_EXC_30Hz_smoothing50ms_causalkernel" in command("list").stdout


def test_get_prints_where_the_model_lies(site, folder):
    site.files["/m"] = zipped(readme="x")
    update_text = f"toy_30Hz: {{Link: '{site.url}/m'}}"
    (folder.parent / "list.yaml").write_text(update_text)
    assert command("update", str(folder.parent / "list.yaml"), "--task", "cascade").stdout == "1 models read, 1 of them new: toy_30Hz\n"
    with pytest.raises(ModelError, match=r"model toy_30Hz: .* it has no config\.yaml"):
        command("get", "toy_30Hz")


def test_suggest_names_one_on_stdout_and_says_why():
    told = command("suggest", "--frame-rate", "30.5", "--indicator", "GCaMP6f")
    assert "30Hz" in told.stdout
    assert len(told.stdout.splitlines()) == 1
    assert "1.7% from your 30.5 Hz" in told.stderr
    assert json.loads(command("suggest", "--frame-rate", "7.5", "--json").stdout)["name"].startswith("Global_EXC_7.5Hz")


@pytest.mark.parametrize(("words", "why"), [(("22",), "nearest is for 20 Hz, 10% off"), (("22", "--json"), "Nearest: Global_EXC_20Hz")])
def test_suggest_names_none_where_none_fits(words, why):
    told = blockwise("models", "suggest", "--frame-rate", *words)
    assert (told.code, told.out) == (2, "")
    assert why in told.err


def test_a_task_without_models_is_refused():
    with pytest.raises(ConfigError, match=r"--task nothing: tasks with models are .*cascade"):
        command("list", "--task", "nothing")
