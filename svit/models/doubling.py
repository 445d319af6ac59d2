"""A transposed convolution of 2x2 cells at stride 2, computed as what it is: one matrix product a cell."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class Doubling(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d(inputs, outputs, 2, stride=2)`, parameters and all, by another route.

    At stride 2 the 2x2 cells that each input writes do not overlap, so no sums are left.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 2, stride=2)

    def forward(
        self, values: Float[Tensor, "batch inputs height width"], output_size: None = None
    ) -> Float[Tensor, "batch outputs double_height double_width"]:
        batch, _, height, width = values.shape
        kernel = self.weight.permute(0, 2, 3, 1).flatten(1)  # (inputs, 4 · outputs)
        cells = values.permute(0, 2, 3, 1) @ kernel + self.bias.repeat(4)
        rows = cells.view(batch, height, width, 2, 2 * self.out_channels)
        doubled = rows.transpose(2, 3).reshape(batch, 2 * height, 2 * width, self.out_channels)
        return doubled.permute(0, 3, 1, 2)
