"""Loaded by every worker process of a job before it starts (`dask worker --preload`): it leaves at SIGUSR1 and at SIGTERM.

SLURM sends SIGTERM to every process of a job that is cancelled or out of time, and kills what is left after its KillWait (30 s by
default): what a worker can finish until then is finished.
"""

import signal
from typing import Any

from blockwise.cluster.preload import settle


def dask_setup(worker: Any) -> None:
    """What Dask calls, in the main thread of a worker."""
    settle(worker, ignored=(signal.SIGINT,), leaving=(signal.SIGUSR1, signal.SIGTERM))
