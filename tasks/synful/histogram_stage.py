"""Grey values of the whole volume, counted block by block before any network runs, where the normalisation needs them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from blockwise.geometry import Domain
from blockwise.grid import Block, Grid, GridSpec
from blockwise.reduce import Reduction, reduction_stages, sum_columns
from blockwise.storage import identity
from blockwise.storage.tables import TableParts
from blockwise.storage.writes import Array, Write
from blockwise.task import Task
from tasks.synful.histogram import Bins, Counts, bins_for, block_counts, sample_histogram, section_counts
from tasks.synful.normalisation import Method, Normalisation, freeze_match, freeze_percentile, freeze_sections
from tasks.synful.raw import Raw

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class GreyValues:
    """How grey values become input, once those of the whole volume are known.

    Parameters
    ----------
    bins : of the counts.  trained : percents and grey values of the training.
    grid : of the blocks that count.  mask : which of them do.
    """

    method: Method
    raw: Raw
    bins: Bins
    trained: tuple[tuple[float, float], ...]
    output: str
    grid: Grid
    mask: Callable[[Any], Any] | None = None

    def stages(self) -> tuple[Task, ...]:
        """Counting and its reduction."""
        return (Histogram(self), *self._levels)

    @cached_property
    def _levels(self) -> tuple[Reduction, ...]:
        return reduction_stages(self.parts, sum_columns("section", "bin"), name="histogram", mask=lambda _: self.mask)

    @property
    def parts(self) -> TableParts:
        import pyarrow as pa

        columns = pa.schema([pa.field(n, pa.int64(), nullable=False) for n in ("section", "bin", "count")])
        return TableParts(self.output, "parts/histogram", columns, self.grid)

    def count(self, values: Array, first_section: int) -> "pa.Table":
        """The part of a block: counts that are not 0; section 0 where sections do not matter."""
        import pyarrow as pa

        by_section = self.method == "section"
        counts = section_counts(values, self.bins) if by_section else block_counts(values, self.bins)[None]
        section, bin_ = np.nonzero(counts)
        columns = [section + (first_section if by_section else 0), bin_, counts[section, bin_]]
        return pa.table([pa.array(c.astype(np.int64)) for c in columns], schema=self.parts.schema)

    def frozen(self) -> Normalisation:
        """Of the counts of the whole volume; MissingError before they are there."""
        rows = self._levels[-1].result()
        counts = np.zeros((self.raw.shape[0] if self.method == "section" else 1, self.bins.count), np.int64)
        counts[rows["section"].to_numpy(), rows["bin"].to_numpy()] = rows["count"].to_numpy()
        return self._of(counts)

    def sampled(self) -> Normalisation:
        """Of the counts of a sample, for the pilot of a plan."""
        reader = self.raw.open()
        counts = sample_histogram(reader).counts
        reader.close()
        return self._of(np.repeat(counts[None], self.raw.shape[0] if self.method == "section" else 1, axis=0))

    def _of(self, counts: Counts) -> Normalisation:
        trained = dict(self.trained) or None
        if self.method == "percentile":
            return freeze_percentile(counts.sum(axis=0), self.bins)
        if self.method == "match":
            return freeze_match(counts.sum(axis=0), self.bins, trained)
        return freeze_sections(counts, self.bins, self.raw.dtype, trained)


class Histogram(Task):
    """Counts of the grey values of every block's core."""

    name: ClassVar[str] = "histogram"

    def __init__(self, grey: GreyValues) -> None:
        self.grey = grey

    def domains(self) -> Sequence[Domain]:
        return self.grey.grid.domains

    def spec(self) -> GridSpec:
        return self.grey.grid.spec

    def mask(self, domain: int) -> Callable[[Any], Any] | None:
        return self.grey.mask

    def output_path(self) -> str:
        return self.grey.output

    def fingerprint(self, domain: int) -> Mapping[str, object]:
        return {"input.path": identity(self.grey.raw.path, self.grey.raw.variable)}

    def relevant_options(self) -> Mapping[str, object]:
        return {"bins": repr(self.grey.bins), "by_section": self.grey.method == "section"}

    def prepare(self) -> None:
        self.grey.parts.create()

    def open(self) -> None:
        self.reader = self.grey.raw.open()

    def read(self, block: Block) -> tuple[Block, Array]:
        return block, self.reader.inside(block.core)

    def compute(self, inputs: tuple[Block, Array], state: None) -> "pa.Table":
        return self.grey.count(inputs[1], inputs[0].core.begin[0])

    def write(self, block: Block, result: "pa.Table") -> Sequence[Write]:
        return [self.grey.parts.write(block, result)]

    def stored(self, block: Block) -> Sequence[Array] | None:
        found = self.grey.parts.stored(block)
        return None if found is None else [found]


def grey_bins(raw: Raw) -> Bins:
    """Bins for a volume: those of its type, or of the range that a sample shows."""
    if raw.dtype == "uint8":
        return bins_for(raw.dtype, (0, 255))
    reader = raw.open()
    found = sample_histogram(reader)
    reader.close()
    return found.bins
