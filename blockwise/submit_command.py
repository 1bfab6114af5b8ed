"""`blockwise submit`: the driver as a job of SLURM, which then submits its workers from inside.

Nothing differs from a driver that was started by hand. Before its walltime ends it drains, and its job submits itself again.
"""

from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from blockwise.config import RunConfig

WARNING_S: int = 60
"""The driver drains this long, and `[run] drain_s`, before its walltime ends."""
SCRIPT = """\
{command} & driver=$!
again=
trap 'again=1; kill -TERM $driver' USR1
trap : TERM
while kill -0 $driver 2>/dev/null; do wait $driver; code=$?; done
if [ "$again" ] && [ "$code" = 3 ]; then exec sbatch "$0"; fi
exit $code
"""
"""Runs the driver; where the walltime stopped it, and no person, the next job goes on. `scancel` sends SIGTERM to both processes: the
driver drains, the shell waits for it."""


def submit(
    config: Annotated[
        Path, typer.Argument(help='A TOML configuration with [cluster] kind = "slurm", or a run folder.', show_default=False)
    ],
    set_: Annotated[list[str] | None, typer.Option("--set", help="section.key=value, over the file.", show_default=False)] = None,
    partition: Annotated[str | None, typer.Option(help="For the driver; that of the workers by default.", show_default=False)] = None,
    walltime: Annotated[str, typer.Option(help="Of the driver's job; before it ends, the next one is submitted.")] = "1-00:00:00",
    cores: Annotated[int, typer.Option(help="Of the driver.")] = 2,
    memory: Annotated[str, typer.Option(help="Of the driver, as sbatch takes it.")] = "8G",
) -> None:
    """Submit the driver of a run to SLURM: it plans now, and runs when its job starts."""
    from blockwise.cluster import jobs
    from blockwise.cluster.leftovers import driver_name, jobs_folder
    from blockwise.cluster.security import private_folder
    from blockwise.errors import ConfigError, RunActive
    from blockwise.folder import RunFolder
    from blockwise.run import plan
    from blockwise.upkeep import configured

    wanted = configured(config, set_ or ())
    if wanted.cluster.kind != "slurm":
        raise ConfigError(
            f'[cluster] kind = "{wanted.cluster.kind}": only a run whose workers are jobs of SLURM can be submitted ("slurm")'
        )
    plan(wanted, pilot_blocks=0).check()
    folder = RunFolder.make(str(wanted.run.folder))
    name = driver_name(folder.run)
    if left := [job.id for job in jobs.queue(name).values() if not job.ended]:
        raise RunActive(f"the driver of {folder.path} is job {left[0]} already: wait for it, or `scancel {left[0]}`")
    folder.save_config(wanted)
    script = private_folder(jobs_folder(folder.path)) / "driver.sh"
    options = {"partition": partition or wanted.cluster.partition, "account": wanted.cluster.account, "time": walltime, "mem": memory}
    script.write_text(driver_script(wanted, config, set_ or (), {**options, "cpus-per-task": str(cores), "job-name": name}))
    id = jobs.submit(script)
    typer.echo(id)
    typer.echo(f"Job {id} drives {folder.path}. See it: blockwise status --watch {folder.path}\nStop it: scancel {id}", err=True)


def driver_script(config: "RunConfig", path: Path, overrides: "list[str] | tuple[()]", options: dict[str, str | None]) -> str:
    """The script of the driver's job."""
    import shlex
    import sys

    from blockwise.cluster.jobs import quoted
    from blockwise.cluster.leftovers import jobs_folder

    log = str(jobs_folder(Path(str(config.run.folder)))).replace("%", "%%") + "/driver-%j.log"
    signal = f"--signal=B:USR1@{ceil(config.run.drain_s) + WARNING_S}"
    kept = [f"--{k}={v}" for k, v in options.items() if v]
    directives = quoted([*kept, "--nodes=1", "--ntasks=1", "--no-requeue", signal, f"--output={log}"])
    given = [word for pair in overrides for word in ("--set", pair)]
    command = shlex.join([sys.executable, "-m", "blockwise.cli", "run", str(path.absolute()), *given])
    prologue = ["set -e", *config.cluster.prologue, "set +e"] if config.cluster.prologue else []
    return "\n".join(["#!/usr/bin/env bash", *(f"#SBATCH {d}" for d in directives), *prologue, SCRIPT.format(command=command)])
