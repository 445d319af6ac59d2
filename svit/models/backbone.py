"""The contract between a backbone and everything else, and the loop over blocks both necks share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from svit.core.config import BackboneConfig
from svit.core.types import FrameId
from svit.pruning.base import Method, State

STRIDES = {"c2": 4, "c3": 8, "c4": 16, "c5": 32}


class Backbone(nn.Module):
    """An image becomes four feature maps; a pruning method decides which tokens each block uses.

    Attributes:
        config: the settings it was built from.
        method: the pruning method; its probes are what `svit.probing.recorder` hooks.
        strides: name -> pixels per cell of each output map.
        channels: channels of every output map.
        divisor: image sides must be multiples of it.
    """

    def __init__(self, config: BackboneConfig, method: Method) -> None:
        super().__init__()
        self.config, self.method = config, method
        self.strides = dict(STRIDES)
        self.channels = config.embed_dim
        self.divisor = 2 * config.patch
        self._seeds: list[int] | None = None
        self._cover: Tensor | None = None
        self._frames: list[FrameId | None] | None = None
        self._losses: dict[str, Tensor] = {}

    def seed_images(self, seeds: list[int] | None) -> None:
        """Fixes the random masks of the next forward, one seed an image (inference mode `sample`)."""
        self._seeds = seeds

    def show_frames(self, frames: list[FrameId | None]) -> None:
        """Which frames of videos the pictures of the next forward are, for methods that carry state from one
        to the next."""
        self._frames = frames

    def show_objects(self, cover: Tensor) -> None:
        """What objects cover of the tokens of the next forward, float32 (B, N) in [0, 1], for methods that
        are `taught` by it."""
        self._cover = cover

    def take_losses(self) -> dict[str, Tensor]:
        """The method's weighted losses of the last training forward; they are handed out once."""
        losses, self._losses = self._losses, {}
        return losses

    def grid_hw(self, images: Tensor) -> tuple[int, int]:
        """Token rows and columns of a padded batch (B, 3, height, width)."""
        return images.shape[-2] // self.config.patch, images.shape[-1] // self.config.patch

    def _check(self, images: Tensor) -> None:
        height, width = images.shape[-2:]
        if (
            images.ndim != 4
            or images.shape[1] != 3
            or height % self.divisor
            or width % self.divisor
        ):
            raise ValueError(
                f"expected images (batch, 3, height, width) with sides divisible by {self.divisor}, "
                f"found {tuple(images.shape)}; pad them with svit.data.samples.pad_batch"
            )

    def _begin(self, tokens: Tensor, class_position: Tensor, grid_hw: tuple[int, int]) -> State:
        seeds, self._seeds = self._seeds, None
        state = self.method.begin(tokens, class_position, seeds)
        state.grid_hw = grid_hw
        state.cover, self._cover = self._cover, None
        state.frames, self._frames = self._frames, None
        return state

    def _finish(self, state: State) -> None:
        if self.training and torch.is_grad_enabled():
            self._losses = self.method.losses(state)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps c2..c5 of (B, channels, height/stride, width/stride).

        Raises:
            ValueError: a side is not divisible by `divisor`.
        """
        raise NotImplementedError
