"""Read-only arrays, whatever file or server they lie in, behind one small contract.

A source is opened in the process that reads it and never sent elsewhere. Every `read` gives fresh memory in C order and native
byte order, may be called from many threads at once, and raises what went wrong in the caller's thread.
"""

import difflib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from blockwise.errors import InputError, MissingError, StorageError
from blockwise.geometry import Region
from blockwise.storage.placement import Placement

Array = npt.NDArray[Any]


class Source(Protocol):
    """An array that can be read by region. `chunks` is what one read touches at least, None where any region is as cheap."""

    @property
    def path(self) -> str: ...
    @property
    def variable(self) -> str | None: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def axes(self) -> tuple[str, ...]: ...
    @property
    def voxel_size(self) -> tuple[float, ...]: ...
    @property
    def offset(self) -> tuple[float, ...]: ...
    @property
    def units(self) -> tuple[str, ...]: ...
    @property
    def chunks(self) -> tuple[int, ...] | None: ...
    @property
    def attributes(self) -> Mapping[str, Any]: ...

    def read(self, region: Region) -> Array:
        """The voxels of a region, in new memory, C order, native byte order.

        Raises
        ------
        InputError : the region leaves the array.  StorageError : the data is there but cannot be read.
        """

    def close(self) -> None: ...


def _nothing() -> None: ...


@dataclass(frozen=True, eq=False)
class ArraySource:
    """The one Source: what is known of the array, and how its format fetches a box of it.

    fetch : slices, one per axis -> array-like of that shape; thread safe.
    """

    path: str
    variable: str | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    placement: Placement
    fetch: Callable[[tuple[slice, ...]], Any]
    chunks: tuple[int, ...] | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    close: Callable[[], None] = _nothing

    def __post_init__(self) -> None:
        if not self.shape:
            raise InputError(f"{self.where} is a single number, not an array")
        if self.dtype.kind not in "buifc" and self.dtype.name != "bfloat16":
            raise InputError(f"{self.where} holds {self.dtype}, not numbers")
        object.__setattr__(self, "dtype", self.dtype.newbyteorder("="))

    @property
    def where(self) -> str:
        return f"{self.path}" + (f" variable {self.variable!r}" if self.variable else "")

    @property
    def axes(self) -> tuple[str, ...]:
        return self.placement.axes

    @property
    def voxel_size(self) -> tuple[float, ...]:
        return self.placement.voxel_size

    @property
    def offset(self) -> tuple[float, ...]:
        return self.placement.offset

    @property
    def units(self) -> tuple[str, ...]:
        return self.placement.units

    def read(self, region: Region) -> Array:
        """See `Source.read`."""
        check_inside(region, self.shape, self.where)
        try:
            return np.array(self.fetch(region.slices), dtype=self.dtype, order="C", copy=None)
        except (InputError, StorageError):
            raise
        except (ValueError, TypeError, OSError, KeyError, RuntimeError) as error:
            raise StorageError(f"cannot read {region.begin}..{region.end} of {self.where}: {error}") from error


class Cached:
    """A value loaded at first use by whichever thread comes first."""

    def __init__(self, load: Callable[[], Array]) -> None:
        self._load, self._lock = load, threading.Lock()
        self._value: Array | None = None

    def __call__(self) -> Array:
        with self._lock:
            if self._value is None:
                self._value = self._load()
            return self._value


def check_inside(region: Region, shape: tuple[int, ...], where: str) -> None:
    """Refuse a region that leaves an array or has another rank."""
    if len(region.begin) != len(shape):
        raise InputError(f"region {region.begin}..{region.end} has {len(region.begin)} axes, {where} has {len(shape)}: {shape}")
    if any(b < 0 or e < b or e > n for b, e, n in zip(region.begin, region.end, shape, strict=True)):
        raise InputError(f"region {region.begin}..{region.end} leaves {where} of shape {shape}")


def nearest(name: str, known: Sequence[str]) -> list[str]:
    """Known names, those like `name` first."""
    near = difflib.get_close_matches(name, known, 5, 0.4)
    return near + [k for k in known if k not in near]


def choose(path: str, variable: str | None, known: Sequence[str], defaults: Sequence[str] = ()) -> str:
    """The array that is meant: the one named, else the first default that is there, else the only one.

    Raises
    ------
    MissingError : none or several fit; lists what is there, nearest name first.
    """
    if not known:
        raise MissingError(f"{path} holds no array of numbers (cells, structs and text are none)")
    if variable is None:
        named = next((d for d in defaults if d in known), known[0] if len(known) == 1 else None)
        if named is None:
            raise MissingError(f"{path} holds {len(known)} arrays: name one as [input] variable: {_listed(known)}")
        return named
    name = variable.strip("/")
    if name in known:
        return name
    below = [k for k in known if k.startswith(f"{name}/")]
    if below:
        return choose(path, None, below, [f"{name}/{d}" for d in ("s0", "0", *defaults)])
    raise MissingError(f"{path} has no array {name!r}: it holds {_listed(nearest(name, known))}")


def _listed(names: Sequence[str], most: int = 12) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + rest
