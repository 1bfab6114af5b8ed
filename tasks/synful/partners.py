"""A table of synaptic partners: one row per pair of a pre- and a post-synaptic site, as Arrow columns.

    id                      uint64   Cantor number of the post site's voxel in the data set, see `cantor_ids`
    pre_z, pre_y, pre_x     int64    nm, world coordinates (the data set's offset included)
    post_z, post_y, post_x  int64    nm, likewise
    score                   float64  what `detect` was asked for: sum, mean, max or count over the component, or the maximum

Tables that were mapped carry further columns: segment_pre, segment_post, body_pre, body_post (uint64), skeleton_pre, skeleton_post
(int64), and others of their makers. Rows are ordered by the position of the post site, z first, so that a table's bytes follow from its
content.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from blockwise.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

AXES = ("z", "y", "x")
PRE = ("pre_z", "pre_y", "pre_x")
POST = ("post_z", "post_y", "post_x")
COLUMNS = ("id", *PRE, *POST, "score")


def schema() -> "pa.Schema":
    """Columns and types of a table of partners, none of them null."""
    import pyarrow as pa

    types = {"id": pa.uint64(), "score": pa.float64()}
    return pa.schema([pa.field(name, types.get(name, pa.int64()), nullable=False) for name in COLUMNS])


def table(
    pre: npt.ArrayLike, post: npt.ArrayLike, score: npt.ArrayLike, ids: npt.ArrayLike, *, more: Mapping[str, Any] | None = None
) -> "pa.Table":
    """A table of partners of columns.

    Parameters
    ----------
    pre, post : (n, 3) nm, z y x.  score : (n,).  ids : (n,) uint64.
    more : further columns by name.
    """
    import pyarrow as pa

    sites = np.asarray(pre, np.int64).reshape(-1, 3), np.asarray(post, np.int64).reshape(-1, 3)
    columns = [np.asarray(ids, np.uint64), *sites[0].T, *sites[1].T, np.asarray(score, np.float64)]
    made = pa.table([pa.array(np.ascontiguousarray(c)) for c in columns], schema=schema())
    for name, values in (more or {}).items():
        made = made.append_column(name, values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values))
    return made


def points(partners: "pa.Table", end: str) -> npt.NDArray[np.int64]:
    """Sites of one end, (n, 3) int64 nm, z y x; `end` is "pre" or "post"."""
    return np.stack([partners[f"{end}_{a}"].to_numpy().astype(np.int64) for a in AXES], axis=1)


def cantor_ids(voxels: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    """Cantor numbers of voxels: C(z) = z, C(z, y) = T2(z + y) + C(z), C(z, y, x) = T3(z + y + x) + C(z, y), in exact integers (spec 7.2).

    T2(s) = s (s + 1) / 2 and T3(s) = s (s + 1) (s + 2) / 6 count what lies before the diagonal of sum s.

    Parameters
    ----------
    voxels : (n, 3) integers >= 0, z y x, their sum below 4,800,000 so that the number fits 64 bits.

    Raises
    ------
    InputError : a negative coordinate, or a sum too large.
    """
    v = np.asarray(voxels, np.int64).reshape(-1, 3)
    if v.size and v.min() < 0:
        raise InputError(
            f"voxel {v[v.min(axis=1).argmin()].tolist()}: Cantor numbers need coordinates >= 0; give the data set an offset >= 0"
        )
    if v.size and v.sum(axis=1).max() >= 4_800_000:
        raise InputError(
            f"voxel {v[v.sum(axis=1).argmax()].tolist()}: coordinates that sum to 4,800,000 or more have no 64-bit Cantor number"
        )
    z, pair, triple = (v[:, : i + 1].sum(axis=1).astype(np.uint64) for i in range(3))
    one, two, three = (np.uint64(n) for n in (1, 2, 3))
    line = pair * (pair + one) // two
    pairs = triple * (triple + one) // two  # halved before the last product, which then fits 64 bits; its factor of 3 is exact
    return np.asarray(_third(pairs, triple + two, three) + line + z, np.uint64)


def _third(a: npt.NDArray[np.uint64], b: npt.NDArray[np.uint64], three: np.uint64) -> npt.NDArray[np.uint64]:
    """a * b / 3, the product never larger than the result: one of the factors is a multiple of 3."""
    divisible = a % three == 0
    return np.where(divisible, a // three * b, a * (b // three))


def ordered(partners: "pa.Table") -> "pa.Table":
    """Rows by post site, then pre site, then score: the order every part and data set is written in."""
    return partners.sort_by([(name, "ascending") for name in (*POST, *PRE, "score") if name in partners.schema.names])


def require(partners: "pa.Table", columns: Sequence[str], what: str) -> None:
    """Refuse a table that lacks columns.

    Raises
    ------
    InputError : names what is missing and what is there.
    """
    missing = [c for c in columns if c not in partners.schema.names]
    if missing:
        raise InputError(f"{what} needs the columns {', '.join(missing)}; the table has {', '.join(partners.schema.names)}")
