"""What a Synful run can be told, under `[options]`. Lengths are nm (um where named so), z y x; thresholds are probabilities, 0 to 1."""

from typing import Literal

from pydantic import Field, model_validator

from blockwise.config import Place
from blockwise.task import TaskOptions
from tasks.synful.filters import FilterOptions

Lengths = tuple[float, float, float]


class NetworkOptions(TaskOptions):
    """`[options.network]`. `[model] path` is the network that predicts post-synaptic sites.

    vectors : network for the vectors, where another one does it.  parameters : a parameter.json, where none lies beside the checkpoint.
    activation : of the mask's logits, where the checkpoint does not tell.  flips : average over mirrored inputs (4 in y, x; 8 with z).
    """

    vectors: Place | None = None
    parameters: Place | None = None
    activation: Literal["sigmoid", "relu", "identity"] | None = None
    precision: Literal["float32", "bf16"] = "float32"
    flips: Literal["none", "yx", "zyx"] = "none"


class VolumeOptions(TaskOptions):
    """`[options.volume]`: what of the volume is looked at, and how grey values become inputs.

    trained_voxel_size : of the network.  mask : a volume, zero where nothing is to be computed; any voxel size.
    roi_offset, roi_shape : nm, a box of world coordinates.  skip_constant : leave out blocks of one grey value.
    """

    normalize: Literal["dtype", "match", "percentile", "section"] = "dtype"
    trained_voxel_size: Lengths | None = None
    mask: Place | None = None
    mask_variable: str | None = None
    roi_offset: Lengths | None = None
    roi_shape: Lengths | None = None
    skip_constant: bool = True

    @model_validator(mode="after")
    def _is_a_box(self) -> "VolumeOptions":
        if (self.roi_offset is None) != (self.roi_shape is None):
            raise ValueError("roi_offset and roi_shape go together")
        return self


class ExtractOptions(TaskOptions):
    """`[options.extract]`: from predictions to partners.

    min_score : only higher scores are kept.  context : nm that a block sees around its core, as a whole number of voxels (of the
    network's pooling in an aligned grid).  max_blob_um : longer components are reported, not merged.
    split_distance : nm; components are parted at their saddles into hills whose peaks are at least so far apart and stand `prominence`
    (of the probability) above the saddle.
    """

    method: Literal["cc", "nms"] = "cc"
    threshold: float = Field(0.95, ge=0, le=1)
    score: Literal["sum", "mean", "max", "count"] = "sum"
    location: Literal["edt", "edt_padded", "centroid", "peak"] = "edt"
    min_score: float | None = None
    nms_radius: Lengths | None = None
    context: float | Lengths | None = None
    max_blob_um: float = Field(2.0, gt=0)
    split_distance: float | None = Field(None, gt=0)
    prominence: float = Field(0.1, ge=0)

    @model_validator(mode="after")
    def _has_radius(self) -> "ExtractOptions":
        if self.method == "nms" and self.nms_radius is None:
            raise ValueError("nms_radius is needed with method 'nms', e.g. [40, 40, 40] nm")
        if self.method == "nms" and self.split_distance is not None:
            raise ValueError("split_distance parts components, method 'nms' has none: leave it out")
        return self


class StoreOptions(TaskOptions):
    """`[options.store]`: names, types and scales of predictions that are kept; a stored value is what the network says times its scale."""

    mask: str = "volumes/pred_syn_indicator"
    vectors: str = "volumes/pred_partner_vectors"
    mask_dtype: Literal["uint8", "float32"] = "uint8"
    mask_scale: float = Field(255.0, gt=0)
    vectors_dtype: Literal["int8", "float32"] = "int8"
    vectors_scale: float = Field(0.25, gt=0)


class MapOptions(TaskOptions):
    """`[options.map]`: to which neurons the sites belong. A new segmentation reruns the stages from here on, no network.

    bodies : table of supervoxel and body.  skeletons : traced neurons, a folder of .swc or a table of nodes; they need a segmentation.
    clefts : predictions of clefts, 0 to 255.  cleft_reach : nm around a cell's partners that clefts are looked at in.
    """

    segmentation: Place | None = None
    segmentation_variable: str | None = None
    rounding: Literal["truncate", "cremi"] = "truncate"
    bodies: Place | None = None
    skeletons: Place | None = None
    skeleton_distance: float | None = Field(None, gt=0)
    clefts: Place | None = None
    clefts_variable: str | None = None
    cleft_threshold: float = 130
    cleft_reach: float = Field(2000.0, ge=0)

    @model_validator(mode="after")
    def _has_segments(self) -> "MapOptions":
        if self.segmentation is None and (self.bodies or self.skeletons):
            raise ValueError("bodies and skeletons need a segmentation")
        return self


class EvaluateOptions(TaskOptions):
    """`[options.evaluate]`: compare with true partners, which cover the volume or its region of interest.

    truth : whatever `formats.read_any` reads, with sites and, unless by = "none", the ids that must agree.
    match_distance, merge_within : nm.
    """

    truth: Place
    by: Literal["segment", "body", "skeleton", "none"] = "segment"
    match_on: Literal["both", "pre", "post"] = "both"
    match_distance: float = Field(400.0, gt=0)
    merge_within: float | None = Field(None, gt=0)
    min_score: float | None = None
    drop_same_id: bool = False


class ExportOptions(TaskOptions):
    """`[options.export]`: how `exports` are written.

    csv : ending of its file.  units : of the sites in it; voxels are those of the volume.
    cave_resolution : nm, of the voxels in CAVE's table; by default the volume's.
    mongodb : mongodb://HOST:PORT/DATABASE; user and password come from $BLOCKWISE_MONGODB_USER and $BLOCKWISE_MONGODB_PASSWORD.
    collection : partners become `<collection>.synapses`.
    """

    csv: Literal["csv", "csv.gz", "tsv", "tsv.gz"] = "csv"
    units: Literal["nm", "voxel"] = "nm"
    cave_resolution: Lengths | None = None
    mongodb: str | None = None
    collection: str = Field("partners", min_length=1)


class SynfulOptions(TaskOptions):
    """All of `[options]`.

    mode : "fused" extracts within the pass that predicts and keeps no predictions; "stored" keeps them as arrays first; "predict" keeps
    them and stops there, for `synful-extract` or `synful-search`.
    grid : "aligned" has no seams; "compat" has the original's tiles.
    cell_um : side of the cells in which partners are kept.  exports : files beside the output, by name.
    """

    mode: Literal["fused", "stored", "predict"] = "fused"
    grid: Literal["aligned", "compat"] = "aligned"
    network: NetworkOptions = NetworkOptions()
    volume: VolumeOptions = VolumeOptions()
    extract: ExtractOptions = ExtractOptions()
    store: StoreOptions = StoreOptions()
    map: MapOptions = MapOptions()
    filter: FilterOptions | None = None
    evaluate: EvaluateOptions | None = None
    cell_um: float = Field(10.0, gt=0)
    exports: tuple[Literal["csv", "sqlite", "cremi", "npz", "neuroglancer", "cave", "mongodb", "parquet"], ...] = ()
    export: ExportOptions = ExportOptions()

    @model_validator(mode="after")
    def _has_a_server(self) -> "SynfulOptions":
        if "mongodb" in self.exports and self.export.mongodb is None:
            raise ValueError("the export mongodb needs the url of a server: set export.mongodb")
        return self

    @model_validator(mode="after")
    def _has_partners(self) -> "SynfulOptions":
        named = {"map.segmentation": self.map.segmentation, "map.clefts": self.map.clefts, "filter": self.filter}
        named |= {"evaluate": self.evaluate, "exports": self.exports}
        if self.mode == "predict" and (wanted := [n for n, given in named.items() if given]):
            raise ValueError(f"mode 'predict' finds no partners, so {', '.join(wanted)} cannot be: mode = 'stored' goes on to them")
        return self

    @model_validator(mode="after")
    def _can_be_compared(self) -> "SynfulOptions":
        if self.evaluate is None:
            return self
        by, given = self.evaluate.by, {"segment": self.map.segmentation, "body": self.map.bodies, "skeleton": self.map.skeletons}
        if by == "none" and self.evaluate.drop_same_id:
            raise ValueError("evaluate.drop_same_id needs ids, and evaluate.by is 'none': set by, or leave drop_same_id out")
        if by != "none" and given[by] is None:
            needed = {"segment": "map.segmentation", "body": "map.bodies", "skeleton": "map.skeletons"}[by]
            raise ValueError(f"evaluate.by = '{by}' compares the {by} of both sites: set {needed}, or evaluate.by = 'none'")
        return self

    @model_validator(mode="after")
    def _has_neurons(self) -> "SynfulOptions":
        if self.filter is None:
            return self
        if self.map.segmentation is None:
            raise ValueError("filter looks at the segments of both sites: set map.segmentation, or leave filter out")
        known = {"segment", *(i for i, given in (("body", self.map.bodies), ("skeleton", self.map.skeletons)) if given)}
        for step in self.filter.steps():
            if lacking := {c.rpartition("_")[0] for c in step.columns if c.endswith(("_pre", "_post"))} - known:
                needed = {"body": "map.bodies", "skeleton": "map.skeletons"}[min(lacking)]
                key = "merge_by" if step.name == "merge_within_nm" else step.name
                raise ValueError(f"filter.{step.name} looks at the {min(lacking)} of both sites: set {needed}, or filter.{key} = 'segment'")
        if self.filter.merge_within_nm is not None and self.filter.merge_by == "skeleton":
            raise ValueError(
                "filter.merge_by = 'skeleton': a run filters pairs of segments or bodies apart from each other, and those of one pair of "
                "skeletons may be many; merge by 'segment' or 'body', or the finished table with tasks.synful.filter_partners"
            )
        return self
