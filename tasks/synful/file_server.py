"""A small server of static files for a browser's page from elsewhere: named folders, parts of files, any origin; reading only."""

import os
import re
import shutil
import sys
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from blockwise.errors import StorageError

RANGE = re.compile(r"bytes=(\d*)-(\d*)$")


def file_server(folders: Mapping[str, Path], port: int = 0, host: str = "127.0.0.1") -> ThreadingHTTPServer:
    """A server that is bound but does not serve yet: call `serve_forever`.

    Parameters
    ----------
    folders : first part of a url's path -> the folder that it stands for. Nothing outside them can be asked for.
    port : 0 for any that is free.

    Raises
    ------
    StorageError : the port is taken.
    """
    try:
        return _Server((host, port), partial(_Files, {n: p.resolve() for n, p in folders.items()}))
    except OSError as error:
        raise StorageError(error.errno, f"cannot serve on {host}:{port}: {error.strerror}; choose another --port") from error


class _Server(ThreadingHTTPServer):
    """One thread per connection."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that moves on gives up what it has asked for, which is no error here."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Files(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def __init__(self, folders: Mapping[str, Path], *given: Any) -> None:
        self.folders = folders
        super().__init__(*given)

    def log_message(self, format: str, *values: Any) -> None:
        """Requests are not logged: a view asks for thousands of chunks."""

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Access-Control-Allow-Headers", "Range")
        self.send_header("Access-Control-Allow-Private-Network", "true")  # browsers ask for it before a public page reads from this machine
        self.send_header("Access-Control-Expose-Headers", "Content-Range, Content-Length, Accept-Ranges")
        super().end_headers()

    def do_OPTIONS(self) -> None:
        self._empty(HTTPStatus.NO_CONTENT)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _empty(self, status: HTTPStatus) -> None:
        self.send_response(status)
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def _file(self) -> Path | None:
        """The file that is asked for; None where there is none, or it lies outside."""
        name, _, inner = unquote(urlsplit(self.path).path).lstrip("/").partition("/")
        if name not in self.folders:
            return None
        file = (self.folders[name] / inner).resolve()
        return file if file.is_file() and file.is_relative_to(self.folders[name]) else None

    def _answer(self, *, body: bool) -> None:
        file = self._file()
        if file is None:
            self._empty(HTTPStatus.NOT_FOUND)
            return
        with file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            part = wanted_part(self.headers.get("Range"), size)
            if part is None:
                self._empty(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                return
            self._send(stream, part, size, body=body)

    def _send(self, stream: BinaryIO, part: tuple[int, int], size: int, *, body: bool) -> None:
        begin, end = part
        self.send_response(HTTPStatus.PARTIAL_CONTENT if self.headers.get("Range") else HTTPStatus.OK)
        if self.headers.get("Range"):
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(end - begin))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if body:
            stream.seek(begin)
            if begin == 0 and end == size:
                shutil.copyfileobj(stream, self.wfile)
            else:
                self.wfile.write(stream.read(end - begin))


def wanted_part(header: str | None, size: int) -> tuple[int, int] | None:
    """Begin and end, half-open, of what a Range header asks for; all without one, None where it cannot be had."""
    if not header:
        return 0, size
    found = RANGE.match(header.strip())
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        return max(0, size - int(last)), size
    begin, end = int(first), min(size, int(last) + 1) if last else size
    return (begin, end) if begin < end else None
