"""The search of extraction parameters as a run: one block per combination, so that they spread over workers and a kill costs one of them.

    [input]  path = the container of stored predictions
    [output] path = the folder of results
    [options]       SearchOptions

Each combination writes its part of the table `trials`; `finish` joins them into `search.parquet` and `search.csv`.
"""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import pyarrow as pa
from pydantic import Field

from blockwise.config import Place, RunConfig
from blockwise.errors import ConfigError
from blockwise.geometry import Domain
from blockwise.grid import Block, Grid, GridSpec
from blockwise.storage import identity, make_folders, open_source, write_atomic
from blockwise.storage.opening import missing_file
from blockwise.storage.tables import TableParts
from blockwise.storage.writes import Array, Write
from blockwise.task import FrozenResult, Task, TaskOptions
from tasks.synful.cell_stages import open_segmentation
from tasks.synful.curves import best
from tasks.synful.grid_search import SCHEMA, Trials, combinations
from tasks.synful.options import ExtractOptions, Lengths, StoreOptions
from tasks.synful.stored_predictions import StoredPredictions


class SearchOptions(TaskOptions):
    """Options of the task "synful-search": what is tried, and how it is compared with the truth.

    truth : table of true partners, whatever `formats.read_any` reads.  mask, vectors : names of the predictions in the container.
    segmentation : segments of both ends, of the predictions' extent or larger.
    min_scores : scores to try (strict), or how many, parting what is found in equal shares.
    by, match_on, match_distance_nm, merge_within_nm, drop_segments : of `evaluate`.  drop_same_id : within one segment.
    """

    truth: Place
    mask: str = "volumes/pred_syn_indicator"
    vectors: str = "volumes/pred_partner_vectors"
    segmentation: Place | None = None
    segmentation_variable: str | None = None
    rounding: Literal["truncate", "cremi"] = "truncate"
    methods: tuple[Literal["cc", "nms"], ...] = Field(("cc",), min_length=1)
    thresholds: tuple[float, ...] = Field((0.5, 0.7, 0.8, 0.9, 0.95, 0.98), min_length=1)
    scores: tuple[Literal["sum", "mean", "max", "count"], ...] = Field(("sum",), min_length=1)
    locations: tuple[Literal["edt", "edt_padded", "centroid", "peak"], ...] = Field(("edt",), min_length=1)
    nms_radii: tuple[Lengths, ...] = Field(((40.0, 40.0, 40.0),), min_length=1)
    min_scores: tuple[float, ...] | int = 20
    by: Literal["segment", "none"] = "none"
    match_on: Literal["both", "pre", "post"] = "both"
    match_distance_nm: float = Field(400.0, ge=0)
    merge_within_nm: float | None = Field(None, ge=0)
    drop_same_id: bool = False
    drop_segments: tuple[int, ...] = (0,)

    @property
    def combinations(self) -> tuple[ExtractOptions, ...]:
        names = ("methods", "thresholds", "scores", "locations", "nms_radii")
        return combinations(**{n: getattr(self, n) for n in names})

    @property
    def evaluation(self) -> dict[str, Any]:
        """Options of `evaluate`."""
        names = ("by", "match_on", "match_distance_nm", "merge_within_nm", "drop_segments")
        return {n: getattr(self, n) for n in names} | {"drop_same_id": "segment" if self.drop_same_id else False}


@dataclass
class GridSearch(Task):
    """Tries combinations of extraction parameters on stored predictions."""

    name: ClassVar[str] = "synful-search"
    Options: ClassVar[type[SearchOptions]] = SearchOptions

    predictions: StoredPredictions
    results: str
    options: SearchOptions
    trials: Trials = field(init=False, repr=False)

    @classmethod
    def from_config(cls, config: RunConfig) -> Self:
        """Checks that predictions, truth and segmentation are there and fit together.

        Raises
        ------
        ConfigError, InputError : before anything is written.
        """
        options = config.options_as(SearchOptions)
        if config.input.path is None or config.output.path is None:
            raise ConfigError("a search needs [input] path (the container of predictions) and [output] path (the folder of results)")
        if options.segmentation is None and (options.by == "segment" or options.drop_same_id):
            raise ConfigError("by = 'segment' and drop_same_id need segments: give [options] segmentation, or by = 'none'")
        store = StoreOptions(mask=options.mask, vectors=options.vectors)
        predictions = StoredPredictions.find(config.input.path, store, config.input.voxel_size, config.input.offset)
        read_truth(options.truth)
        if options.segmentation is not None:
            open_segmentation(options, predictions.domain).close()
        return cls(predictions, config.output.path, options)

    @property
    def parts(self) -> TableParts:
        return TableParts(self.results, "trials", SCHEMA, Grid(self.domains(), self.spec()))

    def domains(self) -> Sequence[Domain]:
        return (Domain("combinations", ("combination",), (len(self.options.combinations),)),)

    def spec(self) -> GridSpec:
        return GridSpec((1,))

    def fingerprint(self, domain: int) -> Mapping[str, object]:
        options = self.options
        inputs = {**self.predictions.fingerprint(), "input.truth": identity(options.truth)}
        if options.segmentation is not None:
            inputs["input.segmentation"] = identity(options.segmentation, options.segmentation_variable)
        return inputs

    def output_path(self) -> str:
        return self.results

    def memory(self) -> Mapping[str, int]:
        voxels = math.prod(self.predictions.domain.shape)
        sources = (open_source(self.predictions.path, name) for name in (self.predictions.mask, self.predictions.vectors))
        return {"predictions": sum(math.prod(s.shape) * s.dtype.itemsize for s in sources), "extraction": 8 * voxels}

    def prepare(self) -> None:
        make_folders(Path(self.results))
        self.parts.create()

    def open(self) -> None:
        """Load the predictions, as they are stored."""
        options, domain = self.options, self.predictions.domain
        place = options.segmentation
        self.trials = Trials(
            self.predictions.open()(domain.region),
            domain,
            read_truth(options.truth),
            segmentation=None if place is None else open_segmentation(options, domain),
            rounding=options.rounding,
            min_scores=options.min_scores,
            options=options.evaluation,
        )

    def read(self, block: Block) -> ExtractOptions:
        """The combination to try; predictions are in memory since `open`."""
        return self.options.combinations[block.core.begin[0]]

    def compute(self, inputs: ExtractOptions, state: object) -> pa.Table:
        return self.trials.rows(inputs)

    def write(self, block: Block, result: pa.Table) -> Sequence[Write]:
        return [self.parts.write(block, result)]

    def stored(self, block: Block) -> Sequence[Array] | None:
        found = self.parts.stored(block)
        return None if found is None else [found]

    def finish(self) -> FrozenResult:
        """`search.parquet` and `search.csv`, highest F-score first; figures: the best row."""
        import pyarrow.csv
        import pyarrow.parquet

        parts = self.parts
        done = [parts.read(b) for b in map(parts.grid.block, range(len(parts.grid))) if parts.complete(b)]
        table = pa.concat_tables([SCHEMA.empty_table(), *done]).sort_by([("f_score", "descending")])
        for name, write in (("search.parquet", pyarrow.parquet.write_table), ("search.csv", pyarrow.csv.write_csv)):
            buffer = io.BytesIO()
            write(table, buffer)
            write_atomic(Path(self.results) / name, buffer.getvalue())
        return FrozenResult({"combinations": len(done), "evaluations": table.num_rows, **({"best": best(table)} if table.num_rows else {})})

    def describe(self) -> Mapping[str, object]:
        return {
            "combinations": len(self.options.combinations),
            "truth": self.options.truth,
            "segmentation": self.options.segmentation or "none",
        }


def read_truth(path: str) -> pa.Table:
    """A table of true partners from whatever `formats.read_any` reads: Parquet, CSV, TSV, a CREMI file, SQLite, npz.

    Columns as in `tasks.synful.partners`; ids and scores are not needed. Partners of a CREMI file that holds `volumes/labels/neuron_ids`
    come with the segments there.

    Raises
    ------
    MissingError : no such file.  InputError : it cannot be read, or columns are missing.
    """
    from tasks.synful.formats import read_any

    place = Path(path)
    if not place.exists():
        raise missing_file(path, place)
    return read_any(path, **({"segments": True} if _has_neurons(place) else {}))


def _has_neurons(path: Path) -> bool:
    import h5py

    if not h5py.is_hdf5(path):
        return False
    with h5py.File(path, "r") as file:
        return "volumes/labels/neuron_ids" in file
