"""Operations that torch itself counts, to hold the ledger to."""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def counted(model: torch.nn.Module, images: torch.Tensor) -> dict[str, int]:
    """FLOPs torch saw below each module; fused attention is off because old counters miss it."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model(images)
    totals = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    return {name.partition(".")[2]: count for name, count in totals.items()}
