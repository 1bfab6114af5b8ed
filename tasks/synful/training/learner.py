"""A network and its optimiser: one step on one batch (spec 5.5)."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, isfinite, pi, prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tasks.synful.parameters import NetworkParameters
from tasks.synful.training import losses
from tasks.synful.training.adam import Adam
from tasks.synful.training.parameters import TrainingParameters

if TYPE_CHECKING:
    from tasks.synful.network import UNet

Batch = Mapping[str, Tensor]
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
FIRST_SCALE, SCALE_EVERY = 2.0**14, 1000


@dataclass(frozen=True, slots=True)
class Step:
    """What one iteration did.

    loss, mask_loss, vector_loss : before the step; vector_loss in nm^2 times d_scale^2.
    gradient : its length over all weights.  learned : False where loss or gradient were not finite, and the weights were left.
    """

    loss: float
    mask_loss: float
    vector_loss: float
    gradient: float
    rate: float
    learned: bool

    def figures(self) -> dict[str, float]:
        """By name, as they are logged."""
        return {n: float(getattr(self, n)) for n in ("loss", "mask_loss", "vector_loss", "gradient", "rate")}


class Learner:
    """Trains a network on batches.

    Parameters
    ----------
    network : on its device.
    """

    def __init__(self, network: "UNet", parameters: TrainingParameters) -> None:
        self.network, self.parameters = network, parameters
        self.device = next(network.parameters()).device
        self.optimizer = Adam(network.parameters(), parameters.learning_rate)
        self.scale, self.clean_steps = (FIRST_SCALE if parameters.precision == "fp16" else 1.0), 0

    def step(self, batch: Batch, iteration: int) -> Step:
        """Learn from a batch, unless its loss or gradient is not finite."""
        parts = self.losses(batch, iteration)
        (parts["loss"] * self.scale).backward()
        self.optimizer.scale_gradients(1 / self.scale)
        gradient = self.optimizer.gradient_norm()
        learned = isfinite(gradient) and isfinite(float(parts["loss"].detach()))
        self.optimizer.rate = self._rate(iteration)
        if learned:
            limit = self.parameters.clip_gradients
            if limit is not None and gradient > limit:
                self.optimizer.scale_gradients(limit / gradient)
            self.optimizer.step()
        else:
            self.optimizer.forget_gradients()
        self._rescale(learned)
        values = {k: float(v.detach()) for k, v in parts.items()}
        return Step(values["loss"], values["mask_loss"], values["vector_loss"], gradient, self.optimizer.rate, learned)

    def losses(self, batch: Batch, iteration: int) -> dict[str, Tensor]:
        """`loss`, `mask_loss` and `vector_loss` of a batch, with gradients."""
        batch = {name: values.to(self.device, non_blocking=True) for name, values in batch.items()}
        predicted = self.predict(batch["raw"])
        return self.losses_of(predicted, batch, iteration)

    def predict(self, raw: Tensor) -> dict[str, Tensor]:
        """The network's outputs, float32; raw (n, z, y, x)."""
        kind = AUTOCAST.get(self.parameters.precision)
        with torch.autocast(self.device.type, dtype=kind, enabled=kind is not None):
            found = self.network(raw.to(self.device).unsqueeze(1))
        return {name: values.float() for name, values in found.items()}

    def losses_of(self, predicted: Mapping[str, Tensor], batch: Batch, iteration: int) -> dict[str, Tensor]:
        """The same of predictions: `mask_logits` (n, 1, ...), `vectors` (n, 3, ...) nm."""
        p, zero = self.parameters, batch["raw"].new_zeros(())
        mask_loss = self._mask_loss(predicted["mask_logits"][:, 0], batch) if p.learns_mask else zero
        vector_loss = self._vector_loss(predicted, batch, iteration) if p.learns_vectors else zero
        loss = losses.combined(mask_loss, vector_loss, m_loss_scale=p.m_loss_scale, d_loss_scale=p.d_loss_scale, how=p.loss_comb_type)
        return {"loss": loss, "mask_loss": mask_loss, "vector_loss": vector_loss}

    def _mask_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        if self.parameters.m_loss_type == "cross_entropy":
            return losses.mask_cross_entropy(logits, batch["indicator"], batch["indicator_weight"])
        activated = {"sigmoid": torch.sigmoid, "relu": torch.relu}.get(self.parameters.activation or "none", nn.Identity())(logits)
        return losses.mask_squared_error(activated, batch["indicator"], batch["indicator_weight"])

    def _vector_loss(self, predicted: Mapping[str, Tensor], batch: Batch, iteration: int) -> Tensor:
        """Squared error times d_scale^2; where asked for, fading from one choice of voxels to another."""
        p = self.parameters
        scale = p.d_scale or 1.0
        vectors, truth = predicted["vectors"] * scale, batch["vectors"] * scale

        def judged(where: losses.Where) -> Tensor:
            logits = predicted["mask_logits"][:, 0].detach() if "mask_logits" in predicted else batch["indicator"]
            weights = losses.vector_weights(
                where, mask=batch["vectors_mask"], indicator_weights=batch["indicator_weight"], probability=torch.sigmoid(logits)
            )
            return losses.vector_squared_error(vectors, truth, weights)

        if p.d_transition_iteration is None:
            return judged(p.d_loss_type)
        share = losses.transition(iteration, p.d_transition_iteration)
        return share * judged(p.d_transition_type) + (1 - share) * judged(p.d_loss_type)

    def _rate(self, iteration: int) -> float:
        length = self.parameters.lr_decay_iterations
        done = 0.0 if length is None else min(1.0, iteration / length)
        return self.parameters.learning_rate * (0.01 + 0.99 * (1 + cos(pi * done)) / 2)

    def _rescale(self, learned: bool) -> None:
        """fp16: the loss is scaled as high as gradients allow; halved where they overflow, doubled after 1,000 clean steps."""
        if self.parameters.precision != "fp16":
            return
        self.clean_steps = self.clean_steps + 1 if learned else 0
        if not learned or self.clean_steps % SCALE_EVERY == 0:
            self.scale = max(1.0, self.scale * (2.0 if learned else 0.5))

    def state(self) -> dict[str, Any]:
        """What a resumed run needs besides the weights."""
        return {**self.optimizer.state(), "scale": self.scale, "clean_steps": self.clean_steps}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.optimizer.restore(state)
        self.scale, self.clean_steps = float(state["scale"]), int(state["clean_steps"])


def new_network(parameters: TrainingParameters) -> "UNet":
    """A network with random weights: kernels by Glorot & Bengio 2010 as TensorFlow draws them, or by He et al. 2015, biases 0."""
    from tasks.synful.network import UNet

    network = UNet(network_parameters(parameters), activation=activation(parameters))
    random = torch.Generator().manual_seed(parameters.seed)
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            taps, (a, b) = prod(module.kernel_size), (module.in_channels, module.out_channels)
            inputs, outputs = (a * taps, b * taps) if isinstance(module, nn.Conv3d) else (a, b * taps)
            limit = (6 / (inputs + outputs)) ** 0.5 if parameters.initialisation == "glorot" else (6 / inputs) ** 0.5
            nn.init.uniform_(module.weight, -limit, limit, generator=random)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    return network


def network_parameters(parameters: TrainingParameters) -> NetworkParameters:
    """The keys that shape the network."""
    return NetworkParameters.from_json(parameters.network())


def activation(parameters: TrainingParameters) -> str:
    """What makes probabilities of the trained network's logits."""
    return "sigmoid" if parameters.m_loss_type == "cross_entropy" else (parameters.activation or "none")
