import functools
import http.server
import threading

import numpy as np
import pytest


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def volume():
    """(z, y, x) uint16 whose values tell their place."""
    return np.arange(6 * 7 * 8, dtype=np.uint16).reshape(6, 7, 8)


@pytest.fixture
def server(tmp_path):
    """URL of a web server over tmp_path."""
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()
