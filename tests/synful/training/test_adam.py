import numpy as np
import torch

from tasks.synful.training.adam import Adam


def leaves() -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randn(4, 3, generator=random).requires_grad_(), torch.randn(5, generator=random).requires_grad_()]


def steps(optimizer: Adam, first: int, last: int) -> None:
    for i in range(first, last):
        for k, p in enumerate(optimizer.parameters):
            p.grad = torch.full_like(p, 0.1 * (i + 1) * (-1) ** k) * 10.0 ** -(4 * k)
        optimizer.step()


def test_steps_are_tensorflows():
    """Against the formula in double precision, where epsilon matters: gradients of 1e-5."""
    found = leaves()
    start = found[1].detach().numpy().astype(np.float64)
    steps(Adam(found, 1e-3, epsilon=1e-3), 0, 5)
    m = v = 0.0
    for t in range(1, 6):
        g = -0.1 * t * 1e-4
        m, v = 0.95 * m + 0.05 * g, 0.999 * v + 0.001 * g * g
        start -= 1e-3 * np.sqrt(1 - 0.999**t) / (1 - 0.95**t) * m / (np.sqrt(v) + 1e-3)
    np.testing.assert_allclose(found[1].detach().numpy(), start, rtol=1e-6)


def test_a_restored_state_goes_on_alike():
    whole, halves = leaves(), leaves()
    steps(Adam(whole, 1e-2), 0, 6)
    first = Adam(halves, 1e-2)
    steps(first, 0, 3)
    second = Adam(halves, 1e-2)
    second.restore(first.state())
    steps(second, 3, 6)
    assert all(torch.equal(a, b) for a, b in zip(whole, halves, strict=True))


def test_gradients_can_be_measured_scaled_and_dropped():
    optimizer = Adam(leaves(), 1e-2)
    optimizer.parameters[1].grad = torch.full((5,), 2.0)
    assert np.isclose(optimizer.gradient_norm(), np.sqrt(20))
    optimizer.scale_gradients(0.5)
    assert (optimizer.parameters[1].grad == 1).all()
    optimizer.forget_gradients()
    assert optimizer.gradient_norm() == 0
