"""Workers of a Dask cluster that somebody else started; we connect to its scheduler and leave it running."""

from typing import Any

from blockwise.cluster import security
from blockwise.cluster.clock import steady
from blockwise.cluster.settings import NETWORK_S, dask_settings
from blockwise.config import ClusterConfig
from blockwise.errors import BlockwiseError, ConfigError
from blockwise.gpu import sees_cuda


class AddressWorkers:
    """A client of the scheduler at `[cluster] address`; workers need blockwise installed and `--nthreads 3`."""

    memory_limit_mb = 0.0

    def __init__(self, config: ClusterConfig) -> None:
        if not config.address:
            raise ConfigError('[cluster] kind = "address" needs address, e.g. address = "tcp://127.0.0.1:8786"')
        self.address, self.device = config.address, config.device
        self._security = security.given(config)
        self.client: Any = None

    def __enter__(self) -> "AddressWorkers":
        import dask
        from distributed import Client

        steady()
        self._settings = dask.config.set(dask_settings(1, network_s=NETWORK_S))
        try:
            self.client = Client(self.address, security=self._security, set_as_default=False, timeout=20)
            self.client.wait_for_workers(1, timeout=60)
        except (OSError, TimeoutError) as error:
            raise BlockwiseError(f"no Dask scheduler with workers answers at {self.address}: {error}") from error
        if self.device == "auto":
            self.device = self._common_device()
        return self

    def _common_device(self) -> str:
        """The GPU where every worker sees one, the CPU where none does.

        Raises
        ------
        ConfigError : some do.
        """
        seen: dict[str, bool] = self.client.run(sees_cuda, on_error="ignore")
        if len(set(seen.values())) > 1:
            without = ", ".join(sorted(w for w, sees in seen.items() if not sees)[:5])
            raise ConfigError(
                f"{sum(seen.values())} of {len(seen)} workers at {self.address} see a GPU, {without} do not: set [cluster] device = "
                '"cpu", or start workers of one kind'
            )
        return "cuda" if any(seen.values()) else "cpu"

    def __exit__(self, *exc: object) -> None:
        if self.client is not None:
            self.client.close(timeout=5)
        self._settings.__exit__(None, None, None)

    @property
    def dashboard(self) -> str:
        """Address of Dask's dashboard."""
        return str(self.client.dashboard_link)

    @property
    def page(self) -> str:
        """There is none: the scheduler is not ours to add a page to."""
        return ""

    def count(self) -> int:
        """Workers connected now.

        Raises
        ------
        BlockwiseError : the scheduler is gone; Dask tries for 20 s to reach it again.
        """
        try:
            return len(self.client.nthreads())
        except OSError as error:
            raise BlockwiseError(f"the Dask scheduler at {self.address} is gone: start it, then run again ({error})") from error

    def want(self, leases: int) -> str:
        """Nothing: the workers are not ours."""
        return ""

    def show(self, run: object) -> None:
        """Nothing: see `page`."""
