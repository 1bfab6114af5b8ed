"""The state of a run as one frozen, versioned value: what status.json holds, `status --json` prints and the live page draws.

The driver replaces status.json atomically every second; a reader needs nothing else, on another machine too.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from blockwise.events import State
from blockwise.ledger.contract import Driver

VERSION = 1
MAP_CELLS: int = 2_048
"""Cells of the block map; a run with more blocks shows several per cell."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Blocks of one stage. `executed`: computations begun since the run folder was made, over all drivers."""

    total: int = 0
    done: int = 0
    failed: int = 0
    running: int = 0
    executed: int = 0
    masked: int = 0


@dataclass(frozen=True, slots=True)
class StageStatus:
    name: str
    state: State
    main: bool
    blocks: Counts


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker process now: blocks in each step of its pipeline, its memory, and the share of time its compute thread was busy."""

    name: str
    reading: int
    computing: int
    writing: int
    rss_mb: float
    busy: float
    blocks_done: int


@dataclass(frozen=True, slots=True)
class FailureStatus:
    stage: str
    domain: str
    block: int
    attempts: int
    kind: str
    error: str
    traceback: str
    worker: str


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """How far the main stage was at one moment (seconds since the epoch): blocks and bytes booked since the run folder was made."""

    at_s: float
    blocks_done: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class SlowBlock:
    """One of the slowest blocks of a run and where its time went, in seconds."""

    stage: str
    domain: str
    block: int
    read_s: float
    compute_s: float
    write_s: float

    @property
    def total_s(self) -> float:
        return self.read_s + self.compute_s + self.write_s


@dataclass(frozen=True, slots=True)
class Status:
    """A run at one moment. `map`: per cell of the main stage 0-100 % done, 200 = holds a running, 255 = holds a failed block."""

    run: str
    task: str
    folder: str
    output: str
    state: State
    blocks: Counts
    stages: tuple[StageStatus, ...]
    version: int = VERSION
    workers: tuple[WorkerStatus, ...] = ()
    failures: tuple[FailureStatus, ...] = ()
    blocks_per_s: float = 0.0
    bytes_per_s: float = 0.0
    eta_s: float | None = None
    elapsed_s: float = 0.0
    message: str = ""
    dashboard: str = ""
    page: str = ""
    map: tuple[int, ...] = ()
    driver: Driver | None = None
    beat: int = 0
    at_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_json`; keys of a newer version are ignored."""
        known = {f.name for f in fields(cls)}
        v = {k: x for k, x in values.items() if k in known}
        v["blocks"] = Counts(**v["blocks"])
        v["stages"] = tuple(StageStatus(**{**s, "blocks": Counts(**s["blocks"])}) for s in v["stages"])
        v["workers"] = tuple(WorkerStatus(**w) for w in v.get("workers", ()))
        v["failures"] = tuple(FailureStatus(**f) for f in v.get("failures", ()))
        v["driver"] = Driver(**v["driver"]) if v.get("driver") else None
        v["map"] = tuple(v.get("map", ()))
        return cls(**v)
