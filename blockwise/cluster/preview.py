"""What a plan says of the cluster: workers, their memory, and, on SLURM, the job script with SLURM's answer to it. Nothing is submitted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from blockwise.cluster.context import RunContext
from blockwise.cluster.devices import device_of, place
from blockwise.config import ClusterConfig
from blockwise.errors import JobError
from blockwise.gpu import sees_cuda
from blockwise.threads import workers_per_job

NOT_NOW = "node configuration is not available"
"""Said by --test-only of a job that no node could ever run, and of any job while nodes are drained, which sbatch takes all the same."""


@dataclass(frozen=True, slots=True)
class Preview:
    """`workers` at most, and the memory that they share `place`'s.  details : for the plan.

    refusals : why the run cannot start.  warnings : what may keep it waiting.  device : of this machine, for a pilot.
    """

    workers: int
    memory_bytes: int
    place: str = "this machine"
    details: Mapping[str, str] = field(default_factory=dict)
    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    device: str = "cpu"


def preview(config: ClusterConfig, run: str, folder: str | None) -> Preview:
    """The workers that `[cluster]` asks for, for a run that may not have begun; by default one per GPU or core of this machine.

    Parameters
    ----------
    run : its id, "" before it has one.  folder : the run folder.
    """
    if config.kind == "slurm":
        return _of_jobs(config, RunContext(run or "RUN", Path(folder or "RUN-FOLDER")))
    if config.kind == "address":
        return Preview(config.workers or psutil.cpu_count() or 1, psutil.virtual_memory().total)
    placed = place(config)
    details = {"GPUs": ", ".join(placed.ids)} if placed.ids else {}
    return Preview(placed.workers, psutil.virtual_memory().total, details=details, device=placed.device)


def _of_jobs(config: ClusterConfig, context: RunContext) -> Preview:
    from blockwise.cluster.slurm import job_script, memory_bytes, tested

    script = job_script(config, context)
    details = {"job script": "\n" + script.rstrip()}
    refusals, warnings = tuple[str, ...](), tuple[str, ...]()
    try:
        details["SLURM"] = tested(script)
    except JobError as error:
        if NOT_NOW in str(error):
            warnings = (
                f"{error}: either no node has what [cluster] asks for, or those that have are drained, and jobs will wait for them",
            )
        else:
            refusals = (f"SLURM takes no such job: {error}",)
    if config.workers is not None:
        warnings += (
            f"[cluster] workers = {config.workers} is not looked at: max_jobs = {config.max_jobs} says how many jobs there may be",
        )
    if config.device.startswith("cuda") and not config.gpus and not any("gpu" in d or "gres" in d for d in config.directives):
        warnings += (f'[cluster] device = "{config.device}", and the jobs ask for no GPU: set gpus = 1',)
    device = "cuda" if device_of(config).startswith("cuda") and sees_cuda() else "cpu"
    if config.gpus and device == "cpu" and config.device != "cpu":
        warnings += ("the jobs have GPUs and this machine has none: times of a pilot are those of this machine's CPU, much too long",)
    workers = config.max_jobs * workers_per_job(config)
    return Preview(workers, config.max_jobs * memory_bytes(config), f"{config.max_jobs} jobs", details, refusals, warnings, device)
