"""Whole runs on SLURM: what they leave, how many jobs they hold, and what happens to those that are cancelled."""

import stat
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.slurm.server import Site, wait_for

pytestmark = pytest.mark.slow


def listening(job_name: str, driver: int) -> set[str]:
    """Addresses that a driver and the processes of its jobs listen on."""
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid == driver or process.environ().get("SLURM_JOB_NAME") == job_name:
                found |= {c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    return found


def test_a_run_from_end_to_end(site: Site, started):
    run = started(pause_s=0.1)
    assert run.runs(2), run.said
    assert run.computes(4)
    assert listening(run.name, run.processes[-1].pid) == {"127.0.0.1"}
    names = {line.strip() for line in site.command("squeue", "-h", "--me", "-o", "%j").splitlines()}
    assert names == {run.name}
    assert len(run.certificates) == 1
    assert stat.S_IMODE(run.certificates[0].stat().st_mode) == stat.S_IMODE((run.folder / "run" / "jobs").stat().st_mode) == 0o700
    assert run.ends() == 0, run.said
    assert run.right
    assert (run.counted == 1).all()
    assert wait_for(lambda: not run.jobs(), 20), "jobs outlived their run"
    assert run.certificates == []


def test_traffic_may_stay_readable(started):
    run = started("tls=false", "max_jobs=1", blocks=10)
    assert run.ends() == 0, run.said
    assert run.right
    assert "tcp://" in run.said
    assert "tls://" not in run.said


def test_several_workers_of_a_job_see_a_gpu_each(started):
    run = started("gpus=2", "max_jobs=1", "whole_node=true", blocks=40, pause_s=0.1)
    assert run.ends() == 0, run.said
    assert run.right
    log = next((run.folder / "run" / "jobs").glob("*.log")).read_text()
    assert log.count("Start Nanny at") == 2


@pytest.mark.parametrize("how", [(), ("--signal=KILL", "--full")], ids=["cancelled", "killed"])
def test_a_worker_that_goes_within_a_block_is_replaced(site: Site, started, how: tuple[str, ...]):
    run = started(blocks=60, pause_s=0.3)
    assert run.runs(2)
    before = run.jobs()
    assert run.computes(4)
    site.command("scancel", *how, str(min(before)))
    assert wait_for(lambda: set(run.jobs("RUNNING")) - set(before), 40), f"nobody came instead\n{run.said}"
    assert run.ends() == 0, run.said
    assert run.right
    assert run.failed == 0
    assert run.counted.sum() <= run.blocks + 20


def test_a_drained_cluster_is_waited_for_and_jobs_cancelled_there_are_replaced(site: Site, started):
    site.drain()
    run = started(blocks=10)
    assert wait_for(lambda: len(run.jobs("PENDING")) == 2, 40), run.said
    first = set(run.jobs())
    site.command("scancel", *map(str, first))
    assert wait_for(lambda: len(run.jobs("PENDING")) == 2 and not first & set(run.jobs()), 40), run.said
    assert run.processes[-1].poll() is None
    site.resume()
    assert run.ends() == 0, run.said
    assert run.right


def test_a_cluster_drained_and_resumed_while_the_run_is_on(site: Site, started):
    run = started(blocks=60, pause_s=0.2)
    assert run.runs(2)
    assert run.computes(6)
    site.drain()
    site.command("scancel", *map(str, run.jobs()))
    assert wait_for(lambda: len(run.jobs("PENDING")) == 2, 40), run.said
    site.resume()
    assert run.ends() == 0, run.said
    assert run.right
    assert run.failed == 0


@pytest.mark.parametrize(("cap", "blocks", "most"), [(1, 30, 1), (8, 2, 2)], ids=["max_jobs", "leases left"])
def test_never_more_jobs_than_may_be_or_can_be_used(started, cap: int, blocks: int, most: int):
    run = started(f"max_jobs={cap}", blocks=blocks, pause_s=0.2)
    seen, largest = set(), 0
    while run.processes[-1].poll() is None:
        jobs = run.jobs()
        seen, largest = seen | set(jobs), max(largest, len(jobs))
    assert run.ends() == 0, run.said
    assert run.right
    assert largest == most
    assert len(seen) == most


def test_two_runs_at_once(site: Site, started):
    both = [started("max_jobs=1", blocks=30, pause_s=0.1) for _ in range(2)]
    assert all(run.runs() for run in both)
    assert len({run.name for run in both}) == 2
    site.command("scancel", "--name", both[0].name)
    assert [run.ends() for run in both] == [0, 0], both[0].said + both[1].said
    assert all(run.right for run in both)
    logs = [list((run.folder / "run" / "jobs").glob("*.log")) for run in both]
    assert len(logs[1]) == 1, "a job of the other run was cancelled too"


def test_the_folder_may_have_a_name_that_shells_take_apart(started, tmp_path: Path):
    odd = tmp_path / "a b'c"
    odd.mkdir()
    run = started("max_jobs=1", blocks=4)
    run.end()
    run.folder = odd
    run.start()
    assert run.ends() == 0, run.said
    assert run.right
    assert list((odd / "run" / "jobs").glob("*.log"))
