"""What a benchmark compares: models, forced keep ratios and attention kernels, each ready to run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from svit.core.config import DataConfig, DetectorConfig
from svit.core.costs import GROUPS
from svit.core.presets import load_config
from svit.data.folder import ImageFiles
from svit.data.images import normalise, resize_image
from svit.data.samples import Sample
from svit.detectors import build_detector
from svit.detectors.base import Detector
from svit.evaluation.passes import computing
from svit.probing.recorder import MaskEdit, edit, record
from svit.pruning.attention import Attention
from svit.pruning.sampling import permuted
from svit.speed.equal_work import equal_work
from svit.speed.report import RECORDED
from svit.system.products import fused_attention
from svit.weights.loading import load_detector

PARTS = ("backbone", "network")
CHECKPOINTS = (".pth", ".pt", ".safetensors")


@dataclass(frozen=True)
class Settings:
    """What is measured. The first model, with the first `keep` and `attention`, is the reference.

    Attributes:
        models: presets, YAML files or checkpoints.
        keep: "learned" (what the gates say), "paper" (the ratios the method is trained towards), "dense"
            (all tokens through the gates), or a base ratio r: 1, r, r^2, r^3 in the quarters of the blocks.
        attention: "fused" and "explicit" (the N x N matrix is written out, as in the official dense model).
        sizes: height and width of the pictures in pixels.
        batches: images a call, each measured.
        images: pictures to run on, the same for all: the first `limit` of a folder, scaled to cover a size
            and cut at the middle; None is noise.
        proposals, detections: boxes an image that every network works on (`svit.speed.equal_work`); None is
            the most that all compared models take.
        recording: measure every variant with the recorder as well.

    Raises:
        ValueError: parts, batches or rounds that cannot be.
    """

    models: tuple[str, ...]
    keep: tuple[str, ...] = ("paper",)
    attention: tuple[str, ...] = ("fused",)
    sizes: tuple[tuple[int, int], ...] = ((640, 640),)
    batches: tuple[int, ...] = (1,)
    parts: tuple[str, ...] = PARTS
    images: Path | None = None
    limit: int = 8
    proposals: int | None = None
    detections: int | None = None
    rounds: int = 10
    device: str = "cpu"
    dtype: str = "float32"
    framework: str = "auto"
    recording: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if strangers := set(self.parts) - set(PARTS):
            raise ValueError(f"parts: expected {', '.join(PARTS)}, found {', '.join(strangers)}")
        if min(self.batches, default=0) < 1 or self.rounds < 1:
            found = f"{', '.join(map(str, self.batches)) or 'none'} and {self.rounds}"
            raise ValueError(f"batches and rounds: expected at least 1, found {found}")


@dataclass(frozen=True)
class Variant:
    """One way to run one model: its label, its own copy of the modules, and what surrounds a call."""

    label: str
    detector: Detector
    recording: bool
    dtype: str

    def run(self, part: str, samples: Sequence[Sample], images: Tensor) -> None:
        """One inference of the backbone or of the whole network."""
        with ExitStack() as around:
            around.enter_context(torch.no_grad())
            around.enter_context(computing(images.device, self.dtype))
            tape = around.enter_context(record(self.detector)) if self.recording else None
            if part == "backbone":
                self.detector.backbone(images)
            else:
                self.detector.predict(samples)
            if tape:
                tape.traces(samples)


def batches(
    settings: Settings, size: tuple[int, int], batch: int, device: torch.device, config: DataConfig
) -> list[list[Sample]]:
    """What a call runs on: one batch of noise, or a folder's pictures in batches of one size.

    Raises:
        ImageError: the folder has no picture, or one cannot be read.
        ValueError: it has fewer pictures than a batch.
    """
    if settings.images is None:  # what is shown decides nothing where masks are forced
        generator = torch.Generator().manual_seed(settings.seed)
        noise = torch.randn(batch, 3, *size, generator=generator).to(device)
        return [[Sample(index, image, size) for index, image in enumerate(noise)]]
    pictures = ImageFiles([settings.images], config)
    count = min(len(pictures), settings.limit) // batch * batch
    if not count:
        found = min(len(pictures), settings.limit)
        raise ValueError(f"{settings.images}: expected {batch} pictures a batch, found {found}")
    images = (normalise(cover(pictures.image(place), size), config) for place in range(count))
    samples = [Sample(place, image.to(device), size) for place, image in enumerate(images)]
    return [samples[start : start + batch] for start in range(0, count, batch)]


def cover(
    image: UInt8[np.ndarray, "_ _ 3"], size: tuple[int, int]
) -> UInt8[np.ndarray, "height width 3"]:
    """A picture scaled with its aspect kept until it covers the size, cut at its middle."""
    scale = max(wanted / side for wanted, side in zip(size, image.shape))
    new_hw = [max(wanted, round(scale * side)) for wanted, side in zip(size, image.shape)]
    top, left = ((new - wanted) // 2 for new, wanted in zip(new_hw, size))
    resized = resize_image(image, (new_hw[0], new_hw[1]))
    return resized[top : top + size[0], left : left + size[1]]


def keep_schedule(keep: str, targets: Sequence[float]) -> list[float] | None:
    """Forced share of kept tokens of each block; None leaves the decision to the method.

    Args:
        keep: as in `Settings`.
        targets: the method's own target ratios, one a block.

    Raises:
        ValueError: neither a known word nor a ratio in (0, 1].
    """
    named = {"learned": None, "paper": list(targets), "dense": [1.0] * len(targets)}
    if keep in named:
        return named[keep]
    try:
        base = float(keep)
    except ValueError:
        base = 0.0
    if not 0 < base <= 1:
        raise ValueError(f"keep: expected {', '.join(named)} or a ratio in (0, 1], found {keep!r}")
    # the quarters keep 1, r, r^2 and r^3
    return [base ** (layer * GROUPS // len(targets)) for layer in range(len(targets))]


def random_masks(ratios: Sequence[float], seed: int = 0, nested: bool = False) -> MaskEdit:
    """An edit that keeps exactly round(ratio * N) random tokens of each image, the same every time.

    Args:
        nested: one draw for all layers, so that what a layer dropped stays dropped where ratios fall.
    """
    made: dict[tuple[int, torch.Size], Tensor] = {}

    def masks(layer: int, keep: Tensor) -> Tensor:
        key = (layer, keep.shape)
        if key not in made:
            generator = torch.Generator().manual_seed(1000 * seed + (0 if nested else layer))
            draws, everywhere = torch.rand(keep.shape, generator=generator), torch.ones(keep.shape)
            first = torch.arange(keep.shape[1]) < round(ratios[layer] * keep.shape[1])
            chosen = permuted(first.expand(keep.shape), everywhere.bool(), draws)
            made[key] = chosen.to(keep.device)
        return made[key]

    return masks


def variants(settings: Settings, device: torch.device, edits: ExitStack) -> list[Variant]:
    """Every combination that differs: a dense model has no other keep ratios.

    Raises:
        ValueError: two of the same name, which no table could tell apart, settings that no model fits, or
            pictures that the models see normalised otherwise.
    """
    found: list[Variant] = []
    detectors = [_detector(name, settings).to(device).eval() for name in settings.models]
    colours = {one.config.data.normalisation for one in detectors}
    if settings.images is not None and len(colours) > 1:
        raise ValueError(
            "images: these models see pictures by other means and deviations, and all are shown the same "
            f"({' and '.join(map(str, colours))}); benchmark them one by one"
        )
    boxes = _boxes(settings, [one.config.detector for one in detectors])
    for name, detector in zip(settings.models, detectors, strict=True):
        dense = detector.config.pruning.method == "dense"
        choices = product(
            ("learned",) if dense else settings.keep,
            settings.attention,
            (False, True)[: 1 + settings.recording],
        )
        for keep, attention, recording in choices:
            twin = sharing_copy(detector)
            set_attention(twin, attention)
            _force(twin, keep, settings.seed, edits)
            edits.enter_context(equal_work(twin, *boxes, settings.seed))
            words = filter(None, [Path(name).stem, "" if dense else keep, attention])
            label = " ".join(words) + RECORDED * recording
            if label in {variant.label for variant in found}:
                raise ValueError(f"two variants are named {label!r}; give models other file names")
            found.append(Variant(label, twin, recording, settings.dtype))
    return found


def _boxes(settings: Settings, heads: Sequence[DetectorConfig]) -> tuple[int, int]:
    """Proposals and detections of an image: as asked for, at most what all models take."""
    most = min(one.rpn_post_nms_test for one in heads)
    proposals = settings.proposals or most
    found = min([proposals, *(one.max_detections for one in heads)])
    detections = found if settings.detections is None else settings.detections
    if proposals > most or detections > found:
        asked = f"{proposals} and {detections}"
        raise ValueError(
            f"proposals and detections: at most {most} and {found} here, found {asked}"
        )
    return proposals, detections


def explicit_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None
) -> Tensor:
    """Attention with its matrix written out: what the official dense model runs."""
    logits = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        logits = logits.masked_fill(~attn_mask, float("-inf"))
    elif attn_mask is not None:
        logits = logits + attn_mask
    return logits.softmax(dim=-1) @ value


def set_attention(model: nn.Module, name: str) -> None:
    """Lets every attention of the model be "fused", as models are built on this machine, or "explicit".

    Raises:
        ValueError: another name.
    """
    kernels = {"fused": fused_attention(), "explicit": explicit_attention}
    if name not in kernels:
        raise ValueError(f"attention: expected {' or '.join(kernels)}, found {name!r}")
    for part in model.modules():
        if isinstance(part, Attention):
            part.kernel = kernels[name]


def _force(detector: Detector, keep: str, seed: int, edits: ExitStack) -> None:
    """Edits the detector's masks until `edits` closes, unless the method decides."""
    method = detector.backbone.method
    ratios = keep_schedule(keep, method.target_ratios())
    if ratios is not None and method.traits.merges:
        if method.fits:
            raise ValueError(f"{type(method).__name__} merges by thresholds: keep=learned runs it")
        method.set_keep_ratios([ratios[layer] for layer in method.locations])
    elif ratios is not None:
        # a method that calls nothing back would have to run on what it no longer holds
        masks = random_masks(ratios, seed, nested=not method.traits.reactivates)
        edits.enter_context(edit(detector, masks=masks))


def _detector(name: str, settings: Settings) -> Detector:
    """A checkpoint's detector, or a preset's with random weights."""
    if Path(name).suffix in CHECKPOINTS:
        return load_detector(Path(name), settings.framework)
    torch.manual_seed(settings.seed)
    return build_detector(load_config(name, [f"framework={settings.framework}"]))


def sharing_copy(detector: Detector) -> Detector:
    """Modules of their own, to be hooked apart, over the same parameters and buffers."""
    tensors = [*detector.parameters(), *detector.buffers()]
    return deepcopy(detector, {id(tensor): tensor for tensor in tensors})
