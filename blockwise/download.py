"""Downloads that go on where they were cut off.

A download grows in `<name>.part` beside its target and takes the target's name only when it is complete and its checksum fits, so a
crash leaves a part that the next attempt continues, and never a damaged target. Pooch does the naming and the checksum; what it lacks
is the resuming, which `_Resuming` adds as its downloader: the rest is asked for by `Range`, with the server's mark of the version
(`If-Range`), so that a file changed in between starts anew. A server that cannot resume sends the whole again.
"""

import os
import time
from pathlib import Path
from typing import Any

from blockwise.errors import ModelError, StorageError
from blockwise.storage.durable import make_folders

ATTEMPTS = 4
TIMEOUT_S = 30.0
CHUNK_BYTES = 1 << 14
"""Written at a time; of a chunk that was cut nothing is kept."""


def download(url: str, target: str | Path, *, sha256: str | None = None) -> Path:
    """Fetch a URL into a file; one that is there and has the checksum is left alone.

    Raises
    ------
    StorageError : offline, refused, or cut off more often than is tried; what came stays for the next call.
    ModelError : the checksum differs; the file is removed.
    """
    import pooch

    file = Path(target)
    make_folders(file.parent)
    pooch.get_logger().setLevel("WARNING")
    part = file.with_name(f"{file.name}.part")
    try:
        pooch.retrieve(url, f"sha256:{sha256}" if sha256 else None, file.name, file.parent, downloader=_Resuming(part))
    except ValueError as error:
        raise ModelError(
            f"{file.name}: what was downloaded has another sha256 than the {sha256} expected; it was removed: {error}"
        ) from None
    return file


def fetch_text(url: str, limit_bytes: int = 4_000_000) -> str:
    """The text behind a URL.

    Raises
    ------
    StorageError : offline or refused, or longer than `limit_bytes`.
    """
    import requests

    try:
        with requests.get(url, timeout=TIMEOUT_S, stream=True) as response:
            response.raise_for_status()
            content = b"".join(_bounded(response.iter_content(CHUNK_BYTES), limit_bytes))
    except requests.RequestException as error:
        raise StorageError(f"cannot read {url}: {_reason(error)}; check the address and the network") from None
    return content.decode("utf-8", errors="replace")


def _bounded(chunks: Any, limit_bytes: int) -> Any:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limit_bytes:
            raise StorageError(f"the answer is longer than {limit_bytes} bytes: this is no list of models")
        yield chunk


class _Resuming:
    """A downloader for pooch that keeps what came in `part` and continues it."""

    def __init__(self, part: Path) -> None:
        self.part = part
        self.mark = part.with_name(f"{part.name}.etag")

    def __call__(self, url: str, output_file: str, _pooch: Any) -> None:
        import requests

        for attempt in range(ATTEMPTS):
            try:
                self._continue(url)
                os.replace(self.part, output_file)
                self.mark.unlink(missing_ok=True)
                return
            except requests.RequestException as error:
                status = getattr(error.response, "status_code", 500)
                if attempt == ATTEMPTS - 1 or status in range(400, 500):
                    raise StorageError(f"cannot download {self.part.stem.lstrip('.')}: {_reason(error)}; {self._kept()}") from None
                time.sleep(0.2 * 2**attempt)

    def _continue(self, url: str) -> None:
        import requests

        size = self.part.stat().st_size if self.part.exists() and self.mark.exists() else 0
        headers = {"Accept-Encoding": "identity"}
        if size:
            headers |= {"Range": f"bytes={size}-", "If-Range": self.mark.read_text()}
        with requests.get(url, headers=headers, timeout=TIMEOUT_S, stream=True) as response:
            if response.status_code == 416:  # the part is not a beginning of what is there now
                self.mark.unlink(missing_ok=True)
                raise requests.ConnectionError("the file has changed")
            response.raise_for_status()
            resumed = response.status_code == 206
            self._note_version(response.headers)
            with self.part.open("ab" if resumed else "wb") as out:
                for chunk in response.iter_content(CHUNK_BYTES):
                    out.write(chunk)
                out.flush()
                os.fsync(out.fileno())
            missing = int(response.headers.get("Content-Length", 0)) + (size if resumed else 0) - self.part.stat().st_size
            if missing > 0:
                raise requests.ConnectionError(f"cut off {missing} bytes before the end")

    def _note_version(self, headers: Any) -> None:
        version = headers.get("ETag") or headers.get("Last-Modified")
        if version and not version.startswith("W/"):
            self.mark.write_text(version)
        else:
            self.mark.unlink(missing_ok=True)

    def _kept(self) -> str:
        if not self.part.exists():
            return "check the network and try again"
        return f"{self.part.stat().st_size} bytes are kept, the same command goes on from there"


def _reason(error: Exception) -> str:
    """What went wrong, without the address: libraries repeat it at length."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return f"no answer in {TIMEOUT_S:g} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut"
    text = str(error)
    return "no connection to the server (offline?)" if isinstance(error, requests.ConnectionError) and "cut off" not in text else text
