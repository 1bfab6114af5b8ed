"""Loaded by the keeper of a job's worker (`dask worker --preload-nanny`): it passes SIGUSR1 and SIGTERM on, and ends with its worker.

`#SBATCH --signal=B:USR1@120` signals the batch shell alone, which has become this process by `exec`: without this it would die of it,
and with Dask's own answer to SIGTERM the worker's blocks would be cut off.
"""

import os
import signal
from contextlib import suppress
from typing import Any

START_POLL_S: float = 0.1


def dask_setup(nanny: Any) -> None:
    """What Dask calls, in the main thread of the keeper, after it has set its own answers to signals."""

    def pass_on(number: int, frame: object) -> None:
        nanny.loop.add_callback_from_signal(end, nanny, number)

    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, pass_on)


def end(nanny: Any, number: int) -> None:
    """Let the worker leave, and start no other; one that is still starting is waited for, because it knows no signal yet."""
    from distributed.core import Status

    if nanny.status in (Status.init, Status.starting):
        nanny.loop.call_later(START_POLL_S, end, nanny, number)
        return
    nanny.close_gracefully(reason=signal.Signals(number).name)
    if nanny.pid is None:
        nanny.loop.add_callback(nanny.close)
        return
    with suppress(ProcessLookupError):
        os.kill(nanny.pid, number)
