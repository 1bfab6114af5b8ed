"""A plan as text for a terminal."""

from math import prod
from typing import Any

from blockwise.monitor.text import columns, human_bytes, human_seconds
from blockwise.plan import Plan, StagePlan


def plan_text(plan: Plan) -> str:
    """All of a plan: stages, memory with its terms, time from the pilot, details of the task, warnings and refusals."""
    parts = [f"task {plan.task}, {plan.workers} workers", _stages(plan), _memory(plan), _disk(plan), _time(plan), *_details(plan)]
    parts += [f"warning: {w}" for w in plan.warnings]
    parts += [f"REFUSED: {r}" for r in plan.refusals] or ["alignment: every chunk has one writer. Nothing stands against this run."]
    return "\n".join(p for p in parts if p)


def _stages(plan: Plan) -> str:
    head = ("stage", "domains", "blocks", "block", "context", "edge", "read per core", "output", "waits for")
    rows = [(*_stage(s), _upstream(s, [b.name for b in plan.stages[:i]])) for i, s in enumerate(plan.stages)]
    return columns([head, *rows] if len(rows) > 1 else [head[:-1], *(row[:-1] for row in rows)])


def _upstream(s: StagePlan, before: list[str]) -> str:
    """What blocks of a stage need of earlier ones, in words."""
    if before and s.reads == tuple(f"{name} (stage)" for name in before):
        return "all before"
    return ", ".join(s.reads).replace(" (stage)", " (all)") or "nothing"


def _stage(s: StagePlan) -> tuple[str, ...]:
    context = ", ".join(f"{b}+{a}" for b, a in s.context)
    size, shape = human_bytes(s.output_bytes), " x ".join(map(str, s.shape))
    return (s.name, str(s.domains), str(s.blocks), f"{shape} ({prod(s.shape)})", context, s.edge, f"{s.read_factor:.2f}", size)


def _memory(plan: Plan) -> str:
    stage = max(plan.stages, key=lambda s: sum(s.memory.values()))
    terms = " + ".join(f"{human_bytes(v)} {k}" for k, v in stage.memory.items())
    base = plan.worker_bytes - sum(stage.memory.values())
    total = f"{human_bytes(base)} Python, Dask, torch" + (f" + {terms}" if terms else "")
    return f"memory per worker: {human_bytes(plan.worker_bytes)} = {total}"


def _disk(plan: Plan) -> str:
    return f"disk: up to {human_bytes(plan.output_bytes)} of output, {human_bytes(plan.free_bytes)} free" if plan.output_bytes else ""


def _time(plan: Plan) -> str:
    pilot = plan.pilot
    if pilot is None:
        return ""
    each = f"{pilot.read_s * 1e3:.0f} ms to read, {pilot.compute_s * 1e3:.0f} ms to compute"
    return f"time: about {human_seconds(pilot.stage_s)} for the main stage ({pilot.blocks} pilot blocks, each {each})"


def _details(plan: Plan) -> list[str]:
    return [f"{name}:\n{_table(value)}" if _is_table(value) else f"{name}: {_plain(value)}" for name, value in plan.details.items()]


def _is_table(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, list) for row in value)


def _table(value: Any) -> str:
    return columns([tuple(map(str, row)) for row in value])


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
