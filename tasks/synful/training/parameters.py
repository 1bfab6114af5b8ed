"""`parameter.json`: the keys of the original's setups, and ours, in one frozen schema (spec 3.1, 5).

A file of setup01, setup02 or setup03 is read as it is; what it does not say, and every key of ours, has a default that trains as the
original does. Lengths are nm where not named otherwise, axes z y x. Paths are relative to the folder of the file.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from blockwise.config import validated
from blockwise.errors import ConfigError, MissingError

Triple = tuple[int, int, int]
Lengths = tuple[float, float, float]
SPELLINGS = {"downsample_factor": "downsample_factors", "clip_range": "cliprange"}
"""Keys as the original's README spells them."""


class Options(BaseModel):
    """Frozen; unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class CubeOptions(Options):
    """One annotated volume. A CREMI file needs `raw` only.

    raw, labels, indicator, mask, validation_mask : a path; where the file holds several arrays, with a name ("A.hdf:volumes/raw").
    Each may have its own offset and extent.
    labels : segmentation that targets are confined to.  indicator : the mask to learn, > 0, given as a volume instead of points.
    mask : where not 0, voxels are learned from; it may have any shape.
    validation_mask : where not 0, they are judged and not learned from.
    points : table of partners, CSV, TSV or Parquet; the annotations of `raw` where it is a CREMI file.
    columns : the table's names for pre_z ... post_x.  points_unit : "voxel" where positions count voxels of the raw data.
    voxel_size, offset : of the raw data, where its metadata does not tell or is wrong.
    roi_offset, roi_shape : world box within which points are complete, so that outputs are drawn from it.
    weight : how often this cube is drawn, relative to the others.
    """

    raw: str
    labels: str | None = None
    indicator: str | None = None
    mask: str | None = None
    validation_mask: str | None = None
    points: str | None = None
    columns: Mapping[str, str] = Field(default_factory=dict)
    points_unit: Literal["nm", "voxel"] = "nm"
    voxel_size: Lengths | None = None
    offset: Lengths | None = None
    roi_offset: Lengths | None = None
    roi_shape: Lengths | None = None
    weight: float = Field(1.0, gt=0)


class ElasticOptions(Options):
    """Elastic deformation (spec 5.2 point 4). Spacing, jitter and misalignment in voxels, rotation in radians; rotated in y and x only."""

    control_point_spacing: Triple = (4, 40, 40)
    jitter_sigma: Lengths = (0.0, 2.0, 2.0)
    rotation_interval: tuple[float, float] = (0.0, 1.5707963267948966)
    prob_slip: float = Field(0.05, ge=0, le=1)
    prob_shift: float = Field(0.05, ge=0, le=1)
    max_misalign: float = Field(10.0, ge=0)
    subsample: int = Field(8, ge=1)


class IntensityOptions(Options):
    """Contrast and brightness of every section (point 6): a = mean + (a - mean) * scale + shift, in [0, 1]."""

    scale: tuple[float, float] = (0.9, 1.1)
    shift: tuple[float, float] = (-0.1, 0.1)


class AugmentOptions(Options):
    """What is done to samples; None or an empty list leaves a step out."""

    elastic: ElasticOptions | None = ElasticOptions()
    mirror: tuple[Literal["z", "y", "x"], ...] = ("y", "x")
    transpose: bool = True
    intensity: IntensityOptions | None = IntensityOptions()


class ValidationOptions(Options):
    """Scores while training, on the validation masks of the cubes, or on whole `cubes`.

    every : iterations.  threshold ... min_score : of `detect`, probabilities.  match_distance_nm, match_on : of `evaluate`.
    """

    every: int = Field(5000, ge=1)
    cubes: tuple[CubeOptions, ...] = ()
    method: Literal["cc", "nms"] = "cc"
    threshold: float = 0.5
    score: Literal["sum", "mean", "max", "count"] = "sum"
    min_score: float | None = None
    nms_radius: Lengths | None = None
    match_distance_nm: float = 400.0
    match_on: Literal["pre", "post", "both"] = "both"


class TrainingParameters(Options):
    """Everything a training run depends on. The keys of the original come first, with its defaults.

    unet_model : "dh_unet" has one decoder for vectors and one for the mask.  d_scale : vectors are learned times this.
    kernel_sizes, heads, crop_to_factor : see the network's parameters.
    blob_radius : of the indicator's balls.  d_blob_radius, trg_context : of the vectors' balls, and how far a partner may lie outside.
    m_loss_scale, d_loss_scale : 0 switches a loss off.  m_loss_type : "mean_squared_error" is judged after the activation.
    d_loss_type : where vectors are judged; with d_transition_iteration, what it fades to `d_transition_type` at.
    clip_gradients : largest length of the gradient of all weights; 0.5 in the paper's experiments.
    reject_probability : share of samples that must hold a post-synaptic site (0.95; 1 for vectors alone where not said).
    batch_size : samples per iteration.  workers, prefetch : processes (one per core at most) that make samples, and how many each keeps.
    pad : samples may reach beyond the raw data, which is continued by its edge.  min_masked : least share of a sample inside the mask.
    initial_weights : a checkpoint to go on from, published or own.  initialisation : "glorot" as TensorFlow, "he" learns faster.
    precision : "bf16" and "fp16" compute in mixed precision.
    lr_decay_iterations : half a cosine down to a hundredth; constant where not given, as the original's.
    """

    input_size: Triple = (42, 430, 430)
    downsample_factors: tuple[Triple, ...] = ((1, 3, 3), (1, 3, 3), (3, 3, 3))
    fmap_num: int = Field(4, ge=1)
    fmap_inc_factor: int = Field(5, ge=1)
    unet_model: Literal["vanilla", "dh_unet"] = "vanilla"
    num_heads: int | None = Field(None, ge=1, le=2)
    voxel_size: Lengths = (40.0, 4.0, 4.0)
    learning_rate: float = Field(5e-5, gt=0)
    loss_comb_type: Literal["sum", "product"] = "sum"
    m_loss_scale: float = Field(1.0, ge=0)
    d_loss_scale: float = Field(1.0, ge=0)
    m_loss_type: Literal["cross_entropy", "mean_squared_error"] = "cross_entropy"
    d_loss_type: Literal["mask", "maxima", "full"] = "mask"
    activation: Literal["sigmoid", "relu", "none"] | None = None
    clip_gradients: float | None = Field(None, gt=0)
    d_transition_iteration: int | None = None
    d_transition_type: Literal["mask", "maxima", "full"] = "maxima"
    reject_probability: float | None = Field(None, ge=0, le=1)
    blob_mode: Literal["ball", "peak"] = "ball"
    blob_radius: float = Field(10.0, gt=0)
    d_blob_radius: float = Field(100.0, gt=0)
    d_scale: float | None = Field(None, gt=0)
    trg_context: float = Field(140.0, ge=0)
    cliprange: tuple[float, float] = (7e-4, 0.9993)
    max_iteration: int = Field(700_000, ge=1)
    gt_mask: bool | None = None
    cremi_dir: str | None = None
    samples: tuple[str, ...] = ("A", "B", "C")

    kernel_sizes: tuple[Triple, ...] = ()
    crop_to_factor: bool = False
    heads: tuple[Literal["mask", "vectors"], ...] = ("mask", "vectors")
    cubes: tuple[CubeOptions, ...] = ()
    augment: AugmentOptions = AugmentOptions()
    validation: ValidationOptions | None = None
    confine_to_labels: bool = True
    seed: int = Field(0, ge=0)
    batch_size: int = Field(1, ge=1)
    workers: int = Field(10, ge=0)
    prefetch: int = Field(4, ge=1)
    pad: bool = False
    min_masked: float = Field(0.05, ge=0, le=1)
    initial_weights: str | None = None
    initialisation: Literal["glorot", "he"] = "glorot"
    lr_decay_iterations: int | None = Field(None, ge=1)
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    device: str = "auto"
    threads: int | None = Field(None, ge=1)
    folder: str | None = None
    save_every: int = Field(30_000, ge=1)
    log_every: int = Field(100, ge=1)
    snapshot_every: int = Field(1000, ge=0)
    keep_snapshots: int = Field(20, ge=1)
    tensorboard: bool = True

    @model_validator(mode="before")
    @classmethod
    def _spelled(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        if both := [k for k, v in SPELLINGS.items() if k in values and v in values]:
            raise ValueError(f"{both[0]} and {SPELLINGS[both[0]]} are one key: give it once")
        return {SPELLINGS.get(k, k): v for k, v in values.items()}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        low, high = self.cliprange
        if not 0 < low < high < 1:
            raise ValueError(f"cliprange {[low, high]}: 0 < low < high < 1 is wanted")
        if self.m_loss_scale == self.d_loss_scale == 0:
            raise ValueError("m_loss_scale and d_loss_scale are both 0: there is nothing to learn")
        if self.loss_comb_type == "product" and 0 in (self.m_loss_scale, self.d_loss_scale):
            raise ValueError("loss_comb_type 'product' with m_loss_scale or d_loss_scale 0 is always 0, so nothing is learned: use 'sum'")
        if self.num_heads is not None and self.num_heads != (2 if self.unet_model == "dh_unet" else 1):
            raise ValueError(f"num_heads {self.num_heads} with unet_model {self.unet_model!r}: dh_unet has 2 heads, vanilla 1")
        if self.blob_mode == "peak" and self.m_loss_type == "cross_entropy":
            raise ValueError("blob_mode 'peak' gives targets between 0 and 1: use m_loss_type 'mean_squared_error'")
        return self

    @property
    def learns_mask(self) -> bool:
        return self.m_loss_scale > 0

    @property
    def learns_vectors(self) -> bool:
        return self.d_loss_scale > 0

    @property
    def share_with_points(self) -> float:
        """`reject_probability`, with the originals' defaults: 0.95, 1 where vectors alone are learned."""
        return self.reject_probability if self.reject_probability is not None else (0.95 if self.learns_mask else 1.0)

    def network(self) -> dict[str, Any]:
        """The keys that shape the network, as a parameter.json of the original states them."""
        keys = (
            "input_size",
            "downsample_factors",
            "fmap_num",
            "fmap_inc_factor",
            "unet_model",
            "kernel_sizes",
            "crop_to_factor",
            "d_scale",
        )
        return {**{k: v for k in (*keys, "heads") if (v := getattr(self, k)) not in (None, ())}, "voxel_size": self.voxel_size}


def load_parameters(path: str | Path, changes: Sequence[str] = ()) -> TrainingParameters:
    """Read a parameter.json; paths in it become absolute.

    Parameters
    ----------
    changes : key=value over the file, "validation.every=100".

    Raises
    ------
    MissingError : no such file.  ConfigError : not a JSON object, unknown keys (names the nearest), wrong values.
    """
    file = Path(path)
    if not file.is_file():
        raise MissingError(f"no parameters at {file}: configs/synful-setup01.json is one to start from")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{file} is not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{file} holds a {type(values).__name__}: a JSON object with the keys of a parameter.json is wanted")
    parameters = validated(TrainingParameters, with_changes(values, changes), file.name)
    return validated(TrainingParameters, absolute(parameters.model_dump(exclude_unset=True), file.absolute().parent), file.name)


def absolute(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The same values with every path made absolute; URLs and names in the registry as they are."""

    def place(text: str | None) -> str | None:
        return text if text is None or "://" in text else str(folder / Path(text).expanduser())

    def cube(given: dict[str, Any]) -> dict[str, Any]:
        paths = ("raw", "labels", "indicator", "mask", "validation_mask", "points")
        return {k: place(v) if k in paths else v for k, v in given.items()}

    made = {k: place(v) if k in ("cremi_dir", "folder") else v for k, v in values.items()}
    if (weights := made.get("initial_weights")) and any((folder / f"{weights}{end}").exists() for end in ("", ".index")):
        made["initial_weights"] = place(weights)
    if "cubes" in made:
        made["cubes"] = [cube(c) for c in made["cubes"]]
    if made.get("validation") and "cubes" in made["validation"]:
        made["validation"] = {**made["validation"], "cubes": [cube(c) for c in made["validation"]["cubes"]]}
    return made


def with_changes(values: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """A parameter.json's content with key=value over it; values are JSON, or text as it stands.

    Raises
    ------
    ConfigError : no key=value, or a key below something that has none.
    """
    made = json.loads(json.dumps(dict(values)))
    for change in changes:
        key, sign, text = change.partition("=")
        if not sign or not key:
            raise ConfigError(f"--set {change}: key=value is wanted, e.g. max_iteration=1000")
        *above, last = key.split(".")
        place = made
        for part in above:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ConfigError(f"--set {change}: {part} holds {json.dumps(place)} and has no keys below it")
        place[last] = _value(text)
    return dict(made)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
