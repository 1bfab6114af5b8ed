"""What Dask must be told before a cluster is made, and why. Job workers get the same by environment or command line."""

from typing import Any

from blockwise.config import ClusterConfig
from blockwise.errors import ConfigError

LEASE_SLOTS: int = 3
"""Dask threads per worker: each holds one lease that feeds the pipeline, so that compute stays busy across lease borders."""
LEASES_PER_WORKER: int = 4
"""Leases in flight per worker: one in each slot and one waiting at the worker."""
QUIET = {"DASK_LOGGING__DISTRIBUTED": "critical"}
"""Environment that keeps Dask's own log lines out of the terminal; what matters comes as events."""
PRELOAD = "blockwise.cluster.preload"


def dask_settings(threads: int, *, worker_ttl: str = "60s") -> dict[str, Any]:
    """Settings for `dask.config.set`.

    `allowed-failures` 0: the driver, which knows what had started, decides who is to blame for a dead worker.
    `worker-ttl`: a stopped worker is noticed after twice that. Stealing and spilling have nothing to do here.
    `daemon` False: a DataLoader inside a task may start children.
    """
    from blockwise.monitor.page import route_modules

    return {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.scheduler.worker-ttl": worker_ttl,
        "distributed.scheduler.work-stealing": False,
        "distributed.scheduler.http.routes": route_modules(),
        "distributed.worker.preload": [PRELOAD],
        "distributed.worker.daemon": False,
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.multiprocessing-method": "spawn",
        "distributed.nanny.pre-spawn-environ": {**thread_environment(threads), "MALLOC_TRIM_THRESHOLD_": 65_536, **QUIET},
        "distributed.admin.large-graph-warning-threshold": "1GB",
    }


def thread_environment(threads: int) -> dict[str, str]:
    """Environment that holds a process to so many compute threads, waiting without spinning."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    return {**dict.fromkeys(names, str(threads)), "OMP_WAIT_POLICY": "passive"}


def threads_per_worker(config: ClusterConfig, workers: int) -> int:
    """Compute threads of one worker: cores // workers, for oversubscription costs 3 to 25 times the CPU."""
    from dask.system import CPU_COUNT

    return config.threads or max(1, CPU_COUNT // workers)


def device_of(config: ClusterConfig) -> str:
    """The device of `[cluster] device`; "auto" takes a CUDA device where torch sees one, and says nothing of CUDA elsewhere.

    Raises
    ------
    ConfigError : a CUDA device is asked for and there is none: the CPU is never taken silently.
    """
    if config.device == "cpu":
        return "cpu"
    import torch

    if config.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f'[cluster] device = {config.device!r}, but torch sees no CUDA device here: set device = "cpu" to run without')
    return config.device
