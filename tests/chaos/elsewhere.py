"""A Dask scheduler and workers that blockwise did not start, as docs/howto/address.md has an operator start them."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.chaos.gates import wait_for

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ROOT / "deploy" / "dask" / "blockwise.yaml"
WORKER = ("--nthreads", "3", "--no-dashboard", "--dashboard-address", "127.0.0.1:0")
"""Options of a worker."""
START_S = 90.0


class Elsewhere:
    """Processes of a Dask cluster; ends them when it is left.

    Parameters
    ----------
    folder : for logs and the workers' scratch.  environment : beside the settings of deploy/dask.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder, self.address = folder, ""
        self.environment = {**os.environ, "DASK_CONFIG": str(SETTINGS), **(environment or {})}
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Elsewhere":
        return self

    def __exit__(self, *exc: object) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait(30)

    def scheduler(self, host: str = "127.0.0.1") -> None:
        """Start the scheduler and wait until its address is known."""
        file = self.folder / "scheduler.json"
        self._start("scheduler", "--host", host, "--port", "0", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(file))
        wait_for(file.exists, START_S)
        self.address = f"tcp://{host}:{file.read_text().partition(f'tcp://{host}:')[2].partition(chr(34))[0]}"

    def worker(self, *options: str, before: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
        """Start a worker; `before` is put before the command, as `ip netns exec NAME`."""
        place = ("--local-directory", str(self.folder / "scratch"))
        return self._start("worker", self.address, *WORKER, *place, *options, before=before, environment=environment)

    def _start(self, *command: str, before: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
        with (self.folder / f"{command[0]}.{len(self.processes)}.log").open("wb") as log:
            whole = [*before, sys.executable, "-m", "dask", *command]
            env = {**self.environment, **(environment or {})}
            self.processes.append(subprocess.Popen(whole, stdout=log, stderr=log, env=env, cwd=self.folder, start_new_session=True))
        return self.processes[-1]

    def said(self) -> str:
        """What the processes have logged."""
        return "\n".join(f"--- {log.name}\n{log.read_text()[-2000:]}" for log in sorted(self.folder.glob("*.log")))
