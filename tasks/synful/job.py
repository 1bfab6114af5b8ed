"""What all stages of one Synful run share: the volume, the networks, how it is tiled, and where results go.

A job is sent to the workers, so it holds paths and numbers only; `open_raw`, `predictor` and `extraction` make what a process works with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from blockwise.config import RunConfig
from blockwise.errors import ConfigError, InputError
from blockwise.geometry import Domain
from blockwise.grid import Grid, GridSpec
from blockwise.storage import identity
from tasks.synful.block_mask import BlockMask, open_mask, roi_in_voxels
from tasks.synful.extraction import Extraction
from tasks.synful.histogram_stage import GreyValues, grey_bins
from tasks.synful.lookup import QUOTIENT
from tasks.synful.networks import NetworkFile, common_voxel_size, read_networks
from tasks.synful.normalisation import Normalisation
from tasks.synful.options import SynfulOptions
from tasks.synful.partners import cantor_ids
from tasks.synful.predictor import FLIPPED, Predictor, check_mirrors, load_predictor
from tasks.synful.raw import Raw, RawReader, open_raw
from tasks.synful.sizes import Triple
from tasks.synful.stored_predictions import StoredPredictions
from tasks.synful.tiling import Tiling, common_product, in_voxels
from tasks.synful.views import Views

LEAST_CONTEXT = 100.0
"""nm of context where none is asked for, in an aligned grid: rounded up to the pooling it covers a usual component."""

COMPAT_CONTEXT = {"fused": 40.0, "stored": 120.0}
"""nm: those of the original's two drivers (spec 2, 6.4)."""


@dataclass(frozen=True)
class Job:
    """One run over one volume.

    Parameters
    ----------
    domain : the volume.
    raw, networks, tiling : of a run with networks.
    predictions : of one that extracts from stored predictions.
    core, halo : voxels that a block of the extraction owns, and that it sees around them. Where predictions are kept, the tiles of the
        network may be smaller than such a block.
    """

    options: SynfulOptions
    output: str
    domain: Domain
    core: Triple
    halo: Triple
    raw: Raw | None = None
    networks: tuple[NetworkFile, ...] = ()
    tiling: Tiling | None = None
    predictions: StoredPredictions | None = None
    warnings: tuple[str, ...] = ()
    auto: bool = field(default=False, compare=False)

    @classmethod
    def from_config(cls, config: RunConfig) -> "Job":
        """The job of a configuration with networks.

        Raises
        ------
        ConfigError, InputError, ModelError : names what does not fit, and with what.
        """
        options = config.options_as(SynfulOptions)
        _, output = _given(config)
        networks = read_networks(config.model.path, options.network)
        raw, warnings = _raw(config, options, networks)
        domain = raw.domain()
        _check_volumes(options, domain)
        tiling = _tiling(config, options, networks, domain)
        check_mirrors(tiling, FLIPPED[options.network.flips])
        halo = tiling.halo if options.mode == "fused" else _extraction_halo(options, domain)
        core = tiling.core if options.mode == "fused" else _several(tiling.core, halo)
        _check_context(options, core, halo, domain)
        return cls(
            options,
            output,
            domain,
            core,
            halo,
            raw=raw,
            networks=networks,
            tiling=tiling,
            warnings=(*(said for n in networks for said in n.warnings), *warnings),
            auto=config.blocks.shape == "auto",
        )

    @classmethod
    def of_predictions(cls, config: RunConfig) -> "Job":
        """The job of a configuration that extracts from stored predictions.

        Raises
        ------
        ConfigError, InputError : names what does not fit, and with what.
        """
        options = config.options_as(SynfulOptions)
        path, output = _given(config)
        predictions = StoredPredictions.find(path, options.store, config.input.voxel_size, config.input.offset)
        _check_volumes(options, predictions.domain)
        halo = _extraction_halo(options, predictions.domain)
        core = config.blocks.shape
        chosen = predictions.usual_core() if core == "auto" else _three(core)
        _check_context(options, chosen, halo, predictions.domain)
        return cls(options, output, predictions.domain, chosen, halo, predictions=predictions, auto=core == "auto")

    @property
    def grid(self) -> Grid:
        return Grid(self.domain, GridSpec(self.core))

    @cached_property
    def block_mask(self) -> BlockMask | None:
        """Which blocks are computed; None: all."""
        return self.mask_of(self.core)

    def mask_of(self, core: Triple) -> BlockMask | None:
        """The same for blocks of another shape."""
        volume = self.options.volume
        roi = roi_in_voxels(self.domain, volume.roi_offset, volume.roi_shape)
        if roi is None and volume.mask is None:
            return None
        return BlockMask(self.domain, core, roi, volume.mask, volume.mask_variable)

    @property
    def chunks(self) -> Triple:
        """Chunks of predictions that are kept: divisors of a tile, near 256 (spec 1.4)."""
        assert self.tiling is not None
        z, y, x = (min((d for d in range(1, n + 1) if n % d == 0), key=lambda d: abs(d - 256)) for n in self.tiling.core)
        return z, y, x

    def views(self) -> Views:
        options = self.options.extract
        radius = in_voxels(options.nms_radius, self.domain.voxel_size) if options.method == "nms" and options.nms_radius else (0, 0, 0)
        z, y, x = (r + 1 for r in radius)
        return Views(self.grid, self.halo, (z, y, x), computed=self.block_mask)

    def extraction(self) -> Extraction:
        roi = self.block_mask.roi if self.block_mask else None
        return Extraction(self.options.extract, self.views(), self.domain.voxel_size, self.domain.offset, roi)

    @cached_property
    def grey(self) -> GreyValues | None:
        """What must be known of the volume's grey values first; None where their type says it."""
        method = self.options.volume.normalize
        if method == "dtype" or self.raw is None:
            return None
        trained = self.networks[0].raw_percentiles
        return GreyValues(method, self.raw, grey_bins(self.raw), trained, self.output, self.grid, self.block_mask)

    def open_raw(self, *, sampled: bool = False) -> RawReader:
        """The volume as network input; `sampled`: with a normalisation that a sample suggests, before the whole volume is known."""
        assert self.raw is not None
        if self.grey is None:
            return self.raw.open()
        return self.raw.normalised(self.grey.sampled() if sampled else self.grey.frozen()).open()

    def predictor(self, device: str) -> Predictor:
        assert self.tiling is not None
        return load_predictor(self.networks, self.tiling, device, self.options.network)

    def kept_predictions(self) -> StoredPredictions:
        """Predictions that the extraction reads: those of the input, or those that this run keeps."""
        return self.predictions or StoredPredictions.kept(self.output, self.options.store, self.domain)

    def fingerprint(self) -> Mapping[str, object]:
        """What decides the results of the stages over blocks besides grid and options."""
        prints: dict[str, object] = {f"model.{i}": n.digest for i, n in enumerate(self.networks)}
        if self.raw is not None:
            prints |= {"input.path": identity(self.raw.path, self.raw.variable), "voxel_size": list(self.raw.voxel_size)}
        if self.predictions is not None:
            prints |= self.predictions.fingerprint()
        volume = self.options.volume
        if volume.mask:
            prints["input.mask"] = identity(volume.mask, volume.mask_variable)
        return prints

    def network_options(self) -> dict[str, Any]:
        """Options that decide predictions; the networks themselves are known by their digests."""
        network = self.options.network.model_dump(mode="json", exclude={"vectors", "parameters"})
        volume = self.options.volume.model_dump(mode="json", exclude={"mask"})
        return {"grid": self.options.grid, **network, **volume}

    def memory(self) -> dict[str, int]:
        """Projected bytes of a worker, by term."""
        from tasks.synful.memory import peak_bytes

        if self.tiling is None:
            return self.reading_memory()
        spec, output = self.tiling.spec(), prod(self.tiling.output)
        inputs = [n + sum(c) for n, c in zip(spec.shape, spec.context, strict=True)]
        cuts = [(n, [i - sum(c) for i, c in zip(inputs, self.tiling.crop(n), strict=True)]) for n in (f.shape for f in self.networks)]
        return {
            "inputs, 5 in the pipeline": 5 * 4 * prod(inputs),
            "network": max(peak_bytes(shape, cut) for shape, cut in cuts),
            "predictions": 4 * 4 * output,
        }

    def reading_memory(self) -> dict[str, int]:
        """The same where predictions are read."""
        return {"predictions read, 4 in the pipeline": 4 * 7 * prod(n + 2 * h for n, h in zip(self.core, self.halo, strict=True))}

    def about(self) -> dict[str, Any]:
        """What the metadata of results say of how they were made."""
        extract = self.options.extract.model_dump(mode="json", exclude_none=True)
        if self.raw is None:
            return {"extract": extract, "source": self.kept_predictions().path}
        return {
            "extract": extract,
            "networks": [{"path": n.path, "sha256": n.digest} for n in self.networks],
            "normalize": self.options.volume.normalize,
            "grid": self.options.grid,
            "source": self.raw.path,
            "resampled_to_nm": list(self.raw.voxel_size) if self.raw.is_resampled else None,
        }


def _given(config: RunConfig) -> tuple[str, str]:
    """Input and output path."""
    if config.input.path is None:
        raise ConfigError("[input] path is not set: the volume to look at")
    if config.input.sessions or config.input.frame_rate:
        raise ConfigError("[input] sessions and frame_rate belong to recordings, a volume has none: remove them")
    if config.output.path is None:
        raise ConfigError("[output] path is not set")
    if config.blocks.context is not None or config.blocks.edge not in (None, "overhang"):
        raise ConfigError("[blocks] context and edge follow from the network and are not to be set for Synful: remove them")
    return config.input.path, config.output.path


def _raw(config: RunConfig, options: SynfulOptions, networks: Sequence[NetworkFile]) -> tuple[Raw, list[str]]:
    """The volume and what is to be said of its voxel size."""
    from tasks.synful.histogram import check_voxel_size

    given, trained = config.input, options.volume.trained_voxel_size or common_voxel_size(networks)
    if given.resample and trained is None:
        raise ConfigError("[input] resample = true needs the voxel size of the training: set [options.volume] trained_voxel_size")
    reader = open_raw(
        str(given.path),
        given.variable,
        voxel_size=given.voxel_size,
        offset=given.offset,
        resample_to=trained if given.resample else None,
        normalisation=None if options.volume.normalize == "dtype" else Normalisation("percentile", (0, 100), ((0, 1),), (0, 1)),
    )
    reader.close()
    raw = reader.raw
    return raw, check_voxel_size(raw.stored_voxel_size, trained, resample=given.resample) if trained else []


def _tiling(config: RunConfig, options: SynfulOptions, networks: Sequence[NetworkFile], domain: Domain) -> Tiling:
    shapes, aligned = tuple(n.shape for n in networks), options.grid == "aligned"
    step = common_product(shapes) if aligned else (1, 1, 1)
    halo = _halo(options, domain, step) if options.mode == "fused" else (0, 0, 0)
    given = config.blocks.shape
    if given != "auto":
        return Tiling(shapes, _three(given), halo, aligned)
    if aligned:
        from tasks.synful.auto import largest_core

        return Tiling(shapes, largest_core(shapes, halo, config, domain.shape), halo, True)
    output = networks[0].usual_output
    z, y, x = (n - 2 * h for n, h in zip(output, halo, strict=True))
    if min(z, y, x) < 1:
        raise ConfigError(f"the tile of {list(output)} voxels leaves nothing inside a context of {list(halo)}: choose a smaller context")
    return Tiling(shapes, (z, y, x), halo, False)


def _halo(options: SynfulOptions, domain: Domain, step: Triple) -> Triple:
    context = options.extract.context
    usual = LEAST_CONTEXT if options.grid == "aligned" else COMPAT_CONTEXT[options.mode]
    return in_voxels(usual if context is None else context, domain.voxel_size, step)


def _extraction_halo(options: SynfulOptions, domain: Domain) -> Triple:
    context = options.extract.context
    return in_voxels(COMPAT_CONTEXT["stored"] if context is None else context, domain.voxel_size)


def _several(core: Triple, halo: Triple) -> Triple:
    """Whole tiles that together are no smaller than the context of an extraction."""
    z, y, x = (c * -(-max(c, h) // c) for c, h in zip(core, halo, strict=True))
    return z, y, x


def _check_volumes(options: SynfulOptions, domain: Domain) -> None:
    """Refuse coordinates that no id can be made of, volumes that cannot be looked at, a truth that cannot be compared."""
    from tasks.synful.cell_stages import open_clefts, open_segmentation
    from tasks.synful.evaluate_stage import check_truth

    size, offset = np.array(domain.voxel_size), np.array(domain.offset)
    first = np.floor(offset / size + QUOTIENT).astype(np.int64)
    if first.min() < 0:
        raise InputError(
            f"the volume begins at {offset.tolist()} nm, and ids of partners are made of coordinates >= 0: set [input] offset, e.g. to "
            "[0, 0, 0], and that of other volumes likewise"
        )
    cantor_ids(first + np.array(domain.shape))
    if options.volume.mask is not None:
        open_mask(options.volume.mask, options.volume.mask_variable, domain).close()
    if options.map.segmentation is not None:
        open_segmentation(options.map, domain).close()
    if options.map.clefts is not None:
        open_clefts(options.map, domain).close()
    if options.evaluate is not None:
        check_truth(options.evaluate)


def _check_context(options: SynfulOptions, core: Triple, halo: Triple, domain: Domain) -> None:
    if any(c < h for c, h in zip(core, halo, strict=True)):
        raise ConfigError(
            f"a block of {list(core)} voxels is smaller than the context of the extraction, {list(halo)} voxels: make [blocks] shape at "
            "least as large, or [options.extract] context smaller"
        )
    radius = options.extract.nms_radius
    if options.extract.method != "nms" or radius is None:
        return
    wanted = in_voxels(radius, domain.voxel_size)
    if any(h <= r for h, r in zip(halo, wanted, strict=True)):
        least = [(r + 1) * v for r, v in zip(wanted, domain.voxel_size, strict=True)]
        raise ConfigError(
            f"[options.extract] context is {list(halo)} voxels, a maximum within {list(radius)} nm is decided by {list(wanted)} voxels "
            f"around it: set context to at least {least} nm"
        )


def _three(shape: Sequence[int]) -> Triple:
    if len(shape) != 3:
        raise ConfigError(f"[blocks] shape {list(shape)}: a block of a volume has 3 sides, [z, y, x]")
    z, y, x = shape
    return z, y, x
