"""Names and places of a run's jobs, and what is done to those that a dead driver left. Imports nothing heavy."""

import shutil
from pathlib import Path

from blockwise.cluster import jobs

CERTIFICATES = "certificates."
"""What the names of folders with a driver's certificates begin with."""


def job_name(run: str) -> str:
    """Of the workers of a run."""
    return f"bw-{run}"


def driver_name(run: str) -> str:
    """Of a driver that is a job itself."""
    return f"bw-{run}-driver"


def jobs_folder(run_folder: Path) -> Path:
    """Where logs and certificates of a run's jobs lie."""
    return run_folder / "jobs"


def sweep(run: str, run_folder: Path, *, waiting_only: bool = False) -> int:
    """When no driver lives: delete its certificates and cancel its jobs (or those alone that wait); how many jobs it were.

    Raises
    ------
    JobError : SLURM does not answer; the certificates are deleted all the same.
    """
    for left in jobs_folder(run_folder).glob(f"{CERTIFICATES}*"):
        shutil.rmtree(left, ignore_errors=True)
    names = [job_name(run)] if waiting_only else [job_name(run), driver_name(run)]
    found = [job for job in jobs.queue(*names).values() if not job.ended and (job.waits or not waiting_only)]
    jobs.cancel(job.id for job in found)
    return len(found)
