"""A run's state as Prometheus metrics; the page serves them at `/blockwise/metrics`.

Counters begin at zero with every driver, as Prometheus expects of a process; what is counted over all drivers of a run is a gauge.
Every sample carries the label `run`. The names are part of the interface: docs/howto/watch.md lists them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from blockwise.status import Counts, Status, WorkerStatus

STEPS = ("reading", "computing", "writing")


def exposition(status: Status, accept: str = "") -> tuple[bytes, str]:
    """All metrics of a status in the text format that `accept`, a request's header, asks for, and its content type."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import choose_encoder

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(status))
    encoder, content_type = choose_encoder(accept)
    return encoder(registry), content_type


def blocks_by_state(blocks: Counts) -> dict[str, int]:
    """The blocks of a stage, each in one state."""
    found = {"done": blocks.done, "failed": blocks.failed, "running": blocks.running, "masked": blocks.masked, "orphaned": blocks.orphans}
    return {**found, "waiting": max(0, blocks.total - sum(found.values()))}


def step_of(worker: WorkerStatus) -> str:
    """What a worker is at: the step that decides its speed comes first; idle where it has no block."""
    return next((s for s in ("computing", "reading", "writing") if getattr(worker, s)), "idle")


@dataclass(frozen=True)
class _Collector:
    """What prometheus_client asks for families of samples."""

    status: Status

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Iterator[Any]:
        yield from self._of_run()
        yield from self._of_stages()
        yield from self._of_workers()

    def _of_run(self) -> Iterator[Any]:
        s = self.status
        yield self._gauge("run_info", "What runs, and how it stands: always 1.", ("task", "state"), {(s.task, s.state): 1})
        yield self._gauge("blocks_per_second", "Blocks of the main stage booked per second, over half a minute.", (), {(): s.blocks_per_s})
        yield self._gauge("bytes_per_second", "Bytes written per second, over half a minute.", (), {(): s.bytes_per_s})
        yield self._gauge("time_left_seconds", "Until the main stage is done, at that rate.", (), {} if s.eta_s is None else {(): s.eta_s})
        yield self._counter("driver_beats", "Grows every second while the driver lives.", (), {(): s.beat})

    def _of_stages(self) -> Iterator[Any]:
        stages = self.status.stages
        states = {(g.name, state): n for g in stages for state, n in blocks_by_state(g.blocks).items()}
        yield self._gauge("blocks", "Blocks of a stage by state; the states add up to all blocks.", ("stage", "state"), states)
        computed = {(g.name,): g.blocks.executed for g in stages}
        yield self._gauge("blocks_computed", "Computations begun since the run folder was made, repeats included.", ("stage",), computed)
        failed = {(g.name,): g.spent.failed_attempts for g in stages}
        yield self._counter("failed_attempts", "Attempts at a block that failed.", ("stage",), failed)
        yield self._counter(
            "written_bytes", "Bytes of results, before compression.", ("stage",), {(g.name,): g.spent.nbytes for g in stages}
        )
        seconds = {
            (g.name, step): s
            for g in stages
            for step, s in (("read", g.spent.read_s), ("compute", g.spent.compute_s), ("write", g.spent.write_s))
        }
        yield self._counter("step_seconds", "Seconds that blocks spent in a step, summed over workers.", ("stage", "step"), seconds)

    def _of_workers(self) -> Iterator[Any]:
        workers = self.status.workers
        counts = {(state,): sum(step_of(w) == state for w in workers) for state in (*STEPS, "idle")}
        yield self._gauge("workers", "Workers by what they are at.", ("state",), counts)
        yield self._counter("leases_lost", "Leases that died with their worker.", (), {(): self.status.lost})
        yield self._gauge("worker_busy_ratio", "Share of time in compute.", ("worker",), {(w.name,): w.busy for w in workers})
        memory = {(w.name,): w.rss_mb * 1e6 for w in workers}
        yield self._gauge("worker_memory_bytes", "Memory of a worker process.", ("worker",), memory)
        used = {(w.name,): w.gpu for w in workers if w.gpu is not None}
        yield self._gauge("worker_gpu_ratio", "Share of time that a worker's GPU was in use.", ("worker",), used)
        gpu_memory = {(w.name,): w.gpu_mb * 1e6 for w in workers if w.gpu_mb is not None}
        yield self._gauge("worker_gpu_memory_bytes", "Memory in use of a worker's GPU.", ("worker",), gpu_memory)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...], samples: Mapping[Any, float]) -> Any:
        from prometheus_client.core import GaugeMetricFamily

        return self._filled(GaugeMetricFamily(f"blockwise_{name}", text, labels=("run", *labels)), samples)

    def _counter(self, name: str, text: str, labels: tuple[str, ...], samples: Mapping[Any, float]) -> Any:
        from prometheus_client.core import CounterMetricFamily

        return self._filled(CounterMetricFamily(f"blockwise_{name}", text, labels=("run", *labels)), samples)

    def _filled(self, family: Any, samples: Mapping[Any, float]) -> Any:
        for labels, value in samples.items():
            family.add_metric((self.status.run, *labels), value)
        return family
