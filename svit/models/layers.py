"""Convolutions by the short way: a transposed one as a matrix product, a normalised one as a plain one."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from svit.system.products import linear


class Doubling(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d(inputs, outputs, 2, stride=2)`, parameters and all, by the faster route.

    At stride 2 the 2x2 cells that each input writes do not overlap, so no sums are left and one matrix
    product does. Without gradients a CPU is faster with the convolution itself if channels lie together.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 2, stride=2)

    def forward(
        self, values: Float[Tensor, "batch inputs height width"], output_size: None = None
    ) -> Float[Tensor, "batch outputs double_height double_width"]:
        """Every cell becomes 2x2 cells; `output_size` is of the parent and not looked at."""
        if values.device.type == "cpu" and not torch.is_grad_enabled():
            return super().forward(values.contiguous(memory_format=torch.channels_last))
        return doubled(self, values)


def doubled(
    up: nn.ConvTranspose2d, image: Float[Tensor, "batch inputs rows columns"]
) -> Float[Tensor, "batch outputs double_rows double_columns"]:
    """A 2x2 transposed convolution of stride 2: every cell becomes 2x2 cells by one matrix product."""
    return side_by_side(cells_of(up, image)).permute(0, 3, 1, 2)


def cells_of(
    up: nn.ConvTranspose2d, image: Float[Tensor, "batch inputs rows columns"]
) -> Float[Tensor, "batch rows columns 2 2 outputs"]:
    """The 2x2 cells that each cell becomes, before they lie side by side."""
    weight = up.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (2 · 2 · outputs, inputs)
    cells = linear(image.permute(0, 2, 3, 1), weight, up.bias.repeat(4))
    return cells.unflatten(3, (2, 2, up.out_channels))


def side_by_side(
    cells: Float[Tensor, "batch rows columns 2 2 *outputs"],
) -> Float[Tensor, "batch double_rows double_columns *outputs"]:
    """Groups of 2x2 cells as one map."""
    batch, rows, columns, _, _, *outputs = cells.shape
    return cells.transpose(2, 3).reshape(batch, 2 * rows, 2 * columns, *outputs)


class Folding(nn.Sequential):
    """`nn.Sequential` that at inference folds each batch norm into the convolution before it.

    One pass over the map less, the same but for rounding; parameters keep their names.
    """

    def forward(self, values: Float[Tensor, "batch _ _ _"]) -> Float[Tensor, "batch _ _ _"]:
        if self.training or torch.is_grad_enabled():
            return super().forward(values)
        parts = iter(self)
        for part in parts:
            folds = isinstance(part, nn.Conv2d)
            values = _folded(part, next(parts), values) if folds else part(values)
        return values


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d, values: Tensor) -> Tensor:
    statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    weight, bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
    return F.conv2d(values, weight, bias, conv.stride, conv.padding)
