"""The networks of a run: one for both outputs, or one for the mask and one for the vectors."""

from collections.abc import Sequence
from dataclasses import dataclass

from blockwise.errors import ConfigError, ModelError
from tasks.synful.options import NetworkOptions
from tasks.synful.sizes import NetworkShape, Triple

USUAL_INPUT = (42, 430, 430)
"""Of the published networks."""
LOSSES = {"mask": "m_loss_scale", "vectors": "d_loss_scale"}


@dataclass(frozen=True, slots=True)
class NetworkFile:
    """What is known of a checkpoint without its weights.

    Parameters
    ----------
    path : as `load_network` takes it.  digest : of what it computes.  heads : those that are used.
    voxel_size : nm, of the training, where it is known.  usual_output : voxels of the tile that the original predicts at once.
    raw_percentiles : percents and the grey values, 0 to 1, of what it was trained on, where they are known.
    untrained : those of `heads` whose loss its parameters switched off.
    """

    path: str
    digest: str
    shape: NetworkShape
    heads: tuple[str, ...]
    voxel_size: tuple[float, float, float] | None
    usual_output: Triple
    raw_percentiles: tuple[tuple[float, float], ...] = ()
    untrained: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know before it is used."""
        cures = {"mask": "name the one that was as [model] path", "vectors": "name the one that was as [options.network] vectors"}
        return tuple(f"{self.path} was not trained for the {h} ({LOSSES[h]} = 0 in its parameters): {cures[h]}" for h in self.untrained)


def read_networks(mask: str | None, options: NetworkOptions) -> tuple[NetworkFile, ...]:
    """The network that predicts the mask, and the one that predicts vectors where it is another.

    Raises
    ------
    ConfigError : none is given.  MissingError, ModelError : a checkpoint that cannot be used, or lacks its head.
    """
    if mask is None:
        raise ConfigError("[model] path is not set: a checkpoint, a setup folder or the name of a model, see `blockwise models list`")
    if options.vectors is None:
        return (_read(mask, options, ("mask", "vectors")),)
    return _read(mask, options, ("mask",)), _read(options.vectors, options, ("vectors",))


def _read(path: str, options: NetworkOptions, heads: tuple[str, ...]) -> NetworkFile:
    from tasks.synful.checkpoint import digest, load_network

    network = load_network(path, parameters=options.parameters, activation=options.activation)
    if missing := [h for h in heads if h not in network.config.heads]:
        raise ModelError(
            f"{path} has no head for {' and '.join(missing)}, only for {', '.join(network.config.heads)}: name the network for the vectors "
            "as [options.network] vectors"
        )
    if "mask" in heads and network.activation is None:
        raise ModelError(
            f"{path}: nothing beside the checkpoint says what follows the mask's logits: set [options.network] activation to 'sigmoid' "
            "(trained with cross-entropy) or 'identity' (with a squared error)"
        )
    training = network.config.training
    size = training.get("voxel_size")
    inputs = training.get("input_size") or USUAL_INPUT
    return NetworkFile(
        path,
        digest(network),
        network.shape,
        heads,
        (float(size[0]), float(size[1]), float(size[2])) if size else None,
        network.shape.output_shape(tuple(inputs)[-3:]),
        tuple((float(p), float(v)) for p, v in dict(training.get("raw_percentiles") or {}).items()),
        tuple(h for h in heads if training.get(LOSSES[h]) == 0),
    )


def common_voxel_size(networks: Sequence[NetworkFile]) -> tuple[float, float, float] | None:
    """The voxel size that the networks were trained at, nm z y x; None where none tells.

    Raises
    ------
    ConfigError : two networks tell different ones.
    """
    sizes = {n.voxel_size for n in networks if n.voxel_size}
    if len(sizes) > 1:
        raise ConfigError(f"the networks were trained at different voxel sizes, {' and '.join(map(str, sorted(sizes)))} nm")
    return next(iter(sizes), None)
