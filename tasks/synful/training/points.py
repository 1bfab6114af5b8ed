"""Annotated partners of a cube: from the annotations of a CREMI file (spec 5.1, 7.3), or from a table with one row per pair."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blockwise.errors import InputError, MissingError
from tasks.synful.partners import POST, PRE

Points = npt.NDArray[np.float64]
DELIMITERS = {".tsv": "\t", ".tab": "\t"}


@dataclass(frozen=True, slots=True)
class Pairs:
    """Both ends of every annotated pair, (n, 3) float64 nm, z y x; NaN in `pre` where only the post site is known."""

    pre: Points
    post: Points

    def __len__(self) -> int:
        return len(self.post)

    def within(self, begin: Sequence[float], end: Sequence[float]) -> "Pairs":
        """Pairs whose post site lies in a half-open box; a pre site outside it counts as not known."""
        kept = inside(self.post, begin, end)
        return Pairs(np.where(inside(self.pre, begin, end)[kept, None], self.pre[kept], np.nan), self.post[kept])


def inside(points: Points, begin: Sequence[float], end: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Whether points lie in a half-open box, (n,)."""
    return np.asarray(((points >= np.asarray(begin)) & (points < np.asarray(end))).all(axis=1))


def no_pairs() -> Pairs:
    """Of a cube without points."""
    return Pairs(np.zeros((0, 3)), np.zeros((0, 3)))


def read_cremi(path: str | Path) -> Pairs | None:
    """Partners of `annotations` in a CREMI HDF file, its offset added; None where it has none.

    Raises
    ------
    InputError : a partner that is not among the ids, or has the other end's type.
    """
    import h5py

    with h5py.File(path, "r") as file:
        if "annotations/presynaptic_site/partners" not in file:
            return None
        group = file["annotations"]
        offset = np.asarray(group.attrs.get("offset", (0, 0, 0)), np.float64)
        ids, partners = group["ids"][:].astype(np.int64), group["presynaptic_site/partners"][:].astype(np.int64)
        locations = group["locations"][:].astype(np.float64) + offset
        types = np.array([t.decode() if isinstance(t, bytes) else str(t) for t in group["types"][:]])
    order = np.argsort(ids)
    found = np.searchsorted(ids[order], partners).clip(max=max(len(ids) - 1, 0))
    rows = order[found] if len(ids) else np.zeros_like(partners)
    if len(partners) and (len(ids) == 0 or (ids[rows] != partners).any()):
        raise InputError(f"{path}: annotations name partners that are not among their {len(ids)} ids")
    for column, wanted in ((0, "presynaptic_site"), (1, "postsynaptic_site")):
        if wrong := np.flatnonzero(types[rows[:, column]] != wanted).tolist():
            raise InputError(f"{path}: annotation {partners[wrong[0], column]} is in column {column} of the partners and no {wanted}")
    return Pairs(locations[rows[:, 0]], locations[rows[:, 1]])


def read_table(path: str | Path, columns: Mapping[str, str] | None = None) -> Pairs:
    """Partners of a CSV, TSV or Parquet table, in the table's unit.

    Parameters
    ----------
    columns : its names for pre_z ... post_x, where they differ.  Without the pre columns every partner is unknown.

    Raises
    ------
    MissingError : no such file.  InputError : a column is missing or holds no numbers; names those that are there.
    """
    file = Path(path)
    if not file.is_file():
        raise MissingError(f"no table of points at {file}")
    table, names = _table(file), {**{n: n for n in (*PRE, *POST)}, **(columns or {})}
    if unknown := set(names) - set(PRE) - set(POST):
        raise InputError(f"columns name {', '.join(sorted(unknown))}: {', '.join((*PRE, *POST))} are wanted")
    has_pre = any(names[n] in table.column_names for n in PRE)
    post = _ends(file, table, [names[n] for n in POST])
    return Pairs(_ends(file, table, [names[n] for n in PRE]) if has_pre else np.full_like(post, np.nan), post)


def _table(file: Path) -> Any:
    if file.suffix == ".parquet":
        from pyarrow import parquet

        return parquet.read_table(file)
    from pyarrow import ArrowInvalid, csv

    try:
        return csv.read_csv(file, parse_options=csv.ParseOptions(delimiter=DELIMITERS.get(file.suffix, ",")))
    except ArrowInvalid as error:
        raise InputError(f"{file} is no table: {error}") from None


def _ends(file: Path, table: Any, names: Sequence[str]) -> Points:
    if missing := [n for n in names if n not in table.column_names]:
        raise InputError(
            f"{file} has the columns {', '.join(table.column_names)} and not {', '.join(missing)}: say under `columns` what they are called"
        )
    try:
        return np.stack([np.asarray(table[n].to_numpy(), np.float64) for n in names], axis=1)
    except (ValueError, TypeError):
        raise InputError(f"{file}: {', '.join(names)} must hold numbers") from None
