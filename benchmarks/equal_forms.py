"""Equal forms of what heads compute, side by side: which is fastest on this processor, and how equal.

    python -m benchmarks.equal_forms                     writes results/equal-forms.md

Sizes are those of the tiny model at 640 x 640 with 1,000 proposals and 100 detections. Processor time of one
thread, the least of some rounds in turn, so that a busy machine changes little. "apart" is the largest
difference from the first form over its largest value.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

from benchmarks import ROOT
from svit.detectors.pooling import (
    PyramidRoIAlign,
    pool_by_bags,
    pool_by_matrices,
    with_image_index,
)
from svit.speed.equal_work import spread_boxes
from svit.system import files, products
from svit.system.text import table
from svit.system.timing import cpu_name

STRIDES = (4, 8, 16, 32)
MAPS = (  # side, channels, boxes: of the nano and the tiny model
    *((16, 64, 30), (24, 64, 60), (32, 64, 60), (64, 64, 150)),
    *((20, 256, 20), (40, 256, 170), (80, 256, 275)),
)
ATTENTIONS = (  # heads, tokens, channels a head
    (3, 550, 64),  # the tiny model at 640 x 640, pruned
    (3, 1600, 64),
    (6, 1600, 64),  # the small one
    (3, 4200, 64),  # the tiny one at 800 x 1344
    (3, 1024, 32),  # nano, on nuclei of 512, 1,024 and 2,048 px
    (3, 4096, 32),
    (3, 16384, 32),
)
Forms = dict[str, Callable[[], Tensor]]


def pooling(cells: int, count: int, side: int, channels: int) -> Forms:
    """RoIAlign of the first boxes from all levels by torchvision's kernel and by bags."""
    boxes = spread_boxes((side, side), count, min(count, 100))
    regions, levels = with_image_index([boxes]), PyramidRoIAlign(cells, STRIDES, 224).levels(boxes)
    together = torch.channels_last
    maps = [
        torch.randn(1, channels, side // s, side // s).to(memory_format=together) for s in STRIDES
    ]
    pairs = [
        (values, regions[levels == index], 1 / stride)
        for index, (values, stride) in enumerate(zip(maps, STRIDES, strict=True))
    ]

    def kernel() -> Tensor:
        return torch.cat([roi_align(m, r, cells, s, 0, aligned=True) for m, r, s in pairs])

    return {
        "torchvision's kernel": kernel,
        "bags": lambda: torch.cat([pool_by_bags(m, r, cells, s) for m, r, s in pairs]),
    }


def one_map(side: int, channels: int, boxes: int) -> Forms:
    """RoIAlign of boxes from the square map of stride 4 by all three forms."""
    values = torch.randn(1, channels, side, side).to(memory_format=torch.channels_last)
    found = spread_boxes((4 * side, 4 * side), boxes, 1)
    regions = with_image_index([found * torch.tensor(112 / 4 / side).clamp(max=1)])
    return {
        "torchvision's kernel": lambda: roi_align(values, regions, 7, 1 / 4, 0, aligned=True),
        "bags": lambda: pool_by_bags(values, regions, 7, 1 / 4),
        "matrices": lambda: pool_by_matrices(values, regions, 7, 1 / 4),
    }


def doubling(masks: int, side: int, channels: int) -> Forms:
    """The 2x2 transposed convolution as a product and by oneDNN, in either memory format."""
    values = torch.randn(masks, channels, side, side)
    together = values.contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(channels, channels, 2, 2) / channels, torch.randn(channels)
    kernel = weight.permute(0, 2, 3, 1).flatten(1)

    def product(given: Tensor) -> Tensor:
        return spread(given.permute(0, 2, 3, 1) @ kernel + bias.repeat(4))

    def in_onednn() -> Tensor:
        flat = together.permute(0, 2, 3, 1).reshape(-1, channels)
        return spread(products.product(flat, kernel.t(), bias.repeat(4)))

    def spread(cells: Tensor) -> Tensor:
        rows = cells.view(masks, side, side, 2, 2 * channels).transpose(2, 3)
        return rows.reshape(masks, 2 * side, 2 * side, channels).permute(0, 3, 1, 2)

    return {
        "product": lambda: product(values),
        "product, channels last": lambda: product(together),
        "product in oneDNN, channels last": in_onednn,
        "convolution": lambda: F.conv_transpose2d(values, weight, bias, 2),
        "convolution, channels last": lambda: F.conv_transpose2d(together, weight, bias, 2),
    }


def linear(rows: int, inputs: int, outputs: int) -> Forms:
    """One linear in MKL and in oneDNN."""
    values, weight = torch.randn(rows, inputs), torch.randn(outputs, inputs)
    return {
        "MKL": lambda: F.linear(values, weight),
        "oneDNN": lambda: products.product(values, weight),
    }


def attention(heads: int, tokens: int, width: int) -> Forms:
    """Self-attention by torch's fused kernel and by products in oneDNN, some queries at a time."""
    given = torch.randn(3, 1, heads, tokens, width)
    return {
        "torch's kernel": lambda: F.scaled_dot_product_attention(*given),
        "oneDNN": lambda: products.attention(*given),
    }


@torch.no_grad()
def measured(forms: Forms, rounds: int) -> list[list[str]]:
    """Name, milliseconds and distance of each form."""
    first = next(iter(forms.values()))()
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, form in forms.items():
            begin = time.process_time()
            form()
            seconds[name].append(time.process_time() - begin)
    return [
        [
            name,
            f"{1000 * min(seconds[name]):.1f}",
            f"{(form() - first).abs().max() / first.abs().max():.1e}",
        ]
        for name, form in forms.items()
    ]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--scale", type=int, default=1, help="divides all sizes: a trial")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "equal-forms.md")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    small = options.scale
    cases = {
        "pooling of boxes": pooling(7, 1000 // small, 640 // small, 256 // small),
        "pooling of masks": pooling(14, 100 // small, 640 // small, 256 // small),
        **{
            f"pooling of {boxes} boxes, {side} x {side} x {channels}": one_map(
                side // small, channels // small, boxes // small
            )
            for side, channels, boxes in MAPS
        },
        "doubling of masks": doubling(100 // small, 14, 256 // small),
        "linear, 1600 x 192 x 768": linear(1600 // small, 192, 768),
        "linear, 1600 x 384 x 1536": linear(1600 // small, 384, 1536),
        "linear, 1000 x 12544 x 1024": linear(1000 // small, 12544 // small, 1024),
        **{
            f"attention, {heads} x {tokens} x {width}": attention(heads, tokens // small, width)
            for heads, tokens, width in ATTENTIONS
        },
    }
    rows = [
        [name, *row] for name, forms in cases.items() for row in measured(forms, options.rounds)
    ]
    about = f"`python -m benchmarks.equal_forms`: {cpu_name()}, 1 thread, torch {torch.__version__}"
    told = table(["what", "form", "ms of the processor", "apart"], rows)
    files.write_text(options.out, f"# Equal forms\n\n{about}\n\n{told}\n")
    print(told)


if __name__ == "__main__":
    main()
