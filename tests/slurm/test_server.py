"""The SLURM of the tests: two nodes that run jobs, and nothing of it is left when the tests are killed."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.slurm.server import ROOT, Site, wait_for

OWNER = "import sys; from tests.slurm.server import Site; s = Site(); print(s.keeper.pid, s.folder, flush=True); sys.stdin.read()"


def test_it_runs_jobs_on_two_nodes(site: Site, tmp_path: Path):
    for _ in range(3):
        site.command("sbatch", "-p", "main", "--gres=gpu:1", "-o", f"{tmp_path}/%j.log", "--wrap", "echo $SLURMD_NODENAME")
    assert wait_for(lambda: not site.jobs(), 30)
    assert {f.read_text().strip() for f in tmp_path.glob("*.log")} <= {"n0", "n1"}
    assert len(list(tmp_path.glob("*.log"))) == 3


def test_it_ends_with_the_tests_that_are_killed(site: Site):
    owner = subprocess.Popen([sys.executable, "-c", OWNER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid, folder = owner.stdout.readline().split()
    processes = [p := psutil.Process(int(pid)), *p.children(recursive=True)]
    owner.kill()
    owner.communicate()
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []
    assert folder != str(site.folder)


@pytest.mark.parametrize(("required", "outcome"), [("1", pytest.fail.Exception), ("0", pytest.skip.Exception)])
def test_without_slurm_the_tests_say_why(monkeypatch: pytest.MonkeyPatch, required: str, outcome: type[BaseException]):
    monkeypatch.setattr("tests.slurm.server.PROGRAMS", ("slurm-that-nobody-has",))
    monkeypatch.setenv("BLOCKWISE_REQUIRE_SERVICES", required)
    with pytest.raises(outcome, match="slurm-that-nobody-has not found"):
        Site()
