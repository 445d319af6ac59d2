"""Folding what is constant at inference: batch normalisation into the convolution before it."""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Model = TypeVar("Model", bound=nn.Module)


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
