"""Reductions on real workers: what blocks find together is what the whole array holds, once each, whatever dies or runs twice."""

import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import maximum_filter

from blockwise.errors import ConfigError, FingerprintMismatch, InputError, MissingError
from blockwise.events import StageFinished, WorkerLost
from blockwise.folder import RunFolder
from blockwise.geometry import Domain
from blockwise.grid import Grid, GridSpec
from blockwise.ledger import PageKey, open_ledger
from blockwise.reduce import concatenate, owned, reduction_stages, sum_columns
from blockwise.storage import checksum
from blockwise.storage.tables import TableParts
from blockwise.task import Task
from blockwise.testing import misbehave, run_in, run_serially
from tests.test_grid import every, grids

PEAKS = pa.schema([("z", pa.int32()), ("y", pa.int32()), ("x", pa.int32()), ("height", pa.float64())])
TOTALS = pa.schema([("session", pa.int32()), ("peaks", pa.int64()), ("height", pa.float64())])
SHAPE = (20, 30, 40)
BLOCKS = (5, 6, 8)
"""100 blocks; with a fan-in of 4 they take four levels: 25, 7, 2 and 1 nodes."""


def volume(domain, level=0.9):
    """(z, y, x) float64 of noise, 0 where it is low: the same for every domain of one name."""
    noise = np.random.default_rng(list(domain.name.encode())).random(domain.shape)
    return np.where(noise > level, noise, 0)


def peaks(values):
    """(n, 3) places that exceed their 26 neighbours; at the border of a cut-out some are wrong, for they lack neighbours."""
    return np.argwhere((values > 0) & (values == maximum_filter(values, 3)))


class FindPeaks(Task):
    """Blocks that see two voxels around them and report the peaks whose anchor they own.

    `fails`: ids of blocks that fail while the file `<path>.fails` exists. `skips`: masked blocks. `own=False`: report all that is seen.
    """

    name = "peaks"

    def __init__(self, path, domains, combine=concatenate, *, fan_in=4, fails=(), skips=(), level=0.9, own=True, masked=True):
        self.path, self._domains, self.fails, self.skips, self.level, self.own = str(path), tuple(domains), fails, skips, level, own
        self.parts = TableParts(self.path, "peaks", PEAKS, Grid(self._domains, self.spec()))
        self.levels = reduction_stages(self.parts, combine, fan_in=fan_in, mask=self.mask if masked else None)

    def domains(self):
        return self._domains

    def spec(self):
        return GridSpec(BLOCKS, ((2, 2),) * 3)

    def stages(self):
        return (self, *self.levels)

    def mask(self, domain):
        return (lambda ids: ~np.isin(ids, self.skips)) if self.skips else None

    def output_path(self):
        return self.path

    def prepare(self):
        self.parts.create()

    def read(self, block):
        if block.id in self.fails and Path(f"{self.path}.fails").exists():
            misbehave("raise")
        return block, volume(self._domains[block.domain], self.level)[block.read.slices]

    def compute(self, inputs, state):
        block, values = inputs
        seen = peaks(values)
        places = seen + block.read.begin
        keep = owned(block, places) if self.own else slice(None)
        return table(places[keep], values[tuple(seen[keep].T)])

    def write(self, block, result):
        return [self.parts.write(block, result)]

    def stored(self, block):
        found = self.parts.stored(block)
        return None if found is None else [found]

    def result(self):
        return self.levels[-1].result()


def table(places, heights):
    return pa.table([*places.T.astype(np.int32), heights], schema=PEAKS)


def whole(*domains, level=0.9):
    """The table of the whole arrays, in order of place."""
    found = [(peaks(v), v) for v in (volume(d, level) for d in domains)]
    return ordered(pa.concat_tables([table(p, v[tuple(p.T)]) for p, v in found]))


def ordered(found):
    return found.sort_by([(n, "ascending") for n in PEAKS.names])


def cube(name="cube", shape=SHAPE):
    return Domain(name, ("z", "y", "x"), shape)


def blocks_of(outcome):
    """(done, total, executed) per stage."""
    return {s.name: (s.blocks.done, s.blocks.total, s.blocks.executed) for s in outcome.status.stages}


def files(task, stages=None):
    """Content of every part of the reduction's levels."""
    return {f.relative_to(task.path): f.read_bytes() for s in task.levels[:stages] for f in sorted(s.parts.folder.rglob("*.arrow"))}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A task whose stages were worked off in this process, one block after the other."""
    task = FindPeaks(tmp_path_factory.mktemp("serial") / "out.zarr", [cube()])
    run_serially(task)
    return task


# --- the answer


def test_the_blocks_find_what_the_whole_array_holds(tmp_path, undisturbed):
    task = FindPeaks(tmp_path / "out.zarr", [cube()])
    outcome = run_in(tmp_path / "run", task)
    assert outcome.exit_code == 0
    nodes = {"peaks/reduce-1": 25, "peaks/reduce-2": 7, "peaks/reduce-3": 2, "peaks/reduce-4": 1}
    assert blocks_of(outcome) == {name: (n, n, n) for name, n in {"peaks": 100, **nodes}.items()}
    assert ordered(task.result()).equals(whole(cube()))
    assert files(task) == files(undisturbed)


def test_without_ownership_peaks_are_counted_twice(tmp_path):
    run_serially(task := FindPeaks(tmp_path / "out.zarr", [cube()], own=False))
    assert task.result().num_rows > 2 * whole(cube()).num_rows > 500


@pytest.mark.parametrize(("fan_in", "levels"), [(2, 7), (4, 4), (5, 3), (99, 2), (100, 1), (256, 1)])
def test_the_answer_does_not_depend_on_the_tree(tmp_path, undisturbed, fan_in, levels):
    task = FindPeaks(tmp_path / "out.zarr", [cube()], fan_in=fan_in)
    run_serially(task)
    assert len(task.levels) == levels
    assert task.result().equals(undisturbed.result())


def test_one_block_is_a_reduction_too(tmp_path):
    small = cube("small", (4, 5, 6))
    run_serially(task := FindPeaks(tmp_path / "out.zarr", [small]))
    assert len(task.levels) == 1
    assert ordered(task.result()).equals(whole(small))


def test_nothing_found_is_a_table_without_rows(tmp_path):
    run_serially(task := FindPeaks(tmp_path / "out.zarr", [cube()], level=2.0))
    assert task.result().num_rows == 0
    assert task.result().schema.equals(PEAKS)


def test_ten_million_blocks_are_planned_at_once():
    grid = Grid(Domain("long", ("t",), (10**7,)), GridSpec((1,)))
    stages = reduction_stages(TableParts("out.zarr", "spikes", PEAKS, grid), concatenate)
    assert [len(s.parts.grid) for s in stages] == [39063, 153, 1]


# --- what dies and what runs twice


@dataclass(frozen=True)
class Deed:
    """Concatenates; the first so many calls, over all processes, end a process instead."""

    folder: str
    kills: int
    victim: str = "worker"

    def __call__(self, tables):
        if any(claimed(Path(self.folder, f"kill-{i}")) for i in range(self.kills)):
            os.kill(os.getpid() if self.victim == "worker" else multiprocessing.parent_process().pid, signal.SIGKILL)
            signal.pause()
        return concatenate(tables)


def claimed(file):
    """Whether the file was not there and is now."""
    try:
        file.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def test_killed_workers_change_nothing(tmp_path, undisturbed):
    task, lost = FindPeaks(tmp_path / "out.zarr", [cube()], Deed(str(tmp_path), kills=2)), []
    outcome = run_in(tmp_path / "run", task, subscribers=[lambda e: lost.append(e) if isinstance(e, WorkerLost) else None])
    assert outcome.exit_code == 0
    assert lost
    assert files(task) == files(undisturbed)
    assert len(list(tmp_path.glob("kill-*"))) == 2


def test_a_killed_driver_changes_nothing(tmp_path, undisturbed):
    program = (
        "import sys; from pathlib import Path; from blockwise.testing import run_in; from tests.test_reduce import *\n"
        "if __name__ == '__main__': run_in(Path(sys.argv[1], 'run'), killing(Path(sys.argv[1])))"
    )
    (tmp_path / "main.py").write_text(program)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    died = subprocess.run([sys.executable, tmp_path / "main.py", tmp_path], env=env, timeout=120, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()[-2000:]
    outcome = run_in(tmp_path / "run", killing(tmp_path))
    assert outcome.exit_code == 0
    assert blocks_of(outcome)["peaks"] == (100, 100, 100)
    assert files(killing(tmp_path)) == files(undisturbed)


def killing(folder):
    """A task whose first node kills its driver."""
    return FindPeaks(folder / "out.zarr", [cube()], Deed(str(folder), kills=1, victim="driver"))


def test_a_run_interrupted_between_levels_does_the_rest(tmp_path, undisturbed):
    def interrupt(event):
        if isinstance(event, StageFinished) and event.stage == "peaks/reduce-2":
            signal.raise_signal(signal.SIGINT)

    task = FindPeaks(tmp_path / "out.zarr", [cube()])
    first = run_in(tmp_path / "run", task, subscribers=[interrupt])
    assert first.exit_code == 3
    assert blocks_of(first)["peaks/reduce-3"] == (0, 2, 0)
    before = {f: f.stat().st_mtime_ns for f in Path(task.path).rglob("*.arrow")}
    second = run_in(tmp_path / "run", task)
    assert second.exit_code == 0
    assert {done == total == executed for done, total, executed in blocks_of(second).values()} == {True}
    assert {f for f in before if f.stat().st_mtime_ns != before[f]} == set()
    assert files(task) == files(undisturbed)


def test_a_node_computed_twice_at_once_is_counted_once(tmp_path, undisturbed):
    task = FindPeaks(tmp_path / "out.zarr", [cube()])
    run_serially(task)
    twice = [s for s in task.levels for _ in range(2)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run_serially, twice))
    assert files(task) == files(undisturbed)


# --- blocks without a part


def test_a_failed_block_stops_every_level_until_it_is_retried(tmp_path, undisturbed):
    (tmp_path / "out.zarr.fails").touch()
    task = FindPeaks(tmp_path / "out.zarr", [cube()], fails=(37,))
    first = run_in(tmp_path / "run", task, retries=0)
    assert first.exit_code == 1
    assert blocks_of(first)["peaks"][0] == 99
    assert {blocks_of(first)[s.name][0] for s in task.levels} == {0}
    assert files(task) == {}
    (tmp_path / "out.zarr.fails").unlink()
    assert retry(tmp_path / "run", task).exit_code == 0
    assert files(task) == files(undisturbed)


def retry(folder, task):
    """What `blockwise retry` does, for a task object."""
    from blockwise.config import ClusterConfig, FolderConfig, RunConfig
    from blockwise.run import run_task

    config = RunConfig(task=task.name, cluster=ClusterConfig(workers=2, device="cpu"), run=FolderConfig(folder=str(folder)))
    return run_task(task, config, retry_failed=True)


@pytest.mark.parametrize("skips", [(0,), (4, 5, 6, 7, 50, 99), tuple(range(100))], ids=len)
def test_masked_blocks_are_left_out_even_where_an_old_part_lies(tmp_path, skips):
    task = FindPeaks(tmp_path / "out.zarr", [cube()])
    run_serially(task)
    masked = FindPeaks(task.path, [cube()], skips=skips)
    for level in masked.levels:
        run_serially(level)
    kept = [task.parts.read(b) for b in every(task.parts.grid) if b.id not in skips]
    assert masked.result().equals(pa.concat_tables([PEAKS.empty_table(), *kept]).combine_chunks())


def test_masked_blocks_are_no_gap_in_a_run(tmp_path):
    task = FindPeaks(tmp_path / "out.zarr", [cube(), cube("other")], skips=(3, 4))
    outcome = run_in(tmp_path / "run", task, workers=1)
    assert outcome.exit_code == 0
    assert blocks_of(outcome)["peaks"] == (196, 200, 196)
    assert not any(task.parts.complete(task.parts.grid.block(i)) for i in (3, 4, 103, 104))


def test_a_missing_part_is_an_error_never_a_gap(tmp_path):
    task = FindPeaks(tmp_path / "out.zarr", [cube()])
    run_serially(task)
    task.parts.file(task.parts.grid.block(41)).unlink()
    with pytest.raises(MissingError, match="block 41 has no part of table 'peaks'"):
        run_serially(task.levels[0])


# --- what the ledger holds of it


def test_nodes_are_stored_as_they_were_checksummed(tmp_path):
    task = FindPeaks(tmp_path / "out.zarr", [cube()])
    run_in(tmp_path / "run", task, workers=1)
    folder = RunFolder.find(tmp_path / "run")
    ledger = open_ledger(folder.ledger, folder.run)
    for stage in task.levels:
        known = ledger.checksums(PageKey(stage.name, stage.domains()[0].digest, 0))
        assert [checksum(stage.stored(b)) for b in every(stage.parts.grid)] == known[: len(stage.parts.grid)].tolist()
    ledger.close()
    task.levels[0].parts.file(task.levels[0].parts.grid.block(0)).unlink()
    assert task.levels[0].stored(task.levels[0].parts.grid.block(0)) is None


def test_a_session_that_joins_is_counted_and_none_twice(tmp_path):
    """23 sessions of one block and then 24: as many nodes, but other ones."""
    many = [cube(f"s{i:02}", (4, 5, 6)) for i in range(24)]
    first, second = (FindPeaks(tmp_path / "out.zarr", many[cut:]) for cut in (1, 0))
    assert len(first.levels[0].parts.grid) == len(second.levels[0].parts.grid)
    assert run_in(tmp_path / "run", first).exit_code == 0
    outcome = run_in(tmp_path / "run", second)
    assert outcome.exit_code == 0
    assert blocks_of(outcome)["peaks"] == (24, 24, 24)
    assert ordered(second.result()).equals(whole(*many))


def test_another_combination_is_another_result(tmp_path):
    small = [cube("small", (4, 5, 6))]
    assert run_in(tmp_path / "run", FindPeaks(tmp_path / "out.zarr", small), workers=1).exit_code == 0
    with pytest.raises(FingerprintMismatch, match=r"options\.combine: was concatenate, now SumColumns\(keys=\('z',\)\)"):
        run_in(tmp_path / "run", FindPeaks(tmp_path / "out.zarr", small, sum_columns("z")), workers=1)


@pytest.mark.parametrize(("wishes", "says"), [({"fan_in": 1}, "fan_in is 1"), ({"combine": object()}, "changes with every start")])
def test_a_tree_that_cannot_be_is_refused(tmp_path, wishes, says):
    with pytest.raises(ConfigError, match=says):
        FindPeaks(tmp_path / "out.zarr", [cube()], **wishes)


def test_only_the_last_level_has_the_result(undisturbed):
    with pytest.raises(InputError, match="peaks/reduce-1 has 25 partials"):
        undisturbed.levels[0].result()


# --- ways to combine


def totals(*rows):
    return pa.table(list(map(list, zip(*rows, strict=True))) or [[]] * 3, schema=TOTALS)


@pytest.mark.parametrize(
    ("keys", "tables", "wanted"),
    [
        (("session",), [[(2, 1, 0.5)], [(1, 4, 0.25), (2, 3, 0.5)]], [(1, 4, 0.25), (2, 4, 1.0)]),
        (("session",), [[], [(1, 4, None)], []], [(1, 4, 0.0)]),
        (("session",), [[], []], []),
        ((), [[(1, 2, 0.5)], [(1, 5, 0.5)]], [(2, 7, 1.0)]),
        ((), [[], []], [(0, 0, 0.0)]),
        (("session", "peaks"), [[(1, 2, 0.5)], [(1, 1, 1.0), (1, 2, 2.0)]], [(1, 1, 1.0), (1, 2, 2.5)]),
    ],
)
def test_sums(keys, tables, wanted):
    assert sum_columns(*keys)([totals(*t) for t in tables]).equals(totals(*wanted))


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(-9, 9), st.integers(-9, 9).map(float)), max_size=5), min_size=2, max_size=6)
)
@settings(max_examples=60, deadline=None)
def test_combining_is_associative(tables):
    tables = [totals(*t) for t in tables]
    for combine in (concatenate, sum_columns("session"), sum_columns()):
        pairs = [combine(tables[i : i + 2]) for i in range(0, len(tables), 2)]
        assert combine(pairs).equals(combine(tables))


@pytest.mark.parametrize(
    ("keys", "table", "says"),
    [
        ((), pa.table({"name": ["a"]}), r"cannot sum name \(string\)"),
        (("session",), pa.table({"peaks": [1]}), "session"),
        ((), pa.table({"peaks": pa.array([100, 100], pa.int8())}), r"peaks \(int8\).*wider type"),
    ],
)
def test_what_cannot_be_summed_is_said(keys, table, says):
    with pytest.raises(InputError, match=says):
        sum_columns(*keys)([table])


def test_counts_of_blocks_add_up(tmp_path):
    """Sums of floats too are the same bytes from another order of work."""
    grid = Grid(cube(), GridSpec(BLOCKS))
    parts = TableParts(str(tmp_path / "out.zarr"), "totals", TOTALS, grid)
    parts.create()
    for block in every(grid):
        found = volume(cube())[block.core.slices]
        parts.write(block, totals((block.id % 3, np.count_nonzero(found), found.sum()))).future.result()
    (*_, last) = stages = reduction_stages(parts, sum_columns("session"), fan_in=7)
    for stage in stages:
        run_serially(stage)
    assert sum(last.result()["peaks"].to_pylist()) == np.count_nonzero(volume(cube()))
    assert np.isclose(sum(last.result()["height"].to_pylist()), volume(cube()).sum(), rtol=1e-12)


# --- ownership


@st.composite
def anchors(draw):
    """A grid, one of its domains, and points in and around it, whole and fractional."""
    grid = draw(grids())
    domain = draw(st.integers(0, len(grid.domains) - 1))
    shape = grid.domains[domain].shape
    axes = [st.one_of(st.integers(-2, n + 2).map(float), st.floats(-2, n + 2, width=32)) for n in shape]
    return grid, domain, np.array(draw(st.lists(st.tuples(*axes), min_size=1, max_size=12)))


@given(anchors())
@settings(max_examples=200, deadline=None)
def test_every_point_of_the_domain_has_one_owner_and_no_other_point_has(drawn):
    grid, domain, points = drawn
    owners = sum(owned(b, points).astype(int) for b in every(grid) if b.domain == domain)
    inside = ((points >= 0) & (points < grid.domains[domain].shape)).all(axis=1)
    assert owners.tolist() == inside.astype(int).tolist()


@given(anchors())
@settings(max_examples=100, deadline=None)
def test_the_owner_is_the_one_the_grid_names(drawn):
    grid, domain, points = drawn
    inside = points[((points >= 0) & (points < grid.domains[domain].shape)).all(axis=1)].astype(np.int64)
    for id, point in zip(grid.owner(domain, inside).tolist(), inside, strict=True):
        assert owned(grid.block(id), point[None]).tolist() == [True]


@pytest.mark.parametrize(
    ("points", "wanted"),
    [
        (np.empty((0, 2)), []),
        ([[2, 3], [3, 5], [4, 5], [3, 6], [1, 4], [3.999, 5.999], [np.nan, 4]], [True, True, False, False, False, True, False]),
    ],
)
def test_cores_are_half_open(points, wanted):
    block = Grid(Domain("plane", ("y", "x"), (8, 9)), GridSpec((2, 3), ((1, 1), (1, 1)), "overhang")).block(4)
    assert owned(block, points).tolist() == wanted


@pytest.mark.parametrize("points", [[], [1, 2], [[1, 2, 3]]])
def test_points_of_another_rank_are_refused(points):
    block = Grid(Domain("plane", ("y", "x"), (8, 9)), GridSpec((2, 3))).block(4)
    with pytest.raises(InputError, match=r"wanted is \(n, 2\)"):
        owned(block, points)
