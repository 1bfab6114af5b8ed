import hashlib
import random

import pytest

from blockwise.download import ATTEMPTS, CHUNK_BYTES, download, fetch_text
from blockwise.errors import ModelError, StorageError
from tests.http_server import serve

CONTENT = random.Random(0).randbytes(100_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def site():
    with serve() as site:
        site.files["/m.zip"] = CONTENT
        yield site


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _seconds: None)


@pytest.mark.parametrize("sha256", [None, SHA256])
def test_a_file_is_fetched_once(site, tmp_path, sha256):
    for _ in range(2):
        assert download(f"{site.url}/m.zip", tmp_path / "new" / "m.zip", sha256=sha256).read_bytes() == CONTENT
    assert len(site.requests) == 1
    assert [f.name for f in (tmp_path / "new").iterdir()] == ["m.zip"]


def test_a_cut_connection_is_continued(site, tmp_path):
    site.cut_after = [2 * CHUNK_BYTES, CHUNK_BYTES + 100]
    assert download(f"{site.url}/m.zip", tmp_path / "m.zip", sha256=SHA256).read_bytes() == CONTENT
    assert site.requests == ["", f"bytes={2 * CHUNK_BYTES}-", f"bytes={3 * CHUNK_BYTES}-"]


def test_the_next_call_continues_what_was_given_up(site, tmp_path):
    site.cut_after, kept = [CHUNK_BYTES] * ATTEMPTS, ATTEMPTS * CHUNK_BYTES
    with pytest.raises(StorageError, match=rf"cannot download m\.zip: .*{kept} bytes are kept"):
        download(f"{site.url}/m.zip", tmp_path / "m.zip")
    assert not (tmp_path / "m.zip").exists()
    download(f"{site.url}/m.zip", tmp_path / "m.zip", sha256=SHA256)
    assert site.requests[-1] == f"bytes={kept}-"


@pytest.mark.parametrize("etag", ['"2"', None])
def test_a_file_that_changed_in_between_starts_anew(site, tmp_path, etag):
    site.cut_after = [CHUNK_BYTES] * ATTEMPTS
    with pytest.raises(StorageError):
        download(f"{site.url}/m.zip", tmp_path / "m.zip")
    site.etag, site.files["/m.zip"] = etag, CONTENT[::-1]
    assert download(f"{site.url}/m.zip", tmp_path / "m.zip").read_bytes() == CONTENT[::-1]


def test_a_wrong_checksum_leaves_nothing(site, tmp_path):
    with pytest.raises(ModelError, match=f"another sha256 than the {'0' * 64} expected"):
        download(f"{site.url}/m.zip", tmp_path / "m.zip", sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_is_not_tried_again(site, tmp_path):
    with pytest.raises(StorageError, match=r"cannot download gone\.zip: the server answers 404"):
        download(f"{site.url}/gone", tmp_path / "gone.zip")
    assert len(site.requests) == 1


def test_offline_is_said(tmp_path):
    with serve() as site:
        url = site.url
    with pytest.raises(StorageError, match=r"cannot download m\.zip: no connection to the server \(offline\?\); check the network"):
        download(f"{url}/m.zip", tmp_path / "m.zip")
    with pytest.raises(StorageError, match=r"cannot read .*offline"):
        fetch_text(f"{url}/list.yaml")


def test_a_text_has_a_limit(site):
    site.files["/list"] = b"name: x\n"
    assert fetch_text(f"{site.url}/list") == "name: x\n"
    with pytest.raises(StorageError, match="longer than 1000 bytes"):
        fetch_text(f"{site.url}/m.zip", 1000)
