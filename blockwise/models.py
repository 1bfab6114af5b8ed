"""Published models by name: where they are fetched from and where they lie on this machine.

Sciences add theirs through the entry-point group `blockwise.models`: a function without arguments that returns a `Registry`. Models lie
in one folder per user, `$BLOCKWISE_MODELS` or the user's cache, each under its name; a list read with `update` lies there in `lists/`.
"""

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from blockwise.errors import ConfigError, MissingError, ModelError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of a registry.

    Parameters
    ----------
    url : where it is fetched from; None for one that comes with a package.
    sha256 : of what is fetched, hex; None where its publisher states none.
    kind : a zip of a folder, or a single file.
    folder : where it lies if it came with a package.
    by_hand : how to come by it where no link is known.
    """

    name: str
    url: str | None = None
    sha256: str | None = None
    kind: Literal["zip", "file"] = "zip"
    info: str = ""
    folder: Path | None = None
    by_hand: str = ""

    @property
    def path(self) -> Path:
        """Where it lies, or will once it is fetched."""
        return self.folder or models_folder() / self.name

    @property
    def present(self) -> bool:
        return self.path.exists()


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One model for a recording, and why; `warnings` are what does not fit. `fits` is False where it is only the nearest and of no use."""

    name: str
    reason: str
    warnings: tuple[str, ...] = ()
    present: bool = False
    fits: bool = True


@dataclass(frozen=True, slots=True)
class Registry:
    """The models of one science.

    Parameters
    ----------
    entries : by name.
    check : called with a fetched model before it gets its place; raises where it is not usable.
    advise : called by `suggest`.
    convert : called with another program's checkpoint and the file to write, and by keyword `parameters` (a file) and `activation`,
        both optional; returns what it was, in a line.
    """

    task: str
    entries: Mapping[str, Entry] = field(default_factory=dict)
    check: Callable[[Path], object] | None = None
    advise: Callable[..., Suggestion] | None = None
    convert: Callable[..., str] | None = None

    def suggest(self, **wishes: object) -> Suggestion:
        """The model that fits best; the wishes are the science's own, e.g. frame_rate (Hz) and indicator.

        Raises
        ------
        ConfigError : this science gives no advice.
        """
        if self.advise is None:
            raise ConfigError(f"{self.task} suggests no models: choose one of `blockwise models list`")
        return self.advise(self, **wishes)


def registries() -> dict[str, Registry]:
    """All registries that installed packages bring, by task."""
    return {point.name: point.load()() for point in entry_points(group="blockwise.models")}


def models_folder() -> Path:
    """The user's folder for models: `$BLOCKWISE_MODELS`, else below the user's cache."""
    if chosen := os.environ.get("BLOCKWISE_MODELS"):
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("blockwise")) / "models"


def entry_of(name: str, registry: Registry | None = None) -> tuple[Entry, Registry]:
    """The entry of one name, in one registry or in any.

    Raises
    ------
    MissingError : no registry has it; names the nearest.
    """
    known = [registry] if registry else list(registries().values())
    for candidate in known:
        if name in candidate.entries:
            return candidate.entries[name], candidate
    near = difflib.get_close_matches(name, [n for r in known for n in r.entries], 1, 0.5)
    raise MissingError(
        f"{name!r} is neither a model folder nor a model of the registry"
        + (f": did you mean {near[0]!r}?" if near else "")
        + " `blockwise models list` shows all, `blockwise models update URL --task TASK` reads newer ones"
    )


def find(name: str, registry: Registry | None = None) -> Path:
    """Where a model lies on this machine; nothing is fetched.

    Raises
    ------
    MissingError : unknown, or not fetched yet.
    """
    if _NAME.fullmatch(name) and (own := models_folder() / name).exists():
        return own
    entry, _ = entry_of(name, registry)
    if not entry.present:
        raise MissingError(f"model {name} is not on this machine: blockwise models get {name}")
    return entry.path


def get(name: str, folder: str | Path | None = None, *, registry: Registry | None = None) -> Path:
    """Fetch a model unless it is there; a download that was cut off goes on where it stopped.

    Parameters
    ----------
    folder : to put it in, under its name; None: the user's folder.

    Returns
    -------
    The model's folder, or its file where it is one.

    Raises
    ------
    MissingError : unknown.  StorageError : cannot be downloaded.  ModelError : checksum or content are not those of a model.
    """
    from blockwise.download import download
    from blockwise.unpack import unpack

    entry, owner = entry_of(name, registry)
    target = Path(folder) / name if folder else entry.path
    if entry.folder and entry.present:
        return entry.folder
    if target.exists():
        return target
    if entry.url is None and entry.by_hand:
        raise MissingError(f"model {name} is not at {target}: {entry.by_hand}")
    if entry.url is None:
        raise MissingError(f"model {name} comes with its package, but {entry.path} is not there: install the package again")
    if entry.kind == "file":
        return _checked(download(entry.url, target, sha256=entry.sha256), owner)
    archive = download(entry.url, target.parent / f".{name}.zip", sha256=entry.sha256)
    try:
        return unpack(archive, target, check=owner.check)
    except (ModelError, MissingError) as error:
        raise ModelError(f"model {name}: {error}") from None
    finally:
        archive.unlink(missing_ok=True)


def _checked(file: Path, registry: Registry) -> Path:
    try:
        if registry.check:
            registry.check(file)
    except Exception:
        file.unlink(missing_ok=True)
        raise
    return file


def update(source: str, task: str) -> list[str]:
    """Read a newer list of models, from a URL or a file, and keep it for this user; returns its names.

    Raises
    ------
    StorageError : cannot be read.  ModelError : not a list of models.
    """
    from blockwise.download import fetch_text
    from blockwise.storage.durable import make_folders, write_atomic

    text = Path(source).read_text(encoding="utf-8") if Path(source).is_file() else fetch_text(source)
    names = list(read_list(text, source))
    make_folders(_list_file(task).parent)
    write_atomic(_list_file(task), text.encode())
    return names


def updated_list(task: str) -> dict[str, Entry]:
    """The entries of the list that `update` read for a task; empty where there is none."""
    file = _list_file(task)
    return read_list(file.read_text(encoding="utf-8"), str(file)) if file.is_file() else {}


def _list_file(task: str) -> Path:
    return models_folder() / "lists" / f"{task}.yaml"


def read_list(text: str, where: str) -> dict[str, Entry]:
    """Entries of a list in YAML: name -> {Link: URL, Info: text, Sha256: hex}, the last two optional.

    Raises
    ------
    ModelError : not such a list, or a name or link that cannot be used.
    """
    import yaml

    try:
        values = yaml.safe_load(text)
        return {str(name): _entry(str(name), dict(value)) for name, value in values.items()}
    except (yaml.YAMLError, AttributeError, TypeError, ValueError, KeyError) as error:
        raise ModelError(f"{where} is not a list of models (name -> Link, Info): {error}") from None


def _entry(name: str, value: Mapping[str, object]) -> Entry:
    url, sha256 = str(value["Link"]).strip(), value.get("Sha256")
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a folder")
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"{name}: the link {url!r} is not http(s)")
    return Entry(name, url, str(sha256).lower() if sha256 else None, info=str(value.get("Info") or ""))
