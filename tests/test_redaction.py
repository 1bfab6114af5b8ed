"""What is taken out of a text, and what stays."""

import time

import pytest

from blockwise.redaction import is_redacted, redact, redact_urls

SECRET = "hunter2-Zx81"


@pytest.mark.parametrize(
    "text",
    [
        f"mongodb://anna:{SECRET}@db.lab:27017/runs?tls=true is gone",
        f"cannot open https://anna:{SECRET}@host/em.zarr/zarr.json",
        f"https://b.s3.amazonaws.com/em.zarr?X-Amz-Algorithm=A&X-Amz-Credential={SECRET}&X-Amz-Signature={SECRET}&X-Amz-Date=1",
        f"https://s.blob.core.windows.net/em?sv=2022&sig={SECRET}&se=2026",
        f"https://storage.googleapis.com/b/o?GoogleAccessId=a&Signature={SECRET}",
        f"https://cave.lab/segmentation/api?middle_auth_token={SECRET}",
        f"HTTPError: 401 for url: http://h/x?token={SECRET}",
        f"login(user='anna', password={SECRET})",
        f"connect failed: password={SECRET}, host=db",
        f'{{"token": "{SECRET}", "n": 3}}',
        f"{{'aws_secret_access_key': '{SECRET}'}}",
        f"headers: Authorization: Bearer {SECRET}",
        f"'Authorization': 'Basic {SECRET}'",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}\ncut off",
    ],
)
def test_secrets_go(text):
    assert SECRET not in redact(text)
    assert redact(redact(text)) == redact(text)
    assert "***" in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/data/anna@lab/em.zarr",
        "s3://bucket/em@8nm.zarr/s0?level=3",
        "http://127.0.0.1:8787/blockwise",
        "KeyError: 'token'",
        "  token = next(tokens)  # of the sentence",
        "expected a password: got none",
        "block 12 of d failed (poison): ValueError: bad shape (3, 4) at x=3&y=4",
        "sha256=0a1b2c3d4e5f",
    ],
)
def test_everything_else_stays(text):
    assert redact(text) == text
    assert not is_redacted(redact_urls(text))


def test_what_stays_of_an_address_still_tells_where():
    assert redact("mongodb://anna:pw@db.lab:27017/runs?w=1") == "mongodb://***@db.lab:27017/runs?w=1"
    assert redact_urls("https://h/x?a=1&sig=abc&b=2") == "https://h/x?a=1&sig=***&b=2"


@pytest.mark.parametrize("name", ["BLOCKWISE_MONGODB_PASSWORD", "AWS_SECRET_ACCESS_KEY", "CAVE_TOKEN", "my_api_key"])
def test_values_of_secret_variables_go_wherever_they_stand(monkeypatch, name):
    monkeypatch.setenv(name, "correct horse/battery")
    assert redact("cannot log in as correct horse/battery; url ...correct%20horse%2Fbattery...") == "cannot log in as ***; url ...***..."


@pytest.mark.parametrize(
    ("name", "value"), [("TOKEN", "abc"), ("GOOGLE_APPLICATION_CREDENTIALS", "/home/anna/key.json"), ("HOME_DIR", "hunter22")]
)
def test_other_values_of_the_environment_stay(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert redact(f"about {value}") == f"about {value}"


@pytest.mark.parametrize(
    ("text", "lost"), [("https://a:b@h/x", True), ("https://h/x?sig=1", True), ("https://h/x?level=1", False), ("a.zarr", False)]
)
def test_a_url_that_lost_its_secret_is_known(text, lost):
    assert is_redacted(redact_urls(text)) == lost


@pytest.mark.parametrize(
    "text",
    [
        "a" * 8000,
        "a-" * 4000,
        "://" + "?token" * 1300,
        "http://" * 1100,
        "http://" + "a" * 8000,
        "&token" * 1300,
        "eyJ-" * 2000,
        "token-" * 1300,
    ],
)
def test_texts_of_any_content_are_read_quickly(text):
    began_s = time.process_time()
    redact(text)
    assert time.process_time() - began_s < 1
