"""Loaded by every local worker process before it starts: it outlives neither its driver nor a Ctrl-C meant for the driver.

SIGUSR1 lets the worker leave, as the end of its job does; SIGINT and SIGTERM reach the whole terminal group and are ignored, for the
driver drains workers by message.
A worker dies with the driver within 0.03 s on Linux (PR_SET_PDEATHSIG), also inside a long C call; elsewhere Dask's own watch does it.
Once a minute it gives back to the system what its heaps hold free, so that its memory does not creep up over days.
"""

import ctypes
import gc
import multiprocessing
import os
import signal
import sys
from typing import Any

from tornado.ioloop import PeriodicCallback

from blockwise.cluster.clock import steady
from blockwise.leaving import departure

PR_SET_PDEATHSIG = 1

GC_OBJECTS: int = 50_000
"""New objects between two collections; at Python's 700 an empty block spends a fifth of its time in them."""
TRIM_MS: int = 60_000


def dask_setup(worker: Any) -> None:
    """What Dask calls, in the main thread of a local worker."""
    settle(worker, ignored=(signal.SIGINT, signal.SIGTERM), leaving=(signal.SIGUSR1,))


def settle(worker: Any, *, ignored: tuple[signal.Signals, ...], leaving: tuple[signal.Signals, ...]) -> None:
    """Signals, collections and the parent's death, for a worker process that shall leave at some signals and ignore others."""
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    for number in leaving:
        signal.signal(number, lambda n, frame: worker.loop.add_callback_from_signal(leave, worker, signal.Signals(n).name))
    steady()
    gc.freeze()
    gc.set_threshold(GC_OBJECTS)
    worker.periodic_callbacks["blockwise-trim"] = trimming = PeriodicCallback(trim_memory, TRIM_MS)
    trimming.start()
    if sys.platform == "linux":
        parent = multiprocessing.parent_process()
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if parent is not None and os.getppid() != parent.pid:  # it died before it was watched
            os._exit(1)


async def leave(worker: Any, name: str) -> None:
    """Leave because a signal asks for it."""
    await departure(worker).leave(f"it was sent {name}")


def trim_memory() -> None:
    """Collect what only cycles keep alive, which `GC_OBJECTS` puts off, and return the free pages of all heaps (glibc only)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
