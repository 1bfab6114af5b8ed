"""Precision without truth: random predictions of every score, as pictures to judge and a CSV to tick, and what the ticks say.

Predictions are sampled from bins of equally many, so that rare high scores are judged as well as common low ones, and weighted by the
size of their bin afterwards. The page shows them in random order and keeps their scores to itself: who knows a score judges by it.
"""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from blockwise.errors import ConfigError, InputError, MissingError, PlanRefused
from blockwise.storage import make_folders, write_atomic
from tasks.synful.curves import thresholds_of
from tasks.synful.partners import COLUMNS, require
from tasks.synful.partners import POST as POST_COLUMNS
from tasks.synful.partners import PRE as PRE_COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.synful.cutouts import Camera

Link = Callable[[Mapping[str, Any]], str]

FIELDS = ("number", "id", "score", "bin", "bin_size", *POST_COLUMNS, *PRE_COLUMNS, "verdict")
VERDICTS = {"y": True, "yes": True, "1": True, "true": True, "x": True, "n": False, "no": False, "0": False, "false": False}
UNDECIDED = ("", "?", "unsure")


def sample(predicted: "pa.Table", *, bins: int = 5, per_bin: int = 20, seed: int = 0) -> "pa.Table":
    """Random predictions of every bin of scores, in random order.

    Parameters
    ----------
    predicted : a table of partners.
    bins : of equally many predictions each, by score; fewer where many scores are the same.
    per_bin : all where a bin has fewer.

    Returns
    -------
    The columns of partners and bin (int64, 0 is the lowest), bin_size (int64, predictions in it).

    Raises
    ------
    InputError : a column is missing.  ConfigError : `bins` or `per_bin` is below 1.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if min(bins, per_bin) < 1:
        raise ConfigError(f"a proof sheet of {bins} bins with {per_bin} predictions each: both must be at least 1")
    require(predicted, COLUMNS, "a proof sheet")
    scored = predicted.select(COLUMNS).filter(pc.is_valid(predicted["score"]))
    edges = thresholds_of(scored, bins)
    bin_of = np.searchsorted(edges, scored["score"].to_numpy(), side="right") - 1
    sizes, random = np.bincount(bin_of, minlength=len(edges)), np.random.default_rng(seed)
    chosen = [random.choice(np.flatnonzero(bin_of == b), min(per_bin, n), replace=False) for b, n in enumerate(sizes)]
    rows = random.permutation(np.concatenate([np.empty(0, np.int64), *chosen]))
    bins_of_rows = bin_of[rows].astype(np.int64)
    return scored.take(pa.array(rows)).append_column("bin", pa.array(bins_of_rows)).append_column("bin_size", pa.array(sizes[bins_of_rows]))


def proof_sheet(sampled: "pa.Table", camera: "Camera", folder: str | Path, *, link: Link | None = None) -> tuple[Path, Path]:
    """Write `proof.html`, pictures of the sampled predictions, and `proof.csv`, where to tick them.

    Parameters
    ----------
    sampled : what `sample` gave.
    camera : takes the pictures.
    link : a row (columns by name) -> URL that shows it, e.g. in neuroglancer.

    Returns
    -------
    Paths of the page and of the CSV.

    Raises
    ------
    PlanRefused : a `proof.csv` is there: it may hold somebody's work.
    """
    page, ticks = Path(folder) / "proof.html", Path(folder) / "proof.csv"
    if ticks.exists():
        raise PlanRefused(f"{ticks} exists and may hold verdicts: move it away, or choose another folder")
    rows = [{"number": i, **row} for i, row in enumerate(sampled.to_pylist(), 1)]
    make_folders(Path(folder))
    write_atomic(page, _page(rows, camera, link).encode())
    write_atomic(ticks, _csv(rows).encode())
    return page, ticks


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, FIELDS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 980px; padding: 0 1rem; color: #222; background: #fff }
h1 { font-size: 1.4rem } article { border-top: 1px solid #ddd; padding: .8rem 0 } h2 { font-size: 1rem; margin: 0 0 .4rem }
h2 small { font-weight: normal; color: #666 } .views { display: flex; flex-wrap: wrap; gap: 8px } svg { background: #000 }
svg text { font: 11px system-ui, sans-serif; fill: #fff; paint-order: stroke; stroke: #000; stroke-width: 2px }
.post { color: #0072b2 } .pre { color: #b36b00 }
"""


def _page(rows: Sequence[Mapping[str, Any]], camera: "Camera", link: Link | None) -> str:
    articles = "".join(_article(row, camera, link) for row in rows)
    served = " Links show what lies on this machine while <code>blockwise view RUN --serve</code> runs." if link else ""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Proof sheet</title><style>{STYLE}</style><h1>{len(rows)} predicted synaptic partners</h1>"
        '<p>Is the <b class="post">circle</b> a post-synaptic site, and the <b class="pre">cross</b> in its pre-synaptic partner? '
        "Write y or n into the column <code>verdict</code> of <code>proof.csv</code>, in the line of the same number; leave it empty "
        f"where you cannot tell. Sites in other planes are marked where they project to. White bars are {_bar()} nm.{served}</p>"
        f"{articles}</html>\n"
    )


def _bar() -> int:
    from tasks.synful.cutouts import BAR_NM

    return BAR_NM


def _article(row: Mapping[str, Any], camera: "Camera", link: Link | None) -> str:
    pre, post = ([row[c] for c in columns] for columns in (PRE_COLUMNS, POST_COLUMNS))
    place = ", ".join(str(v) for v in post)
    show = f' · <a href="{escape(link(row))}">show</a>' if link else ""
    return (
        f'<article id="n{row["number"]}"><h2>{row["number"]} <small>id {row["id"]} · post at {place} nm (z, y, x){show}</small></h2>'
        f'<div class="views">{"".join(camera.pictures(pre, post))}</div></article>'
    )


@dataclass(frozen=True, slots=True)
class Precision:
    """A share of predictions that are real, with the interval that holds it at the confidence asked for.

    right, wrong : predictions judged.  size : predictions that these stand for.
    """

    right: int
    wrong: int
    size: int
    precision: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Ticks:
    """What the verdicts say, over all predictions and per bin of scores, the lowest first."""

    overall: Precision
    bins: Mapping[int, Precision]


def read_ticks(path: str | Path, *, confidence: float = 0.95) -> Ticks:
    """Precision from a ticked `proof.csv`.

    Every bin has its Wilson interval. Overall precision is their mean weighted by size; its interval adds the bins' half-widths in
    squares, each side for itself (Zou and Donner 2008), and so stays honest where a bin is all right or all wrong. A bin without
    verdicts may have any precision: it counts as one half, 0 to 1.

    Parameters
    ----------
    path : the CSV; verdicts y, yes, 1, true, x or n, no, 0, false in any case; empty, ? and unsure are left out.

    Raises
    ------
    MissingError : no such file.  InputError : another verdict, columns that are not those of a proof sheet, or no verdict at all.
    """
    rows = _rows(Path(path))
    verdicts = {b: [v for other, _, v in rows if other == b and v is not None] for b in sorted({b for b, _, _ in rows})}
    if not any(verdicts.values()):
        raise InputError(f"{path} holds no verdict in {len(rows)} lines: write y or n into the column verdict")
    sizes = {b: size for b, size, _ in rows}
    bins = {b: _wilson(sum(v), len(v), sizes[b], confidence) for b, v in verdicts.items()}
    return Ticks(_weighted(list(bins.values())), bins)


def _rows(path: Path) -> list[tuple[int, int, bool | None]]:
    """Bin, its size and the verdict of every line."""
    if not path.exists():
        raise MissingError(f"no file {path}: `proof_sheet` writes it beside the page")
    with path.open(newline="") as stream:
        reader = csv.DictReader(stream)
        missing = {"bin", "bin_size", "verdict"} - set(reader.fieldnames or ())
        if missing:
            raise InputError(f"{path} lacks the columns {', '.join(sorted(missing))}: it is not the CSV of a proof sheet")
        return [_ticked(row, f"{path}, line {n}") for n, row in enumerate(reader, 2)]


def _ticked(row: Mapping[str, str | None], where: str) -> tuple[int, int, bool | None]:
    try:
        number, size = int(row["bin"] or ""), int(row["bin_size"] or "")
    except ValueError:
        found = f"bin {row['bin']!r} and bin_size {row['bin_size']!r}"
        raise InputError(f"{where}: {found} are no whole numbers: change only the column verdict, one line per partner") from None
    return number, size, _verdict(row["verdict"], where)


def _verdict(text: str | None, where: str) -> bool | None:
    word = (text or "").strip().lower()
    if word in UNDECIDED:
        return None
    if word not in VERDICTS:
        raise InputError(f"{where}: verdict {text!r} is none of {', '.join(VERDICTS)}; leave it empty where you cannot tell")
    return VERDICTS[word]


def _wilson(right: int, judged: int, size: int, confidence: float) -> Precision:
    """Wilson's interval of a share; all of 0 to 1 where nothing was judged."""
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence {confidence} is not between 0 and 1")
    if not judged:
        return Precision(0, 0, size, math.nan, 0.0, 1.0)
    z, share = NormalDist().inv_cdf((1 + confidence) / 2), right / judged
    middle = (share + z * z / (2 * judged)) / (1 + z * z / judged)
    half = z * math.sqrt(share * (1 - share) / judged + (z / (2 * judged)) ** 2) / (1 + z * z / judged)
    return Precision(right, judged - right, size, share, max(0.0, middle - half), min(1.0, middle + half))


def _weighted(bins: Sequence[Precision]) -> Precision:
    total = sum(b.size for b in bins)
    shares = [0.5 if math.isnan(b.precision) else b.precision for b in bins]
    mean = sum(b.size / total * p for b, p in zip(bins, shares, strict=True))
    below, above = (
        math.sqrt(sum((b.size / total * (p - limit)) ** 2 for b, p, limit in zip(bins, shares, limits, strict=True)))
        for limits in ([b.low for b in bins], [b.high for b in bins])
    )
    return Precision(sum(b.right for b in bins), sum(b.wrong for b in bins), total, mean, max(0.0, mean - below), min(1.0, mean + above))
