"""Where bytes come from: local paths and URLs as tensorstore key-value stores, all in one context per process.

The context is made at first use, never at import, and never survives a fork: worker processes are spawned (after a fork
tensorstore aborts). Its bounds hold for the whole process, whatever the number of arrays open.
"""

import functools
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from blockwise.errors import InputError

WRITES_IN_FLIGHT: int = 16
"""Durable writes that overlap in one process; hides most of the cost of fsync."""

READ_CACHE_BYTES: int = 64 * 2**20
"""Decoded chunks kept for neighbouring blocks, whose contexts overlap."""

RETRIES = {"max_retries": 6, "initial_delay": "200ms", "max_delay": "5s"}
"""Of one request to a server; beyond that the engine's own retries take over."""


@functools.cache
def context() -> Any:
    """The process's tensorstore context: bounded caches, threads and retries. `cache_pool#none` keeps nothing."""
    import tensorstore as ts

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
    return ts.Context(
        {
            "cache_pool": {"total_bytes_limit": READ_CACHE_BYTES},
            "cache_pool#none": {"total_bytes_limit": 0},
            "data_copy_concurrency": {"limit": min(8, max(2, cores // 2))},
            "file_io_concurrency": {"limit": 2 * WRITES_IN_FLIGHT},
            "file_io_sync": True,
            "http_request_retries": RETRIES,
            "s3_request_retries": RETRIES,
            "gcs_request_retries": RETRIES,
        }
    )


def local_path(location: str | Path) -> Path | None:
    """The path of a plain path or a file:// URL; None for what lies on a server."""
    parts = urlsplit(str(location))
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if "://" in str(location) else Path(location)


def kvstore(location: str | Path) -> Any:
    """The folder at a path or URL (http, https, s3, gs) as a tensorstore key-value store.

    Raises
    ------
    InputError : a URL that tensorstore cannot open.
    """
    import tensorstore as ts

    local = local_path(location)
    spec = {"driver": "file", "path": f"{local.absolute()}/"} if local else f"{str(location).rstrip('/')}/"
    try:
        return ts.KvStore.open(spec, context=context()).result()
    except (ValueError, OSError) as error:
        raise InputError(f"cannot open {location}: {error}; URLs may begin with file, http, https, s3 or gs") from error
