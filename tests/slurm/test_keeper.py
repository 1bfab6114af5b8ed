"""The keeper's decisions over many rounds, which a real queue takes too long to show: its jobs are a list here, its queue a table."""

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from blockwise.cluster import jobs
from blockwise.cluster.jobs import QueuedJob
from blockwise.cluster.keeper import CALM_S, LIVELY_S, TICK_S, TRIES, WAIT_S, Keeper, Submission
from blockwise.errors import JobError


@dataclass
class Jobs:
    """Jobs that a test lets run, connect, end or be refused."""

    known: list[Submission] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    refusal: JobError | None = None
    made: int = 0

    def submissions(self) -> list[Submission]:
        return list(self.known)

    def add(self, count: int) -> None:
        for _ in range(count):
            self.made += 1
            id = "" if self.refusal else str(self.made)
            self.known.append(Submission(f"w{self.made}", id, self.refusal))
            self.states |= {id: "PENDING"} if id else {}

    def drop(self, names: list[str]) -> None:
        self.known = [s for s in self.known if s.name not in names]

    def all_become(self, state: str, *, connected: bool = False) -> None:
        self.states = dict.fromkeys(self.states, state)
        for submission in self.known:
            submission.connected = submission.connected or connected

    def queue(self, *names: str) -> dict[str, QueuedJob]:
        return {id: QueuedJob(id, state, "me", "Resources") for id, state in self.states.items()}


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    pool = Jobs()
    monkeypatch.setattr(jobs, "queue", pool.queue)
    monkeypatch.setattr(jobs, "cancel", lambda ids: [pool.states.update({id: "CANCELLED"}) for id in ids])
    return pool


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def keeper(pool: Jobs, said: list[str], tmp_path: Path) -> Keeper:
    return Keeper(pool, "bw-x", "me", 3, lambda id: tmp_path / f"{id}.log", lambda text, level: said.append(text), wanted=10)


def test_it_holds_no_more_than_it_may(keeper: Keeper, pool: Jobs):
    for now_s in range(5):
        keeper.tick(now_s)
    assert pool.made == 3
    assert keeper.waiting == "3 jobs wait in the queue (Resources)"
    pool.all_become("RUNNING", connected=True)
    keeper.tick(6)
    assert keeper.waiting == ""
    keeper.wanted = 1
    keeper.tick(7)
    assert len(pool.known) == 3, "none is cancelled while the run goes on"


def test_workers_that_end_are_replaced_at_once(keeper: Keeper, pool: Jobs, said: list[str]):
    keeper.tick(0)
    pool.all_become("RUNNING", connected=True)
    pool.states["2"] = "TIMEOUT"
    keeper.tick(1)
    assert [s.id for s in pool.known] == ["1", "3", "4"]
    assert said == []


@pytest.mark.parametrize("waits", [False, True], ids=["all die", "one waits"])
def test_jobs_that_die_before_they_connect_end_the_run(keeper: Keeper, pool: Jobs, waits: bool):
    now_s = 0.0
    for _ in range(TRIES):
        assert not keeper.failure
        keeper.tick(now_s)
        pool.all_become("FAILED")
        if waits:
            pool.states[pool.known[-1].id] = "PENDING"
        keeper.tick(now_s + 1)
        now_s += WAIT_S[1] + 2
    assert "ended (FAILED) before its worker connected" in keeper.failure
    made = pool.made
    keeper.tick(now_s)
    assert pool.made == made


def test_jobs_that_a_person_cancels_are_no_fault(keeper: Keeper, pool: Jobs, said: list[str]):
    for now_s in range(3 * TRIES):
        keeper.tick(now_s)
        pool.all_become("CANCELLED")
    assert (keeper.failure, said) == ("", [])


def test_waits_grow_to_their_longest_and_are_told_once(keeper: Keeper, pool: Jobs, said: list[str]):
    keeper.max_jobs = 1
    keeper.tick(0)
    pool.all_become("RUNNING", connected=True)
    keeper.max_jobs, pool.refusal = 2, JobError("sbatch: job submit limit")
    tries = []
    for now_s in range(1, 4000):
        before = pool.made
        keeper.tick(now_s)
        tries += [now_s] if pool.made > before else []
    gaps = [b - a for a, b in pairwise(tries)]
    assert gaps == sorted(gaps)
    assert gaps[0] <= 2 * WAIT_S[0]
    assert WAIT_S[1] <= gaps[-1] <= WAIT_S[1] + 2
    assert len(said) == 1
    assert not keeper.failure, "a worker is there"


def test_refusals_end_a_run_that_has_nothing_in_the_queue(keeper: Keeper, pool: Jobs):
    pool.refusal = JobError("sbatch: no such account")
    for i in range(2 * TRIES):
        keeper.tick(i * WAIT_S[1])
    assert keeper.failure == "sbatch: no such account"


def test_a_queue_that_does_not_answer_decides_nothing(keeper: Keeper, pool: Jobs, said: list[str], monkeypatch: pytest.MonkeyPatch):
    keeper.tick(0)
    before = pool.submissions()
    pool.all_become("FAILED")

    def away(*names: str) -> dict[str, QueuedJob]:
        raise JobError("squeue: Socket timed out", away=True)

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "queue", away)
        for now_s in range(1, 100):
            keeper.tick(now_s)
        assert pool.submissions() == before
    pool.all_become("RUNNING")
    keeper.tick(100)
    assert len(said) == 2
    assert said[-1] == "SLURM answers again."


def test_it_looks_often_while_things_change(keeper: Keeper, pool: Jobs, monkeypatch: pytest.MonkeyPatch):
    now_s = 1000.0
    monkeypatch.setattr("blockwise.cluster.keeper.time.monotonic", lambda: now_s)
    keeper.tick(now_s)
    assert keeper._pause_s == TICK_S
    now_s += LIVELY_S
    assert keeper._pause_s == CALM_S
    keeper.wake()
    assert keeper._pause_s == TICK_S
    keeper.wanted = 0
    assert keeper._pause_s < 1


def test_jobs_that_slurm_took_after_all_are_cancelled(keeper: Keeper, pool: Jobs):
    keeper.tick(0)
    pool.states["77"] = "PENDING"
    keeper.tick(1)
    assert pool.states["77"] == "CANCELLED"
    assert {pool.states[s.id] for s in pool.known} == {"PENDING"}
