"""A plan as text and as JSON, of a small task without files."""

import json

import pytest

from blockwise.geometry import Domain
from blockwise.grid import GridSpec
from blockwise.monitor.plan_text import plan_text
from blockwise.plan import make_plan
from blockwise.testing import MapTask


class Described(MapTask):
    def memory(self):
        return {"inputs": 3_000_000, "outputs": 2_000_000}

    def describe(self):
        return {"models": ["m1", "m2"], "table": [["name", "n"], ["long name", "1"]], "warnings": ["one looks odd"]}


def plan_of(tmp_path, shape=(4, 4), **changes):
    task = Described(str(tmp_path / "out.zarr"), [Domain("d", ("y", "x"), (10, 9))], GridSpec(shape, ((0, 0), (1, 2)), "shrink"))
    return make_plan(task, **{"workers": 2, "memory_bytes": 10**12, **changes})


def test_blocks_bytes_memory_and_details(tmp_path):
    lines = plan_text(plan_of(tmp_path)).splitlines()
    assert lines[0] == "task map, 2 workers"
    assert " ".join(lines[2].split()) == "map 1 9 4 x 4 (16) 0+0, 1+2 shrink 1.75 720 B"
    assert "memory per worker: 687 MB = 682 MB Python, Dask, torch + 3.0 MB inputs + 2.0 MB outputs" in lines
    assert lines[-1] == "alignment: every chunk has one writer. Nothing stands against this run."
    for line in ("models: m1, m2", "long name  1", "warning: one looks odd"):
        assert line in lines


@pytest.mark.parametrize(("blocks", "counted"), [(4, 4), (100, 9)])
def test_the_pilot_computes_some_blocks_and_writes_nothing(tmp_path, blocks, counted):
    plan = plan_of(tmp_path, pilot_blocks=blocks)
    assert plan.pilot.blocks == counted
    assert plan.pilot.stage_s >= 0
    assert f"({counted} pilot blocks, each " in plan_text(plan)
    assert list(tmp_path.iterdir()) == []


def test_more_memory_than_there_is_warns_and_more_disk_refuses(tmp_path):
    assert any("2 workers of 687 MB exceed the 500 MB" in w for w in plan_of(tmp_path, memory_bytes=500 * 10**6).warnings)
    huge = MapTask(str(tmp_path / "out.zarr"), [Domain("d", ("x",), (10**15,))], GridSpec((10**9,)))
    plan = make_plan(huge, workers=1, memory_bytes=10**12)
    assert "outputs take up to 8 PB, " in plan.refusals[0]
    assert plan_text(plan).splitlines()[-1].startswith("REFUSED: outputs take up to 8 PB, ")
    (tmp_path / "out.zarr").mkdir()
    again = make_plan(huge, workers=1, memory_bytes=10**12)
    assert (again.refusals, "written already" in again.warnings[0]) == ((), True)


def test_a_plan_is_json_of_a_version(tmp_path):
    found = json.loads(json.dumps(plan_of(tmp_path, pilot_blocks=2).to_json()))
    assert found["version"] == 1
    assert found["stages"][0]["blocks"] == 9
    assert found["stages"][0]["memory"] == {"inputs": 3_000_000, "outputs": 2_000_000}
    assert found["pilot"]["blocks"] == 2
