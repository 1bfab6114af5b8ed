"""Partners as a CSV that CAVE takes in as a table of synapses, and its reading.

    id                                                      unique, below 2^63
    valid                                                   t
    pre_pt_position, post_pt_position, ctr_pt_position      "[x, y, z]", voxels of the resolution given
    size                                                    the score, rounded

`ctr_pt` is the middle between both sites. CAVE looks up supervoxels and roots of `pre_pt` and `post_pt` itself.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from blockwise.errors import InputError
from tasks.synful.formats.csv_files import output_stream, read_text
from tasks.synful.formats.stream import Box, Partners, as_partners, batches, in_region, voxels
from tasks.synful.formats.whole import whole_file
from tasks.synful.partners import AXES, COLUMNS, points

POINTS = ("pre_pt_position", "post_pt_position", "ctr_pt_position")
SCHEMA = pa.schema([("id", pa.uint64()), ("valid", pa.string()), *((p, pa.string()) for p in POINTS), ("size", pa.int64())])
PATTERN = r"^\s*[\[(]\s*(?P<x>-?\d+)[,\s]+(?P<y>-?\d+)[,\s]+(?P<z>-?\d+)\s*[\])]\s*$"


def write_cave(partners: Partners, target: str | Path, resolution: Sequence[float]) -> int:
    """Write all rows.

    Parameters
    ----------
    partners : a table, or a data set `<output>/<name>.parquet`.
    target : gzipped where it ends in .gz.
    resolution : nm, z y x: the table's voxel resolution in CAVE, whose own order is x y z.

    Returns
    -------
    How many rows were written.

    Raises
    ------
    InputError : an id of 2^63 or above, which CAVE's database cannot hold.  StorageError : it cannot be written.
    """
    rows = 0
    with whole_file(target) as file, output_stream(file, target) as sink, csv.CSVWriter(sink, SCHEMA) as writer:
        for batch in batches(partners, COLUMNS):
            writer.write_table(_as_cave(batch, resolution))
            rows += batch.num_rows
    return rows


def _as_cave(rows: pa.Table, resolution: Sequence[float]) -> pa.Table:
    ids = rows["id"].to_numpy()
    if len(ids) and ids.max() >= 2**63:
        raise InputError(f"id {ids.max()}: CAVE's database holds ids below 2^63 = {2**63}")
    pre, post = (points(rows, end) for end in ("pre", "post"))
    sites = [_bound(voxels(nm, resolution, (0, 0, 0))) for nm in (pre, post, (pre + post) // 2)]
    size = np.rint(rows["score"].to_numpy()).astype(np.int64)
    return pa.table([pa.array(ids), pa.repeat("t", len(ids)), *sites, pa.array(size)], schema=SCHEMA)


def _bound(sites: npt.NDArray[np.int64]) -> pa.Array:
    """Voxels as texts "[x, y, z]"."""
    x, y, z = (pa.array(np.ascontiguousarray(c)).cast(pa.string()) for c in sites.T[::-1])
    inner = pc.binary_join_element_wise(x, y, z, ", ")
    return pc.binary_join_element_wise("[", inner, "]", "")


def read_cave(path: str | Path, resolution: Sequence[float], *, region_nm: Box | None = None) -> pa.Table:
    """Partners of such a CSV; rows that are not valid are left out, `size` is the score.

    Parameters
    ----------
    resolution : nm, z y x, as the file was written with.
    region_nm : begin and end, nm, z y x, half-open; rows whose post site lies in it.

    Raises
    ------
    MissingError : no such file.  InputError : a column is missing, or a position is not "[x, y, z]".
    """
    rows = read_text(path, types={p: pa.string() for p in POINTS} | {"valid": pa.string()})
    missing = [p for p in POINTS[:2] if p not in rows.schema.names]
    if missing:
        raise InputError(f"{path} has no column {', '.join(missing)}; its columns are {', '.join(rows.schema.names)}")
    if "valid" in rows.schema.names:
        rows = rows.filter(pc.is_in(pc.utf8_lower(rows["valid"]), pa.array(["t", "true", "1"])))
    found = {f"{end}_{a}": v for end in ("pre", "post") for a, v in zip(AXES, _parsed(rows, f"{end}_pt_position", path), strict=True)}
    kept = {n: rows[n] for n in rows.schema.names if n not in (*POINTS, "valid", "size")}
    score = {"score": rows["size"]} if "size" in rows.schema.names else {}
    return in_region(as_partners(pa.table(kept | found | score), str(path), voxel_size=resolution), region_nm)


def _parsed(rows: pa.Table, name: str, path: str | Path) -> list[pa.ChunkedArray]:
    """Voxels along z, y and x."""
    parts = pc.extract_regex(rows[name], PATTERN)
    if parts.null_count:
        wrong = rows[name].filter(pc.is_null(parts))[0]
        raise InputError(f"{path}: {name} {wrong.as_py()!r} is not of the form '[x, y, z]' in whole voxels")
    return [pc.struct_field(parts, a).cast(pa.int64()) for a in AXES]
