"""Adam as TensorFlow 1 steps it (spec 5.5), which adds epsilon to the root before its bias is corrected.

Not `torch.optim.Adam`: that adds epsilon after, which differs while epsilon matters, and its import pulls in torch's compiler.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor


class Adam:
    """parameter -= rate * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon), Kingma & Ba 2015 before their section 2.1.

    Parameters
    ----------
    parameters : leaves with gradients; one without a gradient takes part in no step, but its moments decay as with a gradient of 0.
    """

    def __init__(self, parameters: Iterable[Tensor], rate: float, *, b1: float = 0.95, b2: float = 0.999, epsilon: float = 1e-8) -> None:
        self.parameters = list(parameters)
        self.rate, self.b1, self.b2, self.epsilon, self.steps = rate, b1, b2, epsilon, 0
        self.means = [torch.zeros_like(p) for p in self.parameters]
        self.squares = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        """Take one step along the gradients and clear them."""
        self.steps += 1
        size = self.rate * (1 - self.b2**self.steps) ** 0.5 / (1 - self.b1**self.steps)
        for parameter, mean, square in zip(self.parameters, self.means, self.squares, strict=True):
            gradient, parameter.grad = parameter.grad, None
            if gradient is None:
                gradient = torch.zeros_like(parameter)
            mean.lerp_(gradient, 1 - self.b1)
            square.mul_(self.b2).addcmul_(gradient, gradient, value=1 - self.b2)
            parameter.addcdiv_(mean, square.sqrt().add_(self.epsilon), value=-size)

    @torch.no_grad()
    def gradient_norm(self) -> float:
        """Length of all gradients as one vector; infinite or NaN where one of them is."""
        norms = [torch.linalg.vector_norm(p.grad.float()) for p in self.parameters if p.grad is not None]
        return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0

    @torch.no_grad()
    def scale_gradients(self, factor: float) -> None:
        """Multiply every gradient."""
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(factor)

    def forget_gradients(self) -> None:
        """Drop the gradients of a batch that is not learned from."""
        for parameter in self.parameters:
            parameter.grad = None

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on besides the parameters."""
        return {"steps": self.steps, "means": self.means, "squares": self.squares}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.steps = int(state["steps"])
        for own, kept in ((self.means, state["means"]), (self.squares, state["squares"])):
            for a, b in zip(own, kept, strict=True):
                a.copy_(b)
