import pytest
import torch

from tasks.synful.training import losses


def volume(*values: float) -> torch.Tensor:
    return torch.tensor(values).reshape(1, 1, 1, -1)


def test_weights_of_zero_are_not_counted():
    logits, labels = volume(0.0, 5.0, float("nan")), volume(1.0, 0.0, 1.0)
    loss = losses.mask_cross_entropy(logits, labels, volume(2.0, 0.0, 0.0))
    assert loss.item() == pytest.approx(2 * torch.log(torch.tensor(2.0)).item())


def test_a_maximum_is_the_largest_of_its_window():
    prediction = torch.zeros(1, 2, 20, 20)
    prediction[0, 0, 5, 5], prediction[0, 0, 5, 8], prediction[0, 1, 5, 5] = 0.9, 0.8, 0.4
    assert losses.local_maxima(prediction).nonzero().tolist() == [[0, 0, 5, 5], [0, 1, 5, 5]]


def test_vectors_are_judged_where_asked():
    mask, weights, probability = volume(1.0, 1.0, 0.0), volume(0.5, 0.5, 0.5), volume(0.2, 0.9, 0.1)
    found = {w: losses.vector_weights(w, mask=mask, indicator_weights=weights, probability=probability) for w in ("mask", "maxima", "full")}
    assert [found[w].flatten().tolist() for w in ("mask", "maxima", "full")] == [[1, 1, 0], [0, 1, 0], [0.5, 0.5, 0.5]]


@pytest.mark.parametrize(("iteration", "share"), [(0, 0.0), (1000, 0.5), (3000, 1.0)])
def test_the_transition_fades(iteration, share):
    assert losses.transition(iteration, 1000) == pytest.approx(share, abs=1e-4)


@pytest.mark.parametrize(("how", "value"), [("sum", 2 * 3 + 0.5 * 4), ("product", 2 * 3 * 0.5 * 4)])
def test_losses_combine(how, value):
    assert losses.combined(torch.tensor(3.0), torch.tensor(4.0), m_loss_scale=2, d_loss_scale=0.5, how=how).item() == value
