"""Readers of traced skeletons: a folder of SWC files, or one table of nodes as CSV or Parquet."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from blockwise.errors import InputError, MissingError
from tasks.synful.partners import AXES, require

NEEDED = ("neuron_id", *AXES)


def read_skeletons(path: str | Path, *, nm_per_unit: float = 1.0, names: Mapping[str, str] | None = None) -> pa.Table:
    """Nodes of skeletons.

    Parameters
    ----------
    path : a folder of .swc files, each named by its neuron's id; or a .csv, .tsv or .parquet file.
    nm_per_unit : of the file's coordinates: 1000 for micrometres.
    names : for a file of another layout, our name -> its name, e.g. {"neuron_id": "skeleton_id"}.

    Returns
    -------
    Table with neuron_id (int64), z, y, x (float64 nm), type (string, "neuron" where the file has none), id (int64, the row number where
    it has none), and parent (int64, null at a root) and segment (uint64) where the file has them. `segments.segments_at` finds segments.

    Raises
    ------
    MissingError : nothing there, or a folder without .swc files.  InputError : a file that cannot be parsed.
    """
    path = Path(path)
    if not path.exists():
        raise MissingError(f"no skeletons at {path}")
    return _read_folder(path, nm_per_unit) if path.is_dir() else _read_table(path, nm_per_unit, names or {})


def _read_folder(folder: Path, nm_per_unit: float) -> pa.Table:
    files = sorted(folder.glob("*.swc"))
    if not files:
        raise MissingError(f"{folder} holds no .swc file")
    return pa.concat_tables(_read_swc(file, nm_per_unit) for file in files)


def _read_swc(file: Path, nm_per_unit: float) -> pa.Table:
    """id, type, x, y, z, radius, parent per line; the parent of a root is -1."""
    if not file.stem.isdigit():
        raise InputError(f"{file}: an SWC file is named by its neuron's id, e.g. 4012.swc")
    try:
        text = [line for line in file.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
        rows = np.loadtxt(text, ndmin=2) if text else np.zeros((0, 7))
        ids, x, y, z, parent = rows[:, [0, 2, 3, 4, 6]].T
    except (ValueError, IndexError) as error:
        raise InputError(f"{file} is no SWC file (id type x y z radius parent): {error}") from error
    columns = {"neuron_id": np.full(len(ids), int(file.stem))}
    columns |= {name: values * nm_per_unit for name, values in zip(AXES, (z, y, x), strict=True)}
    made = pa.table(columns).append_column("type", pa.array(["neuron"] * len(ids), pa.string()))
    made = made.append_column("id", pa.array(ids.astype(np.int64)))
    return made.append_column("parent", pa.array(parent.astype(np.int64), mask=parent < 0))


def _read_table(file: Path, nm_per_unit: float, names: Mapping[str, str]) -> pa.Table:
    read = _read_parquet(file) if file.suffix == ".parquet" else _read_text(file, names)
    ours = {theirs: own for own, theirs in names.items()}
    read = read.rename_columns([ours.get(name, name) for name in read.column_names])
    require(read, NEEDED, f"skeletons of {file}")
    columns = {"neuron_id": read["neuron_id"].cast(pa.int64())}
    for axis in AXES:
        columns[axis] = pa.array(read[axis].to_numpy().astype(np.float64) * nm_per_unit)
    columns["type"] = read["type"].cast(pa.string()) if "type" in read.column_names else pa.array(["neuron"] * read.num_rows, pa.string())
    columns["id"] = read["id"].cast(pa.int64()) if "id" in read.column_names else pa.array(np.arange(read.num_rows))
    for name, kind in (("parent", pa.int64()), ("segment", pa.uint64())):
        if name in read.column_names:
            columns[name] = read[name].cast(kind)
    return pa.table(columns)


def _read_parquet(file: Path) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(file)


def _read_text(file: Path, names: Mapping[str, str]) -> pa.Table:
    import pyarrow.csv as csv

    types = {names.get(n, n): pa.uint64() if n == "segment" else pa.int64() for n in ("neuron_id", "id", "parent", "segment")}
    types |= {names.get("type", "type"): pa.string()}
    try:
        return csv.read_csv(
            file,
            parse_options=csv.ParseOptions(delimiter="\t" if file.suffix == ".tsv" else ","),
            convert_options=csv.ConvertOptions(column_types=types),
        )
    except pa.ArrowInvalid as error:
        raise InputError(f"{file} is no table of skeleton nodes: {error}") from error
