"""Configurations of the original Synful (predict_blockwise.py, spec 1.1), read as ours: `blockwise run predict.json`.

Predictions are kept and tiled as there, so that they equal the original's, and nothing else is done; with `extraction_parameters` (spec 2)
only partners are kept.
Paths are looked for beside the JSON file, setups also below `../train/<experiment>` and `../train`. `db_host` becomes the ledger.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from blockwise.config import Section, validated
from blockwise.errors import ConfigError, MissingError

DEFAULT_CONFIG = "test"


class OutputProperties(Section):
    """How one output of the network is kept; dataset name, dtype and factor."""

    dsname: str | None = None
    dtype: str | None = None
    scale: float | None = None


class OriginalConfig(Section):
    """The keys of a predict.json. What only the original's processes needed (worker_config, db_name in part) is read and not used."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    setup: str
    iteration: int
    raw_file: str
    raw_dataset: str | None = None
    experiment: str = "cremi"
    out_directory: str = "."
    out_basedir: str | None = None
    out_filename: str = "predictions.zarr"
    num_workers: int = 1
    db_host: str | None = None
    db_name: str = "synful"
    worker_config: str | Mapping[str, Any] | None = None
    out_properties: Mapping[str, OutputProperties] = {}
    overwrite: bool = False
    configname: str = DEFAULT_CONFIG
    extraction_parameters: str | Mapping[str, Any] | None = None
    synapse_context: int | tuple[int, int, int] = 40
    mask: str | None = None
    mask_ds: str | None = None
    max_retries: int = 2


def read_original(path: str | Path, content: Mapping[str, Any]) -> dict[str, Any] | None:
    """The values of our configuration for one of the original's; None where the content is none.

    Raises
    ------
    ConfigError : unknown or wrong keys.  MissingError : no setup or checkpoint where the original would look; names the places.
    """
    if not {"setup", "iteration"} <= content.keys():
        return None
    file = Path(path).absolute()
    config = validated(OriginalConfig, content, file.name)
    if config.overwrite:
        raise ConfigError(
            f"{file.name}: overwrite = true would mix old and new voxels; delete the earlier run with "
            f"`blockwise clean {file.with_suffix('.run').name} --all` and leave the key out"
        )
    setup = find_setup(file.parent, config)
    checkpoint = _checkpoint(setup, config.iteration)
    values: dict[str, Any] = {
        "task": "synful",
        "input": {"path": _place(file.parent, config.raw_file), "variable": config.raw_dataset},
        "model": {"path": str(checkpoint)},
        "output": {"path": str(_output(file.parent, config)), "make_folders": True},
        "options": _options(file.parent, config, setup),
        "cluster": {"workers": config.num_workers},
        "run": {"retries": config.max_retries},
    }
    if tile := _tile(setup, config.configname):
        values["blocks"] = {"shape": tile if config.extraction_parameters is None else _core(tile, values["input"], config)}
    if config.db_host:
        values["ledger"] = {"url": ledger_url(file.parent, config)}
    return values


def find_setup(folder: Path, config: OriginalConfig) -> Path:
    """The setup's folder: as given, or below `../train/<experiment>`, or `../train`."""
    train = folder.parent / "train"
    places = [folder / config.setup, train / config.experiment / config.setup, train / config.setup]
    found = next((p for p in places if p.is_dir()), None)
    if found is None:
        raise MissingError(f"no setup {config.setup!r}: looked for {', '.join(map(str, places))}")
    return found.resolve()


def _checkpoint(setup: Path, iteration: int) -> Path:
    prefix = setup / f"train_net_checkpoint_{iteration}"
    if not prefix.with_name(prefix.name + ".index").is_file():
        there = sorted(p.stem.rpartition("_")[2] for p in setup.glob("train_net_checkpoint_*.index"))
        raise MissingError(f"{prefix}.index is not there; {setup} holds the iterations {', '.join(there) or 'none'}")
    return prefix


def _output(folder: Path, config: OriginalConfig) -> Path:
    """`<out_directory>[/<experiment>]/<setup>/<iteration>/<out_filename>`."""
    base = Path(_place(folder, config.out_basedir or config.out_directory, must_exist=False))
    inner = () if config.experiment == "cremi" else (config.experiment,)
    name = Path(config.out_filename).with_suffix(".zarr").name
    return base.joinpath(*inner, Path(config.setup).name, str(config.iteration), name)


def _tile(setup: Path, configname: str) -> list[int] | None:
    """The tile of `<configname>_net_config.json`."""
    file = setup / f"{configname}_net_config.json"
    if not file.is_file():
        return None
    shape = json.loads(file.read_text()).get("output_shape")
    return [int(n) for n in shape][-3:] if shape else None


def _core(tile: list[int], raw: Mapping[str, Any], config: OriginalConfig) -> list[int]:
    """What a block owns where partners are extracted within the pass: the tile without the synapse context (spec 2)."""
    from tasks.synful.raw import open_raw
    from tasks.synful.tiling import in_voxels

    reader = open_raw(raw["path"], raw["variable"])
    reader.close()
    core = [n - 2 * h for n, h in zip(tile, in_voxels(config.synapse_context, reader.raw.voxel_size), strict=True)]
    if min(core) < 1:
        raise ConfigError(
            f"synapse_context {config.synapse_context} nm leaves {core} voxels of the tile {tile} at voxels of {reader.raw.voxel_size} nm: "
            "choose a smaller one, or a configname of larger tiles"
        )
    return core


def _options(folder: Path, config: OriginalConfig, setup: Path) -> dict[str, Any]:
    options: dict[str, Any] = {"mode": "predict", "grid": "compat", "volume": {"skip_constant": False}, "store": _store(config)}
    if (parameters := setup / "parameter.json").is_file():
        options["network"] = {"parameters": str(parameters)}
    if config.mask:
        options["volume"] |= {"mask": _place(folder, config.mask), "mask_variable": config.mask_ds}
    if config.extraction_parameters is not None:
        options |= {"mode": "fused", "extract": _extraction(folder, config)}
    return options


def _store(config: OriginalConfig) -> dict[str, Any]:
    """The arrays to keep; the names of the predict scripts, and of the template, where none is given."""
    kept: dict[str, Any] = {}
    for tensor, properties in config.out_properties.items():
        which = "vectors" if "vector" in tensor else "mask"
        named = {"dtype": properties.dtype, "scale": properties.scale}
        kept |= {f"{which}_{k}": v for k, v in named.items() if v is not None}
        if properties.dsname:
            kept[which] = f"volumes/{properties.dsname}"
    return kept


def _extraction(folder: Path, config: OriginalConfig) -> dict[str, Any]:
    """Extraction parameters of spec 2, a mapping or a JSON file."""
    given = config.extraction_parameters
    values = json.loads(Path(_place(folder, given)).read_text()) if isinstance(given, str) else dict(given or {})
    method = values.get("extract_type", "cc")
    threshold = values.get("cc_threshold") if method == "cc" else values.get("score_thr")
    wanted = {
        "method": method,
        "threshold": threshold,
        "score": values.get("score_type") if method == "cc" else None,
        "location": values.get("loc_type"),
        "min_score": values.get("score_thr") if method == "cc" else None,
        "nms_radius": values.get("nms_radius") if method == "nms" else None,
        "context": config.synapse_context,
    }
    return {k: v for k, v in wanted.items() if v is not None}


def ledger_url(folder: Path, config: OriginalConfig) -> str:
    """The database that the original would use: `<db_name>_<setup>_<iteration>[_<experiment>]` on `db_host`, a host or a JSON file."""
    host = str(config.db_host)
    if host.endswith(".json"):
        host = str(json.loads(Path(_place(folder, host)).read_text())["db_host"])
    url = host if "://" in host else f"mongodb://{host}"
    tail = "" if config.experiment == "cremi" else f"_{config.experiment}"
    name = f"{config.db_name}_{Path(config.setup).name}_{config.iteration}{tail}"
    address, _, query = url.partition("?")
    scheme, _, rest = address.partition("://")
    bare = f"{scheme}://{rest.split('/')[0]}/{name}"
    return f"{bare}?{query}" if query else bare


def _place(folder: Path, path: str, *, must_exist: bool = True) -> str:
    """A path of the JSON: a URL as it is, else beside the file; of the working directory where it exists only there."""
    if "://" in path:
        return path
    beside = folder / os.path.expanduser(path)
    return str(beside if beside.exists() or not must_exist or not Path(path).exists() else Path(path).absolute())
