"""Intervals that a jump of the clock does not stretch, in every process that speaks Dask.

Dask holds messages back until a time of the day, and tornado calls what is due by it: a clock that is set back by an hour would stop
messages and callbacks for that hour. `steady` gives both a clock that goes on from now and never jumps; what is scheduled stays so.
"""

import time
from functools import cache
from typing import Any


@cache
def steady() -> None:
    """Let tornado's loops and Dask's batches of messages measure intervals by the monotonic clock; once per process."""
    from distributed import batched
    from tornado.ioloop import IOLoop

    off_s = time.time() - time.monotonic()

    def now(loop: Any = None) -> float:
        return time.monotonic() + off_s

    IOLoop.time = now
    batched.time = now
