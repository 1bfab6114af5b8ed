"""What a job runs: `python -m blockwise.cluster.node --workers N SCHEDULER OPTIONS`, one Dask worker, or one per GPU of the job.

Workers listen on the address by which this node reaches the scheduler, and on no other. A job with several workers gives each one id of
CUDA_VISIBLE_DEVICES, before any of them starts; the first bears the job's name, by which its end is seen, and signals go to all.
A single worker takes the place of this process.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from blockwise.errors import ConfigError

DEVICES = "CUDA_VISIBLE_DEVICES"
PASSED_ON = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)


def main(arguments: Sequence[str]) -> int:
    """Run the workers to their end; 0 where all ended well."""
    _, count, scheduler, *options = arguments
    command = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler, *options, "--host", own_address(scheduler)]
    if int(count) == 1:
        os.execv(command[0], command)
    own = environments(os.environ, int(count))
    workers: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, frame: object) -> None:
        for worker in workers:
            worker.send_signal(number)

    for number in PASSED_ON:
        signal.signal(number, pass_on)
    for i, environment in enumerate(own):
        workers.append(subprocess.Popen(_named(command, i), env=environment))
    return max(abs(worker.wait()) for worker in workers)


def own_address(scheduler: str) -> str:
    """This node's address on the way to a scheduler, given as tls://host:port."""
    from distributed.comm import get_address_host
    from distributed.utils import get_ip

    return str(get_ip(get_address_host(scheduler)))


def environments(environment: Mapping[str, str], count: int) -> list[dict[str, str]]:
    """The environment of each worker: one device of the job's to each; without devices as it is.

    Raises
    ------
    ConfigError : the job has fewer devices than workers.
    """
    if DEVICES not in environment:
        return [dict(environment) for _ in range(count)]
    ids = [id.strip() for id in environment[DEVICES].split(",") if id.strip()]
    if len(ids) < count:
        raise ConfigError(f"{count} workers of this job need a GPU each, and SLURM gave it {len(ids)} ({DEVICES}={environment[DEVICES]!r})")
    return [{**environment, DEVICES: id} for id in ids[:count]]


def _named(command: Sequence[str], index: int) -> list[str]:
    """The command of one of several workers: the first has the name given, the others a number behind it."""
    words = list(command)
    if index:
        words[words.index("--name") + 1] += f"-{index}"
    return words


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
