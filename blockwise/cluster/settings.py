"""What Dask must be told before a cluster is made, and why. Job workers get the same by environment or command line."""

from typing import Any

from blockwise.threads import thread_environment

LEASE_SLOTS: int = 3
"""Dask threads per worker: each holds one lease that feeds the pipeline, so that compute stays busy across lease borders."""
LEASES_PER_WORKER: int = 4
"""Leases in flight per worker: one in each slot and one waiting at the worker."""
QUIET = {"DASK_LOGGING__DISTRIBUTED": "critical"}
"""Environment that keeps Dask's own log lines out of the terminal; what matters comes as events."""
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": 32 << 20, "MALLOC_TRIM_THRESHOLD_": 256 << 20}
"""Blocks of one size come one after the other: what one frees the next takes. With Dask's setting every array is mapped anew, and a
third of the CPU goes into page faults."""
NETWORK_S: int = 120
"""How long the network to a worker may be away before both sides give it up; Dask ends such a worker for good, so a switch that restarts
must fit into it."""
PAGE = "blockwise.monitor.page"
PRELOAD = "blockwise.cluster.preload"


def dask_settings(threads: int, *, network_s: int = 0) -> dict[str, Any]:
    """Settings for `dask.config.set`.

    `allowed-failures` 0: the driver, which knows what had started, decides who is to blame for a dead worker.
    `worker-ttl`: a stopped worker is noticed after twice that. Stealing and spilling have nothing to do here.
    `memory.pause` False: a paused worker whose libraries alone fill four fifths of its memory would wait for ever, without a word; one that
    outgrows it is ended by its nanny, and the block is told of.
    `lost-worker-timeout`: Dask ends a worker for good that happens to be down 15 s after one of its deaths, even while it restarts.
    `daemon` False: a DataLoader inside a task may start children.

    Parameters
    ----------
    network_s : outage of the network to bear, where there is one between driver and workers: `NETWORK_S`. `worker-ttl` is then
        twice that, for heartbeats that are late by one outage must not end a worker.
    """
    return {
        **({"distributed.comm.timeouts.tcp": f"{network_s}s"} if network_s else {}),
        "distributed.scheduler.allowed-failures": 0,
        "distributed.scheduler.worker-ttl": f"{2 * network_s}s" if network_s else "60s",
        "distributed.scheduler.work-stealing": False,
        "distributed.deploy.lost-worker-timeout": "365 days",
        "distributed.scheduler.http.routes": http_routes(),
        "distributed.worker.preload": [PRELOAD],
        "distributed.nanny.preload": [],  # what an installation sets for jobs has no place in the driver's process
        "distributed.worker.daemon": False,
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.multiprocessing-method": "spawn",
        "distributed.nanny.pre-spawn-environ": {**thread_environment(threads), **KEEP_MEMORY, **QUIET},
        "distributed.admin.large-graph-warning-threshold": "1GB",
    }


def http_routes() -> list[str]:
    """Modules of the scheduler's web server: those set before, and the live page, which the scheduler loads by its name."""
    import dask
    import distributed  # noqa: F401  its import fills dask.config with the defaults that are kept

    others: list[str] = dask.config.get("distributed.scheduler.http.routes")
    return [*(m for m in others if m != PAGE), PAGE]
