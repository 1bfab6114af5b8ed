"""Grey values as network input, -1 to 1: one frozen value says how, and goes into the metadata of what is predicted.

    dtype        x / 255 (uint8), x / 65535 (uint16), x (float32 within 0 to 1), then 2 x - 1: the original's (spec 1.5)
    percentile   the volume's 1st and 99th percentile become 0 and 1
    match        the volume's percentiles become those of the grey values that the network was trained on
    section      as match, section by section; without a reference, the sections are matched to the volume as a whole

The last three need counts of the whole volume first (`tasks.synful.histogram`), so that no block has a normalisation of its own. Between
percentiles the map is linear, beyond the outermost it goes on with their mean slope up to 0 and 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from blockwise.errors import InputError
from tasks.synful.histogram import FULL_SCALE, REPORTED, Bins, Counts, Percentiles, percentiles

Method = Literal["dtype", "percentile", "match", "section"]
METHODS = ("dtype", "percentile", "match", "section")

Array = npt.NDArray[Any]
Input = npt.NDArray[np.float32]
Values = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Normalisation:
    """How grey values become network input.

    Parameters
    ----------
    method : see the module.
    percents : the percents below.
    found : grey values at them, one row for the volume or one per section.
    target : what they become, 0 to 1.
    """

    method: Method = "dtype"
    percents: Values = ()
    found: tuple[Values, ...] = ()
    target: Values = ()

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"normalisation {self.method!r} is none of {', '.join(METHODS)}")
        if self.method != "dtype" and (not self.found or any(len(row) != len(self.target) for row in self.found)):
            raise InputError(f"normalisation {self.method!r} is not frozen yet: it needs percentiles of the whole volume")

    def to_json(self) -> dict[str, Any]:
        """The same as JSON types."""
        return {k: _lists(v) for k, v in asdict(self).items() if v}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Normalisation":
        """What `to_json` gave.

        Raises
        ------
        InputError : another key, or a method that is unknown.
        """
        unknown = set(value) - {"method", "percents", "found", "target"}
        if unknown:
            raise InputError(f"normalisation has no key {', '.join(sorted(unknown))}")
        rows = tuple(tuple(map(float, row)) for row in value.get("found", ()))
        percents, target = (tuple(map(float, value.get(k, ()))) for k in ("percents", "target"))
        return cls(value.get("method", "dtype"), percents, rows, target)

    def check(self, dtype: npt.DTypeLike, sections: int) -> None:
        """Refuse a volume that this cannot normalise.

        Raises
        ------
        InputError : a dtype without a scale, or another number of sections.
        """
        name = np.dtype(dtype).name
        if self.method == "dtype" and name not in FULL_SCALE:
            raise InputError(
                f"raw is {name}: the network reads uint8, uint16 or float32 within 0 to 1. Name the array of grey values if this is "
                'another, e.g. a segmentation, or set normalize = "percentile"'
            )
        if self.method == "section" and len(self.found) != sections:
            raise InputError(f"normalisation has percentiles of {len(self.found)} sections, the volume has {sections}")

    def apply(self, raw: Array, first_section: int = 0) -> Input:
        """Network input of a box of the volume.

        Parameters
        ----------
        raw : (z, y, x), unpadded.  first_section : its first section in the volume; sections outside are taken like the nearest.

        Raises
        ------
        InputError : float32 beyond 0 to 1 with method dtype; gives the range found.
        """
        if self.method == "dtype":
            return _by_dtype(raw)
        if self.method != "section":
            return _mapped(raw, self.found[0], self.target)
        out = np.empty(raw.shape, np.float32)
        for i, section in enumerate(raw):
            row = min(max(first_section + i, 0), len(self.found) - 1)
            out[i] = _mapped(section, self.found[row], self.target)
        return out


def _lists(value: Any) -> Any:
    return [_lists(v) for v in value] if isinstance(value, tuple) else value


def _by_dtype(raw: Array) -> Input:
    if raw.dtype == np.float32 and raw.size and not (raw.min() >= 0 and raw.max() <= 1):
        raise InputError(
            f'raw is float32 from {raw.min():g} to {raw.max():g}, the network reads 0 to 1: scale it, or set normalize = "percentile"'
        )
    if raw.dtype.name not in FULL_SCALE:
        raise InputError(f'raw is {raw.dtype.name}, which has no scale: set normalize = "percentile"')
    out = raw.astype(np.float32)
    if raw.dtype != np.float32:
        out *= np.float32(1 / FULL_SCALE[raw.dtype.name])
    out *= 2
    out -= 1
    return out


def _mapped(raw: Array, found: Values, target: Values) -> Input:
    knots, values = _extended(found, target)
    if raw.dtype.kind == "u" and raw.dtype.itemsize <= 2:
        every = np.arange(np.iinfo(raw.dtype).max + 1)
        return np.asarray(_to_input(np.interp(every, knots, values)))[raw]
    return _to_input(np.interp(raw, knots, values))


def _to_input(fractions: npt.NDArray[np.float64]) -> Input:
    return (np.clip(fractions, 0, 1) * 2 - 1).astype(np.float32)


def _extended(found: Values, target: Values) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Strictly rising grey values with what they become, and a point on either side as far out as the whole range is wide."""
    knots, place = np.unique(found, return_inverse=True)
    values = np.bincount(place, weights=target) / np.bincount(place)
    if len(knots) < 2:
        raise InputError(f"all percentiles are the grey value {knots[0]:g}: there is no contrast to normalise")
    width, height = knots[-1] - knots[0], values[-1] - values[0]
    ends = (knots[0] - width, knots[-1] + width), (values[0] - height, values[-1] + height)
    return np.concatenate([ends[0][:1], knots, ends[0][1:]]), np.concatenate([ends[1][:1], values, ends[1][1:]])


def freeze_percentile(counts: Counts, bins: Bins, percents: tuple[float, float] = (1.0, 99.0)) -> Normalisation:
    """`percentile`, from the counts of the whole volume.

    Raises
    ------
    InputError : a volume without contrast.
    """
    return Normalisation("percentile", percents, (_row(counts, bins, percents),), (0.0, 1.0))


def freeze_match(counts: Counts, bins: Bins, trained: Percentiles | None) -> Normalisation:
    """`match`, from the counts of the whole volume and the grey values of the training (percent -> 0 to 1).

    Raises
    ------
    InputError : no reference is stored with the model, or a volume without contrast.
    """
    if not trained or len(trained) < 2:
        raise InputError(
            'normalize = "match" needs the grey values of the training, and the model has no raw_percentiles: use "percentile"'
        )
    percents = tuple(sorted(trained))
    return Normalisation("match", percents, (_row(counts, bins, percents),), tuple(trained[p] for p in percents))


def freeze_sections(counts: Counts, bins: Bins, dtype: npt.DTypeLike, trained: Percentiles | None = None) -> Normalisation:
    """`section`, from counts per section. An empty or constant section gets the volume's percentiles.

    Parameters
    ----------
    counts : (z, bins) of the whole volume.
    dtype : of the volume; its full scale makes the target where there is no reference, its 1 to 99 % range for dtypes without one.

    Raises
    ------
    InputError : a volume without contrast.
    """
    percents = tuple(sorted(trained)) if trained else REPORTED
    whole = _row(counts.sum(axis=0), bins, percents)
    rows = [tuple(percentiles(c, bins, percents).tolist()) for c in counts]
    usable = tuple(row if row[-1] > row[0] else whole for row in rows)  # NaN compares false
    target = tuple(trained[p] for p in percents) if trained else _on_scale(whole, dtype)
    return Normalisation("section", percents, usable, target)


def _on_scale(values: Values, dtype: npt.DTypeLike) -> Values:
    full = FULL_SCALE.get(np.dtype(dtype).name)
    low, high = (0.0, full) if full else (values[0], values[-1])
    return tuple(min(1.0, max(0.0, (v - low) / (high - low))) for v in values)


def _row(counts: Counts, bins: Bins, percents: Sequence[float]) -> Values:
    row = tuple(percentiles(counts, bins, percents).tolist())
    if not row[-1] > row[0]:
        raise InputError(f"the {percents[0]:g} and {percents[-1]:g} % grey values are {row[0]:g} and {row[-1]:g}: there is no contrast")
    return row
