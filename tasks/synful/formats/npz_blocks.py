"""Partners in the original's layout, a file per block: `<folder>/<z>/<y>/<x>.npz`, named by the nm at which the block begins (spec 7.1).

    ids        uint64 (n,)
    positions  int32 (n, 2, 3), nm, z y x; [:, 0] pre, [:, 1] post
    scores     float32 (n,)

`synfulattrs.json` beside them holds the blocks' `chunk_size`, nm. A block holds the partners whose post site lies in it.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from blockwise.errors import InputError, MissingError
from tasks.synful.formats.stream import Box, Partners, batches, in_region
from tasks.synful.formats.whole import whole_folder
from tasks.synful.partners import COLUMNS, points, table

ATTRIBUTES = "synfulattrs.json"
LAYER_ROWS: int = 1 << 21
"""Rows whose blocks are written together."""

Ints = npt.NDArray[np.int64]


def write_npz(partners: Partners, target: str | Path, chunk_size: Sequence[float], *, region_nm: Box, layer_rows: int = LAYER_ROWS) -> int:
    """Write all rows, and a file without rows for each block of the region that has none.

    Parameters
    ----------
    partners : a table, or a data set `<output>/<name>.parquet`.
    chunk_size : nm, z y x, whole numbers.
    region_nm : begin and end of the volume, nm, z y x: blocks are counted from its begin, and those at its end may be cut.
    layer_rows : how many rows to hold in memory, at least those of one layer of blocks along z.

    Returns
    -------
    How many rows were written.

    Raises
    ------
    InputError : blocks of fractions of nm, or a post site outside the region.  StorageError : it cannot be written.
    """
    check_whole_nm(chunk_size, region_nm[0])
    size, begin = np.array(chunk_size, np.int64), np.array(region_nm[0], np.int64)
    counts = -(-(np.ceil(region_nm[1]).astype(np.int64) - begin) // size)
    rows = 0
    with whole_folder(target) as folder:
        (folder / ATTRIBUTES).write_text(json.dumps({"chunk_size": size.tolist()}))
        for low, high in _layers(_rows_per_layer(partners, begin[0], size[0], counts[0]), layer_rows):
            box = ((begin[0] + low * size[0], -np.inf, -np.inf), (begin[0] + high * size[0], np.inf, np.inf))
            found = list(batches(partners, COLUMNS, region_nm=box))
            layer = pa.concat_tables(found) if found else table([], [], [], [])
            rows += layer.num_rows
            _write_layer(folder, layer, (begin, size), (np.array([low, 0, 0]), np.array([high, *counts[1:]])))
    return rows


def check_whole_nm(chunk_size: Sequence[float], begin: Sequence[float]) -> None:
    """Refuse blocks that files named by whole nm cannot name.

    Raises
    ------
    InputError
    """
    if any(v != int(v) for v in (*chunk_size, *begin)):
        raise InputError(f"npz per block names files by whole nm: blocks of {list(chunk_size)} nm from {list(begin)} have fractions")


def _rows_per_layer(partners: Partners, begin: int, size: int, count: int) -> Ints:
    found = np.zeros(count, np.int64)
    for batch in batches(partners, ["post_z"]):
        layer = (batch["post_z"].to_numpy() - begin) // size
        if len(layer) and (layer.min() < 0 or layer.max() >= count):
            raise InputError(f"partners lie at z = {batch['post_z'].to_numpy().min()} nm and on, outside the volume that begins at {begin}")
        found += np.bincount(layer, minlength=count)
    return found


def _layers(counts: Ints, most: int) -> Iterator[tuple[int, int]]:
    """Runs of layers, half-open, that hold at most `most` rows together."""
    low = 0
    for high in range(1, len(counts) + 1):
        if high == len(counts) or counts[low : high + 1].sum() > most:
            yield low, high
            low = high


def _write_layer(folder: Path, rows: pa.Table, grid: tuple[Ints, Ints], box: tuple[Ints, Ints]) -> None:
    """The blocks from `box[0]` to `box[1]`, half-open, of a grid that begins at `grid[0]` nm in steps of `grid[1]` nm."""
    (begin, size), (low, high) = grid, box
    post = points(rows, "post")
    block = (post - begin) // size
    if len(block) and ((block < low) | (block >= high)).any():
        lost = post[((block < low) | (block >= high)).any(axis=1)][0]
        raise InputError(f"a post site at {lost.tolist()} nm lies outside the volume that the npz files divide")
    number = np.ravel_multi_index(tuple((block - low).T), tuple(high - low))
    order = np.argsort(number, kind="stable")
    borders = np.searchsorted(number[order], np.arange(int(np.prod(high - low)) + 1))
    values = {
        "ids": rows["id"].to_numpy(),
        "positions": np.stack([points(rows, "pre"), post], axis=1).astype(np.int32),
        "scores": rows["score"].to_numpy().astype(np.float32),
    }
    for at, place in enumerate(product(*(range(a, b) for a, b in zip(low, high, strict=True)))):
        z, y, x = (begin + np.array(place) * size).tolist()
        (folder / str(z) / str(y)).mkdir(parents=True, exist_ok=True)
        mine = order[borders[at] : borders[at + 1]]
        np.savez_compressed(folder / str(z) / str(y) / f"{x}.npz", **{n: v[mine] for n, v in values.items()})


def read_npz(folder: str | Path, *, region_nm: Box | None = None, score_above: float = -1.0) -> pa.Table:
    """Partners of such a folder, those whose post site lies in a box and whose score is higher than `score_above`.

    Files of blocks that do not meet the box are not opened; blocks without a file count as empty.

    Raises
    ------
    MissingError : no such folder.  InputError : it holds no such files, or their size is not known and a box is asked for.
    """
    place = Path(folder)
    if not place.is_dir():
        raise MissingError(f"no folder {place}")
    found = [_read_file(f) for f in sorted(_files(place, region_nm))]
    rows = pa.concat_tables([table([], [], [], []), *found])
    return in_region(rows.filter(pa.array(rows["score"].to_numpy() > score_above)), region_nm)


def _files(folder: Path, region_nm: Box | None) -> Iterator[Path]:
    files = [(f, np.array([int(p) for p in (*f.parts[-3:-1], f.stem)])) for f in folder.glob("*/*/*.npz") if _is_block(f)]
    if not files:
        raise InputError(f"{folder} holds no files <z>/<y>/<x>.npz")
    if region_nm is None:
        yield from (f for f, _ in files)
        return
    size = np.array(chunk_size_of(folder, [b for _, b in files]))
    low, high = (np.asarray(v, np.float64) for v in region_nm)
    yield from (f for f, begin in files if ((begin < high) & (begin + size > low)).all())


def _is_block(file: Path) -> bool:
    return all(p.removeprefix("-").isdigit() for p in (*file.parts[-3:-1], file.stem))


def chunk_size_of(folder: Path, begins: Sequence[Ints]) -> list[int]:
    """The blocks' size, nm: as the attributes say, else the least distance between two blocks along each axis.

    Raises
    ------
    InputError : neither tells.
    """
    if (folder / ATTRIBUTES).is_file():
        told: dict[str, Any] = json.loads((folder / ATTRIBUTES).read_text())
        return [int(v) for v in told["chunk_size"]]
    steps = [np.diff(np.unique(np.array(begins)[:, axis])) for axis in range(3)]
    if not all(len(s) for s in steps):
        raise InputError(
            f"{folder} has no {ATTRIBUTES} and too few files to tell their size: write {{'chunk_size': [z, y, x]}} into it, nm"
        )
    return [int(s.min()) for s in steps]


def _read_file(file: Path) -> pa.Table:
    try:
        with np.load(file, allow_pickle=False) as found:
            positions = found["positions"].reshape(-1, 2, 3)
            return table(positions[:, 0], positions[:, 1], found["scores"], found["ids"])
    except (KeyError, ValueError, OSError) as error:
        raise InputError(f"{file} is no file of partners: {error}") from error
