"""Everything known before anything runs: blocks, bytes, memory, time, alignment verdicts. `run` refuses what a plan refuses.

A plan reads inputs and ledger and writes nothing. Sizes are exact, memory is the sum of the terms the task names, time is measured on
a pilot of a few blocks spread over the domains, computed in this process and thrown away.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import inf, prod
from typing import Any

import numpy as np

from blockwise.errors import AlignmentError, PlanRefused
from blockwise.graph import Graph
from blockwise.grid import Block, Grid
from blockwise.storage import free_bytes
from blockwise.task import OutputLayout, Task
from blockwise.threads import thread_environment

VERSION = 1
WORKER_BASE_BYTES: int = 650 << 20
"""Resident memory of a worker that has imported Dask, tensorstore and torch."""


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage as it would run.

    read_factor : voxels read per voxel of core, for context is read more than once.
    reads : earlier stages that blocks wait for, and in which way: "noise (region)".
    """

    name: str
    main: bool
    domains: int
    blocks: int
    shape: tuple[int, ...]
    context: tuple[tuple[int, int], ...]
    edge: str
    output_bytes: int
    read_factor: float
    memory: Mapping[str, int]
    reads: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pilot:
    """What a few blocks took, in seconds per block, and what that means for the stage."""

    blocks: int
    read_s: float
    compute_s: float
    setup_s: float
    stage_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole plan. `refusals` is empty where the run may start."""

    task: str
    stages: tuple[StagePlan, ...]
    workers: int
    worker_bytes: int
    output_bytes: int
    free_bytes: int
    refusals: tuple[str, ...]
    warnings: tuple[str, ...]
    details: Mapping[str, object] = field(default_factory=dict)
    pilot: Pilot | None = None
    version: int = VERSION

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def check(self) -> None:
        """Raise PlanRefused with every refusal."""
        if self.refusals:
            raise PlanRefused("the plan is refused:\n" + "\n".join(f"  {r}" for r in self.refusals))


def make_plan(
    task: Task,
    *,
    workers: int,
    memory_bytes: int,
    place: str = "this machine",
    threads: int = 1,
    device: str = "cpu",
    pilot_blocks: int = 0,
    pilot_s: float = inf,
) -> Plan:
    """Plan a run of `task` on `workers` workers that share the `memory_bytes` of a place; a pilot computes on `device`."""
    graph = Graph(task.stages())
    stages = tuple(_stage_plan(s, s is task, graph) for s in graph.stages)
    worker_bytes = WORKER_BASE_BYTES + max(sum(sum(stages[i].memory.values()) for i in at_once) for at_once in graph.together())
    output_bytes = sum(s.output_bytes for s in stages)
    path = task.output_path()
    free = free_bytes(path) if path else 0
    refusals = [r for s in task.stages() for r in misaligned(s)]
    warnings = []
    if path and output_bytes > free:
        room = f"outputs take up to {_size(output_bytes)}, {_size(free)} are free at {path}"
        if os.path.exists(path):  # a run that goes on has written some of it
            warnings.append(f"{room}, beside what is written already: free some if the rest does not fit")
        else:
            refusals.append(f"{room}: free some or choose another [output] path")
    if worker_bytes * workers > memory_bytes:
        warnings.append(
            f"{workers} workers of {_size(worker_bytes)} exceed the {_size(memory_bytes)} of {place}: "
            f"fewer [cluster] workers or a smaller [blocks] shape or memory"
        )
    details = dict(task.describe())
    warnings += [str(w) for w in _listed(details.pop("warnings", ()))]
    pilot = run_pilot(task, pilot_blocks, workers, threads=threads, device=device, budget_s=pilot_s) if pilot_blocks else None
    return Plan(
        task=task.name,
        stages=stages,
        workers=workers,
        worker_bytes=worker_bytes,
        output_bytes=output_bytes,
        free_bytes=free,
        refusals=tuple(refusals),
        warnings=tuple(warnings),
        details=details,
        pilot=pilot,
    )


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, (list, tuple)) else (value,)


def _stage_plan(task: Task, main: bool, graph: Graph) -> StagePlan:
    spec, grid = task.spec(), Grid(task.domains(), task.spec())
    full = prod(n + b + a for n, (b, a) in zip(spec.shape, spec.context, strict=True))
    return StagePlan(
        name=task.name,
        main=main,
        domains=len(grid.domains),
        blocks=len(grid),
        shape=spec.shape,
        context=spec.context,
        edge=spec.edge,
        output_bytes=sum(prod(o.shape) * o.itemsize for o in task.outputs()),
        read_factor=full / prod(spec.shape),
        memory=dict(task.memory()),
        reads=tuple(f"{d.stage} ({d.reads})" for d in graph.dependencies[task.name]),
    )


def misaligned(task: Task) -> list[str]:
    """A sentence for every output whose chunks or shards two cores would share; losing data is refused, never risked."""
    return [sentence for layout in task.outputs() for sentence in _verdicts(task.spec().shape, layout)]


def _verdicts(shape: Sequence[int], layout: OutputLayout) -> list[str]:
    found = []
    for side, axis in zip(shape, layout.axes, strict=True):
        unit, extent = layout.unit[axis], layout.shape[axis]
        if side % unit and side < extent:
            near = max(unit, round(side / unit) * unit)
            found.append(
                f"{layout.path}, axis {axis}: a core of {side} covers part of a chunk or shard of {unit}, so two workers would write one "
                f"file and lose data: make that side of [blocks] shape a multiple of {unit}, e.g. {near}"
            )
    return found


def check_alignment(task: Task) -> None:
    """Raise AlignmentError where cores share chunks or shards."""
    if found := misaligned(task):
        raise AlignmentError("\n".join(found))


def run_pilot(task: Task, blocks: int, workers: int, *, threads: int = 1, device: str = "cpu", budget_s: float = inf) -> Pilot:
    """Compute a few blocks of the main stage, spread evenly, on as many threads as a worker has, and throw the results away.

    After `budget_s` no further block is begun. What the first block loads is no block's time, unless it is the only one.
    """
    grid = Grid(task.domains(), task.spec())
    ids = np.unique(np.linspace(0, len(grid) - 1, min(blocks, len(grid))).astype(np.int64))
    os.environ.update(thread_environment(threads))
    began = time.perf_counter()
    task.open_pilot()
    state = task.setup(device)
    times = [_pilot_times(task, grid.block(int(ids[0])), state)]
    setup_s = time.perf_counter() - began
    for block in grid.blocks(ids):
        if time.perf_counter() - began > budget_s:
            break
        times.append(_pilot_times(task, block, state))
    read_s, compute_s = np.mean(times[1:] or times, axis=0).tolist()
    count = max(1, len(times) - 1)
    return Pilot(count, read_s, compute_s, setup_s, max(read_s, compute_s) * -(-len(grid) // workers) + setup_s)


def _pilot_times(task: Task, block: Block, state: Any) -> tuple[float, float]:
    """Seconds to read and to compute one block."""
    began = time.perf_counter()
    inputs = task.pilot_inputs(block)
    middle = time.perf_counter()
    task.compute(inputs, state)
    return middle - began, time.perf_counter() - middle


def _size(nbytes: float) -> str:
    exponent = min(5, int(np.log10(max(1.0, nbytes)) // 3))
    return f"{nbytes / 1000**exponent:.3g} {('B', 'kB', 'MB', 'GB', 'TB', 'PB')[exponent]}"
