"""Where workers come from: local processes, jobs of SLURM, or a Dask scheduler at an address. Makes a cluster, knows nothing of blocks."""

from typing import Protocol, Self

from blockwise.cluster.context import RunContext
from blockwise.config import ClusterConfig


class Cluster(Protocol):
    """A running Dask cluster as the driver needs it; a context manager.

    device : where tasks put their models. memory_limit_mb : of one worker, 0 where unknown. dashboard, page : addresses.
    """

    client: object
    device: str
    memory_limit_mb: float

    @property
    def dashboard(self) -> str: ...
    @property
    def page(self) -> str: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...
    def count(self) -> int:
        """Workers connected now."""

    def want(self, leases: int) -> str:
        """Take notice that so many leases are left; what is said of workers that wait in a queue, "" where none does."""

    def show(self, run: object) -> None:
        """Let the live page draw `run.snapshot()`."""


def open_cluster(config: ClusterConfig, context: RunContext) -> Cluster:
    """The cluster that `[cluster]` asks for, for a run; not yet entered.

    Raises
    ------
    ConfigError : an address is wanted and not given.
    """
    if config.kind == "address":
        from blockwise.cluster.address import AddressWorkers

        return AddressWorkers(config)
    if config.kind == "slurm":
        from blockwise.cluster.slurm import SlurmWorkers

        return SlurmWorkers(config, context)
    from blockwise.cluster.local import LocalWorkers

    workers = LocalWorkers(config)
    if workers.note:
        context.tell(workers.note, "warning")
    return workers
