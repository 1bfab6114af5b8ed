"""Parts of blocks -> one data set in cells: each partner goes to the cell that holds its post site, each block counts once (G5)."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from blockwise.geometry import Domain, Region
from blockwise.grid import Block, Grid, GridSpec, Ids
from blockwise.reduce import Reduction
from blockwise.storage.tables import TableParts
from blockwise.storage.writes import Array, Write
from blockwise.task import FrozenResult, Task
from tasks.synful.cells import Cells
from tasks.synful.partners import ordered, points, schema

if TYPE_CHECKING:
    import pyarrow as pa

Mask = Callable[[Ids], "np.typing.NDArray[np.bool_]"]


def cell_grid(domain: Domain, core: Sequence[int], cell_um: float) -> Grid:
    """Cells of at least `cell_um` a side, a whole number of cores each, so that a block's partners lie in one cell."""
    sides = [c * max(1, -(-int(cell_um * 1000) // round(c * v))) for c, v in zip(core, domain.voxel_size, strict=True)]
    return Grid(domain, GridSpec(tuple(sides)))


NOTHING = (
    'No partners were found: see in the predictions (mode = "stored", `blockwise view`) whether the network answers to this volume, then '
    "whether threshold and min_score ([options.extract]) are too high"
)


class Collect(Task):
    """A block is a cell: it gathers the parts of its blocks, and of the merged components those that are its own.

    Parameters
    ----------
    own : parts whose rows lie in their block's core.
    spanning : parts whose rows lie within `reach` voxels of their block.
    mask : which blocks have parts, as `Task.mask`.
    counts : of the blocks, for the report.  fused : blocks of one grey value are among them.
    """

    name: ClassVar[str] = "collect"

    def __init__(
        self,
        own: Sequence[TableParts],
        spanning: Sequence[TableParts],
        cells: Cells,
        *,
        reach: Sequence[int],
        mask: Mask | None,
        counts: Reduction | None = None,
        fused: bool = False,
    ) -> None:
        self.own, self.spanning, self.cells, self.reach, self.blocks_mask = tuple(own), tuple(spanning), cells, tuple(reach), mask
        self.counts, self.fused = counts, fused

    def domains(self) -> Sequence[Domain]:
        return self.cells.grid.domains

    def spec(self) -> GridSpec:
        return self.cells.grid.spec

    def relevant_options(self) -> Mapping[str, object]:
        return {"reach": list(self.reach)}

    def output_path(self) -> str:
        return self.cells.path

    def prepare(self) -> None:
        self.cells.create()

    def read(self, block: Block) -> list["pa.Table"]:
        tables = [rows for parts in self.own for rows in self._parts(parts, block.core)]
        around = block.core.grow(self.reach, self.reach)
        found = [rows for parts in self.spanning for rows in self._parts(parts, around) if rows.num_rows]
        return [*tables, *(rows.filter(self._inside(block.core, rows)) for rows in found)]

    def _parts(self, parts: TableParts, region: Region) -> Sequence["pa.Table"]:
        ids = parts.grid.ids_meeting(0, region)
        if self.blocks_mask is not None and len(ids):
            ids = ids[self.blocks_mask(ids)]
        return [parts.read(b) for b in parts.grid.blocks(ids)]

    def compute(self, inputs: list["pa.Table"], state: None) -> "pa.Table":
        import pyarrow as pa

        return ordered(pa.concat_tables([schema().empty_table(), *inputs])).combine_chunks()

    def _inside(self, core: Region, rows: "pa.Table") -> "pa.Array":
        """Which post sites a cell holds; own parts need no such question, for a cell is a whole number of cores."""
        import pyarrow as pa

        domain = self.cells.grid.domains[0]
        voxels = np.floor((points(rows, "post") - np.array(domain.offset)) / np.array(domain.voxel_size))
        return pa.array(((voxels >= core.begin) & (voxels < core.end)).all(axis=1))

    def write(self, block: Block, result: "pa.Table") -> Sequence[Write]:
        return [self.cells.write(block, result)]

    def stored(self, block: Block) -> Sequence[Array] | None:
        found = self.cells.stored(block)
        return None if found is None else [found]

    def finish(self) -> FrozenResult:
        found: dict[str, object] = {"partners": count_rows(self.cells.folder), "data set": str(self.cells.folder)}
        none = () if found["partners"] else (NOTHING,)
        if self.counts is None:
            return FrozenResult(found, none)
        sums = {name: column[0].as_py() for name, column in zip(self.counts.parts.schema.names, self.counts.result().columns, strict=True)}
        found |= {"components across blocks": sums["seeds"], "oversized": sums["oversized"]}
        found |= {"blocks of one grey value": sums["constant"]} if self.fused else {}
        far = (
            f"components longer than max_blob_um ([options.extract]): {sums['oversized']}, left out. Huge ones say that the threshold is "
            "low for this network; true ones need a larger max_blob_um"
        )
        unlike = (
            f"components that tiles of grid = 'compat' predict differently around their cores: at least {sums['different']}, left out. "
            "grid = 'aligned' and mode = 'stored' have none"
        )
        found |= {"left out at seams of tiles": sums["different"]} if sums["different"] else {}
        return FrozenResult(found, (*none, *(said for said, name in ((far, "oversized"), (unlike, "different")) if sums[name])))


def count_rows(folder: object) -> int:
    """Rows of a Parquet data set, from its footers."""
    import pyarrow.dataset as ds

    return int(ds.dataset(str(folder), format="parquet").count_rows())
