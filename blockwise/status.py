"""The state of a run as one frozen, versioned value: what status.json holds, `status --json` prints and the live page draws.

The driver replaces status.json atomically every second; a reader needs nothing else, on another machine too.
"""

from dataclasses import asdict, astuple, dataclass, fields
from typing import Any, Self

from blockwise.events import State
from blockwise.ledger.contract import Driver

VERSION = 1
MAP_CELLS: int = 2_048
"""Cells of the block map; a run with more blocks shows several per cell."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Blocks of one stage. `executed`: computations begun since the run folder was made, over all drivers.

    orphans : not to be computed, for what they read of earlier stages failed.
    """

    total: int = 0
    done: int = 0
    failed: int = 0
    running: int = 0
    executed: int = 0
    masked: int = 0
    orphans: int = 0


@dataclass(frozen=True, slots=True)
class Spent:
    """What one stage has cost since this driver began: bytes written, seconds of each step summed over workers, failed attempts."""

    nbytes: int = 0
    read_s: float = 0.0
    compute_s: float = 0.0
    write_s: float = 0.0
    failed_attempts: int = 0

    def __add__(self, other: Self) -> "Spent":
        return Spent(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True, slots=True)
class StageStatus:
    name: str
    state: State
    main: bool
    blocks: Counts
    spent: Spent = Spent()


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker process now: blocks in each step of its pipeline, its memory, and the share of time its compute thread was busy.

    gpu : share of time that its GPU was in use; None where it has none, or the GPU does not tell (MIG slices).
    gpu_mb, gpu_total_mb : memory of its GPU in use, by all processes, and in all.
    """

    name: str
    reading: int
    computing: int
    writing: int
    rss_mb: float
    busy: float
    blocks_done: int
    gpu: float | None = None
    gpu_mb: float | None = None
    gpu_total_mb: float | None = None


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
    """A run at one moment. `map`: per cell of the main stage 0-100 % done, 200 = holds a running, 255 = holds a failed block.

    lost : leases of this driver that died with their worker.
    """

    run: str
    task: str
    folder: str
    output: str
    state: State
    blocks: Counts
    stages: tuple[StageStatus, ...]
    version: int = VERSION
    workers: tuple[WorkerStatus, ...] = ()
    lost: int = 0
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
        """The inverse of `to_json`; keys of a newer version are ignored, at every level."""
        v = _known(cls, values)
        v["blocks"] = Counts(**_known(Counts, v["blocks"]))
        v["stages"] = tuple(_stage(s) for s in v["stages"])
        v["workers"] = tuple(WorkerStatus(**_known(WorkerStatus, w)) for w in v.get("workers", ()))
        v["failures"] = tuple(FailureStatus(**_known(FailureStatus, f)) for f in v.get("failures", ()))
        v["driver"] = Driver(**_known(Driver, v["driver"])) if v.get("driver") else None
        v["map"] = tuple(v.get("map", ()))
        return cls(**v)


def _known(cls: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    """The values that this version has a field for."""
    names = {f.name for f in fields(cls)}
    return {k: v for k, v in values.items() if k in names}


def _stage(values: dict[str, Any]) -> StageStatus:
    nested = {"blocks": Counts(**_known(Counts, values["blocks"])), "spent": Spent(**_known(Spent, values.get("spent", {})))}
    return StageStatus(**{**_known(StageStatus, values), **nested})
