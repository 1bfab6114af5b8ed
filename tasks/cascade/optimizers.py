"""Adam and Adagrad in a few lines.

Not `torch.optim`: its first optimiser imports torch's compiler, which takes seconds and crashes a process that has imported TensorFlow.
"""

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor


class Optimizer(Protocol):
    """Changes parameters along their gradients; `rate` may be set between steps."""

    rate: float

    def step(self) -> None: ...


class Adam:
    """Kingma & Ba 2015, with decays .9 and .999 and epsilon 1e-8."""

    def __init__(self, parameters: Iterable[Tensor], rate: float) -> None:
        self.parameters, self.rate, self.steps = list(parameters), rate, 0
        self.means = [torch.zeros_like(p) for p in self.parameters]
        self.squares = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        self.steps += 1
        size, root = self.rate / (1 - 0.9**self.steps), (1 - 0.999**self.steps) ** 0.5
        for parameter, mean, square in zip(self.parameters, self.means, self.squares, strict=True):
            gradient = _take(parameter)
            mean.lerp_(gradient, 0.1)
            square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            parameter.addcdiv_(mean, square.sqrt().div_(root).add_(1e-8), value=-size)


class Adagrad:
    """Duchi et al. 2011 as Keras runs it: the sum of squares starts at 0.1, epsilon 1e-7 stands under the root (Cascade spec 5)."""

    def __init__(self, parameters: Iterable[Tensor], rate: float) -> None:
        self.parameters, self.rate = list(parameters), rate
        self.squares = [torch.full_like(p, 0.1) for p in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        for parameter, square in zip(self.parameters, self.squares, strict=True):
            gradient = _take(parameter)
            square.addcmul_(gradient, gradient)
            parameter.addcdiv_(gradient, square.add(1e-7).sqrt_(), value=-self.rate)


def _take(parameter: Tensor) -> Tensor:
    """The gradient, and room for the next one; zero where the loss does not depend on the parameter."""
    gradient, parameter.grad = parameter.grad, None
    return torch.zeros_like(parameter) if gradient is None else gradient
