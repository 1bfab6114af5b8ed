"""SLURM's commands as functions: submit, test, list, cancel. No Dask here, and nothing is kept.

Every call ends within `ANSWER_S` (sbatch hangs at some sites' job limits). A controller that does not answer is told apart from one that
refuses: both raise JobError with its words, the first with `away`, which means nothing for the job. Ctrl-C does not reach a command, and
passwords of a ledger's server do not reach a job.
"""

import getpass
import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

from blockwise.errors import JobError

ANSWER_S: float = 60.0
"""What one command may take."""
ENDED = frozenset(
    "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED REVOKED SPECIAL_EXIT TIMEOUT".split()  # noqa: SIM905
)
"""States of jobs that run no more; SLURM lists them for some minutes."""
AWAY = re.compile(
    "unable to contact slurm|socket timed out|connection (refused|timed out|reset)|temporarily unable|zero bytes were transmitted|"
    "controller is (down|in standby)|transport endpoint|resource temporarily unavailable|communication (error|connection)",
    re.IGNORECASE,
)
"""Words by which commands say that the controller does not answer."""
NOT_PASSED_ON = ("BLOCKWISE_MONGODB_", "SBATCH_", "SQUEUE_", "SCANCEL_")
"""What names in the environment begin with that no job needs, or that would outvote what is asked for here."""
DEFAULTS = {
    "SBATCH_ACCOUNT": "-A --account",
    "SBATCH_PARTITION": "-p --partition",
    "SBATCH_QOS": "-q --qos",
    "SBATCH_RESERVATION": "--reservation",
}
"""What a site may set for its users, and the options that go before it."""
LAST_LINES: int = 12


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """One line of squeue. `reason`: why it waits. `comment`: what its submitter called it."""

    id: str
    state: str
    comment: str
    reason: str

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def waits(self) -> bool:
        return self.state == "PENDING"


def submit(script: str | Path) -> str:
    """Submit a script; the id of the job.

    Raises
    ------
    JobError : SLURM refuses it; away: SLURM does not answer, and may have the job nevertheless.
    """
    words = _slurm("sbatch", "--parsable", str(script), script=Path(script).read_text())
    found = re.search(r"^\d+", words, re.MULTILINE)
    if found is None:
        raise JobError(f"sbatch answers without the id of a job: {words.strip()!r}")
    return found.group()


def test_only(script: str | Path) -> str:
    """What SLURM says to a script that it is not to run: when and where it would start.

    Raises
    ------
    JobError : it would be refused, or there is no answer (away).
    """
    return _slurm("sbatch", "--test-only", str(script), script=Path(script).read_text()).removeprefix("sbatch: ").strip()


def queue(*names: str) -> dict[str, QueuedJob]:
    """This user's jobs of these names by id, those that ended a moment ago included.

    Raises
    ------
    JobError
    """
    out = _slurm("squeue", "--noheader", "--user", getpass.getuser(), "--name", ",".join(names), "--states=all", "--format=%i|%T|%r|%k")
    rows = (line.split("|", 3) for line in out.splitlines() if line.count("|") >= 3)
    return {id: QueuedJob(id, state, comment.strip(), reason) for id, state, reason, comment in rows}


def cancel(ids: Iterable[str]) -> None:
    """Cancel jobs; those that have ended already do not matter.

    Raises
    ------
    JobError
    """
    if given := sorted(ids):
        _slurm("scancel", "--quiet", *given)


def walltime_s(text: str) -> float:
    """Seconds of a walltime as sbatch takes it: minutes, [hours:]minutes:seconds, days-hours[:minutes[:seconds]]; infinite where none."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip())
    if found is None:
        return inf
    days, *parts = (None if g is None else int(g) for g in found.groups())
    numbers = [n for n in parts if n is not None]
    units = (3600, 60, 1) if days is not None or len(numbers) == 3 else (60, 1)
    return float(86_400 * (days or 0) + sum(n * unit for n, unit in zip(numbers, units, strict=False)))


def last_lines(file: Path, lines: int = LAST_LINES) -> str:
    """The end of a job's log; says so where there is none."""
    try:
        text = file.read_text(errors="replace").rstrip()
    except OSError:
        return f"(no log at {file})"
    return "\n".join(text.splitlines()[-lines:]) or f"({file} is empty)"


def environment(script: str) -> dict[str, str]:
    """What a command gets to see: defaults of the site as far as a script does not say otherwise."""
    said = {word.partition("=")[0] for line in script.splitlines() if line.startswith("#SBATCH") for word in line.split()}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(NOT_PASSED_ON)}
    return kept | {k: os.environ[k] for k, options in DEFAULTS.items() if k in os.environ and not said & set(options.split())}


def _slurm(program: str, *arguments: str, script: str = "") -> str:
    """What a command prints, on either channel."""
    try:
        done = subprocess.run(
            [program, *arguments],
            env=environment(script),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
            check=False,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise JobError(f'{program} is not on PATH: [cluster] kind = "slurm" works where SLURM\'s commands do, on a login node') from None
    except subprocess.TimeoutExpired:
        raise JobError(f"{program} did not answer within {ANSWER_S:.0f} s", away=True) from None
    if done.returncode == 0:
        return done.stdout or done.stderr
    words = _words(done.stderr or done.stdout)
    raise JobError(f"{program}: {words}", away=AWAY.search(words) is not None)


def _words(text: str) -> str:
    """SLURM's sentences without the name of the command before each."""
    lines = (re.sub(r"^\w+: (error: |fatal: )?", "", line).strip() for line in text.splitlines())
    return "; ".join(dict.fromkeys(line for line in lines if line)) or "it failed and said nothing"


def quoted(words: Sequence[str]) -> list[str]:
    """Options of #SBATCH lines, quoted where a space would cut them."""
    return [f'"{w}"' if " " in w and '"' not in w else w for w in words]
