"""Loaded by every local worker process before it starts: it outlives neither its driver nor a Ctrl-C meant for the driver.

A worker dies with the driver within 0.03 s on Linux (PR_SET_PDEATHSIG), also inside a long C call; elsewhere Dask's own watch does it.
Once a minute it gives back to the system what its heaps hold free, so that its memory does not creep up over days.
"""

import ctypes
import gc
import os
import signal
import sys
from typing import Any

from tornado.ioloop import PeriodicCallback

PR_SET_PDEATHSIG = 1

GC_OBJECTS: int = 50_000
"""New objects between two collections; at Python's 700 an empty block spends a fifth of its time in them."""
TRIM_MS: int = 60_000


def dask_setup(worker: Any) -> None:
    """Ignore SIGINT and SIGTERM, which reach the whole terminal group; the driver drains workers by message."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    gc.freeze()
    gc.set_threshold(GC_OBJECTS)
    worker.periodic_callbacks["blockwise-trim"] = trimming = PeriodicCallback(trim_memory, TRIM_MS)
    trimming.start()
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent or parent == 1:
            os._exit(1)


def trim_memory() -> None:
    """Collect what only cycles keep alive, which `GC_OBJECTS` puts off, and return the free pages of all heaps (glibc only)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
