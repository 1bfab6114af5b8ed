"""Partners as neuroglancer's precomputed annotations: lines from the pre- to the post-synaptic site, in nm.

    info                     metadata, written last
    by_id/                   every annotation by its id, sharded
    <column>/                annotations by segment or body of one end, one index per column, sharded
    spatial0/, spatial1/...  annotations by place, x_y_z per cell, coarse and few first (`levels`)

An annotation is both sites (float32, x y z) and its properties (float32: the score, and the cleft's where there is one); by its id, it is
followed by the neurons of its ends. The folder appears whole. Rows are grouped on disk, beside it, so any number of them will do.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.synful.formats.levels import Level, Points, cells, grids, levels, numbers
from tasks.synful.formats.shards import SHARD_ROWS, Sharding
from tasks.synful.formats.spill import Records, Spill
from tasks.synful.formats.stream import Partners, batches, column_names, count_rows
from tasks.synful.formats.whole import whole_folder
from tasks.synful.partners import COLUMNS, points

LIMIT: int = 1000
"""Annotations that a cell of the spatial index should hold at most."""

PROPERTIES = {"score": "score of the pair", "cleft_score": "score of the cleft between the sites"}
RELATIONS = ("segment_pre", "segment_post", "body_pre", "body_post")
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Contents:
    """What a folder of annotations holds: of which rows, and which of their columns."""

    partners: Partners
    properties: tuple[str, ...]
    relations: tuple[str, ...]
    rows: int
    lower: Points
    upper: Points

    @property
    def dtype(self) -> np.dtype[Any]:
        """A row as it is grouped: the bytes of an annotation, its id and neurons (0: none), the cell it is written to."""
        annotation = np.dtype((np.uint8, (4 * (6 + len(self.properties)),)))
        return np.dtype([("annotation", annotation), ("id", "<u8"), ("cell", "<i8"), ("related", "<u8", (len(self.relations),))])

    def records(self) -> Iterator[tuple[Records, tuple[Points, Points]]]:
        """Rows, and their pre and post sites, nm, z y x."""
        columns = [*COLUMNS, *(c for c in (*self.properties, *self.relations) if c not in COLUMNS)]
        for batch in batches(self.partners, columns):
            found = np.zeros(batch.num_rows, self.dtype)
            sites = points(batch, "pre"), points(batch, "post")
            values = [*(s[:, ::-1] for s in sites), *(_floats(batch[p])[:, None] for p in self.properties)]
            found["annotation"] = np.ascontiguousarray(np.hstack(values).astype("<f4")).view(np.uint8)
            found["id"] = batch["id"].to_numpy()
            for number, name in enumerate(self.relations):
                found["related"][:, number] = batch[name].cast(pa.uint64()).fill_null(0).to_numpy()
            yield found, (sites[0].astype(np.float64), sites[1].astype(np.float64))


def _floats(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    return np.asarray(column.cast(pa.float64()).fill_null(float("nan")).to_numpy(), np.float64)


def write_annotations(partners: Partners, target: str | Path, *, limit: int = LIMIT) -> int:
    """Write all rows.

    Parameters
    ----------
    partners : a table, or a data set `<output>/<name>.parquet`.
    limit : annotations that a cell of the spatial index should hold at most.

    Returns
    -------
    How many rows were written.

    Raises
    ------
    MissingError, InputError : no partners there.  StorageError : it cannot be written.
    """
    names = column_names(partners)
    properties, relations = (tuple(n for n in known if n in names) for known in (PROPERTIES, RELATIONS))
    contents = Contents(partners, properties, relations, count_rows(partners), *_bounds(partners))
    with whole_folder(target) as folder:
        spills = folder / "spills"
        spills.mkdir()
        sharding = Sharding.of(contents.rows)
        _write_sharded(contents, (folder / "by_id", spills), sharding, None, _by_id)
        for number, name in enumerate(relations):
            _write_sharded(contents, (folder / name, spills), sharding, number, _related)
        spatial = _write_spatial(contents, folder, limit)
        shutil.rmtree(spills)
        (folder / "info").write_text(json.dumps(_info(contents, sharding, spatial), indent=1))
    return contents.rows


def _bounds(partners: Partners) -> tuple[Points, Points]:
    """Least and greatest coordinates of all sites, the latter plus 1; nm, z y x."""
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for batch in batches(partners, COLUMNS):
        for end in ("pre", "post"):
            low, high = np.minimum(low, points(batch, end).min(axis=0)), np.maximum(high, points(batch, end).max(axis=0))
    return (low, high + 1) if np.isfinite(low).all() else (np.zeros(3), np.ones(3))


def _info(contents: Contents, sharding: Sharding, spatial: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "@type": "neuroglancer_annotations_v1",
        "dimensions": {a: [1e-9, "m"] for a in "xyz"},
        "lower_bound": contents.lower[::-1].tolist(),
        "upper_bound": contents.upper[::-1].tolist(),
        "annotation_type": "LINE",
        "properties": [{"id": p, "type": "float32", "description": PROPERTIES[p]} for p in contents.properties],
        "relationships": [{"id": r, "key": r, "sharding": sharding.to_json()} for r in contents.relations],
        "by_id": {"key": "by_id", "sharding": sharding.to_json()},
        "spatial": list(spatial),
    }


Encoder = Callable[[Records, npt.NDArray[np.uint64]], tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], Bytes]]
"""Records in the order of their keys, and the keys -> distinct keys, sizes of their values, and the values."""


def _write_sharded(contents: Contents, places: tuple[Path, Path], sharding: Sharding, by: int | None, encode: Encoder) -> None:
    """One index: by id, or by the neurons of relation number `by`."""
    folder, spills = places
    folder.mkdir()
    spill = Spill(spills / folder.name, sharding.shards, contents.dtype)

    def keys_of(records: Records) -> npt.NDArray[np.uint64]:
        return np.ascontiguousarray(records["id"] if by is None else records["related"][:, by]).astype(np.uint64)

    for records, _ in contents.records():
        mine = records if by is None else records[keys_of(records) != 0]
        spill.add(mine, sharding.shard_of(keys_of(mine)))
    for shard, records in spill.drained():
        sorted_records = records[sharding.order(keys_of(records))]
        sharding.write(folder, shard, *encode(sorted_records, keys_of(sorted_records)))


def _by_id(records: Records, keys: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], Bytes]:
    """Annotations with their neurons; of several with one id the first."""
    first = np.concatenate([[True], keys[1:] != keys[:-1]])
    records, keys = records[first], keys[first]
    width, relations = records["annotation"].shape[1], records["related"].shape[1]
    present = (records["related"] != 0).astype(np.uint32)
    sizes = width + 4 * relations + 8 * present.sum(axis=1, dtype=np.int64)
    data, at = np.zeros(int(sizes.sum()), np.uint8), np.cumsum(sizes) - sizes
    _put(data, at, records["annotation"])
    at = at + width
    for number in range(relations):
        _put(data, at, _bytes(present[:, number].astype("<u4")))
        there = present[:, number] != 0
        _put(data, at[there] + 4, _bytes(records["related"][there, number]))
        at = at + 4 + 8 * present[:, number].astype(np.int64)
    return keys, sizes, data


def _related(records: Records, keys: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], Bytes]:
    """Lists of annotations, one per key."""
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    counts = np.diff(np.append(first, len(keys)))
    width = records["annotation"].shape[1]
    sizes = 8 + counts * (width + 8)
    begins = np.cumsum(sizes) - sizes
    data = np.zeros(int(sizes.sum()), np.uint8)
    _put(data, begins, _bytes(counts.astype("<u8")))
    place = np.arange(len(keys)) - np.repeat(first, counts)
    _put(data, np.repeat(begins + 8, counts) + place * width, records["annotation"])
    _put(data, np.repeat(begins + 8 + counts * width, counts) + place * 8, _bytes(records["id"]))
    return keys[first], sizes, data


def _put(data: Bytes, at: npt.NDArray[np.int64], values: Bytes) -> None:
    """Rows of bytes at their places."""
    data[at[:, None] + np.arange(values.shape[1])] = values


def _bytes(values: npt.NDArray[Any]) -> Bytes:
    """(n,) numbers as (n, itemsize) bytes."""
    return np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1)


def _write_spatial(contents: Contents, folder: Path, limit: int) -> list[dict[str, Any]]:
    """The spatial index, and what the metadata say of it."""
    chosen = _levels(contents, limit)
    buckets = -(-contents.rows // SHARD_ROWS) or 1
    firsts = np.concatenate([[0], np.cumsum([np.prod(level.counts) for level in chosen])]).astype(np.int64)
    fullest = [0] * len(chosen)
    for number in range(len(chosen)):
        (folder / f"spatial{number}").mkdir()
    spill = Spill(folder / "spills" / "spatial", buckets, contents.dtype)
    for records, sites in contents.records():
        drawn = numbers(records["id"])
        for level, first in zip(chosen, firsts, strict=False):
            mine = (drawn >= level.above) & (drawn < level.upto)
            placed = _in_cells(records[mine], tuple(cells(level, s[mine], contents.lower) for s in sites), level)
            placed["cell"] += first
            spill.add(placed, placed["cell"] % buckets)
    for _, records in spill.drained():
        sorted_records = records[np.lexsort((numbers(records["id"]), records["cell"]))]
        for cell, some in _by_cell(sorted_records):
            number = int(np.searchsorted(firsts, cell, side="right")) - 1
            z, y, x = np.unravel_index(cell - firsts[number], chosen[number].counts)
            _, _, data = _related(some, np.zeros(len(some), np.uint64))
            (folder / f"spatial{number}" / f"{x}_{y}_{z}").write_bytes(data.tobytes())
            fullest[number] = max(fullest[number], len(some))
    return [
        {"key": f"spatial{n}", "grid_shape": list(level.counts[::-1]), "chunk_size": list(level.chunk[::-1]), "limit": max(1, fullest[n])}
        for n, level in enumerate(chosen)
    ]


def _levels(contents: Contents, limit: int) -> list[Level]:
    found = grids(contents.upper - contents.lower)
    counts = np.zeros(int(np.prod(found[-1].counts)), np.int64)
    for _, (pre, post) in contents.records():
        middle = np.ravel_multi_index(tuple(cells(found[-1], (pre + post) / 2, contents.lower).T), found[-1].counts)
        counts += np.bincount(middle, minlength=len(counts))
    return levels(found, counts.reshape(found[-1].counts), limit)


def _in_cells(records: Records, ends: Sequence[npt.NDArray[np.int64]], level: Level) -> Records:
    """Every record once for each cell that the box around its line meets."""
    low, high = np.minimum(*ends), np.maximum(*ends)
    sides = high - low + 1
    count = sides.prod(axis=1)
    row = np.repeat(np.arange(len(records)), count)
    place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    side = sides[row]
    offsets = np.stack([place // (side[:, 1] * side[:, 2]), place // side[:, 2] % side[:, 1], place % side[:, 2]], axis=1)
    found: Records = records[row]
    found["cell"] = np.ravel_multi_index(tuple((low[row] + offsets).T), level.counts)
    return found


def _by_cell(records: Records) -> Iterator[tuple[int, Records]]:
    """Records in the order of their cells -> those of each."""
    borders = np.flatnonzero(np.diff(records["cell"], prepend=-1)).tolist()
    for low, high in zip(borders, [*borders[1:], len(records)], strict=True):
        yield int(records["cell"][low]), records[low:high]
