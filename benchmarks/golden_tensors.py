"""Our counterparts of the official golden tensors (reference.md 1), in either framework."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from pycocotools import mask as rle
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from svit.core.presets import PRESETS
from svit.core.types import Detections
from svit.data.images import prepare, read_image
from svit.data.samples import Sample, pad_batch
from svit.detectors import build_detector
from svit.detectors.base import LEVELS, POOLED_LEVELS, Detector, Maps
from svit.models.adapter import ViTAdapter, geometry
from svit.probing.recorder import edit, record
from svit.pruning.base import run_masked
from svit.pruning.losses import dynamic_ratio_loss, fixed_ratio_loss
from svit.weights.conversion import convert_state

MAPS = {"c2": "backbone.f1", "c3": "backbone.f2", "c4": "backbone.f3", "c5": "backbone.f4"}
PASTED = 8  # the files hold the masks of the first detections
FIRST_GATE = 3  # block of the first gate
TAPS = {  # where a framework shows what; outputs are read by `_plain`
    "torchvision": {
        "pyramid": "fpn",
        "proposal maps": "rpn.head",
        "anchors": "rpn.anchor_generator",
        "proposals": "rpn",
    },
    "detectron2": {
        "pyramid": "model.backbone",
        "proposal maps": "model.proposal_generator.rpn_head",
        "anchors": "model.proposal_generator.anchor_generator",
        "proposals": "model.proposal_generator",
    },
}


@dataclass(frozen=True)
class Reference:
    """The folder of official numbers."""

    folder: Path

    def tensors(self, name: str) -> dict[str, Tensor]:
        """All tensors of `golden_NAME.safetensors`."""
        return load_file(self.folder / f"golden_{name}.safetensors")

    def photo(self, name: str) -> tuple[Path, dict[str, Tensor]]:
        """The photograph of `golden_fullres_NAME.safetensors`; its tensors, the masks unpacked."""
        official = self.folder / f"golden_fullres_{name}.safetensors"
        with safe_open(official, "pt") as file:
            about = file.metadata()
        masks = rle.decode(json.loads(about["rle_first20"])).transpose(2, 0, 1)
        tensors = {**load_file(official), "masks_first20": torch.from_numpy(masks.copy())}
        tensors.pop("selector_logits", None)  # in half precision; the masks say what they decide
        photo = self.folder / f"photo_{about['image_file']}"
        return photo, {f"photo.{name}": values for name, values in tensors.items()}

    def weights(self, name: str) -> dict[str, Tensor]:
        """The synthetic weights of a configuration under canonical names."""
        manifest = self.generator().load_manifest(self.folder / f"manifest_{name}.json")
        return convert_state(self.generator().fill(manifest)).state

    def generator(self) -> ModuleType:
        """The module that makes weights and noise."""
        spec = importlib.util.spec_from_file_location("golden_weights", self.folder / "weights.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def detector(self, name: str, framework: str) -> Detector:
        """The model with the synthetic weights, in eval mode; no score is too low."""
        settings = replace(PRESETS[name].detector, score_threshold=0.0)
        detector = build_detector(replace(PRESETS[name], detector=settings, framework=framework))
        detector.load_canonical(self.weights(name))
        return detector.eval()


def sample(image: Tensor, image_hw: tuple[int, int], resized_hw: tuple[int, int]) -> Sample:
    """The golden image (1, 3, height, width), cut to `resized_hw`, of a source of `image_hw`."""
    return Sample("golden", image[0, :, : resized_hw[0], : resized_hw[1]], image_hw)


@torch.no_grad()
def inference_tensors(
    detector: Detector, official: Mapping[str, Tensor], maps: Maps | None = None
) -> dict[str, Tensor]:
    """Every tensor of an inference file as ours, under its official name.

    Args:
        maps: c2..c5 to start from; by default the backbone makes them from the image.
    """
    image = official["image"]
    size = tuple(image.shape[-2:])
    ours: dict[str, Tensor] = {}
    if maps is None:
        with record(detector) as tape:
            maps = detector.backbone(image)
        ours["keep_masks"] = torch.from_numpy(tape.keep()[0])
        ours |= {f"selector.{layer}": score[0] for layer, score in tape.scores.items()}
    ours |= {name: maps[key] for key, name in MAPS.items()}
    with tapped(detector) as seen:
        found = detector._detections(image, maps, [sample(image, size, size)])[0]
    ours |= _proposal_tensors(seen)
    pyramid = {name: ours[f"fpn.{name}"] for name in POOLED_LEVELS}
    ours |= {f"rois8.{k}": v for k, v in regions(detector, pyramid, official["rois8"]).items()}
    first = found[:PASTED]
    logits = regions(detector, pyramid, torch.from_numpy(first.boxes_xyxy.copy()))["mask_logits"]
    ours["det.mask_logits_first8"] = logits[range(PASTED), first.labels.tolist()]
    return {**ours, **_final_tensors("det", found)}


@torch.no_grad()
def padded_tensors(detector: Detector, official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The case of an image that is padded (150x180 in 160x192) and a source of 120x144."""
    with tapped(detector) as seen:
        found = detector.predict([sample(official["image"], (120, 144), (150, 180))])[0]
    return {"pad.proposals": seen["proposals"], **_final_tensors("pad", found)}


@torch.no_grad()
def photo_tensors(detector: Detector, photo: Path) -> dict[str, Tensor]:
    """From the file of a photograph to its detections, nothing given in between."""
    picture = prepare(read_image(photo), detector.config.data, photo.stem)
    maps: dict[str, Tensor] = {}
    hook = detector.backbone.register_forward_hook(lambda *call: maps.update(call[-1]))
    with tapped(detector) as seen, record(detector) as tape:
        found = detector.predict([picture])[0]
    hook.remove()
    return {
        "photo.input": pad_batch([picture], detector.config.data.pad_multiple),
        "photo.keep_masks": torch.from_numpy(tape.keep()[0]),
        "photo.f3": maps["c4"],
        "photo.p3": seen["pyramid"][1],
        "photo.p6": seen["pyramid"][4],
        "photo.proposals": seen["proposals"],
        **_final_tensors("photo", found),
        "photo.masks": torch.from_numpy(found.masks.copy()),
    }


def _final_tensors(case: str, found: Detections) -> dict[str, Tensor]:
    return {
        f"{case}.boxes": torch.from_numpy(found.boxes_xyxy.copy()),
        f"{case}.scores": torch.from_numpy(found.scores.copy()),
        f"{case}.labels": torch.from_numpy(found.labels.copy()),
        f"{case}.masks_first8": torch.from_numpy(found.masks[:PASTED].copy()),
    }


def _proposal_tensors(seen: Mapping[str, Any]) -> dict[str, Tensor]:
    ours = {f"fpn.{name}": values for name, values in zip(LEVELS, seen["pyramid"], strict=True)}
    logits, deltas = seen["proposal maps"]
    anchors = seen["anchors"].split([values.numel() for values in logits])
    for name, *level in zip(LEVELS, logits, deltas, anchors, strict=True):
        ours[f"rpn.cls.{name}"], ours[f"rpn.reg.{name}"], all_anchors = level
        ends = torch.cat([all_anchors[:12], all_anchors[-12:]])
        ours[f"rpn.anchors.{name}.first12_last12"] = ends
    return {**ours, "det.proposals": seen["proposals"]}


@contextmanager
def tapped(detector: Detector) -> Iterator[dict[str, Any]]:
    """What the parts of `TAPS` put out while the `with` lasts, as plain tensors."""
    seen: dict[str, Any] = {}
    hooks = [
        detector.get_submodule(path).register_forward_hook(
            lambda module, inputs, output, what=what: seen.update({what: _plain(what, output)})
        )
        for what, path in TAPS[detector.framework].items()
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _plain(what: str, output: Any) -> Any:
    """Tensors of one image out of either framework's structures."""
    if what == "pyramid":
        return list(output.values())
    if what == "anchors":  # one tensor an image, or boxes a level
        return torch.cat([getattr(part, "tensor", part) for part in output])
    if what == "proposals":
        first = output[0][0]
        return first.proposal_boxes.tensor if hasattr(first, "proposal_boxes") else first
    return output


def regions(detector: Any, pyramid: Maps, boxes: Tensor) -> dict[str, Tensor]:
    """Everything the region heads compute for given boxes, all classes."""
    maps = [pyramid[name] for name in POOLED_LEVELS]
    flags = [torch.full_like(values, level) for level, values in enumerate(maps)]
    size_xy = boxes.new_tensor([4 * side for side in maps[0].shape[:-3:-1]])
    pool, box_outputs, pool_masks, mask_logits = _READ[detector.framework](detector)
    features, mask_features = pool(maps, boxes), pool_masks(maps, boxes)
    logits, deltas, decoded = box_outputs(features, boxes)
    return {
        "level": pool(flags, boxes).amax(dim=(1, 2, 3)).long(),  # maps that hold their own number
        "box_feats": features,
        "cls_logits": logits,
        "box_deltas": deltas,
        # the official ones are clipped to the image
        "decoded_boxes": decoded.unflatten(1, (-1, 2)).clamp(min=0).minimum(size_xy).flatten(1),
        "mask_feats": mask_features,
        "mask_logits": mask_logits(mask_features),
    }


def _torchvision_regions(detector: Any) -> tuple[Any, ...]:
    heads = detector.roi_heads

    def box_outputs(features: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, deltas = heads.box_predictor(heads.box_head(features))
        deltas = deltas.flatten(1)
        return logits, deltas, heads.box_coder.decode_single(deltas, boxes)

    return (
        lambda maps, boxes: heads.box_roi_pool(maps, [boxes]),
        box_outputs,
        lambda maps, boxes: heads.mask_roi_pool(maps, [boxes]),
        lambda features: heads.mask_predictor(heads.mask_head(features)),
    )


def _detectron2_regions(detector: Any) -> tuple[Any, ...]:
    from svit.detectors.detectron2_rcnn import Boxes

    heads = detector.model.roi_heads

    def box_outputs(features: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, deltas = heads.box_predictor(heads.box_head(features))
        return logits, deltas, heads.box_predictor.box2box_transform.apply_deltas(deltas, boxes)

    return (
        lambda maps, boxes: heads.box_pooler(maps, [Boxes(boxes)]),
        box_outputs,
        lambda maps, boxes: heads.mask_pooler(maps, [Boxes(boxes)]),
        lambda features: heads.mask_head.layers(features),
    )


_READ = {"torchvision": _torchvision_regions, "detectron2": _detectron2_regions}


def training_tensors(
    backbone: ViTAdapter, official: Mapping[str, Tensor], noise: Any
) -> dict[str, Tensor]:
    """Every tensor of the training file that a training forward makes: no framework is involved."""
    for part in backbone.train().modules():
        if hasattr(part, "drop_prob"):
            part.drop_prob = 0.0  # the official numbers were made without drop path
    forced = official["forced_masks9"].bool()
    with edit(
        backbone, masks=lambda at, keep: forced[at - FIRST_GATE] if at >= FIRST_GATE else keep
    ):
        maps = backbone(official["images"])
    ours = {f"train.f{index + 1}": values for index, values in enumerate(maps.values())}
    loss = backbone.take_losses()["ratio_loss"] / backbone.method.ratio_weight
    ours["backbone.ratio_loss.batch"] = loss.reshape(1)
    fixed = fixed_ratio_loss(list(forced.float()), backbone.method.keep_ratios)
    ours["backbone.ratio_loss.per_sample"] = fixed.reshape(1)
    return {**ours, **_interaction_tensors(backbone, official, noise), **_ratio_tensors(official)}


def _interaction_tensors(
    backbone: ViTAdapter, official: Mapping[str, Tensor], noise: Any
) -> dict[str, Tensor]:
    """The second interaction (blocks 3..5) with forced masks; gradients of a keyed projection."""
    gates = [mask.float().requires_grad_() for mask in official["forced_masks"]]
    tokens, prior = official["in.x"].clone().requires_grad_(), official["in.c"]
    where, interaction = geometry((10, 12), tokens.device), backbone.interactions[1]
    x = interaction.injector(tokens, prior, where)
    for block, gate in zip(backbone.blocks[3:6], gates, strict=True):
        x = run_masked(block, x, gate.detach().bool(), gate)
    c = interaction.extractor(prior, x, where)
    ((x * noise("probe.x", x.shape)).sum() + (c * noise("probe.c", c.shape)).sum()).backward()
    ours = {f"grad.selector.{index}": gate.grad for index, gate in enumerate(gates)}
    return {"out.x": x, "out.c": c, "grad.x": tokens.grad, **ours}


def _ratio_tensors(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Both ratio losses of three layers (a sum, target 0.7) and their gradients."""
    ours = {}
    for kind, loss in (("batch", dynamic_ratio_loss), ("per_sample", fixed_ratio_loss)):
        gates = [mask.float().requires_grad_() for mask in official["forced_masks"]]
        total = 3 * loss(gates, [0.7, 0.7, 0.7])
        total.backward()
        ours[f"ratio_loss_sum_3layers.{kind}"] = total.reshape(1)
        ours[f"ratio_loss_grad.{kind}"] = torch.stack([gate.grad[:, 0] for gate in gates])
    return ours
