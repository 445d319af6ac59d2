"""Our backbone inside detectron2's Mask R-CNN, for our interface and for detectron2's own tools.

    cfg = get_cfg()
    add_svit_config(cfg, "svit-adapter-t")
    model = detectron2.modeling.build_model(cfg)     # or DefaultTrainer(cfg)

detectron2's tools hand in dictionaries whose images (0..255, RGB or what `cfg.INPUT.FORMAT` says)
the model normalises by `cfg.MODEL.PIXEL_MEAN/STD`; our samples come normalised and skip that.
Optimiser, schedule, data sets and augmentation stay the caller's. `detectron2.model_zoo` is not
imported: it needs `pkg_resources`, which setuptools 82 removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, META_ARCH_REGISTRY, GeneralizedRCNN
from detectron2.modeling import Backbone as Detectron2Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.roi_heads import (
    ROI_HEADS_REGISTRY,
    StandardROIHeads,
    select_foreground_proposals,
)
from detectron2.structures import BitMasks, Boxes, ImageList, Instances
from detectron2.utils.events import EventStorage, has_event_storage
from torch import Tensor

from svit.core.catalogue import METHODS
from svit.core.config import BackboneConfig, Config, PruningConfig, from_dict, to_dict
from svit.core.presets import load_config
from svit.core.types import Detections, Target
from svit.data.samples import Sample
from svit.detectors.base import (
    ASPECT_RATIOS,
    BOX_CELLS,
    BOX_WEIGHTS,
    LEVELS,
    MASK_CELLS,
    POOLED_LEVELS,
    Detector,
    Maps,
    Near,
    expect_finite,
    image_seed,
    touching,
)
from svit.detectors.pooling import crop_masks
from svit.models import build_backbone
from svit.models.backbone import Backbone
from svit.pruning import default_options


class Detectron2Detector(Detector):
    """Our interface over detectron2's model; its parameter names are the canonical ones."""

    framework = "detectron2"
    names = {"model.": ""}

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        cfg = get_cfg()
        add_svit_config(cfg, config)
        self.model = SViTRCNN(cfg)

    @property
    def backbone(self) -> Backbone:
        return self.model.backbone.bottom_up.net

    def _losses(
        self, images: Tensor, maps: Maps, samples: Sequence[Sample], targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        padded = ImageList(images, [sample.resized_hw for sample in samples])
        truth = [
            _truth(target, size, images.device)
            for target, size in zip(targets, padded.image_sizes, strict=True)
        ]
        pyramid = self.model.backbone(maps)
        with nullcontext() if has_event_storage() else EventStorage():  # detectron2 insists on one
            proposals, losses = self.model.proposal_generator(padded, pyramid, truth)
            _, region_losses = self.model.roi_heads(padded, pyramid, proposals, truth)
        return {**losses, **region_losses}

    def _detections(
        self, images: Tensor, maps: Maps, samples: Sequence[Sample], near: Near = None
    ) -> list[Detections]:
        padded = ImageList(images, [sample.resized_hw for sample in samples])
        pyramid = {name: values.float() for name, values in self.model.backbone(maps).items()}
        device = images.device.type
        with torch.autocast(device, enabled=False):  # its boxes have their maps' precision
            proposals, _ = self.model.proposal_generator(padded, pyramid)
            if near is not None:
                proposals = touching(proposals, near, lambda one: one.proposal_boxes.tensor)
            found, _ = self.model.roi_heads(padded, pyramid, proposals)
        return [
            _to_detections(detector_postprocess(one, *sample.image_hw))
            for one, sample in zip(found, samples, strict=True)
        ]


def _truth(target: Target, image_hw: tuple[int, int], device: torch.device) -> Instances:
    """A target as detectron2 takes it."""
    return Instances(
        image_hw,
        gt_boxes=Boxes(torch.from_numpy(target.boxes_xyxy.copy()).to(device)),
        gt_classes=torch.from_numpy(target.labels.copy()).to(device),
        gt_masks=SharedMasks(torch.from_numpy(target.masks.copy()).to(device)),
        gt_has_mask=torch.from_numpy(target.has_mask.copy()).to(device),
    )


def _to_detections(found: Instances) -> Detections:
    fields = (found.pred_boxes.tensor, found.scores, found.pred_classes, found.pred_masks.bool())
    return Detections(*(field.cpu().numpy() for field in fields))


class SharedMasks(BitMasks):
    """Bitmaps of an image's objects that many proposals point to.

    detectron2 indexes masks by sampled proposal; that copies indices here instead of 512 bitmaps.
    """

    def __init__(self, tensor: Tensor, index: Tensor | None = None) -> None:
        super().__init__(tensor)
        every = torch.arange(len(tensor), device=tensor.device)
        self.index = every if index is None else index

    def __getitem__(self, item: Tensor | slice) -> SharedMasks:
        return SharedMasks(self.tensor, self.index[item])

    def __len__(self) -> int:
        return len(self.index)

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """What the masks show inside boxes: bool (boxes, mask_size, mask_size)."""
        return crop_masks(self.tensor, boxes, self.index, mask_size).bool()


@ROI_HEADS_REGISTRY.register()
class SViTROIHeads(StandardROIHeads):
    """detectron2's region heads, whose mask loss leaves out objects that were annotated by a box alone."""

    def _forward_mask(self, features: Maps, instances: list[Instances]) -> Any:
        if self.training:
            instances, _ = select_foreground_proposals(instances, self.num_classes)
            instances = [
                one[one.gt_has_mask] if one.has("gt_has_mask") else one for one in instances
            ]
        return super()._forward_mask(features, instances)


class BottomUp(Detectron2Backbone):
    """Our backbone behind detectron2's interface, without a level of its own in parameter names."""

    def __init__(self, net: Backbone) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor | Maps) -> Maps:
        """Maps c2..c5; maps that exist already pass, so that the FPN can run on them alone.

        Raises:
            NumbersError: maps are not finite outside of training, where detectron2 would find nothing;
                images are counted within the batch.
        """
        if isinstance(images, Mapping):
            return images
        maps = self.net(images)
        if not (self.training or torch.jit.is_tracing()):
            expect_finite(range(len(images)), maps)
        return maps

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride (input pixels a cell) of every map, by its name."""
        return {
            name: ShapeSpec(channels=self.net.channels, stride=stride)
            for name, stride in self.net.strides.items()
        }

    def state_dict(self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False):
        """The backbone's own: `pos_embed`, not `net.pos_embed`."""
        return self.net.state_dict(destination=destination, prefix=prefix, keep_vars=keep_vars)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        for name in [name for name in state_dict if name.startswith(prefix)]:
            state_dict[f"{prefix}net.{name.removeprefix(prefix)}"] = state_dict.pop(name)


@BACKBONE_REGISTRY.register()
def build_svit_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """The backbone and pruning method of `cfg.MODEL.SVIT` below detectron2's FPN."""
    return FPN(
        BottomUp(build_backbone(*our_sections(cfg))),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


def our_sections(cfg: CfgNode) -> tuple[BackboneConfig, PruningConfig]:
    """`cfg.MODEL.SVIT` as our settings.

    Options that only other methods have are what a start of another method left behind, and go.

    Raises:
        ConfigError: a key is unknown or has a value of the wrong kind.
    """
    sections = _plain(cfg.MODEL.SVIT)
    pruning = sections["pruning"]
    foreign = {name for other in METHODS for name in default_options(other)}
    foreign -= default_options(pruning["method"]).keys()
    options = {name: v for name, v in pruning["options"].items() if name not in foreign}
    pruning = {**pruning, "options": options}
    config = from_dict({"backbone": sections["backbone"], "pruning": pruning})
    return config.backbone, config.pruning


def _plain(node: Any) -> Any:
    """Nested dictionaries without detectron2's type."""
    return {key: _plain(value) for key, value in node.items()} if isinstance(node, dict) else node


@META_ARCH_REGISTRY.register()
class SViTRCNN(GeneralizedRCNN):
    """GeneralizedRCNN that adds the pruning method's losses and seeds its random masks.

    With `image_id` in the inputs, as in detectron2's data sets, the masks drawn in the inference
    mode `sample` depend on the image alone.
    """

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """The parts of the model; its poolers choose levels by our size of a canonical box."""
        parts = super().from_config(cfg)
        heads = parts["roi_heads"]
        poolers = [heads.box_pooler, heads.mask_pooler] if heads.mask_on else [heads.box_pooler]
        for pooler in poolers:
            pooler.canonical_box_size = cfg.MODEL.SVIT.roi_canonical_size
        return parts

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """detectron2's outputs; in training with the method's losses beside those of the heads."""
        outputs = super().forward(batched_inputs)
        if self.training:
            outputs.update(self.backbone.bottom_up.net.take_losses())
        return outputs

    def inference(self, batched_inputs: list[dict[str, Any]], *args: Any, **kwargs: Any) -> Any:
        """detectron2's, with masks seeded by `image_id` where every input has one."""
        ids = [one.get("image_id") for one in batched_inputs]
        if None not in ids:
            self.backbone.bottom_up.net.seed_images([image_seed(one, seed=0) for one in ids])
        return super().inference(batched_inputs, *args, **kwargs)


def add_svit_config(cfg: CfgNode, config: Config | str = "svit-adapter-t") -> None:
    """Turns a detectron2 configuration into that of one of our models.

    `cfg.MODEL.SVIT` holds what detectron2 has no keys for: our sections `backbone` and `pruning`
    under our names, and `roi_canonical_size`. All else is set through detectron2's own keys.

    Args:
        cfg: what `detectron2.config.get_cfg()` returned; changed in place.
        config: a configuration of ours or the name of a preset.
    """
    config = load_config(config) if isinstance(config, str) else config
    sections = to_dict(config)
    ours = {"backbone": sections["backbone"], "pruning": sections["pruning"]}
    options = {**default_options(config.pruning.method), **sections["pruning"]["options"]}
    ours["pruning"]["options"] = options  # all of them, so that a command line can set each
    ours["roi_canonical_size"] = config.detector.roi_canonical_size
    cfg.MODEL.SVIT = CfgNode(ours)
    cfg.MODEL.SVIT.pruning.options.set_new_allowed(True)  # of another method, by a file
    keys = {**_model_keys(config), **_proposal_keys(config), **_region_keys(config)}
    cfg.merge_from_list([part for pair in keys.items() for part in pair])


def _model_keys(config: Config) -> dict[str, Any]:
    data = config.data
    return {
        "MODEL.META_ARCHITECTURE": "SViTRCNN",
        "MODEL.BACKBONE.NAME": "build_svit_fpn_backbone",
        "MODEL.FPN.IN_FEATURES": ["c2", "c3", "c4", "c5"],
        "MODEL.FPN.OUT_CHANNELS": config.detector.fpn_dim,
        "MODEL.MASK_ON": True,
        "MODEL.PIXEL_MEAN": list(data.mean_rgb),
        "MODEL.PIXEL_STD": list(data.std_rgb),
        "INPUT.FORMAT": "RGB",
        "INPUT.MASK_FORMAT": "bitmask",  # mmdet too crops masks from bitmaps (reference.md 8)
        "INPUT.MIN_SIZE_TRAIN": (data.short_side,),
        "INPUT.MAX_SIZE_TRAIN": data.long_side,
        "INPUT.MIN_SIZE_TEST": data.short_side,
        "INPUT.MAX_SIZE_TEST": data.long_side,
    }


def _proposal_keys(config: Config) -> dict[str, Any]:
    settings = config.detector
    return {
        "MODEL.ANCHOR_GENERATOR.SIZES": [[size] for size in settings.anchor_sizes],
        "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [list(ASPECT_RATIOS)],
        "MODEL.ANCHOR_GENERATOR.OFFSET": 0.0,
        "MODEL.RPN.IN_FEATURES": list(LEVELS),
        "MODEL.RPN.BATCH_SIZE_PER_IMAGE": settings.rpn_samples,
        "MODEL.RPN.PRE_NMS_TOPK_TRAIN": settings.rpn_pre_nms_train,
        "MODEL.RPN.POST_NMS_TOPK_TRAIN": settings.rpn_post_nms_train,
        "MODEL.RPN.PRE_NMS_TOPK_TEST": settings.rpn_pre_nms_test,
        "MODEL.RPN.POST_NMS_TOPK_TEST": settings.rpn_post_nms_test,
        "MODEL.RPN.NMS_THRESH": 0.7,
        "MODEL.RPN.SMOOTH_L1_BETA": 0.0,
    }


def _region_keys(config: Config) -> dict[str, Any]:
    settings = config.detector
    return {
        "MODEL.ROI_HEADS.NAME": "SViTROIHeads",
        "MODEL.ROI_HEADS.IN_FEATURES": list(POOLED_LEVELS),
        "MODEL.ROI_HEADS.NUM_CLASSES": settings.classes,
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": settings.roi_samples,
        "MODEL.ROI_HEADS.POSITIVE_FRACTION": settings.roi_positive_fraction,
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": settings.score_threshold,
        "MODEL.ROI_HEADS.NMS_THRESH_TEST": settings.nms_threshold,
        "TEST.DETECTIONS_PER_IMAGE": settings.max_detections,
        "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
        "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
        "MODEL.ROI_BOX_HEAD.FC_DIM": settings.box_head_dim,
        "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": BOX_CELLS,
        "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlignV2",
        "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 0,
        "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": BOX_WEIGHTS,
        "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 0.0,
        "MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead",
        "MODEL.ROI_MASK_HEAD.NUM_CONV": settings.mask_head_convs,
        "MODEL.ROI_MASK_HEAD.CONV_DIM": settings.mask_head_dim,
        "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": MASK_CELLS,
        "MODEL.ROI_MASK_HEAD.POOLER_TYPE": "ROIAlignV2",
        "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO": 0,
    }
