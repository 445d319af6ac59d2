"""Convolutions by the short way: a transposed one as a matrix product, a normalised one as a plain one."""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from svit.system.products import linear

Model = TypeVar("Model", bound=nn.Module)


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
        batch, _, height, width = values.shape
        kernel = self.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (4 · outputs, inputs)
        cells = linear(values.permute(0, 2, 3, 1), kernel, self.bias.repeat(4))
        rows = cells.view(batch, height, width, 2, 2 * self.out_channels)
        doubled = rows.transpose(2, 3).reshape(batch, 2 * height, 2 * width, self.out_channels)
        return doubled.permute(0, 3, 1, 2)


def fuse(model: Model) -> Model:
    """An equal copy for inference in which normalised convolutions are plain ones; the model stays.

    The copy is for running, not for saving: its parameters carry other names than a checkpoint's.

    Raises:
        ValueError: the model is in training mode, where the statistics are those of the batch.
    """
    if model.training:
        raise ValueError("fuse() needs a model in eval mode; call model.eval() first")
    copy = deepcopy(model)
    for sequence in [part for part in copy.modules() if isinstance(part, nn.Sequential)]:
        for place in range(len(sequence) - 1):
            conv, norm = sequence[place], sequence[place + 1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                sequence[place] = fuse_conv_bn_eval(conv, norm)
                sequence[place + 1] = nn.Identity()
    return copy
