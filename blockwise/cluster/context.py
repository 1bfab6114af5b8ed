"""What a cluster is told of the run that it works for."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from blockwise.events import Level


@dataclass(frozen=True, slots=True)
class RunContext:
    """One run, seen from its cluster.

    run : its id.  folder : the run folder.  alone : whether no other driver can be at work on this run.
    tell : takes what a person should know.
    """

    run: str
    folder: Path
    alone: bool = True
    tell: Callable[[str, Level], None] = lambda text, level: None
