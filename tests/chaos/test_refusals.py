"""What would lose data or mix results is refused when it is planned, with the fix in the message, and nothing is written.

And the sizes that an engine for whole brains must bear: a plan of 10^8 blocks, and an empty block that costs microseconds.
"""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from blockwise.errors import PlanRefused
from blockwise.grid import GridSpec
from blockwise.storage import OutputArray
from blockwise.task import OutputLayout
from blockwise.testing import MapTask, run_in
from tests.cascade.random_model import write_model
from tests.cluster import drive, line, map_task, workers  # noqa: F401
from tests.runs import blockwise, glob_run, stamps

ROOT = Path(__file__).resolve().parents[2]
NO_OP_BLOCKS = 100_000
NO_OP_CPU_S = 20e-6
"""Most CPU of the driver's process, which holds Dask's scheduler, per empty block: measured are 2 us."""


class Sharded(MapTask):
    """A task whose output has shards of two blocks and a half."""

    SHARD = 20

    def outputs(self):
        return [OutputLayout(f"{self.path}/line", 0, (100,), (self.SHARD,), 8, (0,))]

    def prepare(self):
        OutputArray.create(self.path, "line", shape=(100,), dtype="int64", chunks=(4,), shards=(self.SHARD,), axes=("x",))


def test_cores_that_share_a_shard_are_refused_with_the_side_that_fits(tmp_path):
    task = Sharded(str(tmp_path / "out.zarr"), line(100), GridSpec((8,)))
    with pytest.raises(PlanRefused, match=r"a core of 8 covers part of a chunk or shard of 20.*lose data.*multiple of 20, e\.g\. 20"):
        run_in(tmp_path / "run", task)
    assert list(tmp_path.iterdir()) == []


def test_the_side_that_the_refusal_names_is_accepted(tmp_path):
    task = Sharded(str(tmp_path / "out.zarr"), line(100), GridSpec((20,)))
    assert run_in(tmp_path / "run", task, workers=1).exit_code == 0


@pytest.fixture
def ran(tmp_path, workers):  # noqa: F811
    """The configuration of a finished run."""
    file = glob_run(tmp_path, workers, "a")
    assert blockwise("run", file, "--quiet").code == 0
    return file


CHANGES = {
    "grid": ("blocks.shape=[2,500]", "grid.shape: was", "or start anew with another [run] folder and [output] path"),
    "model": ("", "model: was", "continue with --adopt model"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("command", [("plan", "--pilot", 0), ("run",)], ids=["plan", "run"])
def test_what_would_mix_two_results_is_refused(ran, change, command):
    setting, words, fix = CHANGES[change]
    if change == "model":
        write_model(ran.parent / "model", window=96)
    before = stamps(ran.with_suffix(".zarr"))
    told = blockwise(*command, ran, *(("--set", setting) if setting else ()))
    said = " ".join((told.out + told.err).split())
    assert told.code == 2, said
    assert words in said
    assert fix in said
    assert stamps(ran.with_suffix(".zarr")) == before


PLAN = r"""
import re, sys, time
from pathlib import Path
from blockwise.geometry import Domain
from blockwise.grid import GridSpec
from blockwise.plan import make_plan
from blockwise.testing import MapTask
began = time.process_time()
domain = Domain("brain", ("z", "y", "x"), (100_000, 100_000, 10_000))
task = MapTask(sys.argv[1], [domain], GridSpec((100, 100, 100), ((10, 10),) * 3))
task.outputs = lambda: []
plan = make_plan(task, workers=1000, memory_bytes=1 << 40)
peak_kb = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]  # maxrss would count the parent's before exec
print(plan.stages[0].blocks, time.process_time() - began, int(peak_kb) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system tells no peak of memory")
def test_a_plan_of_a_hundred_million_blocks_costs_nothing(tmp_path):
    done = subprocess.run([sys.executable, "-c", PLAN, str(tmp_path / "o.zarr")], capture_output=True, text=True, check=True, cwd=ROOT)
    blocks, cpu_s, rss_mb = map(float, done.stdout.split())
    assert blocks == 10**8
    assert cpu_s < 1.0
    assert rss_mb < 150


def test_an_empty_block_costs_the_driver_microseconds(workers, tmp_path):  # noqa: F811
    """CPU of this process, with the scheduler in it, not the clock's time: other work on the machine does not count."""
    task = Empty(str(tmp_path / "out.zarr"), line(NO_OP_BLOCKS), GridSpec((1,)))
    drive(workers, tmp_path, map_task(tmp_path, 100))  # imports and connections
    began = time.process_time()
    run = drive(workers, tmp_path, task)
    assert run.books.done == NO_OP_BLOCKS
    spent_s = (time.process_time() - began) / NO_OP_BLOCKS
    assert spent_s < NO_OP_CPU_S


class Empty(MapTask):
    """Blocks that read, compute and write nothing."""

    name = "empty"

    def prepare(self):
        """No output."""

    def open(self):
        """No output."""

    def compute(self, inputs, state):
        return None

    def write(self, block, result):
        return ()
