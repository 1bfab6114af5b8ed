"""The live page beside Dask's dashboard: `/blockwise`, `/blockwise/status.json` and `/blockwise/metrics` on the scheduler's web server.

A module for Dask's setting `distributed.scheduler.http.routes`, set before the cluster is made. The driver lives in
the scheduler's process and puts `scheduler.extensions["blockwise"]` there, an object whose `snapshot()` returns the run's `Status` at
once (it is called in the scheduler's event loop). The page asks for the status each second and keeps what it saw last when no answer
comes.

Names, errors and tracebacks are foreign text: the page sets them as text only, and its Content-Security-Policy admits one script and one
style sheet by their digests, so that nothing else could run even if it got in.
"""

import base64
import hashlib
import json
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

from distributed.http.utils import RequestHandler

from blockwise.audience import Audience
from blockwise.monitor.metrics import exposition, step_of
from blockwise.status import FailureStatus, Status, WorkerStatus

EXTENSION = "blockwise"
"""The name in `scheduler.extensions` under which the driver stands."""

MAX_WORKERS: int = 32
"""Workers with a line of their own; of all there is a letter each."""
MAX_FAILURES: int = 8
MAX_ERROR_CHARS: int = 160
MAX_TRACEBACK_CHARS: int = 4_000
"""Of all tracebacks together; each failure gets the tail of its own. With the map this keeps an answer below 24 kB."""


class Source(Protocol):
    """What the driver puts into `scheduler.extensions`. `audience` is told what the page was shown."""

    audience: Audience

    def snapshot(self) -> Status: ...


class PageHandler(RequestHandler):
    """`/blockwise`: the page, the same for every run."""

    def set_default_headers(self) -> None:
        for name, value in headers().items():
            self.set_header(name, value)

    def get(self) -> None:
        self.finish(page())


class StatusHandler(RequestHandler):
    """`/blockwise/status.json`: the status with long lists cut; 404 while the scheduler has no run."""

    def get(self) -> None:
        source: Source | None = self.server.extensions.get(EXTENSION)
        values: dict[str, Any] = {"error": "no run on this scheduler"}
        if source is not None:
            status = source.snapshot()
            values = page_values(status)
            source.audience.saw(status.state)
        self.set_status(404 if source is None else 200)
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.finish(json.dumps(values, separators=(",", ":"), ensure_ascii=False, allow_nan=False))


class MetricsHandler(RequestHandler):
    """`/blockwise/metrics`: what Prometheus reads; 404 while the scheduler has no run."""

    def get(self) -> None:
        source: Source | None = self.server.extensions.get(EXTENSION)
        if source is None:
            self.set_status(404)
            self.finish()
            return
        text, content_type = exposition(source.snapshot(), self.request.headers.get("Accept", ""))
        self.set_header("Content-Type", content_type)
        self.finish(text)


def page_values(status: Status) -> dict[str, Any]:
    """The status as JSON values of at most 24 kB; `hidden` counts the workers and failures left out.

    The newest failures (the last ones) stay, and the workers that have done the fewest blocks. `fleet` has a letter for each worker, in
    the order of their names: c computing, r reading, w writing, i idle.
    """
    failures = status.failures[-MAX_FAILURES:]
    cut = replace(status, workers=_slowest(status.workers), failures=tuple(_cut(f, len(failures)) for f in failures))
    hidden = {"workers": len(status.workers) - len(cut.workers), "failures": len(status.failures) - len(failures)}
    return {**cut.to_json(), "hidden": hidden, "fleet": "".join(step_of(w)[0] for w in status.workers)}


def _slowest(workers: tuple[WorkerStatus, ...]) -> tuple[WorkerStatus, ...]:
    """At most MAX_WORKERS, in the order of their names: those that have done the fewest blocks."""
    kept = sorted(workers, key=lambda w: w.blocks_done)[:MAX_WORKERS]
    return tuple(sorted(kept, key=lambda w: w.name))


def _cut(failure: FailureStatus, count: int) -> FailureStatus:
    tail = failure.traceback[-(MAX_TRACEBACK_CHARS // count) :]
    return replace(failure, error=failure.error[:MAX_ERROR_CHARS], traceback=tail)


@cache
def page() -> str:
    """The page with its style sheet and script inside."""
    return _asset("page.html").replace("/*style*/", _asset("style.css")).replace("/*script*/", _asset("page.js"))


@cache
def headers() -> dict[str, str]:
    """The security headers of the page: its own script and style sheet by digest, nothing else."""
    policy = {
        "default-src": "'none'",
        "script-src": digest(_asset("page.js")),
        "style-src": digest(_asset("style.css")),
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": "; ".join(f"{key} {value}" for key, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }


def digest(text: str) -> str:
    """`text` as a source of a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _asset(name: str) -> str:
    return files("blockwise.monitor").joinpath(name).read_text(encoding="utf-8")


routes: list[tuple[str, type[RequestHandler], dict[str, Any]]] = [
    ("blockwise", PageHandler, {}),
    ("blockwise/status.json", StatusHandler, {}),
    ("blockwise/metrics", MetricsHandler, {}),
]
