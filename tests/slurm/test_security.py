"""A run on SLURM: what its processes listen on, and what secrets it leaves."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from blockwise.cluster import security
from blockwise.cluster.slurm import driver_host
from blockwise.config import ClusterConfig
from tests.leaky_run import SECRETS, finds
from tests.listening import At, greets, listening, listening_alone, shows_pages
from tests.slurm.light import CLUSTER
from tests.slurm.server import ROOT, Site, wait_for

pytestmark = pytest.mark.slow


def of_jobs(ids: list[int]) -> list[At]:
    """What the processes of jobs listen on."""
    found: list[At] = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.environ().get("SLURM_JOB_ID") in map(str, ids):
                found += listening_alone(process)
    return found


def test_what_is_reached_from_elsewhere_wants_a_certificate(started):
    host = driver_host(ClusterConfig())
    run = started(f'host="{host}"', blocks=2000, pause_s=0.05)
    assert run.runs(2), run.said
    assert run.computes(20), run.said
    driver, jobs = listening(psutil.Process(run.processes[-1].pid)), of_jobs(list(run.jobs("RUNNING")))
    assert len(driver) >= 2
    assert len(jobs) >= 4  # nanny and worker of two jobs
    assert [at for at in driver if not security.is_loopback(at[0])], f"nothing listens on {host}"
    assert [at for at in {*driver, *jobs} if greets(at, security.from_folder(run.certificates[0]))]
    assert not [at for at in {*driver, *jobs} if greets(at, None) or greets(at, security.temporary())]
    assert not [at for at in {*driver, *jobs} if shows_pages(at) and not security.is_loopback(at[0])]


def test_no_secret_is_in_logs_scripts_or_the_run_folder(site: Site, tmp_path: Path):
    keys = [f"cluster.{key}={value}" for key, value in CLUSTER.items()]
    command = [sys.executable, "-m", "tests.leaky_run", str(tmp_path), *keys]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, cwd=ROOT, env=site.environment)
    assert done.returncode == 1, done.stderr
    assert not [secret for secret in SECRETS if secret in done.stdout + done.stderr]
    assert list((tmp_path / "run" / "jobs").glob("*.log"))
    assert not finds(tmp_path)
    assert wait_for(lambda: not site.jobs(), 30)
