from pathlib import Path

import pytest

from blockwise.errors import ConfigError, MissingError
from blockwise.ledger.server_url import (
    FILE_VARIABLE,
    PASSWORD_VARIABLE,
    USER_VARIABLE,
    parse_url,
    refuse_shown_password,
    without_credentials,
)


@pytest.fixture(autouse=True)
def no_login(monkeypatch: pytest.MonkeyPatch):
    for name in (USER_VARIABLE, PASSWORD_VARIABLE, FILE_VARIABLE):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("url", "text", "database"),
    [
        ("mongodb://h:1", "mongodb://h:1/", "blockwise"),
        ("mongodb://h:1/runs", "mongodb://h:1/runs", "runs"),
        ("mongodb://eve:pw-7@h:1,i:2/runs?replicaSet=rs&tls=true", "mongodb://h:1,i:2/runs?replicaSet=rs&tls=true", "runs"),
        ("mongodb+srv://eve:p%40w@h/", "mongodb+srv://h/", "blockwise"),
        ("mongodb://eve@h", "mongodb://h/", "blockwise"),
        ("mongodb://h/?tlsCertificateKeyFilePassword=pw-7&tls=true", "mongodb://h/?tls=true", "blockwise"),
        ("mongodb://h/?AuthMechanismProperties=AWS_SESSION_TOKEN:pw-7", "mongodb://h/", "blockwise"),
    ],
)
def test_the_shown_url_has_no_secret(url: str, text: str, database: str):
    server = parse_url(url)
    assert (server.text, server.database, without_credentials(url)) == (text, database, text)
    assert not {"eve", "pw-7", "p%40w"} & set(repr(server).replace("/", " ").replace("'", " ").split())


@pytest.mark.parametrize("secret", ["eve", "p@w/7", "p%40w%2F7", "key7"])
def test_secrets_are_taken_out_of_texts_in_either_spelling(secret: str):
    server = parse_url("mongodb://eve:p%40w%2F7@h/?tlsCertificateKeyFilePassword=key7")
    assert server.redact(f"bad login <{secret}> at h") == "bad login <***> at h"


@pytest.mark.parametrize("url", ["mongodb://eve:pw/7@h/db", "mongodb://eve:pw?7@h/db", "mongodb://eve:pw@7@h/db", "mongodb://h/?a=b@pw"])
def test_a_login_that_is_not_encoded_is_refused_unseen(url: str):
    with pytest.raises(ConfigError, match="percent-encoded") as caught:
        parse_url(url)
    assert "pw" not in str(caught.value)


def test_a_url_without_server_is_refused():
    with pytest.raises(ConfigError, match="names no server"):
        parse_url("mongodb:///runs")


def test_the_login_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(USER_VARIABLE, "eve")
    monkeypatch.setenv(PASSWORD_VARIABLE, "p@w")
    server = parse_url("mongodb://h/runs")
    assert server.login == {"username": "eve", "password": "p@w"}
    assert server.redact("eve p@w p%40w") == "*** *** p%40w"
    assert "p@w" not in repr(server)
    assert parse_url("mongodb://ann:x@h").login == {}


@pytest.mark.parametrize(("there", "missing"), [(USER_VARIABLE, PASSWORD_VARIABLE), (PASSWORD_VARIABLE, USER_VARIABLE)])
def test_half_a_login_is_refused(monkeypatch: pytest.MonkeyPatch, there: str, missing: str):
    monkeypatch.setenv(there, "x1y2")
    with pytest.raises(ConfigError, match=f"{missing} is not") as caught:
        parse_url("mongodb://h")
    assert "x1y2" not in str(caught.value)


def test_a_path_is_shown_as_it_is():
    assert without_credentials("/data/a@b/ledger.sqlite") == "/data/a@b/ledger.sqlite"


# --- credentials files


def credentials(folder: Path, text: str = "eve\np@w/7\n", mode: int = 0o600) -> Path:
    file = folder / "login.txt"
    file.write_text(text)
    file.chmod(mode)
    return file


@pytest.mark.parametrize("place", ["option", "variable"])
def test_the_login_comes_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str):
    file = credentials(tmp_path)
    url = (
        f"mongodb://h,i/runs?replicaSet=rs&loginFile={file}&tls=true" if place == "option" else "mongodb://h,i/runs?replicaSet=rs&tls=true"
    )
    if place == "variable":
        monkeypatch.setenv(FILE_VARIABLE, str(file))
    server = parse_url(url)
    assert server.login == {"username": "eve", "password": "p@w/7"}
    assert server.raw == "mongodb://h,i/runs?replicaSet=rs&tls=true"
    assert server.redact("eve p@w/7") == "*** ***"
    assert without_credentials(url) == url, "a path is no secret, and the next start needs it"


def test_a_file_named_in_the_url_comes_before_those_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "missing"))
    monkeypatch.setenv(USER_VARIABLE, "ann")
    assert parse_url(f"mongodb://h/?loginFile={credentials(tmp_path)}").login["username"] == "eve"
    assert parse_url("mongodb://bob:x@h/").login == {}
    assert without_credentials("mongodb://h/") == "mongodb://h/"


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o602])
def test_a_file_that_others_may_read_is_refused_with_the_way_out(tmp_path: Path, mode: int):
    file = credentials(tmp_path, mode=mode)
    with pytest.raises(ConfigError, match=f"others .mode {mode:04o}.: chmod 600 {file}") as caught:
        parse_url(f"mongodb://h/?loginFile={file}")
    assert "p@w" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "eve\n", "eve\npw-7\nmore\n", "\npw-7\n", "eve\n\n"])
def test_a_file_that_does_not_hold_two_lines_is_refused_unseen(tmp_path: Path, text: str):
    with pytest.raises(ConfigError, match="it holds two, the user and below it the password") as caught:
        parse_url(f"mongodb://h/?loginFile={credentials(tmp_path, text)}")
    assert "pw-7" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "kind", "says"), [("/nowhere/at/all", MissingError, "no credentials file"), ("a", ConfigError, "relative")]
)
def test_a_file_that_cannot_be_found_is_named(path: str, kind: type[Exception], says: str):
    with pytest.raises(kind, match=says):
        parse_url(f"mongodb://h/?loginFile={path}")


@pytest.mark.parametrize(
    "url", ["mongodb://eve:pw-7@h/db", "'mongodb+srv://eve:pw-7@h/db'", "mongodb://h/?tlsCertificateKeyFilePassword=pw-7"]
)
def test_a_password_on_the_command_line_is_refused_unseen(url: str):
    with pytest.raises(ConfigError, match="seen by everybody") as caught:
        refuse_shown_password(["cluster.workers=2", f"ledger.url={url}"])
    assert "pw-7" not in str(caught.value)


def test_other_values_of_the_command_line_are_let_through():
    refuse_shown_password(["ledger.url=mongodb://h,i/db?replicaSet=rs", "ledger.url=a@b.sqlite", "input.path=mongodb://eve:pw@h"])


@pytest.mark.parametrize("command", ["plan", "run"])
def test_the_command_refuses_a_password_in_its_own_line(tmp_path: Path, command: str):
    from tests.runs import blockwise, configuration

    file = configuration(tmp_path, {"input": {"path": "recording.npy"}})
    called = blockwise(command, file, "--set", "ledger.url=mongodb://eve:pw-7@h/db")
    assert (called.code, "seen by everybody" in called.err, "pw-7" in called.out + called.err) == (2, True, False)
