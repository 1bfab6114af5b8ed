"""The task of a configuration: one that is installed, or those of `[[stages]]`, of which some read what others write, as one run.

Every entry writes into a folder of its own in the run's one output, `<output>/<name>`. Its main stage is called as the entry, the others
`<name>/<stage>`. What an entry reads of another is not there when a run is planned: then the earlier one prepares empty outputs in a
temporary folder, and the later one is made from those. It is made anew, from the real ones, as soon as a run has prepared them.
A plan writes nothing else. The temporary folder goes with the process.
"""

import difflib
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from blockwise.config import LedgerConfig, OutputConfig, RunConfig, StageConfig, validated, with_places
from blockwise.errors import BlockwiseError, ConfigError
from blockwise.fingerprint import fingerprint
from blockwise.folder import RunFolder, refuse_redacted
from blockwise.geometry import Domain
from blockwise.graph import Under
from blockwise.grid import Block, Grid, GridSpec
from blockwise.storage.writes import Array, Write
from blockwise.task import Dependency, FrozenResult, OutputLayout, Picture, Task, TaskOptions


def load_task(config: RunConfig) -> Task:
    """The task that a configuration names, made and checked; what an earlier start of the run decided stays decided."""
    refuse_redacted(config)
    if config.stages:
        return chain(config)
    folder = config.run.folder
    return task_class(config).from_config(RunFolder(Path(folder)).settled(config) if folder else config)


def task_class(config: RunConfig | StageConfig) -> type[Task]:
    """The task that a configuration names, from the entry points `blockwise.tasks`.

    Raises
    ------
    ConfigError : no task of that name is installed; names the nearest.
    """
    found = {e.name: e for e in entry_points(group="blockwise.tasks")}
    if config.task not in found:
        near = difflib.get_close_matches(config.task, found, 1, 0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"installed: {', '.join(sorted(found))}"
        raise ConfigError(f"no task {config.task!r}: {hint}")
    task: type[Task] = found[config.task].load()
    return task


def placed(config: RunConfig, path: str | Path) -> RunConfig:
    """`with_places`, for the options and inputs of every stage too."""
    found = with_places(config, path, task_class(config).Options)
    if not config.stages:
        return found
    values = found.model_dump()
    for stage, kept in zip(config.stages, values["stages"], strict=True):
        own = with_places(_alone(found, stage, None), path, task_class(stage).Options).model_dump()
        kept |= {section: own[section] for section in ("input", "model", "options")}
    return validated(RunConfig, values)


def _alone(config: RunConfig, stage: StageConfig, output: str | None) -> RunConfig:
    """One of `[[stages]]` as a configuration of its own."""
    own = {"task": stage.task, "input": stage.input, "model": stage.model, "options": stage.options, "blocks": stage.blocks}
    output_config = OutputConfig(path=output, make_folders=config.output.make_folders)
    return config.model_copy(update={**own, "stages": (), "output": output_config, "ledger": LedgerConfig()})


class Entry:
    """One of `[[stages]]` and what was made of it.

    Parameters
    ----------
    config : of this entry alone, with its real output.  source : the entry that it reads.
    """

    def __init__(self, stage: StageConfig, config: RunConfig, source: "Entry | None") -> None:
        self.name, self.reads, self.config, self.source = stage.name, stage.reads, config, source
        self.tasks: tuple[Task, ...] = ()
        self.main = 0
        self.is_real = False

    def make(self, scaffold: Callable[[], str]) -> None:
        """Make the task; where what it reads is not there yet, from empty outputs of the entry that will write it."""
        if self.source is None or self.source.is_prepared:
            self.bind()
            return
        place = scaffold()
        self.source.prepare_in(place)
        self._made(self._reading(self.config, str(Path(place, self.source.name))))

    def bind(self) -> None:
        """Make the task from what is really there."""
        if not self.is_real:
            self._made(self.config if self.source is None else self._reading(self.config, str(self.source.config.output.path)))
            self.is_real = True

    def _made(self, config: RunConfig) -> None:
        task = task_class(config).from_config(config)
        self.tasks = tuple(task.stages())
        self.main = self.tasks.index(task)

    @staticmethod
    def _reading(config: RunConfig, path: str) -> RunConfig:
        return config.model_copy(update={"input": config.input.model_copy(update={"path": path})})

    @property
    def is_prepared(self) -> bool:
        """Whether its outputs have been made."""
        paths = [Path(layout.path) for task in self.tasks for layout in task.outputs()]
        return Path(str(self.config.output.path)).is_dir() and all(p.is_dir() for p in paths) and self.is_real

    def prepare_in(self, folder: str) -> None:
        """Make its outputs, empty, somewhere else."""
        twin = Entry(StageConfig(task=self.config.task, name=self.name), self._elsewhere(folder), self.source)
        if self.source is not None and not self.is_real:
            twin._made(self._reading(twin.config, str(Path(folder, self.source.name))))
        else:
            twin.bind()
        Path(folder, self.name).parent.mkdir(parents=True, exist_ok=True)
        for task in twin.tasks:
            task.prepare()

    def _elsewhere(self, folder: str) -> RunConfig:
        return self.config.model_copy(update={"output": OutputConfig(path=str(Path(folder, self.name)))})

    def outer(self, inner: str) -> str:
        """The name in the run of one of its stages."""
        return self.name if inner == self.tasks[self.main].name else f"{self.name}/{inner}"


class ChainStage(Task):
    """A stage of an entry under its name in the run, with what it needs of other entries; all else is the task's own."""

    def __init__(self, entry: Entry, index: int, before: Mapping[str, "ChainStage"]) -> None:
        self.entry, self.index = entry, index
        self.name = entry.outer(self.inner.name)  # type: ignore[misc]  # one class, a stage per task
        self.version, self.batch_size = self.inner.version, self.inner.batch_size  # type: ignore[misc]
        self.source = before.get(entry.reads)

    @property
    def inner(self) -> Task:
        """The task itself."""
        return self.entry.tasks[self.index]

    @property
    def options(self) -> TaskOptions | None:
        """Those of the task."""
        found = getattr(self.inner, "options", None)
        return found if isinstance(found, TaskOptions) else None

    def upstream(self) -> Sequence[Dependency]:
        wanted = self.inner.upstream()
        if wanted is None:
            wanted = [Dependency(task.name, "stage") for task in self.entry.tasks[: self.index]]
        own = [Dependency(self.entry.outer(d.stage), d.reads, d.reach) for d in wanted]
        return own if self.source is None else [*own, Dependency(self.source.name, self._input_reads(self.source))]

    def _input_reads(self, source: Task) -> Literal["region", "stage"]:
        """As the task says, unless its domains are not those of what it reads."""
        try:
            Under(Grid(self.domains(), self.spec()), Grid(source.domains(), source.spec()))
        except ConfigError:
            return "stage"
        return self.inner.input_reads()

    def fingerprint(self, domain: int) -> Mapping[str, object]:
        """What another entry writes is identified by what decides it, for the files themselves are still to change."""
        prints = self.inner.fingerprint(domain)
        if self.source is None:
            return prints
        names = [d.name for d in self.source.domains()]
        name = self.domains()[domain].name
        upstream = [fingerprint(self.source, i) for i, n in enumerate(names) if n == name or name not in names]
        return {**{k: v for k, v in prints.items() if not k.startswith("input.")}, "input.stage": upstream}

    def places(self, domain: int) -> Mapping[str, str]:
        return self.inner.places(domain) if self.source is None else {}

    def prepare(self) -> None:
        self.entry.bind()
        self.inner.prepare()

    def domains(self) -> Sequence[Domain]:
        return self.inner.domains()

    def spec(self) -> GridSpec:
        return self.inner.spec()

    def relevant_options(self) -> Mapping[str, object]:
        return {"task": self.entry.config.task, **self.inner.relevant_options()}

    def outputs(self) -> Sequence[OutputLayout]:
        return self.inner.outputs()

    def output_path(self) -> str | None:
        return self.inner.output_path()

    def exports(self) -> Sequence[Path]:
        return self.inner.exports()

    def memory(self) -> Mapping[str, int]:
        return self.inner.memory()

    def mask(self, domain: int) -> Callable[[npt.NDArray[np.int64]], npt.NDArray[np.bool_]] | None:
        return self.inner.mask(domain)

    def open(self) -> None:
        self.inner.open()

    def setup(self, device: str) -> Any:
        return self.inner.setup(device)

    def read(self, block: Block) -> Any:
        return self.inner.read(block)

    def open_pilot(self) -> None:
        self.inner.open_pilot()

    def pilot_inputs(self, block: Block) -> Any:
        return self.inner.pilot_inputs(block)

    def compute(self, inputs: Any, state: Any) -> Any:
        return self.inner.compute(inputs, state)

    def compute_batch(self, inputs: Sequence[Any], state: Any) -> Sequence[Any]:
        return self.inner.compute_batch(inputs, state)

    def write(self, block: Block, result: Any) -> Sequence[Write]:
        return self.inner.write(block, result)

    def stored(self, block: Block) -> Sequence[Array] | None:
        return self.inner.stored(block)

    def finish(self) -> FrozenResult | None:
        return self.inner.finish()

    def pictures(self) -> Sequence[Picture]:
        return self.inner.pictures()

    def describe(self) -> Mapping[str, object]:
        return self.inner.describe()


class Chain(ChainStage):
    """The main stage of the last entry, and with it the whole run."""

    def __init__(self, entries: Sequence[Entry], before: Mapping[str, ChainStage], output: str) -> None:
        super().__init__(entries[-1], entries[-1].main, before)
        self.entries, self._before, self._output = tuple(entries), dict(before), output

    def stages(self) -> Sequence[Task]:
        last = self.entry
        own = [self if i == last.main else ChainStage(last, i, self._before) for i in range(len(last.tasks))]
        return (*self._before.values(), *own)

    def output_path(self) -> str:
        return self._output

    def resolved(self) -> Mapping[str, object]:
        found = ((e.name, e.tasks[e.main].resolved()) for e in self.entries)
        return {f"@{name} {key}": value for name, values in found for key, value in values.items()}

    def describe(self) -> Mapping[str, object]:
        """What each entry says, under its name."""
        found: dict[str, object] = {}
        warnings: list[object] = []
        for entry in self.entries:
            about = dict(entry.tasks[entry.main].describe())
            told = about.pop("warnings", ())
            warnings += told if isinstance(told, (list, tuple)) else [told]
            found |= {f"{entry.name}: {key}": value for key, value in about.items()}
        if any(not e.is_real for e in self.entries[-1:]):
            warnings.append(f"{self.name} reads what this run is to make: its pilot blocks are computed on empty input")
        return {**found, "warnings": warnings}


def chain(config: RunConfig) -> Chain:
    """The run of a configuration with `[[stages]]`.

    Raises
    ------
    ConfigError : names that are taken or not there.  InputError, ModelError : of the tasks.
    """
    if config.output.path is None:
        raise ConfigError("[output] path is not set: every one of [[stages]] writes into a folder of its own in it")
    entries: list[Entry] = []
    stages: dict[str, ChainStage] = {}
    made: list[str] = []
    try:
        for stage in config.stages:
            entry = Entry(stage, _settled(config, stage), _source(stage, entries, stages))
            entry.make(lambda: _scaffold(made))
            entries.append(entry)
            if stage is not config.stages[-1]:
                stages |= {s.name: s for s in (ChainStage(entry, i, stages) for i in range(len(entry.tasks)))}
    except BlockwiseError:
        _remove(made)
        raise
    found = Chain(entries, stages, config.output.path)
    weakref.finalize(found, _remove, made)
    return found


def _settled(config: RunConfig, stage: StageConfig) -> RunConfig:
    own = _alone(config, stage, str(Path(str(config.output.path), stage.name)))
    return RunFolder(Path(config.run.folder)).settled(own, stage.name) if config.run.folder else own


def _source(stage: StageConfig, entries: Sequence[Entry], stages: Mapping[str, ChainStage]) -> Entry | None:
    if stage.name in {e.name for e in entries}:
        raise ConfigError(f"two of [[stages]] are called {stage.name!r}: set name in one of them")
    if not stage.reads:
        return None
    if stage.reads not in stages:
        raise ConfigError(f'stage {stage.name!r}: input "@{stage.reads}" is no stage before it; those are: {", ".join(stages) or "none"}')
    return stages[stage.reads].entry


def _scaffold(made: list[str]) -> str:
    """A temporary folder, the same at every call."""
    if not made:
        made.append(tempfile.mkdtemp(prefix="blockwise-plan-"))
    return made[0]


def _remove(made: list[str]) -> None:
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)
