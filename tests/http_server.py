"""A local HTTP server for tests of downloads: ranges, version marks, and connections that are cut."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What the server serves and how.

    files : path -> content. cut_after : bytes after which the next answers break off, one entry per answer. etag : mark of the version,
    None for none. requests : the `Range` of each request, "" without.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)
    etag: str | None = '"1"'
    requests: list[str] = field(default_factory=list)


@contextmanager
def serve() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            site.requests.append(self.headers.get("Range") or "")
            content = site.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            start = self._start()
            self.send_response(206 if start else 200)
            if site.etag:
                self.send_header("ETag", site.etag)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            cut = site.cut_after.pop(0) if site.cut_after else len(content)
            self.wfile.write(content[start : start + cut])

        def _start(self) -> int:
            if not self.headers.get("Range") or self.headers.get("If-Range") != site.etag:
                return 0
            return int(self.headers["Range"].removeprefix("bytes=").split("-")[0])

        def log_message(self, *_args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
