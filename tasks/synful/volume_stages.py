"""The stages over blocks of a volume. Two ways lead to the parts that `collect` gathers:

    fused    synful (network, extraction in the same pass) -> spanning
    stored   synful (network, predictions kept) -> extract -> spanning

Parts of a block, below `<output>/parts`: `partners`, whose post sites its core holds; `seeds` of components that it does not see whole;
`blocks`, one row of counts. `spanning` looks again at the seeds in boxes as large as it takes, writes `merged` and `oversized`, and hands
the counts on.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from blockwise.geometry import Domain, Region
from blockwise.grid import Block, Grid, GridSpec
from blockwise.reduce import Reduction
from blockwise.storage import OutputArray, create_group, set_group_attributes
from blockwise.storage.tables import TableParts
from blockwise.storage.writes import Array, Write
from blockwise.task import Dependency, FrozenResult, OutputLayout, Task
from tasks.synful.extraction import Extraction, OfBox, Predictions, seed_schema
from tasks.synful.partners import schema
from tasks.synful.raw import RawReader, is_constant

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.synful.job import Job
    from tasks.synful.predictor import Predictor

State = tuple["Predictor | None", Extraction]


def block_schema() -> "pa.Schema":
    """Counts of one block: 1, partners, seeds, 1 where it was of one grey value and no network ran, seeds too long or different."""
    import pyarrow as pa

    names = ("blocks", "partners", "seeds", "constant", "oversized", "different")
    return pa.schema([pa.field(n, pa.int64(), nullable=False) for n in names])


def tile_schema() -> "pa.Schema":
    """Counts of one block that keeps predictions: 1, 1 where it was of one grey value and no network ran."""
    import pyarrow as pa

    return pa.schema([pa.field(n, pa.int64(), nullable=False) for n in ("blocks", "constant")])


class VolumeStage(Task):
    """What stages over blocks share: the job, one domain, the mask, parts."""

    name: ClassVar[str] = "volume"

    def __init__(self, job: "Job") -> None:
        self.job, self.options = job, job.options

    def domains(self) -> Sequence[Domain]:
        return (self.job.domain,)

    def mask(self, domain: int) -> Callable[[Any], Any] | None:
        z, y, x = self.spec().shape
        return self.job.mask_of((z, y, x))

    def output_path(self) -> str:
        return self.job.output

    def fingerprint(self, domain: int) -> Mapping[str, object]:
        return self.job.fingerprint()

    def memory(self) -> Mapping[str, int]:
        return self.job.memory()

    def parts(self, name: str, columns: "pa.Schema") -> TableParts:
        return TableParts(self.job.output, f"parts/{name}", columns, Grid(self.domains(), self.spec()))

    def all_parts(self) -> tuple[TableParts, ...]:
        """What a block writes, in order."""
        return ()

    def prepare(self) -> None:
        create_group(self.job.output)
        set_group_attributes(self.job.output, {"synful": self.job.about()})
        for parts in self.all_parts():
            parts.create()

    def write(self, block: Block, result: Sequence["pa.Table"]) -> Sequence[Write]:
        return [parts.write(block, table) for parts, table in zip(self.all_parts(), result, strict=True)]

    def stored(self, block: Block) -> Sequence[Array] | None:
        found = [parts.stored(block) for parts in self.all_parts()]
        return None if any(f is None for f in found) else [f for f in found if f is not None]


class ExtractingStage(VolumeStage):
    """A stage whose blocks write partners, seeds and counts."""

    def all_parts(self) -> tuple[TableParts, ...]:
        return self.parts("partners", schema()), self.parts("seeds", seed_schema()), self.parts("blocks", block_schema())

    def extracted(self, predictions: Predictions | None, core: Region, extraction: Extraction) -> list["pa.Table"]:
        """The parts of a block; without predictions, of one where nothing can be."""
        import pyarrow as pa

        tables = (schema().empty_table(), seed_schema().empty_table())
        if predictions is not None:
            tables = extraction.block(predictions, core)
        counts = [1, tables[0].num_rows, tables[1].num_rows, int(predictions is None), 0, 0]
        return [*tables, pa.table([[n] for n in counts], schema=block_schema())]


class NetworkStage(VolumeStage):
    """A stage whose blocks are tiles of the network."""

    def spec(self) -> GridSpec:
        return self.job.tiling.spec()

    def open(self) -> None:
        self.raw = self.job.open_raw()

    def open_pilot(self) -> None:
        self.raw = self.job.open_raw(sampled=True)

    def read(self, block: Block) -> tuple[Block, Array | None]:
        return block, read_tile(self.raw, block, skip_constant=self.options.volume.skip_constant)


class Fused(NetworkStage, ExtractingStage):
    """Network and extraction in one pass; predictions are never stored. The main stage."""

    name: ClassVar[str] = "synful"

    def relevant_options(self) -> Mapping[str, object]:
        return self.job.network_options() | self.options.extract.model_dump(mode="json")

    def setup(self, device: str) -> State:
        return self.job.predictor(device), self.job.extraction()

    def compute(self, inputs: tuple[Block, Array | None], state: State) -> list["pa.Table"]:
        block, raw = inputs
        predictor, extraction = state
        if raw is None or predictor is None:
            return self.extracted(None, block.core, extraction)
        halo = self.job.tiling.halo
        whole = Region(block.core.begin, tuple(b + n for b, n in zip(block.core.begin, self.job.tiling.core, strict=True)))
        tile = whole.grow(halo, halo)
        mask, vectors = predictor(raw, tile.shape)
        seen = tile.intersect(self.job.domain.region)
        inside = seen.shift([-b for b in tile.begin]).slices
        return self.extracted(Predictions(mask[inside], vectors[(slice(None), *inside)], seen.begin), block.core, extraction)


class Predict(NetworkStage):
    """Predictions kept as arrays: the mask, truncated to its type, and the vectors (spec 1.5); and a row of counts. The main stage."""

    name: ClassVar[str] = "synful"

    def relevant_options(self) -> Mapping[str, object]:
        return self.job.network_options() | self.options.store.model_dump(mode="json")

    def outputs(self) -> Sequence[OutputLayout]:
        path, store, shape = self.job.output, self.options.store, self.job.domain.shape
        chunks = self.job.chunks
        return [
            OutputLayout(f"{path}/{store.mask}", 0, shape, chunks, np.dtype(store.mask_dtype).itemsize, (0, 1, 2)),
            OutputLayout(f"{path}/{store.vectors}", 0, (3, *shape), (3, *chunks), np.dtype(store.vectors_dtype).itemsize, (1, 2, 3)),
        ]

    def all_parts(self) -> tuple[TableParts, ...]:
        return (self.parts("tiles", tile_schema()),)

    def prepare(self) -> None:
        super().prepare()
        domain, store = self.job.domain, self.options.store
        zyx, chunks = ("z", "y", "x"), self.job.chunks
        for name, dtype, scale, lead in (
            (store.mask, store.mask_dtype, store.mask_scale, ()),
            (store.vectors, store.vectors_dtype, store.vectors_scale, (3,)),
        ):
            OutputArray.create(
                self.job.output,
                name,
                shape=(*lead, *domain.shape),
                dtype=dtype,
                chunks=(*lead, *chunks),
                axes=zyx if not lead else ("c", *zyx),
                voxel_size=(*(1.0 for _ in lead), *domain.voxel_size),
                offset=(*(0.0 for _ in lead), *domain.offset),
                units=(*("" for _ in lead), *domain.units),
                attributes={"scale": scale, "resolution": list(domain.voxel_size), **self.job.about()},
            )

    def open(self) -> None:
        super().open()
        self.arrays = [OutputArray.open(self.job.output, n) for n in (self.options.store.mask, self.options.store.vectors)]

    def setup(self, device: str) -> "Predictor":
        return self.job.predictor(device)

    def compute(self, inputs: tuple[Block, Array | None], state: "Predictor") -> tuple[Array, Array, "pa.Table"]:
        import pyarrow as pa

        block, raw = inputs
        store, shape = self.options.store, self.job.tiling.core
        mask, vectors = (np.zeros(shape, np.float32), np.zeros((3, *shape), np.float32)) if raw is None else state(raw, shape)
        core = tuple(slice(n) for n in block.core.shape)
        return (
            quantised(mask[core], store.mask_scale, store.mask_dtype),
            quantised(vectors[(slice(None), *core)], store.vectors_scale, store.vectors_dtype),
            pa.table([[1], [int(raw is None)]], schema=tile_schema()),
        )

    def write(self, block: Block, result: tuple[Array, Array, "pa.Table"]) -> Sequence[Write]:  # type: ignore[override]
        arrays = [a.write(r, v) for a, r, v in zip(self.arrays, self._regions(block), result[:2], strict=True)]
        return [*arrays, *super().write(block, result[2:])]

    def stored(self, block: Block) -> Sequence[Array] | None:
        arrays = [OutputArray.open(self.job.output, n) for n in (self.options.store.mask, self.options.store.vectors)]
        places, counts = list(zip(arrays, self._regions(block), strict=True)), super().stored(block)
        return [*(a.read(r) for a, r in places), *counts] if counts and all(a.complete(r) for a, r in places) else None

    def _regions(self, block: Block) -> tuple[Region, Region]:
        return block.core, Region((0, *block.core.begin), (3, *block.core.end))


class TileCounts(Reduction):
    """The sums of what `Predict` counted, block by block; the last level reports them."""

    def finish(self) -> FrozenResult | None:
        if len(self.parts.grid) > 1:
            return None
        sums = self.result().to_pylist()
        return FrozenResult({"blocks of one grey value": sums[0]["constant"] if sums else 0})


class Extract(ExtractingStage):
    """Partners of stored predictions, those of this run or of another. The main stage where there is no network to run."""

    name: ClassVar[str] = "extract"

    def spec(self) -> GridSpec:
        halo = self.job.halo
        return GridSpec(self.job.core, tuple((h, h) for h in halo), "shrink")

    def upstream(self) -> Sequence[Dependency] | None:
        """The predictions that a block reads, where this run makes them."""
        return (Dependency(Predict.name),) if self.job.predictions is None else None

    def input_reads(self) -> Literal["region", "stage"]:
        """Predictions that another task of the run makes, as far as a block sees."""
        return "region"

    def relevant_options(self) -> Mapping[str, object]:
        return self.options.extract.model_dump(mode="json")

    def memory(self) -> Mapping[str, int]:
        return self.job.reading_memory()

    def open(self) -> None:
        self.predictions = self.job.kept_predictions().open()

    def setup(self, device: str) -> State:
        return None, self.job.extraction()

    def read(self, block: Block) -> tuple[Block, Predictions]:
        return block, self.predictions(block.read)

    def compute(self, inputs: tuple[Block, Predictions], state: State) -> list["pa.Table"]:
        block, predictions = inputs
        return self.extracted(predictions, block.core, state[1])


class Spanning(VolumeStage):
    """Components that no block sees whole: predicted, or read, in a box of their own."""

    name: ClassVar[str] = "spanning"

    def __init__(self, job: "Job", source: ExtractingStage) -> None:
        super().__init__(job)
        self.source = source

    def spec(self) -> GridSpec:
        return GridSpec(self.source.spec().shape)

    def relevant_options(self) -> Mapping[str, object]:
        return self.source.relevant_options()

    def all_parts(self) -> tuple[TableParts, ...]:
        return self.parts("merged", schema()), self.parts("oversized", seed_schema()), self.parts("counts", block_schema())

    def open(self) -> None:
        _, self.seeds, self.blocks = self.source.all_parts()
        self.source.open()

    def setup(self, device: str) -> State:
        return self.source.setup(device)

    def read(self, block: Block) -> tuple["pa.Table", "pa.Table"]:
        same = self.seeds.grid.block(block.id)
        return self.seeds.read(same), self.blocks.read(same)

    def compute(self, inputs: tuple["pa.Table", "pa.Table"], state: State) -> list["pa.Table"]:
        import pyarrow as pa

        (seeds, counts), (predictor, extraction) = inputs, state
        merged, oversized, different = extraction.merged(seeds, self._predict(predictor))
        names, (row,) = counts.schema.names, counts.to_pylist()
        row |= {"partners": row["partners"] + merged.num_rows, "oversized": oversized.num_rows, "different": different}
        return [merged, oversized, pa.table([[row[n]] for n in names], schema=block_schema())]

    def _predict(self, predictor: "Predictor | None") -> OfBox:
        if predictor is None:
            stored: OfBox = self.source.predictions  # type: ignore[attr-defined]
            return stored
        raw = self.source.raw  # type: ignore[attr-defined]
        return lambda region: predictor.box(region, raw.read)


def read_tile(raw: RawReader, block: Block, *, skip_constant: bool) -> Array | None:
    """The input of a block, padding included; None where what the volume holds of it is one grey value."""
    before, after = zip(*block.pad, strict=True)
    padded = block.read.grow(before, after)
    inside = raw.inside(padded)
    return None if skip_constant and is_constant(inside) else raw.network_input(inside, padded)


def quantised(values: Array, scale: float, dtype: str) -> Array:
    """Values times their scale in the type they are kept in: clipped to its range, then truncated toward zero (spec 1.5)."""
    scaled = values * np.float32(scale)
    if np.dtype(dtype).kind == "f":
        return np.ascontiguousarray(scaled, np.dtype(dtype))
    limits = np.iinfo(dtype)
    return np.ascontiguousarray(np.clip(scaled, limits.min, limits.max).astype(dtype))
