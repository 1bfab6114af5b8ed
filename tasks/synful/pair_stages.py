"""Filters and the connectome: every ordered pair of neurons in one bucket, so that a bucket is filtered without the others.

`Shuffle` (cell_stages) writes rows by bucket; `Filter` reads one bucket of all cells and writes what is left of it, its edges, and how
many rows each step dropped. Because a pair lies in one bucket, the buckets' edge lists are the connectome without further merging.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from blockwise.geometry import Domain
from blockwise.grid import Block, Grid, GridSpec
from blockwise.storage.tables import TableParts
from blockwise.storage.writes import Array, Write
from blockwise.task import FrozenResult, Task
from tasks.synful.cell_stages import BUCKET, short_digest
from tasks.synful.cells import Cells, read_groups
from tasks.synful.columns import Identity
from tasks.synful.edges import edge_list
from tasks.synful.filters import FilterOptions, add_counts, filter_partners
from tasks.synful.partners import ordered

if TYPE_CHECKING:
    import pyarrow as pa

CELLS_PER_BUCKET, MOST_BUCKETS = 16, 256


def bucket_count(cells: Grid) -> int:
    """Buckets for a number of cells: one for few, so that a bucket's rows are those of some cells and fit into memory."""
    return min(MOST_BUCKETS, max(1, len(cells) // CELLS_PER_BUCKET))


class Filter(Task):
    """A block is a bucket.

    Parameters
    ----------
    shuffled : rows by bucket, one row group each.
    by : what the edges join.
    """

    def __init__(self, shuffled: Cells, by: Identity, buckets: int, options: FilterOptions) -> None:
        self.shuffled, self.by, self.buckets, self.options = shuffled, by, buckets, options
        digest = short_digest({"source": shuffled.name, **options.model_dump(mode="json")})
        self.name = f"filtered-{digest}"  # type: ignore[misc]  # a stage per chain of filters
        grid = Grid(Domain("pairs", ("bucket",), (buckets,)), GridSpec((1,)))
        self.kept, self.edges = Cells(shuffled.path, self.name, grid), Cells(shuffled.path, f"edges-{digest}", grid)
        self.grid = grid

    @property
    def counts(self) -> TableParts:
        import pyarrow as pa

        columns = pa.schema([("step", pa.string()), ("before", pa.int64()), ("after", pa.int64())])
        return TableParts(self.shuffled.path, f"parts/counts-{self.name}", columns, self.grid)

    def domains(self) -> Sequence[Domain]:
        return self.grid.domains

    def spec(self) -> GridSpec:
        return self.grid.spec

    def relevant_options(self) -> Mapping[str, object]:
        return {"by": self.by, "buckets": self.buckets, **self.options.model_dump(mode="json")}

    def output_path(self) -> str:
        return self.shuffled.path

    def prepare(self) -> None:
        self.kept.create()
        self.edges.create()
        self.counts.create()

    def read(self, block: Block) -> "pa.Table":
        import pyarrow as pa

        files = [self.shuffled.file(b) for b in self.shuffled.grid.blocks(np.arange(len(self.shuffled.grid)))]
        return pa.concat_tables([read_groups(f, BUCKET, block.core.begin[0]) for f in files]).drop_columns([BUCKET])

    def compute(self, inputs: "pa.Table", state: None) -> tuple["pa.Table", "pa.Table", "pa.Table"]:
        kept, counts = filter_partners(ordered(inputs), self.options)
        return kept.combine_chunks(), edge_list(kept, by=self.by, ignore_ids=self.options.ignore_ids), counts

    def write(self, block: Block, result: tuple["pa.Table", "pa.Table", "pa.Table"]) -> Sequence[Write]:
        return [self.kept.write(block, result[0]), self.edges.write(block, result[1]), self.counts.write(block, result[2])]

    def stored(self, block: Block) -> Sequence[Array] | None:
        found = [parts.stored(block) for parts in (self.kept, self.edges, self.counts)]
        return None if any(f is None for f in found) else [f for f in found if f is not None]

    def left(self) -> dict[str, int]:
        """Partners after each step, of all buckets."""
        steps = add_counts(self.counts.read(b) for b in self.grid.blocks(np.arange(self.buckets)))
        return {f"after {s}": n for s, n in zip(steps["step"].to_pylist(), steps["after"].to_pylist(), strict=True)}

    def finish(self) -> FrozenResult:
        return FrozenResult({"filters": self.left(), "partners kept": str(self.kept.folder), "edges": str(self.edges.folder)})
