"""`blockwise run` on a volume, stopped in every way at random moments: the bytes of a run that was left alone, nothing marked is redone.

Two rounds over one place, each from nothing to the end: stops of every kind while blocks are computed, and stops from the start-up on.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from blockwise.config import load_config, with_places
from blockwise.folder import RunFolder
from blockwise.geometry import Region
from blockwise.grid import Grid
from blockwise.ledger import open_ledger
from blockwise.reduce import Reduction
from blockwise.run import load_task
from blockwise.storage import OutputArray
from blockwise.storage.durable import LEFTOVERS
from blockwise.upkeep import status
from tasks.synful.cell_stages import CellStage
from tasks.synful.collect_stage import Collect
from tasks.synful.pair_stages import Filter
from tasks.synful.volume_stages import Predict
from tests.runs import stamps
from tests.synful.runs import synful_run, write_inputs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SCRIPT = Path(sys.executable).with_name("blockwise")
CLUSTER = {"kind": "local", "workers": 2, "threads": 1, "device": "cpu"}
BLOCKS = {"shape": [4, 20, 24]}
GONE_S = 60


class Place:
    """One configuration, run again and again at one place, and the processes that did it."""

    def __init__(self, file: Path) -> None:
        self.file, self.output, self.folder = file, file.with_suffix(".zarr"), file.with_suffix(".run")
        config = with_places(load_config(file), file)
        self.stages = load_task(config).stages()
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> "subprocess.Popen[bytes]":
        with self.file.with_suffix(".log").open("ab") as log:
            self.processes.append(subprocess.Popen([SCRIPT, "run", self.file], stdout=log, stderr=log, start_new_session=True))
        return self.processes[-1]

    def finish(self) -> None:
        assert self.start().wait(900) == 0, self.said()

    def said(self) -> str:
        return self.file.with_suffix(".log").read_text()[-3000:]

    def clear(self) -> None:
        shutil.rmtree(self.output)
        shutil.rmtree(self.folder)

    def written(self) -> int:
        """How many files blocks have written so far."""
        return sum(name.endswith((".arrow", ".parquet")) or name.startswith("c.") for _, _, files in os.walk(self.output) for name in files)

    def content(self) -> dict[str, bytes]:
        """Every file of the output, but for what killed writers left; the run's id, which each start from nothing has anew, made equal."""
        run = RunFolder.find(self.folder).run.encode()
        files = [f for f in self.output.rglob("*") if f.is_file() and not f.name.endswith(LEFTOVERS)]
        return {str(f.relative_to(self.output)): f.read_bytes().replace(run, b"RUN") for f in files}

    def marked(self) -> dict[Path, int]:
        """When the files of marked blocks were written."""
        if not (self.folder / "ledger.sqlite").exists():
            return {}
        ledger, found = open_ledger(self.folder / "ledger.sqlite"), {}
        for stage in self.stages:
            grid = Grid(stage.domains(), stage.spec())
            for _, bits in ledger.pages(stage.name, grid.domains[0].digest):
                files = (f for block in grid.blocks(np.flatnonzero(bits)) for f in files_of(stage, block))
                found |= {f: f.stat().st_mtime_ns for f in files}
        ledger.close()
        return found


def files_of(stage, block) -> list[Path]:
    """The files that a block of a stage writes."""
    if isinstance(stage, Predict):
        store, vectors = stage.options.store, Region((0, *block.core.begin), (3, *block.core.end))
        arrays = ((OutputArray.open(stage.job.output, n), r) for n, r in ((store.mask, block.core), (store.vectors, vectors)))
        return [Path(f) for array, region in arrays for f in array.files(region)]
    if isinstance(stage, Filter):
        return [part.file(block) for part in (stage.kept, stage.edges, stage.counts)]
    if isinstance(stage, Reduction):
        return [stage.parts.file(block)]
    if isinstance(stage, (Collect, CellStage)):
        return [(stage.cells if isinstance(stage, Collect) else stage.target).file(block)]
    return [parts.file(block) for parts in stage.all_parts()]


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def stop(process: "subprocess.Popen[bytes]", how: str, dice: random.Random, *, starting: bool) -> None:
    """End a run in one of the ways it ends, and see that nothing of it is left; without one worker it goes on to its end."""
    children = psutil.Process(process.pid).children(recursive=True)
    if how in ("group", "driver"):
        os.killpg(process.pid, signal.SIGKILL) if how == "group" else process.kill()
        process.wait(GONE_S)
        assert wait_for(lambda: not living(children), GONE_S), "workers outlived their driver"
    elif how == "interrupt":
        os.killpg(process.pid, signal.SIGINT)
        allowed = (0, 3, -signal.SIGINT) if starting else (0, 3)  # while Python still imports, SIGINT is Python's
        assert process.wait(300) in allowed
    else:
        if workers := [c for c in living(children) if "spawn_main" in " ".join(c.cmdline())]:
            dice.choice(workers).kill()
        assert process.wait(900) == 0


@pytest.fixture
def place(tmp_path, mode) -> Iterator[Place]:
    write_inputs(tmp_path)
    found = Place(synful_run(tmp_path, CLUSTER, mapped=True, blocks=BLOCKS, mode=mode))
    yield found
    for process in found.processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(GONE_S)


def undisturbed(place: Place) -> tuple[dict[str, bytes], int, float]:
    """What a run leaves that nothing stops, how many files its blocks write, and after how many seconds the first of them."""
    began, run = time.monotonic(), place.start()
    assert wait_for(lambda: place.written() > 0 or run.poll() is not None, 300)
    start_up_s = time.monotonic() - began
    assert run.wait(900) == 0, place.said()
    found = place.content(), place.written(), start_up_s
    place.clear()
    return found


def stopped_at(place: Place, how: str, goal: int, pause_s: float, dice: random.Random) -> int:
    """Start, stop once so many files are written and a moment has passed; how many files there were."""
    begun, run = place.written(), place.start()
    wait_for(lambda: place.written() >= goal or run.poll() is not None, 600)
    try:
        assert run.wait(pause_s) == 0, place.said()
    except subprocess.TimeoutExpired:
        met = place.written()
        stop(run, how, dice, starting=met == begun)
        return met
    return place.written()


@pytest.mark.parametrize("mode", ["fused", "stored"])
def test_stops_of_every_kind_leave_the_same_bytes(place, mode):
    first, *_ = undisturbed(place)
    calm, files, start_up_s = undisturbed(place)  # the first start compiles, so it tells nothing of the others
    assert first == calm
    dice, met = random.Random(f"stops of {mode}"), []
    start_ups = dice.sample(("start-up group", "start-up interrupt"), 2)
    for kinds in (("driver", "interrupt", "group", "worker"), (*start_ups, "group", "driver")):
        before: dict[Path, int] = {}
        for how in kinds:
            when, _, kind = how.rpartition(" ")
            there = place.written()
            goal = 0 if when else there + 1 + int(dice.random() * 0.6 * (files - there - 1))
            met.append(stopped_at(place, kind, goal, dice.uniform(0, start_up_s if when else 0.3), dice))
            now = place.marked()
            assert {f: now.get(f) for f in before} == before, f"marked blocks were lost or computed again ({how})"
            before = now
            assert status(place.folder).state in ("planned", "interrupted", "done") if place.folder.exists() else bool(when)
        place.finish()
        assert {f: f.stat().st_mtime_ns for f in before} == before, "marked blocks were computed again"
        assert place.content() == calm
        assert {s.state for s in status(place.folder).stages} == {"done"}
        last = stamps(place.output)
        place.finish()
        assert stamps(place.output) == last, "a finished run wrote again"
        place.clear()
    assert sum(0 < m < files for m in met) >= 5, f"stops met no work: {met} of {files} files"
