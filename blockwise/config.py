"""One typed schema of a run's configuration: TOML in, frozen values out, unknown keys refused with the nearest name.

Layers, later wins: defaults, the file, `BLOCKWISE_<SECTION>__<KEY>` in the environment, `--set section.key=value`.
The keys of `[options]` belong to the task and are checked by its `Options`.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from blockwise.errors import ConfigError, MissingError

Model = TypeVar("Model", bound=BaseModel)

Place = Annotated[str, "place"]
"""A file, folder, URL or registered name among a task's options; what exists is made absolute, as the paths of the sections are."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants", protected_namespaces=())


class SessionConfig(Section):
    """One recording of a set, with what differs from `[input]` and `[model]`."""

    path: str
    variable: str | None = None
    frame_rate: float | None = Field(None, gt=0)
    model: str | None = None
    name: str | None = None


class InputConfig(Section):
    """`[input]`: a path, URL, folder or glob, or a list of sessions. Voxel size and offset in nm, z y x, where the file does not tell."""

    path: str | None = None
    variable: str | None = None
    frame_rate: float | None = Field(None, gt=0)
    voxel_size: tuple[float, ...] | None = None
    offset: tuple[float, ...] | None = None
    resample: bool = False
    sessions: tuple[SessionConfig, ...] = ()


class ModelConfig(Section):
    path: str | None = None


class OutputConfig(Section):
    """`[output]`. A path in a folder that is not there is refused as a slip, unless `make_folders`."""

    path: str | None = None
    make_folders: bool = False


class BlocksConfig(Section):
    """`[blocks]`: core shape (or "auto"), context as (before, after) per axis, edge mode, memory for choosing a shape."""

    shape: tuple[int, ...] | Literal["auto"] = "auto"
    context: tuple[tuple[int, int], ...] | None = None
    edge: Literal["overhang", "shrink", "snap"] | None = None
    memory: str = "1GB"

    @field_validator("memory")
    @classmethod
    def _is_size(cls, value: str) -> str:
        if re.fullmatch(r"\s*\d+(\.\d+)?\s*([kMGT]i?)?B?\s*", value, re.IGNORECASE) is None:
            raise ValueError('is no size such as "1GB" or "800 MiB"')
        return value


class ClusterConfig(Section):
    """`[cluster]`: where workers run. `threads` is per worker for torch; None gives cores // workers.

    gpus : GPUs to use, of this machine ("local") or of each job ("slurm"); a worker sees exactly one. None takes those that are visible
    ("local") or none ("slurm").
    partition, account, walltime, cores, memory, prologue, directives : of a SLURM job; `directives` are further lines after #SBATCH.
    max_jobs : most jobs in the queue at once.  whole_node : a job has one worker per GPU (or per `threads` cores) of its node.
    host : address that the scheduler listens on for workers elsewhere; by default the one that this machine's name has.
    tls : encrypt and authenticate all traffic with certificates of this run; None does so on SLURM.
    http_host : address that dashboards and pages are bound to.
    """

    kind: Literal["local", "address", "slurm"] = "local"
    workers: int | None = Field(None, ge=1)
    threads: int | None = Field(None, ge=1)
    device: str = "auto"
    gpus: int | None = Field(None, ge=0)
    address: str | None = None
    partition: str | None = None
    account: str | None = None
    walltime: str = "04:00:00"
    cores: int = Field(1, ge=1)
    memory: str = "8GB"
    prologue: tuple[str, ...] = ()
    directives: tuple[str, ...] = ()
    max_jobs: int = Field(10, ge=1)
    whole_node: bool = False
    host: str | None = None
    tls: bool | None = None
    http_host: str = "127.0.0.1"

    @field_validator("walltime", mode="before")
    @classmethod
    def _is_text(cls, value: object) -> object:
        """To TOML 04:00:00 without quotation marks is a time of day, and 90 a number."""
        return str(value) if isinstance(value, time | int) else value


class LedgerConfig(Section):
    """`[ledger]`: None keeps SQLite in the run folder; mongodb:// takes credentials from the environment or a file, not from here."""

    url: str | None = None


class FolderConfig(Section):
    """`[run]`: the run folder and the engine's limits, in seconds. None for `lease_s`: clamp(workers / 50, 1, 30)."""

    folder: str | None = None
    lease_s: float | None = Field(None, gt=0)
    block_timeout_s: float = Field(3600.0, gt=0)
    retries: int = Field(2, ge=0)
    drain_s: float = Field(60.0, gt=0)


class StageConfig(Section):
    """One of `[[stages]]`: a task of its own in the run. What it does not say is as at the top; `options` only where the task is the same.

    name : of its stages in the run, by default the task's.
    input : as [input], or "@NAME": what the stage of that name writes, an earlier one of the run.
    """

    task: str
    name: str = ""
    input: InputConfig = InputConfig()
    model: ModelConfig = ModelConfig()
    options: Mapping[str, Any] = Field(default_factory=dict)
    blocks: BlocksConfig = BlocksConfig()

    @property
    def reads(self) -> str:
        """The stage of the run that is its input, "" where it is none."""
        return self.input.path[1:] if self.input.path and self.input.path.startswith("@") else ""


def with_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a configuration in which every one of `[[stages]]` says all that it takes from the top; the last names the task."""
    found, top = [], values.get("task")
    for entry in values["stages"]:
        stage = {"task": top, **entry} if top else dict(entry)
        if isinstance(stage.get("input"), str):
            stage["input"] = {"path": stage["input"]}
        for section in ("input", "model", "blocks", *(("options",) if stage.get("task") == top else ())):
            own, default = stage.get(section, {}), values.get(section, {})
            if isinstance(own, Mapping) and isinstance(default, Mapping) and not str(own.get("path", "")).startswith("@"):
                stage[section] = {**default, **own}
        stage["name"] = stage.get("name") or stage.get("task", "")
        found.append(stage)
    return {**values, "stages": found, "task": top or found[-1].get("task", "")}


class RunConfig(Section):
    """A whole configuration. `options` stays a mapping until the task's own `Options` reads it."""

    task: str
    stages: tuple[StageConfig, ...] = ()
    input: InputConfig = InputConfig()
    model: ModelConfig = ModelConfig()
    output: OutputConfig = OutputConfig()
    options: Mapping[str, Any] = Field(default_factory=dict)
    blocks: BlocksConfig = BlocksConfig()
    cluster: ClusterConfig = ClusterConfig()
    ledger: LedgerConfig = LedgerConfig()
    run: FolderConfig = FolderConfig()

    @model_validator(mode="before")
    @classmethod
    def _merges(cls, values: Any) -> Any:
        stages = values.get("stages") if isinstance(values, Mapping) else None
        return with_defaults(values) if stages and all(isinstance(s, Mapping) for s in stages) else values

    @field_validator("task")
    @classmethod
    def _has_name(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("names no task")
        return value

    def options_as(self, schema: type[Model]) -> Model:
        """`[options]` read by a task's own schema."""
        return validated(schema, dict(self.options), "options")


def validated(schema: type[Model], values: Mapping[str, Any], where: str = "") -> Model:
    """`values` as `schema`, or one ConfigError that names every wrong key and the nearest right one."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_sentence(schema, dict(e), where) for e in error.errors())) from None


def _sentence(schema: type[BaseModel], error: dict[str, Any], where: str) -> str:
    location = [str(p) for p in error["loc"]]
    key = ".".join(([where] if where else []) + location)
    if error["type"] == "missing":
        return f"{key} is missing: `blockwise init TASK INPUT` writes a configuration that has it"
    if error["type"] != "extra_forbidden":
        return f"{key}: {error['msg']}, got {_shown(error['input'])}"
    known = _known_keys(schema, location[:-1])
    near = difflib.get_close_matches(location[-1], known, 1, 0.5)
    return f"unknown key {key!r}: " + (f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(known))}")


def _shown(value: object) -> str:
    """A value in the words of TOML."""
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _known_keys(schema: type[BaseModel], location: Sequence[str]) -> list[str]:
    for part in location:
        if part in schema.model_fields:
            inner = [schema.model_fields[part].annotation, *getattr(schema.model_fields[part].annotation, "__args__", ())]
            schema = next((t for t in inner if isinstance(t, type) and issubclass(t, BaseModel)), schema)
    return list(schema.model_fields)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a TOML file, add environment and `key=value` overrides, check it. Relative paths stay as written.

    A JSON file is a configuration of a system that lives here now; tasks bring readers in the entry points `blockwise.configurations`.

    Raises
    ------
    MissingError : no such file.  ConfigError : data, not TOML, empty, unknown keys or wrong values.
    """
    file = Path(path)
    if not file.is_file():
        raise MissingError(f"no configuration at {file}: write one with `blockwise init TASK INPUT > run.toml`")
    refuse_data(file)
    values = _foreign(file) if file.suffix == ".json" else _toml(file)
    for key, value in [*_environment(), *map(_override, overrides)]:
        _put(values, key, value)
    if not values:
        raise ConfigError(
            f"{file} sets nothing: it must say at least `task` and, under [input], `path`; "
            "`blockwise init TASK INPUT > run.toml` writes a whole configuration"
        )
    return validated(RunConfig, values)


def _toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # not TOML, or not even UTF-8
        raise ConfigError(f"{file} is not valid TOML: {error}") from None


def _foreign(file: Path) -> dict[str, Any]:
    """The values of ours for another system's configuration, by the first task that knows it."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{file} is not valid JSON: {error}") from None
    readers = sorted(entry_points(group="blockwise.configurations"), key=lambda e: e.name)
    for entry in readers:
        values: dict[str, Any] | None = entry.load()(file, content)
        if values is not None:
            return values
    raise ConfigError(f"{file} is no configuration that {', '.join(e.name for e in readers) or 'an installed task'} knows; ours are TOML")


def refuse_data(path: Path) -> None:
    """Refuse a recording or volume that was given in place of its configuration: a file with a zero byte, or the folder of an array.

    Raises
    ------
    ConfigError
    """
    if path.is_dir():
        data = any((path / mark).exists() for mark in ("zarr.json", ".zarray", ".zgroup", "attributes.json", "info"))
    else:
        with path.open("rb") as file:
            data = b"\0" in file.read(4096)
    if data:
        raise ConfigError(
            f"{path} holds data, and a configuration is wanted that names it: write one with `blockwise init TASK {path} > run.toml` "
            "(`blockwise doctor` lists the tasks), then `blockwise run run.toml`"
        )


def with_places(config: RunConfig, path: str | Path, options: type[BaseModel] | None = None) -> RunConfig:
    """The configuration with absolute paths, and with a run folder and an output beside its file where it names none.

    run.toml -> run.run and run.zarr. Relative paths are those of the working directory, so that the run folder can be read from any.
    `options` is the schema of the task's own keys, which tells places among them.
    """
    file = Path(path)
    values = config.model_dump()
    values["run"]["folder"] = _absolute(config.run.folder or str(file.with_suffix(".run")))
    values["output"]["path"] = _absolute(config.output.path or str(file.with_suffix(".zarr")))
    values["input"]["path"] = _absolute(config.input.path)
    values["ledger"]["url"] = _absolute(config.ledger.url)
    for session in values["input"]["sessions"]:
        session["path"] = _absolute(session["path"])
    for section in (values["model"], *values["input"]["sessions"]):
        key = "path" if section is values["model"] else "model"
        if section[key] and Path(section[key]).exists():  # anything else is a name in the registry
            section[key] = _absolute(section[key])
    if options is not None:
        values["options"] = _placed(options, values["options"])
    return validated(RunConfig, values)


def _placed(schema: type[BaseModel], values: Any) -> Any:
    """Options with absolute places, nested sections too; what does not fit the schema stays, to be refused by it."""
    if not isinstance(values, Mapping):
        return values
    placed = dict(values)
    for name, field in schema.model_fields.items():
        if name not in placed:
            continue
        if (inner := _inner_schema(field.annotation)) is not None:
            placed[name] = _placed(inner, placed[name])
        elif _is_place(field) and isinstance(placed[name], str) and Path(placed[name]).expanduser().exists():
            placed[name] = _absolute(placed[name])
    return placed


def _is_place(field: FieldInfo) -> bool:
    marks = [*field.metadata, *(m for a in get_args(field.annotation) for m in getattr(a, "__metadata__", ()))]
    return "place" in marks


def _inner_schema(annotation: Any) -> type[BaseModel] | None:
    return next((a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and issubclass(a, BaseModel)), None)


def _absolute(path: str | None) -> str | None:
    return path if path is None or "://" in path or path.startswith("@") else os.path.abspath(os.path.expanduser(path))


def overridden(config: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """A configuration with `key=value` overrides, checked anew."""
    values = config.model_dump()
    for key, value in map(_override, overrides):
        _put(values, key, value)
    return validated(RunConfig, values)


def _environment() -> list[tuple[str, Any]]:
    prefix = "BLOCKWISE_"
    names = [n for n in sorted(os.environ) if n.startswith(prefix) and "__" in n]
    return [(n.removeprefix(prefix).lower().replace("__", "."), _value(os.environ[n])) for n in names]


def _override(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator:
        raise ConfigError(f"--set {text!r}: write section.key=value, e.g. --set cluster.workers=4")
    return key.strip(), _value(value.strip())


def _value(text: str) -> Any:
    """A TOML value where it parses as one, else the text itself."""
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{key} cannot be set: {section!r} is a value, not a section")
    values[last] = value
