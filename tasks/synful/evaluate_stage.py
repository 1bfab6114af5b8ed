"""Partners of a run against true ones: precision, recall and F-score in its report, where a truth is given."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from blockwise.geometry import Domain
from blockwise.grid import Block, Grid, GridSpec
from blockwise.storage import identity
from blockwise.storage.tables import TableParts
from blockwise.storage.writes import Array, Write
from blockwise.task import FrozenResult, Task
from tasks.synful.cell_stages import short_digest
from tasks.synful.cells import Cells, read_partners
from tasks.synful.options import EvaluateOptions

if TYPE_CHECKING:
    import pyarrow as pa

INTEGERS = ("true_positives", "false_positives", "false_negatives")
SHARES = ("precision", "recall", "f_score")


class Evaluate(Task):
    """One block: the last data set of partners, whole, against the truth; every true partner counts, so it should cover the region."""

    def __init__(self, source: Cells, options: EvaluateOptions) -> None:
        self.source, self.options = source, options
        self.name = f"evaluation-{short_digest({'source': source.name, **options.model_dump(mode='json')})}"  # type: ignore[misc]
        self.grid = Grid(Domain("evaluation", ("truth",), (1,)), GridSpec((1,)))

    @property
    def parts(self) -> TableParts:
        import pyarrow as pa

        columns = [pa.field("min_score", pa.float64()), *(pa.field(n, pa.int64()) for n in INTEGERS)]
        return TableParts(
            self.source.path, f"parts/{self.name}", pa.schema([*columns, *(pa.field(n, pa.float64()) for n in SHARES)]), self.grid
        )

    def domains(self) -> Sequence[Domain]:
        return self.grid.domains

    def spec(self) -> GridSpec:
        return self.grid.spec

    def relevant_options(self) -> Mapping[str, object]:
        return self.options.model_dump(mode="json", exclude={"truth"})

    def fingerprint(self, domain: int) -> Mapping[str, object]:
        return {"input.truth": identity(str(self.options.truth))}

    def output_path(self) -> str:
        return self.source.path

    def prepare(self) -> None:
        """InputError : a truth that cannot be compared, before anything is computed."""
        check_truth(self.options)
        self.parts.create()

    def read(self, block: Block) -> tuple["pa.Table", "pa.Table"]:
        from tasks.synful.grid_search_task import read_truth

        return read_partners(self.source.folder), read_truth(str(self.options.truth))

    def compute(self, inputs: tuple["pa.Table", "pa.Table"], state: Any) -> "pa.Table":
        """A row per threshold of the curve; the first is the one asked for."""
        import pyarrow as pa

        from tasks.synful.curves import precision_recall, thresholds_of

        predicted, truth = inputs
        o = self.options
        asked = float("-inf") if o.min_score is None else o.min_score
        thresholds = [asked, *(t for t in thresholds_of(predicted).tolist() if t > asked)] if predicted.num_rows else [asked]
        curve = precision_recall(
            predicted,
            truth,
            thresholds=thresholds,
            by=o.by,
            match_on=o.match_on,
            match_distance_nm=o.match_distance,
            merge_within_nm=o.merge_within,
            drop_same_id=o.drop_same_id,
        )
        names = self.parts.schema.names
        return pa.table([curve[n].cast(self.parts.schema.field(n).type) for n in names], schema=self.parts.schema)

    def write(self, block: Block, result: "pa.Table") -> Sequence[Write]:
        return [self.parts.write(block, result)]

    def stored(self, block: Block) -> Sequence[Array] | None:
        found = self.parts.stored(block)
        return None if found is None else [found]

    def curve(self) -> "pa.Table":
        """What was found; MissingError before it is."""
        return self.parts.read(self.grid.block(0))

    def finish(self) -> FrozenResult:
        row = self.curve().slice(0, 1).to_pylist()[0]
        return FrozenResult({n: round(row[n], 4) for n in (*SHARES, *INTEGERS)})


def check_truth(options: EvaluateOptions) -> None:
    """Refuse a truth that partners cannot be compared with.

    Raises
    ------
    MissingError : no such file.  InputError : it cannot be read, or lacks the ids that must agree.
    """
    from tasks.synful.grid_search_task import read_truth
    from tasks.synful.partners import require

    ids = () if options.by == "none" else (f"{options.by}_pre", f"{options.by}_post")
    require(read_truth(str(options.truth)), ids, f"evaluate.by = '{options.by}' with the truth {options.truth}")
