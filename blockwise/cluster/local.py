"""Worker processes on this machine, as a Dask cluster; knows nothing of blocks.

Guaranteed: processes are spawned, never forked (tensorstore aborts after a fork); every port is bound to 127.0.0.1, that of the
page and dashboard unless `[cluster] http_host` says otherwise; with `[cluster] tls` nobody else on this machine can talk to them; a dead
worker is replaced; a worker sees one GPU, and the same after it died; SIGINT is blocked in the threads that spawn, so that Ctrl-C never
reaches a worker that is still starting.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import active_children
from typing import Any

import psutil

from blockwise.cluster import security
from blockwise.cluster.clock import steady
from blockwise.cluster.devices import Placement, place
from blockwise.cluster.settings import LEASE_SLOTS, dask_settings
from blockwise.config import ClusterConfig
from blockwise.deadline import END
from blockwise.errors import BlockwiseError
from blockwise.threads import threads_per_worker

START_TRIES: int = 3
"""A worker that is killed before it connected fails the whole cluster; it is made again this often."""
ASK_EVERY_S: float = 5.0
"""Least time between two looks for workers that Dask has given up."""
DOWN_S: float = 30.0
"""A keeper without a living process for so long will not start another: it may have missed the death, or failed to spawn."""
CLOSE_S: float = 10.0
"""What closing the cluster may take."""


class LocalWorkers:
    """A running local cluster and its client; a context manager that closes both."""

    def __init__(self, config: ClusterConfig) -> None:
        self.placement = place(config)
        self.workers, self.device, self.note = self.placement.workers, self.placement.device, self.placement.note
        self.threads = threads_per_worker(config, self.workers)
        self.http_host, self._security = config.http_host, security.local(config)
        self.memory_limit_mb = psutil.virtual_memory().total / self.workers / 1e6
        self._stack, self._asked_s = ExitStack(), 0.0
        self._others: frozenset[int | None] = frozenset()
        """Processes that were there before this cluster."""
        self._down_s: dict[Any, float] = {}
        """Keeper -> since when it was seen without a living process."""
        self.cluster: Any = None
        self.client: Any = None

    def __enter__(self) -> "LocalWorkers":
        import dask

        self._others = frozenset(p.pid for p in active_children())

        steady()
        self._stack.enter_context(dask.config.set(dask_settings(self.threads)))
        with signals_blocked():
            self._start()
        return self

    def _start(self) -> None:
        import logging

        from distributed import Client, LocalCluster

        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        for attempt in range(START_TRIES):
            try:
                self.cluster = LocalCluster(
                    n_workers=self.workers,
                    threads_per_worker=LEASE_SLOTS,
                    worker_class=keepers(self.placement),
                    host="127.0.0.1",
                    protocol="tls://" if self._security else "tcp://",
                    security=self._security,
                    dashboard_address=f"{self.http_host}:0",
                    worker_dashboard_address="127.0.0.1:0",
                )
                self.client = Client(self.cluster, set_as_default=False)
            except Exception as error:
                if attempt == START_TRIES - 1:
                    self.__exit__()
                    raise BlockwiseError(f"{self.workers} local workers did not start in {START_TRIES} tries: {error}") from error
            else:
                return

    def __exit__(self, *exc: object) -> None:
        with signals_blocked():
            if self.client is not None:
                self.client.close(timeout=5)
            if self.cluster is not None:
                self._end_starting()
                with suppress(TimeoutError):
                    self.cluster.close(timeout=CLOSE_S)
            self._end_left()
        self._stack.close()

    def _end_starting(self) -> None:
        """Kill the processes that are starting: closing would wait for them, and they hold nothing."""
        from distributed.core import Status

        for keeper in tuple(self.cluster.workers.values()):
            if keeper.process is not None and keeper.process.status == Status.starting:
                keeper.close_gracefully()  # that is, without another process
                if keeper.pid is not None:
                    with suppress(ProcessLookupError):
                        os.kill(keeper.pid, signal.SIGKILL)

    def _end_left(self) -> None:
        """Kill the processes that a close cut short has left: Python waits at its end for every child, and they never end."""
        end_s = time.monotonic() + CLOSE_S
        while (left := self._processes()) and time.monotonic() < end_s:
            for keeper in tuple(self.cluster.workers.values()) if self.cluster is not None else ():
                keeper.close_gracefully()
            for process in left:
                process.kill()
                process.join(1)

    def _processes(self) -> list[Any]:
        """Dask's worker processes that were begun since this cluster was."""
        return [p for p in active_children() if p.pid not in self._others and p.name.startswith("Dask Worker")]

    @property
    def dashboard(self) -> str:
        """Address of Dask's dashboard."""
        return f"http://{security.shown_host(self.http_host)}:{self.cluster.scheduler.http_server.port}/status"

    @property
    def page(self) -> str:
        """Address of our live page, on the same server."""
        return self.dashboard.rsplit("/", 1)[0] + "/blockwise"

    def show(self, run: object) -> None:
        """Let the live page draw `run.snapshot()`; the scheduler lives in this process."""
        self.cluster.scheduler.extensions["blockwise"] = run

    def count(self) -> int:
        """Workers connected now; those that died before they had connected are asked for again."""
        if time.monotonic() - self._asked_s > ASK_EVERY_S:
            self._asked_s = time.monotonic()
            self._replace_lost()
        return len(self.cluster.scheduler.workers)

    def want(self, leases: int) -> str:
        """Nothing: the number of workers is fixed."""
        return ""

    def _replace_lost(self) -> None:
        """Dask's keeper of a worker process restarts what dies while it works, and gives up what dies while it starts."""
        from distributed.core import Status

        keepers, now_s = self.cluster.workers, time.monotonic()
        down = {keeper: name for name, keeper in tuple(keepers.items()) if not keeper.is_alive()}
        self._down_s = {keeper: self._down_s.get(keeper, now_s) for keeper in down}
        for keeper, since_s in self._down_s.items():
            gave_up = keeper.status in (Status.closed, Status.failed)
            if gave_up or now_s - since_s > DOWN_S:
                keepers.pop(down[keeper], None)
                if not gave_up:
                    self.cluster.loop.add_callback(keeper.close)
        if len(keepers) < self.workers:
            self.cluster.scale(self.workers)


def keepers(placement: Placement) -> type[Any]:
    """Dask's keeper of a worker process, which starts it, again too, with the GPU of its number in its environment."""
    from distributed import Nanny

    class Keeper(Nanny):
        """Numbers are names, and a keeper made anew takes the name of the one it replaces."""

        def __init__(self, *args: Any, name: Any = 0, **options: Any) -> None:
            own = {**placement.environment(int(name)), END: ""}  # the driver, in the same job, drains in time
            super().__init__(*args, name=name, env=own, **options)

    return Keeper


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back for a while; threads and processes started meanwhile never get SIGINT."""
    numbers = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
