import pytest

from blockwise.errors import ConfigError
from blockwise.ledger.server_url import PASSWORD_VARIABLE, USER_VARIABLE, parse_url, without_credentials


@pytest.fixture(autouse=True)
def no_login(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(USER_VARIABLE, raising=False)
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)


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
