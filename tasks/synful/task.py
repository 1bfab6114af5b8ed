"""Synful as a run: from raw voxels (or stored predictions) to a data set of partners, mapped, filtered and exported.

Output, a zarr group:

    parts/...                       what blocks found, as Arrow files
    volumes/pred_*                  predictions, in the modes "stored" and "predict"
    partners.parquet/               all partners, by cells of the volume
    segments-<digest>.parquet/      the same with segments and bodies, one per segmentation
    filtered-....parquet/, edges-....parquet/   what the filters left, and the connections between neurons
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from blockwise.config import RunConfig
from blockwise.reduce import FAN_IN, Reduction, reduction_stages, sum_columns
from blockwise.task import FrozenResult, Picture, Task
from tasks.synful.cell_stages import AssignClefts, CellStage, MapSegments, MapSkeletons, Shuffle
from tasks.synful.cells import Cells
from tasks.synful.collect_stage import Collect, cell_grid
from tasks.synful.columns import Identity
from tasks.synful.evaluate_stage import Evaluate
from tasks.synful.export_stage import Exports
from tasks.synful.job import Job
from tasks.synful.options import SynfulOptions
from tasks.synful.pair_stages import Filter, bucket_count
from tasks.synful.tiling import in_voxels
from tasks.synful.volume_stages import Extract, ExtractingStage, Fused, Predict, Spanning, TileCounts, VolumeStage


class Pipeline(VolumeStage):
    """The chain of stages behind the main stage, whichever that is."""

    Options = SynfulOptions

    @classmethod
    def template(cls, source: str) -> str:
        """A commented configuration for a volume; see tasks.synful.preset."""
        from tasks.synful.preset import template

        return template(source)

    def extracting(self) -> ExtractingStage:
        """The stage that writes partners, seeds and counts."""
        return self if isinstance(self, ExtractingStage) else Extract(self.job)

    def stages(self) -> Sequence[Task]:
        first = self.extracting()
        own = [*(self.job.grey.stages() if self.job.grey else ()), self, *self.tile_counts()]
        if first is not self:
            own.append(first)
        spanning = Spanning(self.job, first)
        counts = self.counts(spanning)
        collect = self.collect(first, spanning, counts[-1])
        return [*own, spanning, *counts, collect, *self.after(collect.cells)]

    def tile_counts(self) -> tuple[Reduction, ...]:
        """What becomes of the counts of blocks that keep predictions."""
        if not isinstance(self, Predict):
            return ()
        *below, last = reduction_stages(self.all_parts()[0], sum_columns(), name="tiles", mask=self.mask)
        return (*below, TileCounts(last.source, last.combine, last.name, fan_in=FAN_IN, mask=last.mask_below))

    def counts(self, spanning: Spanning) -> tuple[Reduction, ...]:
        return reduction_stages(spanning.all_parts()[2], sum_columns(), name="counts", mask=spanning.mask)

    def collect(self, first: ExtractingStage, spanning: Spanning, counts: Reduction) -> Collect:
        job = self.job
        cells = Cells(job.output, "partners", cell_grid(job.domain, job.core, self.options.cell_um))
        reach = in_voxels(self.options.extract.max_blob_um * 1000, job.domain.voxel_size)
        own, merged = first.all_parts()[0], spanning.all_parts()[0]
        # hills of a component may lie beyond the core that holds its site
        here, around = ([own], [merged]) if self.options.extract.split_distance is None else ([], [own, merged])
        return Collect(here, around, cells, reach=reach, mask=job.block_mask, counts=counts, fused=isinstance(first, Fused))

    def after(self, cells: Cells) -> Sequence[Task]:
        """Stages over cells: mapping, and what follows; exports are last."""
        stages: list[CellStage] = []
        for wanted, make in (("segmentation", MapSegments), ("skeletons", MapSkeletons), ("clefts", AssignClefts)):
            if getattr(self.options.map, wanted):
                stages.append(make(cells, self.options.map))
                cells = stages[-1].target
        last = self.filtered(cells)
        final = last[-1].kept if last else cells
        judged = [Evaluate(final, self.options.evaluate)] if self.options.evaluate else []
        made = [Exports.of(final, self.job, self.options.exports, self.options.export)] if self.options.exports else []
        return [*stages, *last, *judged, *made]

    def filtered(self, cells: Cells) -> tuple[()] | tuple[Shuffle, Filter]:
        """The shuffle and the filters, where some are wanted."""
        if self.options.filter is None:
            return ()
        by: Identity = "body" if self.options.map.bodies else "segment"
        buckets = bucket_count(cells.grid)
        shuffle = Shuffle(cells, by, buckets)
        return shuffle, Filter(shuffle.target, by, buckets, self.options.filter)

    def resolved(self) -> Mapping[str, object]:
        return {"blocks.shape": list(self.job.core)} if self.job.auto else {}

    def describe(self) -> Mapping[str, object]:
        from tasks.synful.results import describe

        return describe(self.job)

    def pictures(self) -> Sequence[Picture]:
        from tasks.synful.results import curve_picture, pictures

        judged = [s for s in self.stages() if isinstance(s, Evaluate) and s.parts.complete(s.grid.block(0))]
        filtered = [s for s in self.stages() if isinstance(s, Filter) and s.counts.complete(s.grid.block(0))]
        left = {step: rows for s in filtered for step, rows in s.left().items()}
        return [*pictures(self.job, left), *(curve_picture(s.curve()) for s in judged)]

    def finish(self) -> FrozenResult | None:
        return FrozenResult(warnings=self.job.warnings)


class FusedSynful(Pipeline, Fused):
    """Network and extraction in one pass."""


class StoredSynful(Pipeline, Predict):
    """Predictions are kept, then extracted."""


class PredictedSynful(Pipeline, Predict):
    """Predictions are kept, and that is all."""

    def stages(self) -> Sequence[Task]:
        return [*(self.job.grey.stages() if self.job.grey else ()), self, *self.tile_counts()]


class ExtractedSynful(Pipeline, Extract):
    """Partners of predictions that were stored before."""

    name: ClassVar[str] = "synful-extract"

    @classmethod
    def template(cls, source: str) -> str:
        """A commented configuration for stored predictions; see tasks.synful.preset."""
        from tasks.synful.preset import extraction_template

        return extraction_template(source)

    @classmethod
    def from_config(cls, config: RunConfig) -> "ExtractedSynful":
        return cls(Job.of_predictions(config))


class Synful(Pipeline):
    """What the name `synful` makes: one of the above, as the configuration says."""

    name: ClassVar[str] = "synful"

    @classmethod
    def from_config(cls, config: RunConfig) -> "FusedSynful | StoredSynful | PredictedSynful":  # type: ignore[override]
        job = Job.from_config(config)
        made = {"fused": FusedSynful, "stored": StoredSynful, "predict": PredictedSynful}
        return made[job.options.mode](job)
