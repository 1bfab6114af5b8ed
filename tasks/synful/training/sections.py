"""Levels whose kernels hold one section, computed section by section: the same sums, in half the time when training on a CPU.

With few feature maps torch's three-dimensional convolutions spend their time on copies; its two-dimensional ones take channels-last
memory as it is.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tasks.synful.network import Pass

if TYPE_CHECKING:
    from tasks.synful.network import UNet


def compute_by_sections(network: "UNet") -> "UNet":
    """Make a network work section by section where gradients are wanted on a CPU; weights and names stay as they are."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            kind = _kind(child)
            if kind is not None:
                setattr(module, name, _like(child, kind))
    return network


def _kind(module: nn.Module) -> "type[nn.Module] | None":
    """The class that computes a layer by sections; None where that would not be faster."""
    flat = [m for m in module.modules() if isinstance(m, nn.Conv3d) and m.kernel_size[0] == 1]
    if isinstance(module, Pass):
        return SectionPass if len(flat) == len(module.convolutions) else None
    if isinstance(module, nn.Conv3d):
        return SectionConvolution if flat else None
    return SectionUpsampling if isinstance(module, nn.ConvTranspose3d) and module.kernel_size == module.stride else None


def _like(module: nn.Module, kind: "type[nn.Module]") -> nn.Module:
    """The same layer of another class; it shares the parameters."""
    made = kind.__new__(kind)
    made.__dict__.update(module.__dict__)
    return made


class SectionConvolution(nn.Conv3d):
    """A valid convolution whose kernel holds one section."""

    def forward(self, input: Tensor) -> Tensor:
        if not torch.is_grad_enabled() or input.device.type != "cpu":
            return super().forward(input)
        return _deep(nn.functional.conv2d(_flat(input), self.weight[:, :, 0], self.bias), len(input))


class SectionPass(Pass):
    """Two convolutions, each with a ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled() or x.device.type != "cpu":
            return super().forward(x)
        sections = _flat(x)
        for convolution in self.convolutions:
            sections = torch.relu_(nn.functional.conv2d(sections, convolution.weight[:, :, 0], convolution.bias))
        return _deep(sections, len(x))


class SectionUpsampling(nn.ConvTranspose3d):
    """A transposed convolution whose kernel is its stride: every voxel becomes a box, one matrix product for all."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if not torch.is_grad_enabled() or input.device.type != "cpu":
            return super().forward(input, output_size)
        n, c, z, y, x = input.shape
        fz, fy, fx = self.kernel_size
        voxels = input.permute(0, 2, 3, 4, 1).reshape(-1, c)
        boxes = voxels @ self.weight.permute(0, 2, 3, 4, 1).reshape(c, -1)
        boxes = boxes.reshape(n, z, y, x, fz, fy, fx, self.out_channels)
        spread = boxes.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(n, z * fz, y * fy, x * fx, self.out_channels)
        return (spread if self.bias is None else spread + self.bias).permute(0, 4, 1, 2, 3)


def _flat(volume: Tensor) -> Tensor:
    """(n, c, z, y, x) as sections (n z, c, y, x), channels last."""
    n, c, z, y, x = volume.shape
    return volume.permute(0, 2, 3, 4, 1).reshape(n * z, y, x, c).permute(0, 3, 1, 2)


def _deep(sections: Tensor, n: int) -> Tensor:
    """Sections (n z, c, y, x) as (n, c, z, y, x), channels last."""
    _, c, y, x = sections.shape
    return sections.permute(0, 2, 3, 1).reshape(n, -1, y, x, c).permute(0, 4, 1, 2, 3)
