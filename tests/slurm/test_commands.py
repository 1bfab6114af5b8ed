"""The commands about jobs: plan, clean, submit."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from blockwise.folder import RunFolder
from blockwise.upkeep import status
from tests.cascade.random_model import write_model
from tests.runs import Called, blockwise, configuration, traces
from tests.slurm.light import CLUSTER
from tests.slurm.server import SHORT, Site, wait_for

pytestmark = pytest.mark.slow


def cascade(folder: Path, **cluster: object) -> Path:
    """A configuration of a small run of Cascade on SLURM, not run yet."""
    write_model(folder / "model")
    np.save(folder / "rec.npy", traces())
    about = {"input": {"path": str(folder / "rec.npy"), "frame_rate": 30.0}, "model": {"path": str(folder / "model")}}
    return configuration(folder, {**about, "cluster": {**CLUSTER, "memory": "2GB", **cluster}})


def plan(folder: Path, *words: str, **cluster: object) -> Called:
    return blockwise("plan", cascade(folder, **cluster), "--pilot", "1", *words)


def test_plan_prints_the_job_script_and_what_slurm_says_to_it(site: Site, tmp_path: Path):
    said = plan(tmp_path, prologue=["module() { :; }", "module load cuda"], gpus=1, directives=["#SBATCH --mail-type=NONE"])
    assert said.code == 0, said.out + said.err
    for line in ("#SBATCH -J bw-RUN", "#SBATCH --gres=gpu:1", "module load cuda", "#SBATCH --mail-type=NONE", "set -e"):
        assert line in said.out.splitlines()
    assert "SLURM: Job " in said.out
    assert "to start at" in said.out
    assert not site.jobs()
    assert not (tmp_path / "run.run").exists()


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ({"partition": "nowhere"}, "invalid partition"),
        ({"partition": SHORT, "walltime": "01:00:00"}, "time limit"),
        ({"directives": ["--no-such-option"]}, "unrecognized option"),
        ({"memory": "much"}, "no size"),
    ],
    ids=["partition", "walltime", "directive", "memory"],
)
def test_plan_refuses_what_slurm_refuses(site: Site, tmp_path: Path, cluster: dict[str, object], words: str):
    said = plan(tmp_path, **cluster)
    assert said.code == 2
    assert words in (said.out + said.err).lower()


def test_plan_warns_of_what_is_not_used(site: Site, tmp_path: Path):
    said = plan(tmp_path, workers=2, device="cuda")
    assert "[cluster] workers = 2 is not looked at" in said.out
    assert "the jobs ask for no GPU" in said.out


def test_plan_without_slurm_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    said = plan(tmp_path)
    assert said.code == 2
    assert "sbatch is not on PATH" in said.out


def test_clean_cancels_jobs_and_deletes_certificates_of_a_killed_driver(site: Site, started):
    run = started("cores=4", "max_jobs=3", blocks=400, pause_s=0.2)
    assert run.runs(2)
    folder = run.folder / "run"
    refused = blockwise("clean", folder)
    assert refused.code == 2
    assert "is being driven by process" in refused.err
    os.kill(run.processes[-1].pid, signal.SIGKILL)
    run.ends()
    assert len(run.jobs()) == 3
    assert run.certificates
    said = blockwise("clean", folder)
    assert said.code == 0, said.err
    assert "3 jobs cancelled" in said.out
    assert run.certificates == []
    assert wait_for(lambda: not run.jobs(), 30)
    assert blockwise("clean", folder, "--all", "--yes").code == 0
    assert not folder.exists()


def test_submit_drives_a_run_from_a_job(site: Site, tmp_path: Path):
    file = cascade(tmp_path)
    said = blockwise("submit", file, "--set", "cluster.max_jobs=1", "--memory", "2G", "--walltime", "00:20:00")
    assert said.code == 0, said.err
    folder = tmp_path / "run.run"
    assert int(said.out) in site.jobs(f"bw-{RunFolder(folder).run}-driver")
    again = blockwise("submit", file)
    assert again.code == 2
    assert f"is job {int(said.out)} already" in again.err
    assert wait_for(lambda: not site.jobs(), 90)
    assert status(folder).state == "done", (folder / "jobs" / f"driver-{int(said.out)}.log").read_text()
    assert status(folder).blocks.done == status(folder).blocks.total > 0


def test_a_submitted_driver_whose_walltime_ends_goes_on_in_the_next_job(site: Site, tmp_path: Path):
    site.command("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
    said = blockwise("submit", cascade(tmp_path, cores=4), "--memory", "2G")  # beside the driver, n0 has no room for a worker
    folder, first = tmp_path / "run.run", int(said.out)
    log = folder / "jobs" / f"driver-{first}.log"
    assert wait_for(lambda: status(folder).state == "running", 60), log.read_text()
    site.command("scancel", "--signal=USR1", "--batch", str(first))
    name = f"bw-{RunFolder(folder).run}-driver"
    assert wait_for(lambda: set(site.jobs(name)) - {first}, 60), log.read_text()
    site.resume()
    assert wait_for(lambda: not site.jobs(), 90)
    assert len(list(folder.glob("jobs/driver-*.log"))) == 2
    assert status(folder).state == "done"


def test_a_submitted_driver_that_is_cancelled_stays_so(site: Site, tmp_path: Path):
    site.command("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
    job = int(blockwise("submit", cascade(tmp_path, cores=4), "--memory", "2G").out)
    folder = tmp_path / "run.run"
    log = folder / "jobs" / f"driver-{job}.log"
    assert wait_for(lambda: len(site.jobs()) > 1, 60), log.read_text()
    site.command("scancel", str(job))
    assert wait_for(lambda: not site.jobs(), 60), "jobs outlived their driver"
    assert status(folder).state == "interrupted"
    assert list(folder.glob("jobs/certificates.*")) == [], log.read_text()


def test_submit_takes_no_run_without_jobs(site: Site, tmp_path: Path):
    said = blockwise("submit", cascade(tmp_path, kind="local"))
    assert said.code == 2
    assert "only a run whose workers are jobs of SLURM" in said.err
    assert not site.jobs()
