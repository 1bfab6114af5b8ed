"""A run folder: everything that is known of a run, in one place that can be copied, read from elsewhere, or deleted.

    run.json        id of the run, when and with what it was made; written first, once
    config.toml     the resolved configuration of the last start (config.json beside it for machines)
    ledger.sqlite   what is done, unless [ledger] url keeps it elsewhere
    status.json     the state, replaced atomically every second by the driver
    history.jsonl   blocks and bytes over time, a line every few seconds
    resolved.json   what the first start decided where the configuration says "auto"
    provenance.jsonl  one line per start: versions, host, adopted differences
    run.log         events as JSON lines
    logs/           a log per worker, see worker_logs

The driver writes; a crash leaves at most a torn last line in the .jsonl files, which readers skip.
"""

import json
import os
import platform
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from blockwise.config import LedgerConfig, RunConfig, overridden
from blockwise.errors import ConfigError, MissingError, StorageError
from blockwise.ledger.server_url import without_credentials
from blockwise.redaction import is_redacted, redact, redact_urls
from blockwise.status import Counts, HistoryPoint, Status
from blockwise.storage.durable import check_makeable, write_atomic
from blockwise.worker_logs import FOLDER as LOGS

PACKAGES = ("blockwise", "numpy", "torch", "dask", "distributed", "tensorstore", "zarr", "h5py", "pymongo")


FILES = (
    "run.json",
    "config.toml",
    "config.json",
    "resolved.json",
    "ledger.sqlite",
    "status.json",
    "history.jsonl",
    "provenance.jsonl",
    "run.log",
    "report.html",
)
"""What the names of a run's own files begin with."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """One run's folder on disk."""

    path: Path

    @classmethod
    def make(cls, path: str | Path) -> "RunFolder":
        """The folder at `path`, made with a new run id where it is new.

        Raises
        ------
        StorageError : it cannot be made or written.
        """
        folder = cls(Path(path))
        folder.check_place()
        folder.path.mkdir(parents=True, exist_ok=True)
        if not (folder.path / "run.json").exists():
            made = {"run": time.strftime("%Y%m%d-%H%M%S-") + uuid.uuid4().hex[:6], "made_s": time.time()}
            write_atomic(folder.path / "run.json", json.dumps(made).encode())
        return folder

    def check_place(self) -> None:
        """Refuse a place where the folder, its missing parents included, could not be made.

        Raises
        ------
        StorageError
        """
        check_makeable(self.path)

    @classmethod
    def find(cls, path: str | Path) -> "RunFolder":
        """An existing run folder.

        Raises
        ------
        MissingError : there is none at `path`.
        """
        folder = Path(path)
        if not folder.is_dir() or not ((folder / "run.json").exists() or _is_empty(folder)):  # one just made is empty for a moment
            raise MissingError(f"no run folder at {folder}: give the folder that `blockwise run` printed (it holds run.json)")
        return cls(folder)

    def remove(self) -> None:
        """Delete the run's files, and the folder unless other files lie in it."""
        for file in self.path.iterdir():
            if file.is_file() and file.name.startswith((*FILES, ".status.")):
                file.unlink()
        shutil.rmtree(self.path / LOGS, ignore_errors=True)
        if _is_empty(self.path):
            shutil.rmtree(self.path)

    @property
    def run(self) -> str:
        return str(_read_json(self.path / "run.json").get("run", ""))

    @property
    def ledger(self) -> str:
        return str(self.path / "ledger.sqlite")

    def save_config(self, config: RunConfig) -> None:
        """Keep the configuration, without the credentials of the ledger's and all other urls."""
        url = config.ledger.url and without_credentials(config.ledger.url)
        config = RunConfig.model_validate(_safe(config.model_copy(update={"ledger": LedgerConfig(url=url)}).model_dump()))
        write_atomic(self.path / "config.json", config.model_dump_json(indent=1).encode())
        write_atomic(self.path / "config.toml", to_toml(config).encode())

    def load_config(self) -> RunConfig:
        """The configuration of the last start.

        Raises
        ------
        MissingError : the folder holds none.
        """
        file = self.path / "config.json"
        if not file.exists():
            raise MissingError(f"{self.path} holds no config.json: it is no run folder, or its run stopped before it began")
        return RunConfig.model_validate_json(file.read_bytes())

    def keep_resolved(self, values: Mapping[str, object]) -> None:
        """Keep what the first start decided; later starts change nothing."""
        if values and not (self.path / "resolved.json").exists():
            write_atomic(self.path / "resolved.json", json.dumps(dict(values)).encode())

    def settled(self, config: RunConfig, stage: str = "") -> RunConfig:
        """The configuration, or that of one of its `[[stages]]`, with what the first start decided in place of each "auto"."""
        prefix = f"@{stage} " if stage else ""
        decided = {k.removeprefix(prefix): v for k, v in _read_json(self.path / "resolved.json").items() if k.startswith(prefix)}
        values = config.model_dump()
        open_keys = {k: v for k, v in decided.items() if values.get(k.split(".")[0], {}).get(k.split(".")[-1]) == "auto"}
        return overridden(config, [f"{k}={json.dumps(v)}" for k, v in open_keys.items()]) if open_keys else config

    def note_start(self, **values: Any) -> None:
        """Append one line of provenance: versions, host, command, and what the caller adds."""
        where = {"host": platform.node(), "python": platform.python_version(), "versions": versions()}
        self._append("provenance.jsonl", {"at_s": time.time(), "argv": list(map(redact, sys.argv)), **where, **values})

    def starts(self) -> list[dict[str, Any]]:
        return _read_lines(self.path / "provenance.jsonl")

    def note_history(self, point: HistoryPoint) -> None:
        self._append("history.jsonl", asdict(point))

    def history(self) -> list[HistoryPoint]:
        return [HistoryPoint(**line) for line in _read_lines(self.path / "history.jsonl")]

    def _append(self, name: str, line: dict[str, Any]) -> None:
        with (self.path / name).open("a") as file:
            file.write(json.dumps(line, default=str) + "\n")

    def write_status(self, status: Status) -> None:
        """Replace status.json; atomic for readers, not synced: it only informs."""
        partial = self.path / f".status.{os.getpid()}"
        try:
            partial.write_text(json.dumps(status.to_json()))
            partial.replace(self.path / "status.json")
        except OSError as error:
            raise StorageError(f"cannot write {self.path / 'status.json'}: {error}") from error

    def read_status(self) -> Status:
        """The state as last written; a run that never got so far is `planned`."""
        values = _read_json(self.path / "status.json")
        if values:
            return Status.from_json(values)
        return Status(run=self.run, task="", folder=str(self.path), output="", state="planned", blocks=Counts(), stages=())


def _safe(value: Any) -> Any:
    """Nested values with the secrets of their urls redacted."""
    if isinstance(value, Mapping):
        return {k: _safe(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_safe(v) for v in value]
    return redact_urls(value) if isinstance(value, str) else value


def refuse_redacted(config: RunConfig) -> None:
    """Refuse a configuration whose urls lost their secrets when the run folder kept it.

    Raises
    ------
    ConfigError : names the key.
    """
    for key, value in _leaves(config.model_dump()):
        if isinstance(value, str) and is_redacted(value):
            raise ConfigError(
                f"{key} = {value!r}: a run folder keeps no secrets. Run the configuration that you wrote, or give the whole url again with "
                f"--set {key}=..."
            )


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of everything in nested values; items of lists have the key of their list."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner, key)
    else:
        yield key, value


def versions() -> dict[str, str]:
    """Versions of what decides numbers, without importing any of it."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def _is_empty(folder: Path) -> bool:
    """Whether nothing is in it but what a killed writer left."""
    return all(f.name.endswith(".partial") for f in folder.iterdir())


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        return {}
    return values


def _read_lines(path: Path) -> list[dict[str, Any]]:
    lines = []
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:  # torn by a crash
            continue
    return lines


def to_toml(config: RunConfig) -> str:
    """The configuration as TOML, sections in order, keys that are not set left out."""
    values = config.model_dump(exclude_none=True)
    lines = [f"{k} = {_toml(v)}" for k, v in values.items() if not isinstance(v, dict) and (v or k != "stages")]
    for section, keys in values.items():
        if isinstance(keys, dict) and keys:
            lines += ["", f"[{section}]", *(f"{k} = {_toml(v)}" for k, v in keys.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return str(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
