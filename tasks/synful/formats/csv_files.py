"""Partners as comma- or tab-separated text, gzipped where the name ends in .gz: written as a stream, read with whatever column names."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv

from blockwise.errors import ConfigError, InputError, MissingError
from tasks.synful.columns import with_columns
from tasks.synful.formats.stream import (
    IDENTITIES,
    KNOWN,
    SIGNED,
    Box,
    Partners,
    as_partners,
    batches,
    column_names,
    dataset,
    in_region,
    voxels,
)
from tasks.synful.formats.whole import whole_file
from tasks.synful.partners import POST, PRE, points

UNITS = ("nm", "voxel")
ORIGIN = (0.0, 0.0, 0.0)


def write_csv(
    partners: Partners,
    target: str | Path,
    *,
    units: str = "nm",
    voxel_size: Sequence[float] | None = None,
    offset: Sequence[float] = ORIGIN,
    names: Mapping[str, str] | None = None,
) -> int:
    """Write all rows and columns, a header first; nulls are empty fields.

    Parameters
    ----------
    partners : a table, or a data set `<output>/<name>.parquet`.
    target : tab-separated where it ends in .tsv (or .tsv.gz), comma-separated elsewhere.
    units : of the sites. "voxel": indices of the voxels that hold them, from voxel 0 at `offset`.
    voxel_size, offset : nm, z y x.
    names : our column -> the one in the file.

    Returns
    -------
    How many rows were written.

    Raises
    ------
    ConfigError : unknown units, or voxels without a voxel size.  StorageError : it cannot be written.
    """
    size = _size(units, voxel_size)
    head, rows = [(names or {}).get(n, n) for n in column_names(partners)], 0
    schema = pa.schema([pa.field(n, f.type) for n, f in zip(head, dataset(partners).schema, strict=True)])
    options = csv.WriteOptions(delimiter=_delimiter(target), quoting_style="needed")
    with whole_file(target) as file, output_stream(file, target) as sink, csv.CSVWriter(sink, schema, write_options=options) as writer:
        for batch in batches(partners):
            found = batch if units == "nm" else in_voxels(batch, size, offset)
            writer.write_table(found.rename_columns(head))
            rows += batch.num_rows
    return rows


def read_csv(
    path: str | Path,
    *,
    names: Mapping[str, str] | None = None,
    units: str = "nm",
    voxel_size: Sequence[float] | None = None,
    offset: Sequence[float] = ORIGIN,
    region_nm: Box | None = None,
) -> pa.Table:
    """Partners of a CSV or TSV file with a header.

    Parameters
    ----------
    names : our column -> theirs, where they differ, e.g. {"post_x": "x", "score": "confidence"}.
    units, voxel_size, offset : as `write_csv`.
    region_nm : begin and end, nm, z y x, half-open; rows whose post site lies in it.

    Raises
    ------
    MissingError : no such file.  InputError : a column is missing, or holds no numbers.  ConfigError : as `write_csv`.
    """
    size = _size(units, voxel_size)
    rows = as_partners(read_text(path, names), str(path), names=names, voxel_size=size, offset=offset if units == "voxel" else ORIGIN)
    return in_region(rows, region_nm)


def read_text(path: str | Path, names: Mapping[str, str] | None = None, types: Mapping[str, Any] | None = None) -> pa.Table:
    """The columns of a CSV or TSV file as they are called there; those that hold ids as integers.

    Raises
    ------
    MissingError : no such file.  InputError : it is not a table.
    """
    ours = {n: n for n in (*IDENTITIES, *SIGNED)} | dict(KNOWN) | {theirs: n for n, theirs in (names or {}).items()}
    wanted = {theirs: pa.uint64() if n in IDENTITIES else pa.int64() for theirs, n in ours.items() if n in (*IDENTITIES, *SIGNED)}
    wanted |= types or {}
    try:
        with pa.input_stream(str(path)) as stream:
            options = csv.ConvertOptions(column_types=wanted)
            return csv.read_csv(stream, parse_options=csv.ParseOptions(delimiter=_delimiter(path)), convert_options=options)
    except FileNotFoundError as error:
        raise MissingError(f"no file {path}") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} cannot be read as a table of text: {error}") from None


def header(path: str | Path) -> list[str]:
    """The names in the first line of a file."""
    import csv as text

    with pa.input_stream(str(path)) as stream:
        line = stream.read(1 << 16).decode(errors="replace").partition("\n")[0]
    return next(text.reader([line.rstrip("\r")], delimiter=_delimiter(path)), [])


def in_voxels(partners: pa.Table, voxel_size: Sequence[float], offset: Sequence[float]) -> pa.Table:
    """The table with the voxels that hold the sites in place of nm."""
    found: dict[str, pa.Array] = {}
    for end, columns in (("pre", PRE), ("post", POST)):
        found |= {
            n: pa.array(np.ascontiguousarray(v)) for n, v in zip(columns, voxels(points(partners, end), voxel_size, offset).T, strict=True)
        }
    return with_columns(partners, found)


def _size(units: str, voxel_size: Sequence[float] | None) -> Sequence[float]:
    if units not in UNITS:
        raise ConfigError(f"units = {units!r}: sites are in 'nm' or 'voxel'")
    if units == "nm":
        return (1.0, 1.0, 1.0)
    if voxel_size is None:
        raise ConfigError("units = 'voxel' needs voxel_size, nm, z y x")
    return voxel_size


def _delimiter(path: str | Path) -> str:
    return "\t" if Path(path).name.removesuffix(".gz").endswith((".tsv", ".tab")) else ","


@contextmanager
def output_stream(file: Path, target: str | Path) -> Iterator[Any]:
    """Where text goes; gzipped as the name of the target says."""
    with pa.OSFile(str(file), "wb") as sink:
        if not str(target).endswith(".gz"):
            yield sink
            return
        with pa.CompressedOutputStream(sink, "gzip") as compressed:
            yield compressed
