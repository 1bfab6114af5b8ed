"""The last stage: the finished data set in other formats, beside the output.

    run.zarr -> run.<data set>.csv, .db, .hdf, .npz/, .annotations/, .cave.csv, .parquet

Every format is a domain of one block, so that one more asked for later is one more block. A block writes its file or folder, which
appears whole, and a receipt: name, rows and digest. A lost or changed export is found by `verify`, and made anew after `--rebuild`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from blockwise.errors import ConfigError
from blockwise.geometry import Domain
from blockwise.grid import Block, Grid, GridSpec
from blockwise.ledger.server_url import without_credentials
from blockwise.storage.tables import TableParts
from blockwise.storage.writes import Array, Write
from blockwise.task import FrozenResult, Task
from tasks.synful.cells import Cells
from tasks.synful.formats import EXPORTS, ExportContext, Lengths

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.synful.job import Job
    from tasks.synful.options import ExportOptions

STREAMED = 512 * 2**20
"""Bytes: rows under way, and what is put together of them."""


class Exports(Task):
    """A block is a format.

    Parameters
    ----------
    source : the data set.  formats : names of `EXPORTS`.  context : where the volume lies, and how it is written.

    Raises
    ------
    ConfigError, InputError : a format that cannot hold this volume, or an url with a password.
    """

    name: ClassVar[str] = "exports"

    def __init__(self, source: Cells, formats: Sequence[str], context: ExportContext, *, csv: str = "csv") -> None:
        self.source, self.formats, self.context, self.csv = source, tuple(dict.fromkeys(formats)), context, csv
        self.name = f"exports-{source.name}"  # type: ignore[misc]  # a stage per data set
        self._check()

    @classmethod
    def of(cls, source: Cells, job: "Job", formats: Sequence[str], options: "ExportOptions") -> "Exports":
        """The exports that a job's options ask for."""
        domain = job.domain
        extent, block = (_nm(shape, domain.voxel_size) for shape in (domain.shape, job.core))
        context = ExportContext(
            _nm((1, 1, 1), domain.voxel_size),
            _nm((1, 1, 1), domain.offset),
            extent,
            block,
            csv_units=options.units,
            cave_resolution=options.cave_resolution,
            mongodb=options.mongodb,
            collection=options.collection,
        )
        return cls(source, formats, context, csv=options.csv)

    def _check(self) -> None:
        url = self.context.mongodb
        if url is not None and without_credentials(url) != url:
            raise ConfigError(
                "[options.export] mongodb holds a user or a password, and a run keeps its options: leave them out, and set "
                "$BLOCKWISE_MONGODB_USER and $BLOCKWISE_MONGODB_PASSWORD"
            )
        if "npz" in self.formats:
            from tasks.synful.formats.npz_blocks import check_whole_nm

            check_whole_nm(self.context.block, self.context.offset)

    def domains(self) -> Sequence[Domain]:
        return [Domain(name, ("export",), (1,)) for name in self.formats]

    def spec(self) -> GridSpec:
        return GridSpec((1,))

    def fingerprint(self, domain: int) -> Mapping[str, object]:
        context = self.context
        if self.formats[domain] == "mongodb":
            return {"mongodb": context.mongodb, "collection": context.collection}
        own: dict[str, Mapping[str, object]] = {
            "csv": {"units": context.csv_units, "ending": self.csv},
            "npz": {"block": list(context.block)},
            "cave": {"resolution": list(context.cave_resolution or context.voxel_size)},
        }
        return own.get(self.formats[domain], {})

    def output_path(self) -> str:
        return self.source.path

    def memory(self) -> Mapping[str, int]:
        return {"rows that are exported": STREAMED}

    def target(self, name: str) -> Path:
        """The file or folder of a format."""
        output = Path(self.source.path).absolute()
        stem = output.stem if output.suffix == ".zarr" else output.name
        ending = f".{self.csv}" if name == "csv" else EXPORTS[name].ending
        return output.with_name(f"{stem}.{self.source.name}{ending}")

    def exports(self) -> Sequence[Path]:
        return [self.target(name) for name in self.formats if EXPORTS[name].ending]

    @property
    def receipts(self) -> TableParts:
        import pyarrow as pa

        columns = pa.schema([("format", pa.string()), ("place", pa.string()), ("rows", pa.int64()), ("sha256", pa.string())])
        return TableParts(self.source.path, f"parts/{self.name}", columns, Grid(self.domains(), self.spec()))

    def prepare(self) -> None:
        self.receipts.create()

    def read(self, block: Block) -> str:
        return self.formats[block.domain]

    def compute(self, inputs: str, state: None) -> "pa.Table":
        import pyarrow as pa

        from tasks.synful.formats.whole import digest

        target = self.target(inputs)
        rows = EXPORTS[inputs].write(self.source.folder, target, self.context)
        place = target.name if EXPORTS[inputs].ending else f"{self.context.mongodb} {self.context.collection}.synapses"
        told = digest(target) if EXPORTS[inputs].ending else ""
        return pa.table([[inputs], [place], [rows], [told]], schema=self.receipts.schema)

    def write(self, block: Block, result: "pa.Table") -> Sequence[Write]:
        return [self.receipts.write(block, result), Write(_bytes(result["sha256"][0].as_py()))]

    def stored(self, block: Block) -> Sequence[Array] | None:
        from tasks.synful.formats.whole import digest

        receipt, name = self.receipts.stored(block), self.formats[block.domain]
        if receipt is None or not (self.target(name).exists() or not EXPORTS[name].ending):
            return None
        return [receipt, _bytes(digest(self.target(name)) if EXPORTS[name].ending else "")]

    def finish(self) -> FrozenResult:
        receipts = self.receipts
        rows = [receipts.read(block).to_pylist()[0] for block in receipts.grid.blocks(np.arange(len(receipts.grid)))]
        return FrozenResult({r["format"]: {"place": r["place"], "rows": r["rows"]} for r in rows})


def _nm(counts: Sequence[float], sizes: Sequence[float]) -> Lengths:
    z, y, x = (float(n * s) for n, s in zip(counts, sizes, strict=True))
    return z, y, x


def _bytes(text: str) -> Array:
    return np.frombuffer(text.encode(), np.uint8)
