"""What goes wrong on a cluster: prologues that fail, refusals, a controller that is away, a driver that is killed."""

import os
import signal
import time

import pytest

from blockwise.cluster.keeper import TRIES
from tests.slurm.server import SHORT, Site, wait_for

pytestmark = pytest.mark.slow

AWAY_S = 20.0


def test_a_prologue_that_fails_ends_the_run_with_the_jobs_last_lines(started):
    run = started('prologue=["echo no such module: cuda", "false"]', "max_jobs=1", blocks=4)
    assert run.ends() == 2
    assert "ended (FAILED) before its worker connected" in run.said
    assert "no such module: cuda" in run.said.splitlines()[-1]
    assert len(list((run.folder / "run" / "jobs").glob("*.log"))) == TRIES
    assert not run.marked.any()
    assert wait_for(lambda: not run.jobs(), 20)


def test_a_refused_job_is_told_in_slurms_words_before_anything_is_written(started):
    run = started("partition=nowhere")
    assert run.ends() == 2
    assert "invalid partition" in run.said.lower()
    assert not (run.folder / "run").exists()


def test_refusals_while_the_run_is_on_are_waited_out(site: Site, started):
    run = started(f"partition={SHORT}", "max_jobs=1", blocks=50, pause_s=0.2)
    assert run.computes(4)
    site.command("scontrol", "update", f"partitionname={SHORT}", "state=inactive")
    try:
        site.command("scancel", *map(str, run.jobs()))
        assert wait_for(lambda: "The next try comes in" in run.said, 40), run.said
        assert "sbatch:" in run.said
        assert run.processes[-1].poll() is None
    finally:
        site.command("scontrol", "update", f"partitionname={SHORT}", "state=up")
    assert run.ends() == 0, run.said
    assert run.right


def test_a_controller_that_is_away_for_20_s_costs_nothing(site: Site, started):
    run = started(blocks=260, pause_s=0.2)
    assert run.runs(2)
    assert run.computes(4)
    before = run.jobs()
    site.stop_controller()
    gone_s = time.monotonic()
    assert wait_for(lambda: "SLURM does not answer" in run.said and time.monotonic() - gone_s > AWAY_S, 60), run.said
    site.continue_controller()
    assert wait_for(lambda: "SLURM answers again" in run.said, 40), run.said
    assert run.jobs() == before, "jobs were replaced although nothing was wrong with them"
    assert run.ends() == 0, run.said
    assert run.right
    assert (run.counted == 1).all()


def test_a_killed_driver_is_started_again_while_its_workers_still_write(started):
    run = started(blocks=6, pause_s=5)
    assert run.computes(2)
    old = set(run.jobs("RUNNING"))
    os.kill(run.processes[-1].pid, signal.SIGKILL)
    run.ends()
    assert not run.marked.any()
    run.start()
    assert wait_for(lambda: len(run.jobs("RUNNING")) > len(old) and old & set(run.jobs("RUNNING")), 40), run.said
    assert run.ends(120) == 0, run.said
    assert run.right
    assert run.failed == 0
    assert wait_for(lambda: not run.jobs(), 60), "jobs outlived their run"


def test_what_a_killed_driver_has_marked_and_left_in_the_queue(site: Site, started):
    run = started("cores=4", "max_jobs=3", blocks=100, pause_s=0.3)
    assert run.runs(2)
    assert run.computes(10)
    old, certificates = run.jobs(), run.certificates
    os.kill(run.processes[-1].pid, signal.SIGKILL)
    run.ends()
    assert sorted(old.values()) == ["PENDING", "RUNNING", "RUNNING"], "the third job finds no cores"
    marked, counted = run.marked, run.counted
    run.start()
    assert wait_for(lambda: run.certificates and run.certificates != certificates, 40), run.said
    waited = {id for id, state in old.items() if state == "PENDING"}
    assert wait_for(lambda: not waited & set(run.jobs()), 20), "the job that waited was not cancelled"
    assert run.ends(200) == 0, run.said
    assert run.right
    assert (run.counted[marked] == counted[marked]).all(), "marked blocks were computed again"
    assert run.failed == 0
    assert wait_for(lambda: not run.jobs(), 60), "jobs outlived their run"


def test_ctrl_c_drains_and_the_next_run_ends_it(started):
    run = started(blocks=60, pause_s=0.2)
    assert run.computes(6)
    os.killpg(run.processes[-1].pid, signal.SIGINT)
    assert run.ends() == 3, run.said
    assert wait_for(lambda: not run.jobs(), 30), "jobs outlived their driver"
    assert run.certificates == []
    assert run.marked.sum() == (run.counted > 0).sum() > 0
    run.start()
    assert run.ends() == 0, run.said
    assert run.right
    assert (run.counted == 1).all()
