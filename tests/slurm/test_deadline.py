"""Jobs of SLURM that end before their work does: blocks come back as data, each is computed once, nobody is blamed."""

import time
from collections.abc import Callable
from math import inf

import numpy as np
import pytest

from blockwise.cluster.jobs import walltime_s
from blockwise.cluster.slurm import warning
from blockwise.config import ClusterConfig
from tests.slurm.light import Light
from tests.slurm.server import Site, wait_for


@pytest.mark.parametrize(
    ("walltime", "seconds", "directive"),
    [
        ("04:00:00", 14_400, ["--signal=B:USR1@120"]),
        ("90", 5_400, ["--signal=B:USR1@120"]),
        ("10:30", 630, ["--signal=B:USR1@31"]),
        ("1-00", 86_400, ["--signal=B:USR1@120"]),
        ("1-12:30", 131_400, ["--signal=B:USR1@120"]),
        ("1-12:30:15", 131_415, ["--signal=B:USR1@120"]),
        ("UNLIMITED", inf, ["--signal=B:USR1@120"]),
        ("2", 120, []),
    ],
)
def test_a_job_is_signalled_in_good_time_but_not_at_its_start(walltime: str, seconds: float, directive: list[str]):
    assert walltime_s(walltime) == seconds
    assert warning(ClusterConfig(kind="slurm", walltime=walltime)) == directive


def assert_undisturbed(run: Light) -> None:
    """It ended well, every block was computed once, and no attempt failed."""
    assert run.ends() == 0, run.said
    assert run.right
    assert run.failed == 0, run.said
    assert np.array_equal(run.counted, np.ones(run.blocks)), run.said


def end_in(site: Site, job: int, seconds: float) -> None:
    """Move the end of a job."""
    end = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + seconds))
    site.command("scontrol", "update", f"JobId={job}", f"EndTime={end}")


@pytest.mark.slow
def test_a_walltime_shorter_than_a_lease_costs_nothing(site: Site, started: Callable[..., Light]):
    run = started("max_jobs=1", "walltime=00:02:00", blocks=120, pause_s=0.25)  # too short for a warning by SLURM
    assert run.runs(1), run.said
    (job,) = run.jobs("RUNNING")
    end_in(site, job, 25)
    assert wait_for(lambda: "its job ends at" in run.said, 60), run.said
    assert wait_for(lambda: job not in run.jobs("RUNNING"), 30), f"its worker left, and the job stayed\n{run.said}"
    assert_undisturbed(run)
    assert "DUE TO TIME LIMIT" not in "".join(log.read_text() for log in (run.folder / "run" / "jobs").glob("*.log"))


@pytest.mark.slow
@pytest.mark.parametrize(("keys", "workers"), [((), 1), (("gpus=2", "max_jobs=1"), 2)], ids=["one worker", "a worker per GPU"])
def test_a_signal_to_the_batch_shell_lets_the_workers_leave(site: Site, started: Callable[..., Light], keys: tuple[str, ...], workers: int):
    run = started(*keys, blocks=80, pause_s=0.2)
    assert run.computes(8), run.said
    job = min(run.jobs("RUNNING"))
    site.command("scancel", "--signal=USR1", "--batch", str(job))
    assert wait_for(lambda: run.said.count("it was sent SIGUSR1") == workers, 30), run.said
    assert wait_for(lambda: job not in run.jobs("RUNNING"), 30), run.said
    assert_undisturbed(run)


@pytest.mark.slow
def test_slurm_s_own_warning_lets_the_worker_leave(site: Site, started: Callable[..., Light]):
    run = started("max_jobs=1", "walltime=00:40:00", blocks=150, pause_s=0.3)
    assert run.computes(8), run.said
    (job,) = run.jobs("RUNNING")
    end_in(site, job, 100)
    assert wait_for(lambda: "it was sent SIGUSR1" in run.said, 60), run.said
    assert_undisturbed(run)
