"""When a process must end: what the environment and SLURM say, and the time that is kept free before it."""

import os
import stat
import time
from math import inf

import pytest

from blockwise.deadline import ASK_S, MARGIN_S, Deadline, ask_slurm
from blockwise.events import Message, RunStarted
from blockwise.geometry import Domain
from blockwise.grid import GridSpec
from blockwise.testing import Faulty, MapTask, run_in


@pytest.mark.parametrize(
    ("environment", "end_s", "job", "possible"),
    [
        ({}, None, "", False),
        ({"BLOCKWISE_END_S": "1700000000.5"}, 1700000000.5, "", True),
        ({"BLOCKWISE_END_S": "1700000000", "SLURM_JOB_ID": "7"}, 1700000000.0, "", True),
        ({"BLOCKWISE_END_S": "", "SLURM_JOB_ID": "7"}, None, "", False),
        ({"SLURM_JOB_ID": "7"}, None, "7", True),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "1700000000"}, 1700000000.0, "7", True),
    ],
)
def test_the_environment_says_when(environment, end_s, job, possible):
    deadline = Deadline.of(environment)
    assert (deadline.end_s, deadline.job, deadline.possible) == (end_s, job, possible)


@pytest.mark.parametrize(
    ("whole_s", "longest_s", "margin_s"), [(100.0, 0.0, 10.0), (100.0, 7.0, 17.0), (36_000.0, 0.0, MARGIN_S), (36_000.0, 900.0, 960.0)]
)
def test_the_margin_holds_the_longest_block(whole_s, longest_s, margin_s):
    deadline = Deadline(1000.0 + whole_s, begun_s=1000.0)
    assert deadline.margin_s(longest_s) == margin_s
    assert deadline.left_s(1000.0, longest_s) == whole_s - margin_s


def test_without_an_end_there_is_time_for_ever():
    assert Deadline(None, "7").left_s(0.0, 5.0) == inf


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """Makes a `squeue` that answers as told and counts how often it was asked."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    def answer(text, code=0):
        script = tmp_path / "bin" / "squeue"
        script.write_text(f'#!/bin/sh\necho "$SLURM_TIME_FORMAT $*" >> {tmp_path}/asked\necho "{text}"\nexit {code}\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)

    answer.asked = lambda: (tmp_path / "asked").read_text().splitlines()
    return answer


@pytest.mark.parametrize(("text", "code", "end_s"), [("1700000000", 0, 1700000000.0), ("N/A", 0, None), ("slurm_load_jobs error", 1, None)])
def test_slurm_is_asked(squeue, text, code, end_s):
    squeue(text, code)
    assert ask_slurm("7") == end_s
    assert squeue.asked() == ["%s -h -j 7 -o %e"]


def test_an_end_that_is_moved_is_heard_of(squeue):
    squeue("20000")
    deadline = Deadline(None, "7", begun_s=0.0)
    deadline.look(0.0)
    assert (deadline.end_s, deadline.ask_at_s) == (20000.0, ASK_S[1])
    squeue("1000")
    deadline.look(ASK_S[1] - 1)
    assert deadline.end_s == 20000.0
    deadline.look(ASK_S[1])
    assert (deadline.end_s, deadline.ask_at_s) == (1000.0, ASK_S[1] + 200.0)


def test_a_slurm_that_is_away_changes_nothing(squeue):
    squeue("Unable to contact slurm controller", 1)
    deadline = Deadline(5000.0, "7", begun_s=0.0)
    deadline.look(0.0)
    assert (deadline.end_s, len(squeue.asked())) == (5000.0, 1)
    deadline.look(1.0)
    assert len(squeue.asked()) == 1


def test_a_machine_without_slurm_has_no_answer(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert ask_slurm("7") is None


# --- a driver in a job


def test_a_driver_drains_before_its_job_ends_and_goes_on_in_the_next(tmp_path, monkeypatch):
    (tmp_path / "count").mkdir()
    spec, slow = GridSpec((1,)), Faulty({}, str(tmp_path / "count"), pause_s=0.05)
    task = MapTask(str(tmp_path / "out.zarr"), [Domain("line", ("x",), (300,))], spec, slow)
    said = []

    def end_soon(event):
        said.append(event)
        if isinstance(event, RunStarted):
            monkeypatch.setenv("BLOCKWISE_END_S", str(time.time() + 3))

    outcome = run_in(tmp_path / "run", task, subscribers=[end_soon])
    assert (outcome.exit_code, outcome.state) == (3, "interrupted")
    assert 0 < outcome.status.blocks.done < 300
    assert [m for m in said if isinstance(m, Message) and "this driver is in a job and its job ends at" in m.text]
    assert not [m for m in said if isinstance(m, Message) and "leaves" in m.text]
    monkeypatch.delenv("BLOCKWISE_END_S")
    assert run_in(tmp_path / "run", task).exit_code == 0
    assert [slow.attempts(i) for i in range(300)] == [1] * 300
