"""Losses of the two outputs and how they make one (spec 5.5).

Volumes are tensors (n, z, y, x), or (n, 3, z, y, x) for vectors; a loss is their weighted mean over the voxels that count, and 0 where
none does.
"""

from collections.abc import Sequence
from math import exp
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["cross_entropy", "mean_squared_error"]
Where = Literal["mask", "maxima", "full"]


def mask_cross_entropy(logits: Tensor, indicator: Tensor, weights: Tensor) -> Tensor:
    """Sum of weighted cross entropies of sigmoid(logits), over the number of weights that are not 0."""
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits, indicator, reduction="none")
    return _mean(each * weights, weights)


def mask_squared_error(prediction: Tensor, indicator: Tensor, weights: Tensor) -> Tensor:
    """The paper's other mask loss: weighted squared differences, over the number of weights that are not 0."""
    return _mean((prediction - indicator).square() * weights, weights)


def vector_squared_error(vectors: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """Weighted squared differences of three components, over three times the number of weights that are not 0.

    vectors, truth : (n, 3, z, y, x) in the unit they are trained in, `d_scale` * nm.  weights : (n, z, y, x).
    """
    weights = weights.unsqueeze(1)
    return _mean((vectors - truth).square() * weights, weights) / 3


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Sum over the number of weights that are not 0; a value that does not count may be NaN."""
    counted = weights != 0
    return torch.where(counted, values, 0.0).sum() / counted.sum().clamp(min=1)


def local_maxima(prediction: Tensor, window: Sequence[int] = (1, 10, 10)) -> Tensor:
    """1 where a voxel is the largest of the window around it and > 0, as float32; (n, z, y, x)."""
    before = [(n - 1) // 2 for n in window]
    after = [n - 1 - b for n, b in zip(window, before, strict=True)]
    padding = [n for pair in zip(reversed(before), reversed(after), strict=True) for n in pair]
    padded = torch.nn.functional.pad(prediction.unsqueeze(1), padding, value=-torch.inf)
    highest = torch.nn.functional.max_pool3d(padded, tuple(window), stride=1).squeeze(1)
    return ((prediction == highest) & (prediction > 0)).to(torch.float32)


def vector_weights(where: Where, *, mask: Tensor, indicator_weights: Tensor, probability: Tensor) -> Tensor:
    """Where vectors are judged: in the balls, only at local maxima of the prediction in them, or everywhere with the mask's weights."""
    if where == "mask":
        return mask
    return mask * local_maxima(probability) if where == "maxima" else indicator_weights


def transition(iteration: int, middle: int) -> float:
    """Share of the second vector loss: 1 / (1 + exp(-0.01 (iteration - middle))), from 0 to 1 within about 1,000 iterations."""
    return 1 / (1 + exp(min(700.0, -0.01 * (iteration - middle))))


def combined(mask_loss: Tensor, vector_loss: Tensor, *, m_loss_scale: float, d_loss_scale: float, how: Literal["sum", "product"]) -> Tensor:
    """One loss of both: the scaled sum, or the product of the scaled losses."""
    mask_loss, vector_loss = m_loss_scale * mask_loss, d_loss_scale * vector_loss
    return mask_loss + vector_loss if how == "sum" else mask_loss * vector_loss
