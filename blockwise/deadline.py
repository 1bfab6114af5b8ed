"""When this process must end, because its job does, and how long before that it has to stop taking blocks.

The end is `$BLOCKWISE_END_S` (epoch seconds; empty: there is none), else that of the SLURM job, which is asked for again now and then
because an operator may move it. A scheduler that does not answer changes nothing. Nothing is written.
"""

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf

END: str = "BLOCKWISE_END_S"
MARGIN_S: float = 60.0
"""Time kept free before the end beside the longest block, ..."""
MARGIN_SHARE: float = 0.1
"""... or this part of the time there was, where that is less."""
ASK_S: tuple[float, float] = (10.0, 600.0)
"""Least and most time between two questions to SLURM; between them, half of what is left: a thousand workers ask twice a second."""
ANSWER_S: float = 10.0
LOOK_S: float = 0.5


@dataclass(slots=True)
class Deadline:
    """The end of this process's job.

    end_s : epoch seconds, None while unknown. begun_s : when counting began. job : of SLURM, to ask about, "" where there is none.
    """

    end_s: float | None = None
    job: str = ""
    begun_s: float = field(default_factory=time.time)
    ask_at_s: float = 0.0

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> "Deadline":
        """What the environment says."""
        if END in environment:
            return cls(_number(environment[END]))
        return cls(_number(environment.get("SLURM_JOB_END_TIME", "")), environment.get("SLURM_JOB_ID", ""))

    @property
    def possible(self) -> bool:
        """Whether there is an end to be watched for."""
        return self.end_s is not None or bool(self.job)

    def look(self, now_s: float) -> None:
        """Ask SLURM where that is due; may take ANSWER_S."""
        if not self.job or now_s < self.ask_at_s:
            return
        answer = ask_slurm(self.job)
        self.end_s = self.end_s if answer is None else answer
        least, most = ASK_S
        self.ask_at_s = now_s + min(most, max(least, (most if self.end_s is None else self.end_s - now_s) / 2))

    def margin_s(self, longest_s: float) -> float:
        """Time before the end at which no further block may begin, if the longest so far took `longest_s` with its write."""
        whole_s = inf if self.end_s is None else max(0.0, self.end_s - self.begun_s)
        return min(MARGIN_S, MARGIN_SHARE * whole_s) + longest_s

    def left_s(self, now_s: float, longest_s: float) -> float:
        """Time in which blocks may still begin; infinite where no end is known."""
        return inf if self.end_s is None else self.end_s - now_s - self.margin_s(longest_s)

    @property
    def sentence(self) -> str:
        """When the end is, for a person."""
        return f"its job ends at {time.strftime('%H:%M:%S', time.localtime(self.end_s))}"

    def wait(self, longest_s: Callable[[], float], over: Callable[[], bool]) -> bool:
        """Wait until no further block may begin; False where `over` came true before, or no end can come."""
        while self.possible and not over():
            self.look(time.time())
            if self.left_s(time.time(), longest_s()) <= 0:
                return True
            time.sleep(LOOK_S)
        return False


def ask_slurm(job: str) -> float | None:
    """The end of a SLURM job in epoch seconds; None where SLURM says nothing or the job has no end."""
    command = ["squeue", "-h", "-j", job, "-o", "%e"]
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            command, env={**os.environ, "SLURM_TIME_FORMAT": "%s"}, capture_output=True, text=True, timeout=ANSWER_S, check=False
        )
        return _number(done.stdout.strip())
    return None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
