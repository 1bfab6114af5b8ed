"""SLURM's commands as functions, called on a real SLURM."""

import time
from pathlib import Path

import pytest

from blockwise.cluster import jobs
from blockwise.errors import JobError
from tests.slurm.server import PARTITION, Site, wait_for


def script(folder: Path, *lines: str, directives: tuple[str, ...] = ()) -> Path:
    """A small job that writes its log into the folder."""
    file = folder / "job.sh"
    head = [f"#SBATCH {d}" for d in (f"--output={folder}/%j.log", "--job-name=bw-x", "--comment=me", *directives)]
    file.write_text("\n".join(["#!/bin/sh", *head, *lines]))
    return file


def test_a_job_from_its_submission_to_its_end(site: Site, tmp_path: Path):
    id = jobs.submit(script(tmp_path, "echo said", "sleep 60"))
    assert wait_for(lambda: jobs.queue("bw-x")[id].state == "RUNNING")
    job = jobs.queue("bw-x")[id]
    assert (job.id, job.comment, job.ended, job.waits) == (id, "me", False, False)
    assert jobs.queue("bw-y") == {}
    assert list(jobs.queue("bw-y", "bw-x")) == [id]
    jobs.cancel([id])
    assert wait_for(lambda: jobs.queue("bw-x")[id].ended)
    assert jobs.queue("bw-x")[id].state == "CANCELLED"
    jobs.cancel([id])
    jobs.cancel([])
    assert jobs.last_lines(tmp_path / f"{id}.log").startswith("said")


def test_a_job_that_waits_says_why(site: Site, tmp_path: Path):
    site.drain()
    id = jobs.submit(script(tmp_path, "true"))
    assert jobs.queue("bw-x")[id].waits
    assert wait_for(lambda: jobs.queue("bw-x")[id].reason not in ("", "None"))


@pytest.mark.parametrize(
    ("directive", "words"),
    [("--partition=nowhere", "invalid partition"), ("--time=5-0", "time limit"), ("--oops", "unrecognized option")],
)
@pytest.mark.parametrize("command", [jobs.submit, jobs.test_only], ids=["submit", "test"])
def test_refusals_keep_slurms_words(site: Site, tmp_path: Path, command, directive: str, words: str):
    with pytest.raises(JobError, match=f"(?i)sbatch: .*{words}") as refused:
        command(script(tmp_path, "true", directives=(directive,)))
    assert not refused.value.away
    assert "\n" not in str(refused.value)


def test_what_no_node_has_is_refused_when_it_is_submitted(site: Site, tmp_path: Path):
    with pytest.raises(JobError, match="Memory specification can not be satisfied"):
        jobs.submit(script(tmp_path, "true", directives=("--mem=900G",)))


def test_a_test_submits_nothing(site: Site, tmp_path: Path):
    assert f"in partition {PARTITION}" in jobs.test_only(script(tmp_path, "true", directives=("--mem=100M",)))
    assert not site.jobs()


def test_a_controller_that_does_not_answer_is_no_refusal(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jobs, "ANSWER_S", 1.0)
    site.stop_controller()
    began = time.monotonic()
    with pytest.raises(JobError, match="did not answer within 1 s") as hung:
        jobs.queue("bw-x")
    assert hung.value.away
    assert time.monotonic() - began < 10


def test_a_cluster_that_is_not_there_is_no_refusal(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = (site.folder / "slurm.conf").read_text()
    port = next(line for line in text.splitlines() if line.startswith("SlurmctldPort="))
    (tmp_path / "slurm.conf").write_text(text.replace(port, "SlurmctldPort=1").replace("MessageTimeout=5", "MessageTimeout=2"))
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    with pytest.raises(JobError, match=r"(?i)unable to contact slurm") as away:
        jobs.queue("bw-x")
    assert away.value.away


def test_no_password_of_a_ledger_reaches_a_job(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BLOCKWISE_MONGODB_PASSWORD", "secret")
    monkeypatch.setenv("BLOCKWISE_KEPT", "kept")
    id = jobs.submit(script(tmp_path, "env"))
    assert wait_for(lambda: jobs.queue("bw-x")[id].state == "COMPLETED")
    said = (tmp_path / f"{id}.log").read_text()
    assert "BLOCKWISE_KEPT=kept" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("name", "directive", "kept"),
    [
        ("SBATCH_PARTITION", "", True),
        ("SBATCH_PARTITION", "-p gpu", False),
        ("SBATCH_ACCOUNT", "--account=mine", False),
        ("SBATCH_ACCOUNT", "-p gpu", True),
        ("SBATCH_JOB_NAME", "", False),
        ("SQUEUE_STATES", "", False),
        ("PATH", "", True),
    ],
)
def test_a_sites_defaults_do_not_outvote_a_configuration(monkeypatch, name: str, directive: str, kept: bool):
    monkeypatch.setenv(name, "set")
    assert (jobs.environment(f"#!/bin/sh\n#SBATCH {directive}\n").get(name) == "set") is kept


@pytest.mark.parametrize(("content", "shown"), [(None, "no log at"), ("", "is empty"), ("a\n" * 50 + "end\n", "end")])
def test_the_end_of_a_log(tmp_path: Path, content: str | None, shown: str):
    if content is not None:
        (tmp_path / "log").write_text(content)
    assert shown in jobs.last_lines(tmp_path / "log")
    assert len(jobs.last_lines(tmp_path / "log").splitlines()) <= jobs.LAST_LINES
