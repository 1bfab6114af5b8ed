import re
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from blockwise.monitor.metrics import blocks_by_state, exposition, step_of
from blockwise.status import Counts, Spent
from tests.monitor.values import DONE, HOSTILE, RUNNING, worker

STAGE = replace(RUNNING.stages[1], spent=Spent(5_000, 1.5, 20.25, 3.0, 4))
STATUS = replace(RUNNING, stages=(RUNNING.stages[0], STAGE), lost=2, workers=(worker(0), replace(worker(1), gpu=0.37, gpu_mb=12_000.0)))


def samples(status, accept=""):
    """(name, labels without run) -> value."""
    text = exposition(status, accept)[0].decode()
    families = list(text_string_to_metric_families(text))
    found = [s for f in families for s in f.samples]
    assert {s.labels["run"] for s in found} == {status.run}
    return {(s.name, *(v for k, v in sorted(s.labels.items()) if k != "run")): s.value for s in found}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (("blockwise_run_info", "running", "cascade"), 1),
        (("blockwise_blocks", "rates", "done"), 45_200),
        (("blockwise_blocks", "rates", "failed"), 1),
        (("blockwise_blocks", "rates", "running"), 12),
        (("blockwise_blocks", "rates", "waiting"), 100_000 - 45_200 - 1 - 12 - 7),
        (("blockwise_blocks_computed", "rates"), 45_300),
        (("blockwise_failed_attempts_total", "rates"), 4),
        (("blockwise_written_bytes_total", "rates"), 5_000),
        (("blockwise_step_seconds_total", "rates", "compute"), 20.25),
        (("blockwise_workers", "computing"), 2),
        (("blockwise_workers", "idle"), 0),
        (("blockwise_leases_lost_total",), 2),
        (("blockwise_worker_busy_ratio", "worker-0"), 0.934),
        (("blockwise_worker_gpu_ratio", "worker-1"), 0.37),
        (("blockwise_worker_gpu_memory_bytes", "worker-1"), 12e9),
        (("blockwise_time_left_seconds",), 44.4),
        (("blockwise_driver_beats_total",), 63),
    ],
)
def test_what_prometheus_reads(key, value):
    assert samples(STATUS)[key] == value


def test_what_is_absent_is_no_zero():
    found = samples(DONE)
    assert ("blockwise_time_left_seconds",) not in found
    assert not [key for key in samples(STATUS) if key == ("blockwise_worker_gpu_ratio", "worker-0")]


@pytest.mark.parametrize("blocks", [Counts(), Counts(total=9, done=1, failed=2, running=1, masked=1, orphans=2), Counts(total=3, done=3)])
def test_every_block_is_in_one_state(blocks):
    assert sum(blocks_by_state(blocks).values()) == blocks.total


@pytest.mark.parametrize(
    ("steps", "state"),
    [((0, 0, 0), "idle"), ((2, 0, 0), "reading"), ((2, 1, 3), "computing"), ((0, 0, 1), "writing"), ((1, 0, 1), "reading")],
)
def test_the_state_of_a_worker(steps, state):
    assert step_of(replace(worker(), **dict(zip(("reading", "computing", "writing"), steps, strict=True)))) == state


def test_foreign_names_do_not_break_the_format():
    status = replace(RUNNING, run=HOSTILE + "\n\\")
    assert samples(status)[("blockwise_driver_beats_total",)] == 63


def test_openmetrics_is_spoken_where_asked():
    text, kind = exposition(STATUS, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


def test_every_metric_is_documented_and_no_other():
    page = (Path(__file__).parents[2] / "docs/howto/watch.md").read_text()
    assert set(re.findall(r"`(blockwise_\w+)", page)) == {name for name, *_ in samples(STATUS)}
