"""One interface for a Mask R-CNN whatever framework runs it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from torch import Tensor, nn

from svit.config import Config
from svit.data.samples import Sample
from svit.models.backbone import Backbone
from svit.types import Detections


class Detector(nn.Module):
    """Samples in, losses or detections out.

    Attributes:
        config: everything it was built from, with `framework` resolved.
        backbone: the ViT backbone below the FPN (not the FPN).
        framework: "torchvision" or "detectron2".
    """

    framework: str

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    @property
    def backbone(self) -> Backbone:
        raise NotImplementedError

    def losses(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Training losses, each weighted: detectron2's names, and `ratio_loss` from gated methods."""
        raise NotImplementedError

    def predict(self, samples: Sequence[Sample]) -> list[Detections]:
        """Detections in source pixels with boolean masks, one a sample; needs `eval()` mode."""
        raise NotImplementedError

    def forward(self, samples: Sequence[Sample]) -> dict[str, Tensor] | list[Detections]:
        """`losses` in training mode and `predict` otherwise: what DistributedDataParallel calls."""
        return self.losses(samples) if self.training else self.predict(samples)

    def canonical_state_dict(self) -> dict[str, Tensor]:
        """Parameters and buffers under detectron2's names, whatever framework holds them."""
        raise NotImplementedError

    def load_canonical(self, state: dict[str, Tensor]) -> None:
        """Loads what `canonical_state_dict` of any framework returned; strict."""
        raise NotImplementedError


def image_seeds(samples: Sequence[Sample], seed: int) -> list[int]:
    """One random seed an image that depends on its id alone, not on its place in the run."""
    return [zlib.crc32(f"{seed}:{sample.image_id}".encode()) for sample in samples]
