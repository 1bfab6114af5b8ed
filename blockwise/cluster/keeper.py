"""Holds the wanted number of jobs in SLURM's queue and replaces those that end, until it is told to stop.

A thread compares the jobs it knows with what squeue lists, every `TICK_S` while things change and every `CALM_S` otherwise, for squeue
is dear to a site. Guaranteed: never more than `max_jobs` jobs; a queue that does
not answer decides nothing; jobs that end before their workers connect, and submissions that SLURM refuses, are tried again after growing
waits, and after `TRIES` rounds of them without any worker the run is told to end, with SLURM's words or the last lines of the job's log.
No job is cancelled while the run goes on: between two stages nothing is wanted, and a place in the queue is worth keeping.
A crash leaves the jobs: workers that have lost their driver end by themselves, `blockwise clean` cancels the others by name.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from blockwise.cluster import jobs
from blockwise.cluster.jobs import QueuedJob
from blockwise.errors import JobError
from blockwise.events import Level

TICK_S: float = 2.0
CALM_S: float = 30.0
LIVELY_S: float = 120.0
"""How long after jobs were submitted or went the queue is looked at every `TICK_S`."""
IDLE_S: float = 0.05
"""How soon it is noticed that jobs are wanted at all."""
GATHER_S: float = 0.5
"""Workers that go within so long are looked at together."""
TRIES: int = 3
"""Rounds of jobs that die before their workers connect, or are refused while none is in the queue, until the run ends; as long as a
worker is there it goes on."""
WAIT_S: tuple[float, float] = (5.0, 300.0)
"""Wait after the first such round, doubled after each further one, and the longest."""

Tell = Callable[[str, Level], None]


@dataclass(slots=True)
class Submission:
    """A job as the keeper knows it. `id`: "" until SLURM has given it one. `refusal`: why it gave none."""

    name: str
    id: str = ""
    refusal: JobError | None = None
    connected: bool = False


class Pool(Protocol):
    """What the keeper keeps: a Dask cluster of jobs."""

    def submissions(self) -> list[Submission]:
        """All that were begun and not dropped, those being submitted now included."""

    def add(self, count: int) -> None:
        """Submit so many more."""

    def drop(self, names: list[str]) -> None:
        """Forget jobs that are gone."""


@dataclass(slots=True)
class Keeper:
    """The keeping itself; `tick` does one round of it.

    name : of the jobs.  token : the comment of those of this driver.  log : gives the log file of a job.  tell : takes messages.
    """

    pool: Pool
    name: str
    token: str
    max_jobs: int
    log: Callable[[str], Path]
    tell: Tell
    wanted: int = 0
    waiting: str = ""
    """What the queue says of jobs that have not started; empty where none waits."""
    failure: str = ""
    """Why the run must end."""
    _rounds: int = 0
    """Of submissions that failed, one after the other."""
    _vain: int = 0
    """Those of them that count against the run."""
    _not_before_s: float = 0.0
    _told: str = ""
    _away: bool = False
    _changed_s: float = 0.0
    _awake: threading.Event = field(default_factory=threading.Event)
    _over: bool = False
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._loop, name="blockwise-keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; a command that is under way is waited for."""
        self._over = True
        self._awake.set()
        if self._thread is not None:
            self._thread.join(jobs.ANSWER_S)

    def wake(self) -> None:
        """A worker has gone: look soon, and more often for a while. From any thread."""
        self._changed_s = time.monotonic()
        self._awake.set()

    def _loop(self) -> None:
        while not self._over:
            if self._awake.wait(self._pause_s):
                self._awake.clear()
                time.sleep(GATHER_S)
            if self.wanted and not self.failure and not self._over:
                self._try_tick()

    @property
    def _pause_s(self) -> float:
        """Time until the next look at the queue."""
        if not self.wanted:
            return IDLE_S
        return TICK_S if time.monotonic() - self._changed_s < LIVELY_S else CALM_S

    def _try_tick(self) -> None:
        try:
            self.tick(time.monotonic())
        except Exception as error:  # of a cluster that closes meanwhile; anything else must not end the keeping either
            if not self._over and repr(error) != self._told:
                self._told = repr(error)
                self.tell(f"The keeper of the jobs failed, and goes on: {error!r}", "warning")

    def tick(self, now_s: float) -> None:
        """Look at the queue, drop what has ended, submit what is missing."""
        before = {s.name for s in self.pool.submissions() if s.id}
        try:
            queue = jobs.queue(self.name)
        except JobError as error:
            self._is_away(error)
            return
        self._is_back()
        known = self.pool.submissions()
        self._cancel_strays(queue, known)
        gone = [s for s in known if s.refusal or (s.name in before and self._has_ended(queue.get(s.id)))]
        self._judge(gone, queue, known, now_s)
        if gone:
            self._changed_s = now_s
            self.pool.drop([s.name for s in gone])
        alive = len(known) - len(gone)
        self.waiting = self._waiting(queue, known)
        missing = self._goal - alive
        if missing > 0 and now_s >= self._not_before_s and not self.failure:
            self.pool.add(missing)
            self._changed_s = time.monotonic()

    @staticmethod
    def _has_ended(job: QueuedJob | None) -> bool:
        return job is None or job.ended

    def _cancel_strays(self, queue: Mapping[str, QueuedJob], known: list[Submission]) -> None:
        """Jobs of ours that nobody knows: sbatch was given up while SLURM took them after all."""
        if all(s.id or s.refusal for s in known):
            ids = {s.id for s in known}
            jobs.cancel(job.id for job in queue.values() if job.comment == self.token and job.id not in ids and not job.ended)

    # --- what went wrong -------------------------------------------------------------------------------------------------------

    def _judge(self, gone: list[Submission], queue: Mapping[str, QueuedJob], known: list[Submission], now_s: float) -> None:
        """Wait longer after each round in which jobs fail; give up after some that brought no worker while none is there."""
        refused = [s for s in gone if s.refusal]
        died = [s for s in gone if not s.refusal and not s.connected and not self._was_cancelled(queue.get(s.id))]
        alive = [s for s in known if s not in gone]
        working = any(s.connected for s in alive)
        self._vain = 0 if working else self._vain
        if not refused and not died:
            self._rounds = self._rounds if len(alive) < self._goal else 0
            return
        first, most = WAIT_S
        wait_s = min(most, first * 2**self._rounds)
        self._not_before_s = now_s + wait_s
        self._rounds += 1
        no = any(not s.refusal.away for s in refused if s.refusal)
        self._vain += (bool(died) and not working) or (no and not alive)
        why = self._obituary(died[-1], queue.get(died[-1].id)) if died else str(refused[-1].refusal)
        if self._vain >= TRIES:
            self.failure = why
        elif why.splitlines()[0] != self._told:
            self._told = why.splitlines()[0]
            self.tell(f"{why}\nThe next try comes in {wait_s:.0f} s.", "warning")

    @property
    def _goal(self) -> int:
        """How many jobs there should be."""
        return min(self.wanted, self.max_jobs)

    @staticmethod
    def _was_cancelled(job: QueuedJob | None) -> bool:
        """Whether a person took it away: nothing is wrong with the next."""
        return job is not None and job.state in ("CANCELLED", "PREEMPTED")

    def _obituary(self, submission: Submission, job: QueuedJob | None) -> str:
        file = self.log(submission.id)
        state = job.state if job is not None else "gone from the queue"
        return f"job {submission.id} ended ({state}) before its worker connected. The last lines of {file}:\n{jobs.last_lines(file)}"

    def _is_away(self, error: JobError) -> None:
        if not self._away:
            self._away = True
            self.tell(f"SLURM does not answer ({error}): jobs stay as they are until it does.", "warning")

    def _is_back(self) -> None:
        if self._away:
            self._away = False
            self.tell("SLURM answers again.", "info")

    def _waiting(self, queue: Mapping[str, QueuedJob], known: list[Submission]) -> str:
        """What the queue says of the jobs that wait, e.g. "3 jobs wait in the queue (Resources)"."""
        waits = [queue[s.id] for s in known if s.id in queue and queue[s.id].waits]
        reasons = ", ".join(sorted({job.reason for job in waits if job.reason not in ("None", "")}))
        one = "1 job waits" if len(waits) == 1 else f"{len(waits)} jobs wait"
        return f"{one} in the queue" + (f" ({reasons})" if reasons else "") if waits else ""
