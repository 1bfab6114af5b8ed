"""Parts of blocks -> one result, as further stages of the same run: a tree whose nodes are marked like any block.

    parts of blocks     0 1 2 3 | 4 5 6 7 | 8 9        fan_in 4
    reduce-1               0         1       2         one partial per node, combined in block order
    reduce-2                        0                  the result

Guarantees
----------
* Each block is counted exactly once (G5). A level is a grid over the parts below it, whose cores cover every part once; a node replaces
  its own partial and touches nothing else, so it may die, be retried or run twice (G4), and resumes as any block does.
* The engine's barrier lets a level begin only when every block below it is done; where one failed, no level begins. Blocks that the
  parent's mask leaves out are left out here, by the same mask. Any other part that is missing fails its node: nothing is skipped silently.
* The tree follows from grid and `fan_in` alone, so the bytes of a result, sums of floats too, do not depend on workers or crashes.

Who writes: workers, the partials of their nodes. A crash leaves whole partials, marked or not (G2). A set of recordings that has grown
is another domain of parts: it is reduced anew and the old partials stay beside it, unread.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from blockwise.errors import ConfigError, InputError
from blockwise.geometry import Domain
from blockwise.grid import Block, Grid, GridSpec, Ids
from blockwise.storage.tables import TableParts
from blockwise.storage.writes import Array, Write
from blockwise.task import Task

if TYPE_CHECKING:
    import pyarrow as pa

Combine = Callable[[Sequence["pa.Table"]], "pa.Table"]
"""One or more tables of one schema, in block order, -> one of that schema. Associative: combining what was combined changes nothing."""

Masks = Callable[[int], Callable[[Ids], npt.NDArray[np.bool_]] | None]
"""`Task.mask` of the task that writes the parts."""

FAN_IN: int = 256
"""Parts that one node reads: 10^6 blocks make three levels, and a node of small parts takes a fraction of a second."""


def reduction_stages(
    parts: TableParts, combine: Combine, *, name: str = "", fan_in: int = FAN_IN, mask: Masks | None = None
) -> tuple["Reduction", ...]:
    """The levels of a reduction, to be put behind the stage that writes `parts`; the last has one node, the result.

        def stages(self):
            return (self, *reduction_stages(self.parts, concatenate, mask=self.mask))

    Parameters
    ----------
    combine : a function, or a frozen dataclass with `__call__`; its name and fields are part of the fingerprint. A worker holds
        the parts of a few nodes, and for the last level the whole result, in memory.
    name : of the stages and tables, `<name>/reduce-1` and so on; by default that of the parts.
    mask : the writing task's own, if it has one. It may depend on nothing that the fingerprint does not cover.

    Raises
    ------
    ConfigError : `fan_in` is less than 2, or `combine` has no lasting name.
    """
    if fan_in < 2:
        raise ConfigError(f"reduction of {parts.name!r}: fan_in is {fan_in}, but a node must read at least 2 parts for the tree to narrow")
    stages = [Reduction(parts, combine, f"{name or parts.name}/reduce-1", fan_in=fan_in, mask=mask)]
    while len(stages[-1].parts.grid) > 1:
        stages.append(Reduction(stages[-1].parts, combine, f"{name or parts.name}/reduce-{len(stages) + 1}", fan_in=fan_in))
    return tuple(stages)


class Reduction(Task):
    """One level of a reduction: a block is a node, its core the range of parts that it alone counts.

    Parameters
    ----------
    source : the parts below.  combine, name, fan_in, mask : as in `reduction_stages`.
    """

    def __init__(self, source: TableParts, combine: Combine, name: str, *, fan_in: int, mask: Masks | None = None) -> None:
        self.name = name  # type: ignore[misc]  # one class, a stage per level
        self.source, self.combine, self.mask_below = source, combine, mask
        self.combine_name = _lasting_name(combine)
        domain = Domain(f"parts-{_digest(source.grid)}", ("part",), (len(source.grid),))
        self.parts = TableParts(source.path, name, source.schema, Grid(domain, GridSpec((fan_in,))))

    def domains(self) -> Sequence[Domain]:
        return self.parts.grid.domains

    def spec(self) -> GridSpec:
        return self.parts.grid.spec

    def relevant_options(self) -> Mapping[str, object]:
        return {"combine": self.combine_name, "columns": {f.name: str(f.type) for f in self.source.schema}}

    def prepare(self) -> None:
        self.parts.create()

    def read(self, block: Block) -> list["pa.Table"]:
        """The parts of one node in block order, MissingError where one is not there; a table without rows where the mask admits none."""
        ids = np.arange(block.core.begin[0], block.core.end[0])
        tables = [self.source.read(b) for b in self.source.grid.blocks(ids[self._counted(ids)])]
        return tables or [self.source.schema.empty_table()]

    def _counted(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """Which blocks below the mask admits."""
        found, starts = np.ones(len(ids), np.bool_), self.source.grid.starts
        owner = np.searchsorted(starts, ids, side="right") - 1
        for domain in np.unique(owner).tolist():
            mask = self.mask_below(domain) if self.mask_below else None
            if mask is not None:
                found[owner == domain] = mask(ids[owner == domain] - starts[domain])
        return found

    def compute(self, inputs: list["pa.Table"], state: None) -> "pa.Table":
        return self.combine(inputs)

    def write(self, block: Block, result: "pa.Table") -> Sequence[Write]:
        return [self.parts.write(block, result)]

    def stored(self, block: Block) -> Sequence[Array] | None:
        found = self.parts.stored(block)
        return None if found is None else [found]

    def result(self) -> "pa.Table":
        """The table that the one node of the last level wrote; InputError at another level, MissingError before it is computed."""
        if len(self.parts.grid) > 1:
            raise InputError(f"{self.name} has {len(self.parts.grid)} partials: the result is that of the last stage of the reduction")
        return self.parts.read(self.parts.grid.block(0))


def _digest(grid: Grid) -> str:
    """12 hex characters that name the parts of a grid: domains in their order, and how they are tiled."""
    return hashlib.sha256(repr((grid.spec, [d.digest for d in grid.domains])).encode()).hexdigest()[:12]


def _lasting_name(combine: Any) -> str:
    name = str(getattr(combine, "__qualname__", "") or repr(combine))
    if " at 0x" in name:
        raise ConfigError(f"combine is {name}, a name that changes with every start: give a function, or a frozen dataclass with __call__")
    return name


def concatenate(tables: Sequence["pa.Table"]) -> "pa.Table":
    """All rows, in block order."""
    import pyarrow as pa

    return pa.concat_tables(tables)


@dataclass(frozen=True, slots=True)
class SumColumns:
    """Sums of the other columns over the rows that agree in the columns `keys`, one row each in the order of the keys; nulls count as 0.

    Without keys: one row of totals. InputError where a column can neither be summed nor is a key, or a sum exceeds its column's type.
    """

    keys: tuple[str, ...] = ()

    def __call__(self, tables: Sequence["pa.Table"]) -> "pa.Table":
        import pyarrow as pa
        import pyarrow.compute as pc

        table, keys = pa.concat_tables(tables), list(self.keys)
        names, zero = table.schema.names, pc.ScalarAggregateOptions(min_count=0)
        try:
            sums = table.group_by(keys, use_threads=False).aggregate([(n, "sum", zero) for n in names if n not in keys])
            sums = sums.select([n if n in keys else f"{n}_sum" for n in names]).rename_columns(names).cast(table.schema)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowKeyError) as error:
            columns = ", ".join(f"{f.name} ({f.type})" for f in table.schema)
            raise InputError(f"cannot sum {columns} by {keys}: {error}; name keys as keys and give sums a wider type") from error
        return sums.sort_by([(k, "ascending") for k in keys]) if keys else sums


def sum_columns(*keys: str) -> SumColumns:
    """Sum every column that is not a key over rows with equal keys: counts per region, totals of a recording."""
    return SumColumns(keys)


def owned(block: Block, points: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which items are this block's to report, (n,) bool: those whose anchor point its core holds, half-open.

    Blocks that see an item in overlapping contexts agree without talking: every point of the domain lies in exactly one core. A point
    outside the domain (found in padding, or NaN) is no block's. Clipping it to the border would count what is not in the data.

    Parameters
    ----------
    points : (n, rank) anchors in voxels of the domain, integers or fractions. Blocks must find the same anchor for the same item: its
        peak, not the centre of what their context shows of it.
    """
    found, rank = np.asarray(points), len(block.core.begin)
    if found.ndim != 2 or found.shape[1] != rank:
        raise InputError(f"anchor points of shape {found.shape} for a domain of {rank} axes: wanted is (n, {rank})")
    return np.asarray(((found >= block.core.begin) & (found < block.core.end)).all(axis=1), np.bool_)
