"""The parameters of a Synful network: what a `parameter.json` of the original says, and what this project adds to it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from blockwise.errors import MissingError, ModelError
from tasks.synful.sizes import NetworkShape, Triple

HEADS = ("mask", "vectors")
MODELS = ("vanilla", "dh_unet")

TRAINING_KEYS = frozenset(
    {
        *("input_size", "voxel_size", "learning_rate", "max_iteration", "reject_probability", "cliprange", "loss_comb_type"),
        *("m_loss_scale", "d_loss_scale", "m_loss_type", "d_loss_type", "blob_radius", "blob_mode", "d_blob_radius", "d_blob_mode"),
        *("activation", "clip_gradients", "d_transition", "d_transition_iteration", "d_transition_type", "gt_mask", "trg_context"),
        *("raw_percentiles", "cremi_dir", "data_dir", "samples", "setup", "xy_downsample", "downsample_factor", "clip_range"),
    }
)
"""Keys of the originals that do not shape the network; their values are kept."""

SPELLINGS = {"downsample_factor": "downsample_factors"}
"""Keys as the original's README spells them."""


@dataclass(frozen=True)
class NetworkParameters:
    """What shapes a network, and the training keys it came with.

    Parameters
    ----------
    fmap_num : feature maps of the finest level.
    fmap_inc_factor : how many times more each coarser level has.
    downsample_factors : of each pooling, z y x, finest first.
    unet_model : "vanilla" for one right path, "dh_unet" for one of the vectors and one of the mask.
    kernel_sizes : of the convolutions of each level, one more than factors; 3 x 3 x 3 where empty. Anisotropic stacks want 1 x 3 x 3
        at the fine levels.
    crop_to_factor : see `NetworkShape`; never for the published networks.
    d_scale : the network's vectors are nm times this; 1 where None.
    heads : what the network gives, of `HEADS`; a dh_unet has both.
    training : all other keys of the originals, as they were given.

    Raises
    ------
    ModelError : a value that no network can have.
    """

    fmap_num: int
    fmap_inc_factor: int
    downsample_factors: tuple[Triple, ...]
    unet_model: str = "vanilla"
    kernel_sizes: tuple[Triple, ...] = ()
    crop_to_factor: bool = False
    d_scale: float | None = None
    heads: tuple[str, ...] = HEADS
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.unet_model not in MODELS:
            raise ModelError(f"unet_model {self.unet_model!r}: {' or '.join(MODELS)} is wanted")
        if not self.heads or set(self.heads) - set(HEADS) or (self.decoders == 2 and len(self.heads) == 1):
            raise ModelError(
                f"heads {list(self.heads)} of a {self.unet_model}: {' and '.join(HEADS)}, one of them only for a vanilla network"
            )
        object.__setattr__(self, "heads", tuple(h for h in HEADS if h in self.heads))  # as a checkpoint's variables tell them
        if min(self.fmap_num, self.fmap_inc_factor) < 1:
            raise ModelError(f"fmap_num {self.fmap_num}, fmap_inc_factor {self.fmap_inc_factor}: 1 or more is wanted")
        if self.d_scale is not None and not self.d_scale > 0:
            raise ModelError(f"d_scale {self.d_scale}: above 0 is wanted, or null for vectors in nm")
        if not self.kernel_sizes:
            object.__setattr__(self, "kernel_sizes", ((3, 3, 3),) * (len(self.downsample_factors) + 1))

    @property
    def decoders(self) -> int:
        return MODELS.index(self.unet_model) + 1

    @property
    def feature_maps(self) -> tuple[int, ...]:
        """Of each level, finest first."""
        return tuple(self.fmap_num * self.fmap_inc_factor**level for level in range(len(self.downsample_factors) + 1))

    @property
    def shape(self) -> NetworkShape:
        return NetworkShape(self.downsample_factors, self.kernel_sizes, self.feature_maps, self.decoders, self.crop_to_factor)

    @classmethod
    def from_json(cls, values: Mapping[str, Any] | str | Path, *, strict: bool = True) -> Self:
        """Of the mapping in a `parameter.json`, or of the file.

        Parameters
        ----------
        strict : refuse unknown keys; otherwise they are kept among the training keys.

        Raises
        ------
        MissingError : no such file.  ModelError : not parameters of a network: a key missing, unknown, or of a wrong form.
        """
        if not isinstance(values, Mapping):
            return cls._from_file(Path(values), strict)
        values = {SPELLINGS.get(key, key): value for key, value in values.items()}
        shaping = {n: values[n] for n in cls.__dataclass_fields__ if n in values and n != "training"}
        if strict and (unknown := _unknown(set(values) - set(shaping) - TRAINING_KEYS)):
            raise ModelError(f"unknown keys {', '.join(sorted(unknown))}: a network has {', '.join(f for f in cls.__dataclass_fields__)}")
        if missing := {"fmap_num", "fmap_inc_factor", "downsample_factors"} - set(shaping):
            raise ModelError(f"{', '.join(sorted(missing))} missing: a parameter.json states them")
        try:
            for key in ("downsample_factors", "kernel_sizes"):
                if key in shaping:
                    shaping[key] = tuple(triple(v) for v in shaping[key])
            if "heads" in shaping:
                shaping["heads"] = tuple(shaping["heads"])
            return cls(**shaping, training={k: v for k, v in values.items() if k not in shaping})
        except TypeError as error:
            raise ModelError(f"parameters of a wrong form: {error}") from None

    @classmethod
    def _from_file(cls, file: Path, strict: bool) -> Self:
        if not file.is_file():
            raise MissingError(f"no parameters at {file}")
        try:
            return cls.from_json(dict(json.loads(file.read_text(encoding="utf-8"))), strict=strict)
        except (ModelError, ValueError, TypeError) as error:
            raise ModelError(f"{file}: {error}") from None

    def to_json(self) -> dict[str, Any]:
        """The mapping that `from_json` reads; the training keys among the others, as in the originals."""
        own = {n: getattr(self, n) for n in self.__dataclass_fields__ if n != "training"}
        plain = {n: [list(t) if isinstance(t, tuple) else t for t in v] if isinstance(v, tuple) else v for n, v in own.items()}
        return {**self.training, **plain}

    def with_training(self, **keys: Any) -> Self:
        """The same network with other training keys."""
        return replace(self, training={**self.training, **keys})


def _unknown(keys: set[str]) -> set[str]:
    """Those that are not keys of this project's training either."""
    if not keys:
        return keys
    from tasks.synful.training.parameters import TrainingParameters

    return keys - set(TrainingParameters.model_fields)


def triple(values: Iterable[int]) -> Triple:
    """Three integers, z y x; one for all three where a number is given.

    Raises
    ------
    ModelError : not three.
    """
    found = tuple(values) if isinstance(values, Iterable) else (values,) * 3
    if len(found) != 3 or any(int(v) != v for v in found):
        raise ModelError(f"{values!r}: three whole numbers are wanted, z y x")
    z, y, x = (int(v) for v in found)
    return z, y, x
