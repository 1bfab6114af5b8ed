"""`[[stages]]`: tasks that read each other's output as one run, in one folder, with one ledger."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from blockwise import chain
from blockwise.config import RunConfig, load_config, validated
from blockwise.errors import ConfigError, FingerprintMismatch, MissingError
from blockwise.events import StageFinished, StageStarted
from blockwise.folder import RunFolder, to_toml
from blockwise.geometry import Domain
from blockwise.graph import Graph
from blockwise.grid import GridSpec
from blockwise.monitor.plan_text import plan_text
from blockwise.run import load_task, plan, run
from blockwise.storage import OutputArray, open_source
from blockwise.task import OutputLayout, Task, TaskOptions
from blockwise.upkeep import configured, verify
from tests.cluster import workers  # noqa: F401
from tests.runs import stamps


class Options(TaskOptions):
    add: int = 0
    context: int = 0
    whole: bool = False


class Mapping(Task):
    """Adds a number to what it reads, an array `values` of a container: an input that was there, or that of another stage."""

    name = "adding"
    Options = Options

    def __init__(self, path, output, options, shape):
        self.source = open_source(path, "values")
        self.path, self.output, self.options, self.shape = path, output, options, shape

    @classmethod
    def from_config(cls, config):
        return cls(config.input.path, config.output.path, config.options_as(Options), config.blocks.shape)

    def input_reads(self):
        return "stage" if self.options.whole else "region"

    def domains(self):
        return (Domain("line", ("x",), self.source.shape),)

    def spec(self):
        return GridSpec(self.shape, ((self.options.context,) * 2,))

    def fingerprint(self, domain):
        from blockwise.storage import identity

        return {"input.path": identity(self.path, "values")}

    def outputs(self):
        return [OutputLayout(f"{self.output}/values", 0, self.source.shape, self.shape, 8, (0,))]

    def output_path(self):
        return self.output

    def prepare(self):
        OutputArray.create(self.output, "values", shape=self.source.shape, dtype="int64", chunks=self.shape, axes=("x",))

    def open(self):
        self.array = OutputArray.open(self.output, "values")

    def open_pilot(self):
        pass

    def read(self, block):
        return block, self.source.read(block.read)

    def compute(self, inputs, state):
        block, values = inputs
        return values[block.inner] + self.options.add

    def write(self, block, result):
        return [self.array.write(block.core, result)]

    def stored(self, block):
        array = OutputArray.open(self.output, "values")
        return [array.read(block.core)] if array.complete(block.core) else None


@pytest.fixture(autouse=True)
def here(workers, monkeypatch):  # noqa: F811
    """Runs of this module know the task above and work on the module's cluster."""

    @contextmanager
    def running(config, context):
        yield workers

    monkeypatch.setattr("blockwise.run.open_cluster", running)
    monkeypatch.setattr(chain, "task_class", lambda config: Mapping)


@pytest.fixture
def source(tmp_path):
    """A container of 200 numbers."""
    array = OutputArray.create(str(tmp_path / "in.zarr"), "values", shape=(200,), dtype="int64", chunks=(200,), axes=("x",))
    array.write(Domain("line", ("x",), (200,)).region, np.arange(200)).future.result()
    return tmp_path / "in.zarr"


def config(folder, *stages, **top):
    """Three stages: one that reads the source, one that reads the first, one that reads the second."""
    entries = stages or (
        {"name": "one", "input": {"path": str(folder / "in.zarr")}, "options": {"add": 1}},
        {"name": "two", "input": "@one", "options": {"add": 10, "context": 3}, "blocks": {"shape": [5]}},
        {"name": "three", "input": "@two", "options": {"add": 100}},
    )
    values = {"task": "adding", "output": {"path": str(folder / "out.zarr")}, "run": {"folder": str(folder / "run"), "lease_s": 0.2}}
    return validated(RunConfig, {**values, "blocks": {"shape": [2]}, "stages": entries, "cluster": {"device": "cpu", "workers": 2}, **top})


def values_of(folder, name):
    return OutputArray.open(str(folder / "out.zarr" / name), "values").read(Domain("line", ("x",), (200,)).region)


def test_stages_take_what_they_do_not_say_from_the_top(tmp_path):
    one, two, three = config(tmp_path).stages
    assert (one.task, one.blocks.shape, two.blocks.shape, three.blocks.shape) == ("adding", (2,), (5,), (2,))
    assert (two.reads, three.reads, one.reads) == ("one", "two", "")
    file = tmp_path / "again.toml"
    file.write_text(to_toml(config(tmp_path)))
    assert load_config(file) == config(tmp_path)


def test_paths_of_all_stages_are_those_of_the_working_directory(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "run.toml"
    entries = [{"name": "one", "input": {"path": "in.zarr"}}, {"name": "two", "input": "@one"}]
    file.write_text(to_toml(validated(RunConfig, {"task": "adding", "stages": entries})))
    found = configured(file)
    assert [s.input.path for s in found.stages] == [str(tmp_path / "in.zarr"), "@one"]
    assert (found.output.path, found.run.folder) == (str(tmp_path / "run.zarr"), str(tmp_path / "run.run"))
    assert configured(file) == validated(RunConfig, found.model_dump())


def test_what_is_no_stage_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"stages\.0\.outputs'.*|unknown key 'stages\.0\.outputs'"):
        config(tmp_path, {"name": "one", "outputs": {}})


def test_a_plan_writes_nothing_and_shows_what_waits_for_what(source, tmp_path):
    before = stamps(tmp_path)
    found = plan(config(tmp_path), pilot_blocks=2)
    assert found.refusals == ()
    assert [(s.name, s.blocks, s.reads, s.main) for s in found.stages] == [
        ("one", 100, (), False),
        ("two", 40, ("one (region)",), False),
        ("three", 100, ("two (region)",), True),
    ]
    assert "two (region)" in plan_text(found)
    assert any("empty input" in w for w in found.warnings)
    assert stamps(tmp_path) == before


def test_tasks_that_read_each_other_run_as_one_graph(source, tmp_path):
    events = []
    outcome = run(config(tmp_path), subscribers=[events.append])
    assert (outcome.exit_code, [s.name for s in outcome.status.stages]) == (0, ["one", "two", "three"])
    assert {s.state for s in outcome.status.stages} == {"done"}
    assert np.array_equal(values_of(tmp_path, "three"), np.arange(200) + 111)
    order = [(type(e), e.stage) for e in events if isinstance(e, (StageStarted, StageFinished))]
    assert {stage for kind, stage in order[:3] if kind is StageStarted} >= {"one", "two"}
    before = stamps(tmp_path / "out.zarr")
    assert run(config(tmp_path)).exit_code == 0
    assert stamps(tmp_path / "out.zarr") == before
    assert [v.missing + v.changed + v.unmarked for v in verify(tmp_path / "run")] == [0, 0, 0]


def test_a_chain_goes_on_from_its_folder_alone(source, tmp_path):
    assert run(config(tmp_path)).exit_code == 0
    chunk = tmp_path / "out.zarr" / "two" / "values" / "c.7"
    chunk.unlink()
    assert [v.missing for v in verify(tmp_path / "run", rebuild=True)] == [0, 1, 0]
    again = run(RunFolder.find(tmp_path / "run").load_config())
    assert (again.exit_code, [s.blocks.executed for s in again.status.stages]) == (0, [100, 41, 100])


def test_another_option_upstream_is_refused_downstream_too(source, tmp_path):
    assert run(config(tmp_path)).exit_code == 0
    entries = [s.model_dump() for s in config(tmp_path).stages]
    entries[0]["options"] = {"add": 2}
    with pytest.raises(FingerprintMismatch, match=r"(?s)stage 'one'.*options\.add"):
        run(config(tmp_path, *entries))
    with pytest.raises(FingerprintMismatch, match=r"(?s)stage 'two'.*input\.stage"):
        run(config(tmp_path, *entries), adopt=("options.add",))
    assert run(config(tmp_path, *entries), adopt=("options.add", "input")).exit_code == 0


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({1: {"input": "@thre"}}, '"@thre" is no stage before it; those are: one'),
        ({1: {"name": "one"}}, "two of .* are called 'one'"),
        ({0: {"input": {"path": "nowhere.zarr"}}}, "nowhere"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(source, tmp_path, changes, what):
    entries = [s.model_dump() for s in config(tmp_path).stages]
    for i, change in changes.items():
        entries[i] = {**entries[i], **change}
    before = stamps(tmp_path)
    with pytest.raises((ConfigError, MissingError), match=what):
        run(config(tmp_path, *entries))
    assert stamps(tmp_path) == before


def test_a_stage_that_may_need_all_of_another_waits_for_all(source, tmp_path):
    entries = [s.model_dump() for s in config(tmp_path).stages]
    entries[1]["options"] = {"whole": True}
    task = load_task(config(tmp_path, *entries))
    assert [d.reads for wanted in Graph(task.stages()).dependencies.values() for d in wanted] == ["stage", "region"]


def test_temporary_outputs_go_with_the_task(source, tmp_path):
    task = load_task(config(tmp_path))
    place = Path(task.inner.path)
    assert place.is_dir()
    assert not place.is_relative_to(tmp_path)
    del task
    import gc

    gc.collect()
    assert not place.exists()
