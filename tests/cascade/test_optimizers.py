import subprocess
import sys

import numpy as np
import pytest
import torch

from tasks.cascade.optimizers import Adagrad, Adam

GRADIENTS = np.random.default_rng(0).normal(size=(5, 3))


def descend(kind, rate):
    parameter = torch.ones(3, dtype=torch.float64, requires_grad=True)
    optimizer = kind([parameter], rate)
    for gradient in GRADIENTS:
        (parameter * torch.from_numpy(gradient)).sum().backward()
        optimizer.step()
    return parameter.detach().numpy()


def test_adam_follows_its_formula():
    value, mean, square = np.ones(3), 0.0, 0.0
    for step, gradient in enumerate(GRADIENTS, 1):
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        value = value - 0.01 * mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    np.testing.assert_allclose(descend(Adam, 0.01), value, rtol=1e-12)


def test_adagrad_follows_its_formula():
    value, square = np.ones(3), 0.1
    for gradient in GRADIENTS:
        square = square + gradient**2
        value = value - 0.05 * gradient / np.sqrt(square + 1e-7)
    np.testing.assert_allclose(descend(Adagrad, 0.05), value, rtol=1e-12)


@pytest.mark.parametrize("kind", [Adam, Adagrad])
def test_a_parameter_without_a_gradient_stays(kind):
    parameter = torch.ones(2, requires_grad=True)
    kind([parameter], 0.1).step()
    assert torch.equal(parameter, torch.ones(2))


def test_the_compiler_of_torch_is_not_imported():
    code = (
        "import sys, torch; from tasks.cascade.optimizers import Adam\n"
        "p = torch.ones(2, requires_grad=True); a = Adam([p], .1); p.sum().backward(); a.step(); assert 'torch._dynamo' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
