"""The Synful networks known by name: the published ones, those of a newer list the user read, and the one that comes with this package."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blockwise.models import Entry, Registry, updated_list

TASK = "synful"
VOXEL_SIZE = (40.0, 4.0, 4.0)
INPUT_SHAPE, OUTPUT_SHAPE = (42, 430, 430), (6, 218, 218)


@dataclass(frozen=True, slots=True)
class PublishedNetwork:
    """What is known of a published network; None where nothing is.

    Parameters
    ----------
    heads : what it was trained for, of "mask" and "vectors".
    fmap_num : feature maps of its finest level, five times as many at each coarser one.
    activation : what follows the mask's logits; where None the .meta file beside the checkpoint tells.
    iteration : of its checkpoint.
    partner : the network whose vectors go with this mask in the published figures.
    f_score : on CREMI, with a neuron segmentation and without.
    extraction : options of `detect` that gave them, in the same order; thresholds are probabilities, radii nm.
    """

    name: str
    heads: tuple[str, ...] = ()
    fmap_num: int | None = None
    balancing: str | None = None
    loss: str | None = None
    activation: str | None = None
    iteration: int | None = None
    partner: str | None = None
    f_score: tuple[float, ...] = ()
    extraction: tuple[Mapping[str, Any], ...] = ()

    @property
    def info(self) -> str:
        """One line of `models list`."""
        if not self.heads:
            return "published with the original; nothing else is known of it"
        size = "big" if self.fmap_num == 12 else "small"
        figures = f", F {self.f_score[0]:.2f} with a segmentation, {self.f_score[1]:.2f} without" if self.f_score else ""
        partner = f", with the vectors of {self.partner}" if self.partner else ""
        return f"{' and '.join(self.heads)}, {size}, {self.balancing} balancing, {self.loss}{figures}{partner}"

    @property
    def by_hand(self) -> str:
        """How to come by its files."""
        prefix = f"train_net_checkpoint_{self.iteration or 'N'}"
        return (
            "no link is known here. The page of the original (funkelab/synful on GitHub) leads to its authors' download: lay its files "
            f"{prefix}.index, {prefix}.data-00000-of-00001, parameter.json, train_net_config.json and train_net.meta into that folder, or "
            "read a list with a link of your own: blockwise models update LIST.yaml --task synful"
        )


def published() -> dict[str, PublishedNetwork]:
    """The published networks by name."""
    import yaml

    values = yaml.safe_load((Path(__file__).parent / "models.yaml").read_text(encoding="utf-8"))
    return {
        name: PublishedNetwork(name, **{k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()})
        for name, facts in values.items()
    }


def registry() -> Registry:
    """The registry of Synful networks; a name of the user's newer list goes before the published one."""
    entries = {n.name: Entry(n.name, info=n.info, by_hand=n.by_hand) for n in published().values()}
    shipped = {
        f.parent.name: Entry(f.parent.name, info="comes with blockwise, for simulated volumes only", folder=f.parent)
        for f in sorted((Path(__file__).parent / "weights").glob("*/network.safetensors"))
    }
    return Registry(TASK, entries | updated_list(TASK) | shipped, check=_check, convert=_convert)


def _check(folder: Path) -> None:
    """Read all of a network that was fetched, before it gets its place."""
    from tasks.synful.checkpoint import load_network

    load_network(folder)


def _convert(checkpoint: Path, target: Path, *, parameters: Path | None = None, activation: str | None = None) -> str:
    """Write a network of the original as safetensors; says what it is."""
    from tasks.synful.checkpoint import digest, load_network, save_safetensors

    network = load_network(checkpoint, parameters=parameters, activation=activation)
    save_safetensors(network, target)
    config = network.config
    levels = " ".join("x".join(str(f) for f in factor) for factor in config.downsample_factors)
    known = network.activation or "not known, say activation = ... when it is used"
    return f"{config.unet_model}, feature maps {config.feature_maps}, pooling {levels}, activation {known}, digest {digest(network)[:16]}"
