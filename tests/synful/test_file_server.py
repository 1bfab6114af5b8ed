"""The server of `view`: whole files and parts of them, for pages from elsewhere, and nothing outside its folders."""

import threading
from http.client import HTTPConnection

import pytest

from blockwise.errors import StorageError
from tasks.synful.file_server import file_server, wanted_part

DATA = bytes(range(200))


@pytest.fixture
def ask(tmp_path):
    """Asks a server of the folder `data`; returns status, headers and body."""
    (tmp_path / "data" / "in").mkdir(parents=True)
    (tmp_path / "data" / "in" / "a").write_bytes(DATA)
    (tmp_path / "secret").write_text("x")
    (tmp_path / "data" / "link").symlink_to(tmp_path / "secret")
    server = file_server({"data": tmp_path / "data"})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=10)

    def request(path, method="GET", **headers):
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()

    yield request
    connection.close()
    server.shutdown()
    server.server_close()
    thread.join()


def test_whole_files(ask):
    status, headers, body = ask("/data/in/a?x=1")
    assert (status, body, headers["Access-Control-Allow-Origin"]) == (200, DATA, "*")
    status, headers, body = ask("/data/in/a", "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", "200")


@pytest.mark.parametrize(
    ("wanted", "part"), [("bytes=0-0", DATA[:1]), ("bytes=10-19", DATA[10:20]), ("bytes=190-", DATA[190:]), ("bytes=-5", DATA[-5:])]
)
def test_parts_of_files(ask, wanted, part):
    status, headers, body = ask("/data/in/a", Range=wanted)
    begin = DATA.index(part)
    assert (status, body, headers["Content-Range"]) == (206, part, f"bytes {begin}-{begin + len(part) - 1}/200")


@pytest.mark.parametrize(
    "path", ["/data/in", "/data/none", "/other/a", "/data/../secret", "/data/%2e%2e/secret", "/data/link", "/", "//etc/passwd"]
)
def test_nothing_else_is_there(ask, path):
    assert ask(path)[0] == 404


def test_a_page_may_ask_whether_it_may(ask):
    status, headers, _ = ask("/data/in/a", "OPTIONS", Origin="https://elsewhere")
    assert (status, headers["Access-Control-Allow-Headers"]) == (204, "Range")
    assert headers["Access-Control-Allow-Private-Network"] == "true"


@pytest.mark.parametrize(
    ("error", "shown"), [(BrokenPipeError(), False), (ConnectionResetError(), False), (ValueError("x"), True)], ids=repr
)
def test_a_page_that_gives_up_is_no_error(capsys, error, shown):
    with file_server({}) as server:
        try:
            raise error
        except Exception:
            server.handle_error(None, ("127.0.0.1", 1))
    assert ("Traceback" in capsys.readouterr().err) is shown


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, (0, 9)),
        ("bytes=9-", None),
        ("bytes=5-2", None),
        ("bytes=-", None),
        ("lines=1-2", None),
        ("bytes=2-99", (2, 9)),
        ("bytes=-99", (0, 9)),
    ],
)
def test_ranges(header, part):
    assert wanted_part(header, 9) == part


def test_a_port_that_is_taken(tmp_path):
    with file_server({}) as server, pytest.raises(StorageError, match="another --port"):
        file_server({}, server.server_port)
