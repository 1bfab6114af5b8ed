"""From supervoxels to bodies: the table that says which supervoxels an agglomeration joined."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from blockwise.errors import InputError, MissingError
from tasks.synful.columns import nullable, values_and_valid, with_columns
from tasks.synful.partners import require

Bodies: TypeAlias = pa.Table | Mapping[int, int] | npt.NDArray[Any] | str | Path
Unlisted = Literal["null", "same"]
Ids = npt.NDArray[np.uint64]


def map_to_bodies(partners: pa.Table, bodies: Bodies, *, unlisted: Unlisted = "null") -> pa.Table:
    """Add `body_pre` and `body_post` (uint64) to partners that have segments.

    Parameters
    ----------
    bodies : supervoxel and body, two integer columns: a table (its first two columns, or those named supervoxel and body), a mapping,
        an (n, 2) array, or the path of a .parquet, .csv, .tsv, .npy (n, 2) or .feather file.
    unlisted : what a supervoxel that the table lacks gets: "null", or "same", its own id (tables that list merged ones only).

    Raises
    ------
    InputError : no segments in the partners, or a table that gives one supervoxel two bodies.  MissingError : no such file.
    """
    require(partners, ("segment_pre", "segment_post"), "map_to_bodies")
    supervoxels, owners = sorted_bodies(bodies)
    columns = {}
    for end in ("pre", "post"):
        segments, valid = values_and_valid(partners[f"segment_{end}"])
        found, listed = _joined(segments.astype(np.uint64), supervoxels, owners)
        if unlisted == "same":
            found, listed = np.where(listed, found, segments.astype(np.uint64)), np.ones_like(listed)
        columns[f"body_{end}"] = nullable(found, valid & listed)
    return with_columns(partners, columns)


def sorted_bodies(bodies: Bodies) -> tuple[Ids, Ids]:
    """Supervoxels, ascending, each once, and their bodies. Errors as `map_to_bodies`."""
    supervoxels, owners = _pairs(bodies)
    if not (supervoxels[1:] > supervoxels[:-1]).all():
        order = np.argsort(supervoxels, kind="stable")
        supervoxels, owners = supervoxels[order], owners[order]
        again = supervoxels[1:] == supervoxels[:-1]
        if (again & (owners[1:] != owners[:-1])).any():
            at = np.flatnonzero(again & (owners[1:] != owners[:-1]))[0]
            raise InputError(f"supervoxel {supervoxels[at]} belongs to two bodies, {owners[at]} and {owners[at + 1]}: list it once")
        first = np.r_[True, ~again]
        supervoxels, owners = supervoxels[first], owners[first]
    return supervoxels, owners


def _joined(segments: Ids, supervoxels: Ids, owners: Ids) -> tuple[Ids, npt.NDArray[np.bool_]]:
    if not len(supervoxels):
        return np.zeros(len(segments), np.uint64), np.zeros(len(segments), np.bool_)
    at = np.minimum(np.searchsorted(supervoxels, segments), len(supervoxels) - 1)
    return owners[at], supervoxels[at] == segments


def _pairs(bodies: Bodies) -> tuple[Ids, Ids]:
    if isinstance(bodies, str | Path):
        bodies = _read(Path(bodies))
    if isinstance(bodies, Mapping):
        return tuple(np.fromiter(v, np.uint64, len(bodies)) for v in (bodies.keys(), bodies.values()))  # type: ignore[return-value]
    if isinstance(bodies, pa.Table):
        named = {"supervoxel", "body"} <= set(bodies.column_names)
        names = ("supervoxel", "body") if named else bodies.column_names[:2]
        if len(names) < 2 or any(not pa.types.is_integer(bodies.schema.field(n).type) or bodies[n].null_count for n in names):
            raise InputError(f"a table of bodies needs two integer columns without nulls, supervoxel and body; it has {bodies.schema}")
        return tuple(bodies[n].to_numpy().astype(np.uint64, copy=False) for n in names)
    if bodies.ndim != 2 or bodies.shape[1] != 2 or bodies.dtype.kind not in "iu":
        raise InputError(f"bodies of shape {bodies.shape} and dtype {bodies.dtype}: (n, 2) integers are needed, supervoxel and body")
    return bodies[:, 0].astype(np.uint64), bodies[:, 1].astype(np.uint64)


def _read(path: Path) -> pa.Table | npt.NDArray[Any]:
    if not path.exists():
        raise MissingError(f"no table of bodies at {path}")
    match path.suffix.lower():
        case ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        case ".parquet":
            import pyarrow.parquet as pq

            return pq.read_table(path)
        case ".feather" | ".arrow":
            import pyarrow.feather as feather

            return feather.read_table(path)
        case ".csv" | ".tsv" as suffix:
            return _read_text(path, "\t" if suffix == ".tsv" else ",")
        case suffix:
            raise InputError(f"{path}: a table of bodies is .parquet, .csv, .tsv, .npy or .feather, not {suffix!r}")


def _read_text(path: Path, delimiter: str) -> pa.Table:
    """The two columns as uint64, for guessed types make floats of ids above 2^63; the first line may name them."""
    import pyarrow.csv as csv

    with path.open() as handle:
        first = [field.strip().strip('"') for field in handle.readline().split(delimiter)]
    numbers = all(field.isdigit() for field in first)
    names = [str(i) for i in range(len(first))] if numbers else first
    wanted = ["supervoxel", "body"] if {"supervoxel", "body"} <= set(names) else names[:2]
    try:
        return csv.read_csv(
            path,
            read_options=csv.ReadOptions(column_names=names, skip_rows=0 if numbers else 1),
            parse_options=csv.ParseOptions(delimiter=delimiter),
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(wanted, pa.uint64()), include_columns=wanted),
        )
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} is no table of supervoxel and body ids: {error}") from error
