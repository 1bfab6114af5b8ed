"""Partners as annotations of a CREMI HDF file, version 0.2 of its format, and the reading of CREMI's ground truth (spec 7.3).

    annotations                             attribute offset, nm, z y x; left out where it is 0
    annotations/ids                         uint64
    annotations/types                       presynaptic_site or postsynaptic_site, text
    annotations/locations                   float64, nm from the offset, z y x
    annotations/presynaptic_site/partners   uint64, (pre id, post id)
    annotations/comments/...                empty here

Written ids alternate, 2 i the pre and 2 i + 1 the post site of row i. Scores and the ids of partners have no place in CREMI's format;
they are kept beside the partners, where its own reader does not look, and found again here.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from blockwise.errors import InputError, MissingError
from blockwise.storage import Source, open_source
from tasks.synful.formats.stream import Box, Partners, batches, in_region
from tasks.synful.formats.whole import whole_file
from tasks.synful.partners import COLUMNS, points, table

if TYPE_CHECKING:
    import h5py

TYPES = ("presynaptic_site", "postsynaptic_site")
PAIRS = "annotations/presynaptic_site/partners"
CHUNK = 1 << 14
VOLUMES = {"raw": "volumes/raw", "neuron_ids": "volumes/labels/neuron_ids", "clefts": "volumes/labels/clefts"}
NO_CLEFT, INVALID_CLEFT = 0xFFFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFE
"""Labels of clefts that mean background, and that nobody looked."""


def write_cremi(partners: Partners, target: str | Path, *, offset: Sequence[float] = (0.0, 0.0, 0.0)) -> int:
    """Write all rows; an empty table makes a file of no annotations.

    Parameters
    ----------
    partners : a table, or a data set `<output>/<name>.parquet`.
    offset : nm, z y x, what locations are relative to.

    Returns
    -------
    How many rows were written.

    Raises
    ------
    MissingError, InputError : no partners there.  StorageError : it cannot be written.
    """
    import h5py

    rows = 0
    with whole_file(target) as place, h5py.File(place, "w") as file:
        _create(file, offset)
        for batch in batches(partners, COLUMNS):
            _append(file, batch, rows, offset)
            rows += batch.num_rows
    return rows


def _create(file: "h5py.File", offset: Sequence[float]) -> None:
    import h5py

    file.attrs["file_format"] = "0.2"
    text = h5py.string_dtype()
    for name, dtype, inner in (
        ("annotations/ids", np.uint64, ()),
        ("annotations/types", text, ()),
        ("annotations/locations", np.float64, (3,)),
        (PAIRS, np.uint64, (2,)),
        ("annotations/presynaptic_site/scores", np.float64, ()),
        ("annotations/presynaptic_site/partner_ids", np.uint64, ()),
        ("annotations/comments/target_ids", np.uint64, ()),
        ("annotations/comments/comments", text, ()),
    ):
        file.create_dataset(name, (0, *inner), dtype, maxshape=(None, *inner), chunks=(CHUNK, *inner), compression="gzip")
    if any(offset):
        file["annotations"].attrs["offset"] = [float(o) for o in offset]


def _append(file: "h5py.File", rows: pa.Table, first: int, offset: Sequence[float]) -> None:
    n = rows.num_rows
    sites = np.stack([points(rows, end) for end in ("pre", "post")], axis=1).reshape(-1, 3)
    ids = np.arange(2 * first, 2 * (first + n), dtype=np.uint64)
    _extend(file["annotations/ids"], ids)
    _extend(file["annotations/types"], np.tile(np.array(TYPES, object), n))
    _extend(file["annotations/locations"], sites - np.asarray(offset, np.float64))
    _extend(file[PAIRS], ids.reshape(-1, 2))
    _extend(file["annotations/presynaptic_site/scores"], rows["score"].to_numpy())
    _extend(file["annotations/presynaptic_site/partner_ids"], rows["id"].to_numpy())


def _extend(dataset: "h5py.Dataset", values: npt.NDArray[Any]) -> None:
    before = dataset.shape[0]
    dataset.resize(before + len(values), axis=0)
    dataset[before:] = values


def read_cremi(path: str | Path, *, segments: bool = False, region_nm: Box | None = None) -> pa.Table:
    """Annotated partners of a CREMI file, in its order.

    Ids are those of a table that was written here, else the rows' numbers; scores likewise, else 1. Columns annotation_pre and
    annotation_post (uint64) hold the ids of the annotations.

    Parameters
    ----------
    segments : look the sites up in `volumes/labels/neuron_ids`, as CREMI's own metric does: segment_pre, segment_post.
    region_nm : begin and end, nm, z y x, half-open; rows whose post site lies in it.

    Raises
    ------
    MissingError : no such file.  InputError : it holds no annotations, or partners of which one is not annotated.
    """
    import h5py

    if not Path(path).is_file():
        raise MissingError(f"no file {path}")
    try:
        with h5py.File(path, "r") as file:
            found = _table(file, path)
    except OSError as error:
        raise InputError(f"{path} cannot be read as an HDF5 file: {error}") from error
    found = in_region(found, region_nm)
    if not segments:
        return found
    from tasks.synful.segments import map_to_segments

    return map_to_segments(found, open_volume(path, "neuron_ids"), rounding="cremi")


def _table(file: "h5py.File", path: str | Path) -> pa.Table:
    missing = [n for n in ("annotations/ids", "annotations/locations", PAIRS) if n not in file]
    if missing:
        raise InputError(f"{path} holds no {', '.join(missing)}: it has no annotated partners in CREMI's format")
    group = file["annotations"]
    offset = np.asarray(group.attrs.get("offset", (0, 0, 0)), np.float64)
    ids, pairs = group["ids"][:].astype(np.uint64), file[PAIRS][:].astype(np.uint64).reshape(-1, 2)
    locations = group["locations"][:].astype(np.float64).reshape(-1, 3) + offset
    pre, post = (np.rint(locations[_rows_of(ids, pairs[:, side], path)]).astype(np.int64) for side in (0, 1))
    n, kept = len(pairs), group["presynaptic_site"]
    score = kept["scores"][:] if "scores" in kept else np.ones(n)
    partner_ids = kept["partner_ids"][:] if "partner_ids" in kept else np.arange(n)
    more = {f"annotation_{end}": pa.array(np.ascontiguousarray(pairs[:, side])) for side, end in enumerate(("pre", "post"))}
    return table(pre, post, score, partner_ids, more=more)


def _rows_of(ids: npt.NDArray[np.uint64], wanted: npt.NDArray[np.uint64], path: str | Path) -> npt.NDArray[np.int64]:
    order = np.argsort(ids, kind="stable")
    at = np.minimum(np.searchsorted(ids, wanted, sorter=order), len(ids) - 1)
    if len(wanted) and not (len(ids) and (ids[order[at]] == wanted).all()):
        lost = wanted if not len(ids) else wanted[ids[order[at]] != wanted]
        raise InputError(f"{path}: {len(lost)} partners name annotations that are not there, the first {lost[0]}")
    return np.asarray(order[at] if len(ids) else at, np.int64)


def open_volume(path: str | Path, which: str) -> Source:
    """A volume of a CREMI file: "raw", "neuron_ids" or "clefts" (labels `NO_CLEFT` and `INVALID_CLEFT` are none).

    Raises
    ------
    MissingError, InputError : no such file, or it does not hold the volume.
    """
    return open_source(path, VOLUMES[which])
