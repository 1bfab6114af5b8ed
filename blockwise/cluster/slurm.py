"""Workers as jobs of SLURM, by dask-jobqueue: the scheduler lives in the driver, each job brings one worker, or one per GPU of a node.

Guaranteed: traffic is encrypted unless `[cluster] tls = false`, by certificates in a folder of the run that nobody else can enter; pages
of the workers are bound as those of the driver; the jobs' name carries the run's id, their comment names the driver. `Keeper` holds
their number. At the end jobs are cancelled and certificates deleted.
A driver that is killed leaves both: its workers end within half a minute, jobs that wait are cancelled by the next start (or
`blockwise clean`), which deletes the certificates too.
"""

import asyncio
import itertools
import os
import shlex
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from math import ceil
from pathlib import Path
from typing import Any

import dask
from dask.utils import parse_bytes
from dask_jobqueue.slurm import SLURMCluster, SLURMJob
from distributed import Client
from distributed.core import Status
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.utils import get_ip

from blockwise.cluster import jobs, security
from blockwise.cluster.clock import steady
from blockwise.cluster.context import RunContext
from blockwise.cluster.keeper import Keeper, Submission
from blockwise.cluster.leftovers import CERTIFICATES, job_name, jobs_folder, sweep
from blockwise.cluster.settings import LEASE_SLOTS, NETWORK_S, dask_settings
from blockwise.config import ClusterConfig
from blockwise.errors import BlockwiseError, ConfigError, JobError
from blockwise.threads import threads_per_worker, workers_per_job

WARNING_S: int = 120
"""SLURM signals a job this long before its walltime ends, and up to a minute sooner, so that its worker can leave; ..."""
WARNING_SHARE: float = 0.05
"""... no longer than this part of the walltime, and not at all where that is seconds: workers look at the clock themselves."""
LEAST_WARNING_S: int = 10
DEATH_TIMEOUT_S: int = 60
"""A job's worker that finds no scheduler for so long ends."""
CLOSE_S: float = 15.0
ANYWHERE = "tls://DRIVER:PORT"
"""Stands in a script that is only shown for the address that the driver will have."""
JOB_WORKER, JOB_NANNY = "blockwise.cluster.job_worker", "blockwise.cluster.job_nanny"
"""What the processes of a job load before they start."""
NODE = "blockwise.cluster.node"
"""The module that starts a job's workers."""


class WorkerJob(SLURMJob):
    """One job. A refusal is kept, not raised: the keeper reads it."""

    def __init__(self, *args: Any, begun: Callable[[Submission], None] = lambda submission: None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.submission = Submission(str(self.name))
        self._begun = begun

    async def start(self) -> None:
        self._begun(self.submission)
        with self.job_file() as script:
            try:
                self.job_id = self.submission.id = await asyncio.to_thread(jobs.submit, script)
            except JobError as error:
                self.submission.refusal = error
        self.status = Status.running

    async def close(self) -> None:
        """Nothing: all jobs are cancelled by one command."""
        self.status = Status.closed


class WorkerJobs(SLURMCluster):
    """The Dask cluster; no name of a worker comes twice, for a scheduler that has not noticed the first one's death refuses the second."""

    job_cls = WorkerJob

    def __init__(self, **kwargs: Any) -> None:
        self._numbers = itertools.count()
        super().__init__(**kwargs)

    def _new_worker_name(self, worker_number: int) -> str:
        return f"{self._name}-{next(self._numbers)}"

    def _get_worker_security(self, security: Any) -> None:
        """Certificates reach the workers by the script's environment."""


class Arrivals(SchedulerPlugin):
    """Tells which workers have connected, by name, and when one goes."""

    name = "blockwise-arrivals"

    def __init__(self, came: Callable[[str], None], gone: Callable[[], None]) -> None:
        self._came, self._gone = came, gone

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """One has come."""
        self._came(str(scheduler.workers[worker].name))

    def remove_worker(self, scheduler: Any, worker: str, **about: Any) -> None:
        """One has gone."""
        self._gone()


class SlurmWorkers:
    """A cluster of SLURM jobs and its client; a context manager that cancels and closes."""

    def __init__(self, config: ClusterConfig, context: RunContext) -> None:
        self.config, self.context = config, context
        self.device = job_device(config)
        self.memory_limit_mb = memory_bytes(config) / workers_per_job(config) / 1e6
        self.token = f"{socket.gethostname()}-{os.getpid()}-{os.urandom(3).hex()}"
        self.folder = jobs_folder(context.folder)
        self.keeper = Keeper(self, job_name(context.run), self.token, config.max_jobs, self._log, context.tell)
        self.client: Any = None
        self.cluster: Any = None
        self._begun: dict[str, Submission] = {}
        self._guard = threading.Lock()
        self._stack = ExitStack()

    def __enter__(self) -> "SlurmWorkers":
        import logging

        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.context.alone:
            sweep(self.context.run, self.context.folder, waiting_only=True)
        with ExitStack() as stack:
            steady()
            stack.enter_context(dask.config.set(dask_settings(1, network_s=NETWORK_S)))
            certificates = stack.enter_context(self._certificates())
            self._start(certificates)
            stack.callback(self._close)
            self._stack = stack.pop_all()
        self.keeper.start()
        return self

    def _start(self, certificates: Path | None) -> None:
        own = security.from_folder(certificates) if certificates else None
        try:
            self.cluster = WorkerJobs(
                **job_options(self.config, self.context, certificates, comment=self.token),
                begun=self._begin,
                security=own,
                protocol="tls://" if own else "tcp://",
                scheduler_options={"host": driver_host(self.config), "port": 0, "dashboard_address": f"{self.config.http_host}:0"},
                silence_logs=False,
                name=self.token,
            )
        except OSError as error:
            raise BlockwiseError(f"the scheduler cannot listen on {driver_host(self.config)} ([cluster] host): {error}") from error
        self.cluster.scheduler.add_plugin(Arrivals(self._connect, self.keeper.wake))
        self.client = Client(self.cluster, set_as_default=False)

    @contextmanager
    def _certificates(self) -> Iterator[Path | None]:
        """A folder with the certificates of this driver, for as long as it lives; None where the traffic stays readable."""
        if self.config.tls is False:
            yield None
            return
        folder = security.write_certificates(security.private_folder(self.folder) / f"{CERTIFICATES}{self.token}")
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _close(self) -> None:
        self.keeper.stop()
        try:
            stray = (job.id for job in jobs.queue(self.keeper.name).values() if job.comment == self.token and not job.ended)
            jobs.cancel({*stray, *(s.id for s in self.submissions() if s.id)})
        except JobError as error:
            left = f"Jobs of this run may be left: {error}. Cancel them with `blockwise clean {self.context.folder}`."
            self.context.tell(left, "warning")
        self.client.close(timeout=5)
        with suppress(TimeoutError, AssertionError):
            self.cluster.close(timeout=CLOSE_S)

    # --- what the keeper keeps ---------------------------------------------------------------------------------------------------

    def submissions(self) -> list[Submission]:
        with self._guard:
            return list(self._begun.values())

    def _begin(self, submission: Submission) -> None:
        with self._guard:
            self._begun[submission.name] = submission

    def _connect(self, name: str) -> None:
        with self._guard:
            if name in self._begun:
                self._begun[name].connected = True

    def add(self, count: int) -> None:
        """Submit so many more jobs, and wait until they are begun."""
        goal = len(self._in_loop(lambda: dict(self.cluster.worker_spec))) + count
        self.cluster.sync(self._scale, goal)

    async def _scale(self, goal: int) -> None:
        while len(self.cluster.worker_spec) < goal:
            self.cluster.worker_spec.update(self.cluster.new_worker_spec())
        await self.cluster._correct_state()

    def drop(self, names: list[str]) -> None:
        """Forget jobs that are gone."""

        def forget() -> None:
            for name in names:
                self.cluster.worker_spec.pop(name, None)
                if (job := self.cluster.workers.pop(name, None)) is not None:
                    job.status = Status.closed

        self._in_loop(forget)
        with self._guard:
            for name in names:
                self._begun.pop(name, None)

    def _in_loop(self, action: Callable[[], Any]) -> Any:
        """The result of a function that runs in the cluster's loop, where its tables may be touched."""

        async def act() -> Any:
            return action()

        return self.cluster.sync(act)

    def _log(self, id: str) -> Path:
        return self.folder / f"{id}.log"

    # --- what the driver asks ------------------------------------------------------------------------------------------------------

    def want(self, leases: int) -> str:
        """Hold jobs for so many leases; what is said of those that wait in the queue."""
        self.keeper.wanted = ceil(leases / workers_per_job(self.config))
        return self.keeper.waiting

    def count(self) -> int:
        """Workers connected now.

        Raises
        ------
        JobError : jobs are refused, or die before their workers connect, again and again.
        """
        if self.keeper.failure:
            raise JobError(self.keeper.failure)
        return len(self.cluster.scheduler.workers)

    @property
    def dashboard(self) -> str:
        """Address of Dask's dashboard."""
        return f"http://{security.shown_host(self.config.http_host)}:{self.cluster.scheduler.http_server.port}/status"

    @property
    def page(self) -> str:
        """Address of our live page, on the same server."""
        return self.dashboard.rsplit("/", 1)[0] + "/blockwise"

    def show(self, run: object) -> None:
        """Let the live page draw `run.snapshot()`; the scheduler lives in this process."""
        self.cluster.scheduler.extensions["blockwise"] = run


# --- what a job is ---------------------------------------------------------------------------------------------------------------------


def job_options(config: ClusterConfig, context: RunContext, certificates: Path | None, *, comment: str) -> dict[str, Any]:
    """A job as keywords of dask-jobqueue."""
    count = workers_per_job(config)
    log = str(jobs_folder(context.folder)).replace("%", "%%") + "/%j.log"
    directives = ["-N 1", "--no-requeue", *warning(config), f"--comment={comment}", *jobs.quoted([f"--output={log}"])]
    directives += [f"--gres=gpu:{config.gpus}"] if config.gpus else []
    directives += ["--exclusive"] if config.whole_node else []
    pages = f"{config.http_host}:0"  # without an address a worker shows them to everybody, --no-dashboard or not
    return {
        "worker_command": f"{NODE} --workers {count}",
        "queue": config.partition,
        "account": config.account,
        "walltime": config.walltime,
        "cores": LEASE_SLOTS,
        "processes": 1,
        "job_cpu": config.cores,
        "memory": memory_bytes(config) // count,
        "job_mem": f"{ceil(memory_bytes(config) / (1 << 20))}M",
        "job_name": job_name(context.run),
        "job_extra_directives": [*directives, *(d.removeprefix("#SBATCH").strip() for d in config.directives)],
        "job_script_prologue": [*exports(config, certificates), *(["set -e", *config.prologue] if config.prologue else [])],
        "python": f"exec {shlex.quote(sys.executable)}",
        "death_timeout": DEATH_TIMEOUT_S,
        "worker_extra_args": ["--preload", JOB_WORKER, "--preload-nanny", JOB_NANNY, "--no-dashboard", "--dashboard-address", pages],
        "config_name": "slurm",
    }


def warning(config: ClusterConfig) -> list[str]:
    """The directive that signals a job before its end."""
    seconds = int(min(WARNING_S, WARNING_SHARE * jobs.walltime_s(config.walltime)))
    return [f"--signal=B:USR1@{seconds}"] if seconds >= LEAST_WARNING_S else []


def exports(config: ClusterConfig, certificates: Path | None) -> list[str]:
    """Lines that give Dask's settings to a job's workers."""
    workers = workers_per_job(config)
    settings = dask_settings(threads_per_worker(config, workers), network_s=NETWORK_S)
    kept = {k: v for k, v in settings.items() if k.startswith(("distributed.comm", "distributed.worker", "distributed.nanny"))}
    kept["distributed.worker.preload"] = [JOB_WORKER]
    if certificates is not None:
        ca, cert, key = (str(certificates / name) for name in security.FILES)
        kept |= {"distributed.comm.require-encryption": True, "distributed.comm.tls.ca-file": ca}
        kept |= {"distributed.comm.tls.worker.cert": cert, "distributed.comm.tls.worker.key": key}
    return [f"export DASK_{k.upper().replace('.', '__').replace('-', '_')}={shlex.quote(str(v))}" for k, v in sorted(kept.items())]


def job_script(config: ClusterConfig, context: RunContext) -> str:
    """The script that would be submitted; the driver's address, its comment and the certificates' folder are made when it runs."""
    certificates = None if config.tls is False else jobs_folder(context.folder) / f"{CERTIFICATES}DRIVER"
    options = job_options(config, context, certificates, comment="DRIVER")
    return str(WorkerJob(ANYWHERE if certificates else ANYWHERE.replace("tls", "tcp"), name="NAME", **options).job_script())


def tested(script: str) -> str:
    """What SLURM says to a script, without running it.

    Raises
    ------
    JobError : it would be refused, or there is no answer (away).
    """
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(script)
        file.flush()
        return jobs.test_only(file.name)


def memory_bytes(config: ClusterConfig) -> int:
    """Memory of one job.

    Raises
    ------
    ConfigError : `[cluster] memory` is no size.
    """
    try:
        return int(parse_bytes(config.memory))
    except ValueError:
        raise ConfigError(f'[cluster] memory = {config.memory!r} is no size such as "8GB"') from None


def job_device(config: ClusterConfig) -> str:
    """The device of the workers, which may have what this machine has not: "auto" is a GPU where jobs ask for one."""
    return ("cuda" if config.gpus else "cpu") if config.device == "auto" else config.device


def driver_host(config: ClusterConfig) -> str:
    """The address at which workers find the driver: that of this machine's name, or, where that leads back here, of its network."""
    if config.host:
        return config.host
    with suppress(OSError):
        found = socket.gethostbyname(socket.gethostname())
        if not security.is_loopback(found):
            return found
    return str(get_ip())
