"""The contract between engine and science.

A task author writes the methods below and nothing about Dask, retries or ledgers. The engine calls them so:

    driver   stages() upstream() domains() spec() outputs() memory() identity() prepare() ... finish()
    worker   open()          once per process
             setup(device)   once per process, lazily, in the compute thread
             read(block)     in an I/O thread            may run for several blocks at once
             compute(...)    in the one compute thread
             write(...)      in an I/O thread: starts the writes; the engine awaits them, checksums them and books the block

A task object is sent to the workers, so it holds configuration only; what is opened lives in attributes made by `open`.
A block may be computed twice, even at once (G4): `write` must put the same bytes into the same place and touch nothing else.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from blockwise.config import RunConfig
from blockwise.geometry import Domain
from blockwise.grid import Block, GridSpec
from blockwise.storage.writes import Array, Write


class TaskOptions(BaseModel):
    """Base of a task's own keys in `[options]`: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class OutputLayout:
    """What the plan must know of one output array: its extent in the grid's axes and the unit that one writer must own.

    unit : voxels per axis of the shard, or of the chunk where it is not sharded.
    axes : for every axis of the grid, the axis of the output it maps to.
    """

    path: str
    domain: int
    shape: tuple[int, ...]
    unit: tuple[int, ...]
    itemsize: int
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture for the report: a PNG and the sentence below it."""

    title: str
    png: bytes
    caption: str = ""


@dataclass(frozen=True, slots=True)
class FrozenResult:
    """What a finished stage hands to the driver's books: figures by name (JSON types) for the report, and sentences to warn with."""

    figures: Mapping[str, object] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dependency:
    """What the blocks of a stage need of an earlier stage of the run before they may begin.

    Of a "region" they need the blocks that write what a block reads, its core with context, in the domain of the same name; positions are
    compared in world units, axes by name, and along an axis that only the earlier stage has, all of it is needed. Of a "domain" they need
    all of the domain of the same name, of a "stage" everything, and its `finish` too.

    Parameters
    ----------
    stage : name of the earlier stage.
    reads : one of the three.
    reach : voxels that are read beyond the context, on both sides of each axis; none by default.
    """

    stage: str
    reads: Literal["region", "domain", "stage"] = "region"
    reach: tuple[int, ...] = ()


class Task(ABC):
    """One science (or one stage of it) over one grid."""

    name: ClassVar[str]
    version: ClassVar[str] = "1"
    Options: ClassVar[type[TaskOptions]] = TaskOptions
    batch_size: int = 1
    """More than 1: `compute_batch` gets up to this many blocks of one input shape."""

    @classmethod
    def from_config(cls, config: RunConfig) -> Self:
        """The task of a run's configuration, everything checked that needs no computing.

        Raises
        ------
        ConfigError, InputError, ModelError : before anything is written.
        """
        raise TypeError(f"{cls.__name__} cannot be made from a configuration: it has no from_config")

    @classmethod
    def template(cls, source: str) -> str:
        """A commented configuration for an input, which `plan` accepts: what `blockwise init` prints.

        A task that reads recordings may take a further `frame_rate` (Hz): what `--frame-rate` gives.

        Raises
        ------
        InputError : the input cannot be read.
        """
        raise TypeError(f"{cls.__name__} writes no configuration: it has no template")

    def stages(self) -> Sequence["Task"]:
        """What one run works off, each stage after those it needs; this task, the main stage, is among them."""
        return (self,)

    def upstream(self) -> Sequence[Dependency] | None:
        """What blocks need of earlier stages; None: everything, so that the stage begins when all earlier ones have ended.

        Blocks of a stage that names regions or domains begin while the earlier stage is still at work: `open` and `setup` must not need
        its last block, nor what its `finish` makes.
        """
        return None

    def input_reads(self) -> Literal["region", "stage"]:
        """Where the run's input is what another task writes in the same run: "region" where a block needs only what lies under its read
        region, in world units; "stage" where it may need all."""
        return "stage"

    @abstractmethod
    def domains(self) -> Sequence[Domain]: ...

    @abstractmethod
    def spec(self) -> GridSpec: ...

    def resolved(self) -> Mapping[str, object]:
        """What this machine decided where the configuration says "auto", e.g. {"blocks.shape": [...]}: kept, so that a resume elsewhere
        decides the same."""
        return {}

    def relevant_options(self) -> Mapping[str, object]:
        """The options that decide this stage's result, resolved; a stage that ignores some leaves them out."""
        options = getattr(self, "options", None)
        return options.model_dump(mode="json") if isinstance(options, TaskOptions) else {}

    def fingerprint(self, domain: int) -> Mapping[str, object]:
        """What decides this domain's result besides grid, version and options: model digest, input identity (keys `input.<name>`)."""
        return {}

    def places(self, domain: int) -> Mapping[str, str]:
        """The files or folders that values of `fingerprint` identify, by key, so that a refusal names what changed."""
        return {}

    def outputs(self) -> Sequence[OutputLayout]:
        """The arrays the blocks write, for alignment verdicts and disk space."""
        return ()

    def output_path(self) -> str | None:
        """The container that this run alone may write; its attributes name the run."""
        return None

    def exports(self) -> Sequence[Path]:
        """Files that `finish` writes beside the output: a plan is refused where one of them is another run's."""
        return ()

    def memory(self) -> Mapping[str, int]:
        """Projected bytes of one worker beside its imports, by term."""
        return {}

    def mask(self, domain: int) -> Callable[[npt.NDArray[np.int64]], npt.NDArray[np.bool_]] | None:
        """Which blocks (ids counted from the domain's first) are to be computed; None: all. Masked blocks are reported, never done."""
        return None

    def prepare(self) -> None:
        """Create outputs; idempotent, for it runs at every start."""

    def open(self) -> None:
        """Open sources and outputs in a worker process."""

    def setup(self, device: str) -> Any:
        """Load what `compute` needs, e.g. the model on `device`; returns the state."""
        return None

    @abstractmethod
    def read(self, block: Block) -> Any:
        """The inputs of one block, context included."""

    def open_pilot(self) -> None:
        """Like `open`, for the pilot of a plan: outputs may not exist yet."""
        self.open()

    def pilot_inputs(self, block: Block) -> Any:
        """Like `read`, for the pilot of a plan: nothing has run yet, so results of earlier stages are made for this block alone."""
        return self.read(block)

    @abstractmethod
    def compute(self, inputs: Any, state: Any) -> Any:
        """The result of one block."""

    def compute_batch(self, inputs: Sequence[Any], state: Any) -> Sequence[Any]:
        """Results of several blocks of one input shape; the engine retries a failing batch singly."""
        return [self.compute(i, state) for i in inputs]

    @abstractmethod
    def write(self, block: Block, result: Any) -> Sequence[Write]:
        """Start writing the core of one block; returns at once."""

    def stored(self, block: Block) -> Sequence[Array] | None:
        """What `write` stored for this block, in its order, read back; None where any of it is missing. For verify and rebuild."""
        return None

    def finish(self) -> FrozenResult | None:
        """After the last block, in the driver: exports, reductions, summary figures. Idempotent."""
        return None

    def pictures(self) -> Sequence[Picture]:
        """Example input and output for the report."""
        return ()

    def describe(self) -> Mapping[str, object]:
        """What `plan` shows of the task: model, inputs, choices made, warnings under the key `warnings`."""
        return {}
