"""detectron2's own tools build, train, evaluate and save our models."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from support.tiny_detectors import build, settings_of, varied

from svit.core.presets import PRESETS
from svit.detectors import HAS_DETECTRON2
from svit.detectors.base import NumbersError
from svit.probing.recorder import record
from svit.pruning import build_method, default_options

if HAS_DETECTRON2:
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.config import CfgNode, get_cfg
    from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
    from detectron2.data.datasets import register_coco_instances
    from detectron2.engine import DefaultTrainer
    from detectron2.evaluation import COCOEvaluator
    from detectron2.modeling import build_model
    from detectron2.structures import BitMasks, Boxes, Instances
    from detectron2.utils.events import EventStorage

    from svit.detectors.detectron2_rcnn import SharedMasks, add_svit_config, our_sections

pytestmark = pytest.mark.detectron2
CLASSES = ["one", "two", "three", "four", "five"]


def configuration(*overrides: str):
    cfg = get_cfg()
    add_svit_config(cfg, settings_of("detectron2", *overrides))
    cfg.MODEL.DEVICE = "cpu"
    return cfg


def inputs(image_id: int = 5, objects: int = 2) -> dict:
    """What detectron2's loader yields: an RGB image of 0..255 and instances."""
    image = torch.randint(0, 256, (3, 64, 96), generator=torch.Generator().manual_seed(image_id))
    boxes = torch.tensor([[4.0, 6.0, 40.0, 50.0], [30.0, 10.0, 90.0, 60.0]])[:objects]
    masks = torch.zeros(objects, 64, 96, dtype=torch.bool)
    masks[:, 10:50, 35:40] = True
    truth = Instances(
        (64, 96),
        gt_boxes=Boxes(boxes),
        gt_classes=torch.arange(objects),
        gt_masks=BitMasks(masks),
    )
    source = {"height": 128, "width": 192, "image_id": image_id}
    return {"image": image.to(torch.uint8), "instances": truth, **source}


def test_build_model_gives_a_model_that_trains_and_detects() -> None:
    model = build_model(configuration())
    with EventStorage():
        losses = model.train()([inputs(), inputs(6, 0)])
    assert "ratio_loss" in losses and "loss_mask" in losses
    sum(losses.values()).backward()
    assert all(value.grad is not None for value in model.parameters())
    found = model.eval()([inputs()])[0]["instances"]
    assert found.pred_masks.shape[1:] == (128, 192)
    assert set(found.pred_classes.tolist()) <= set(range(5))


def test_damaged_weights_stop_detectron2s_tools_as_they_stop_ours() -> None:
    """detectron2 leaves proposals that are not finite out: pictures would have no objects."""
    model = build_model(configuration()).eval()
    with torch.no_grad():
        next(model.backbone.bottom_up.net.parameters()).fill_(float("nan"))
    with pytest.raises(NumbersError, match="image 0: the model's feature map c2 is not finite"):
        model([inputs()])


def test_boxes_alone_are_learnt_and_found_without_a_mask_head(tmp_path) -> None:
    """Data without masks: detectron2's mapper then asks for none."""
    name = f"boxes-{tmp_path.name}"
    path = write_dataset(tmp_path)
    content = json.loads(path.read_text())
    for one in content["annotations"]:
        del one["segmentation"]
    path.write_text(json.dumps(content))
    register_coco_instances(name, {}, str(path), str(tmp_path))
    try:
        cfg = configuration()
        cfg.MODEL.MASK_ON = False
        mapper = DatasetMapper(cfg, is_train=True, augmentations=[])
        batch = [mapper(one) for one in DatasetCatalog.get(name)]
        model = build_model(cfg)
        with EventStorage():
            losses = model.train()(batch)
        assert losses.keys() >= {"loss_box_reg", "ratio_loss"} and "loss_mask" not in losses
        assert model.eval()(batch)[0]["instances"].has("pred_boxes")
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_settings_of_ours_can_be_changed_through_detectron2s_configuration() -> None:
    cfg = configuration()
    cfg.merge_from_list(["MODEL.SVIT.backbone.depth", 8, "MODEL.ROI_HEADS.NUM_CLASSES", 3])
    method = CfgNode({"MODEL": {"SVIT": {"pruning": {"options": {"ratio_weight": 2.0}}}}})
    cfg.merge_from_other_cfg(method)  # an option the preset leaves at its default
    model = build_model(cfg)
    assert len(model.backbone.bottom_up.net.blocks) == 8
    assert model.backbone.bottom_up.net.method.ratio_weight == 2.0
    assert model.roi_heads.box_predictor.cls_score.out_features == 4


def test_a_dumped_configuration_of_every_preset_loads_again(tmp_path) -> None:
    """Into that of the same preset and into the one everybody starts with."""
    for name, preset in PRESETS.items():
        cfg = get_cfg()
        add_svit_config(cfg, name)
        (tmp_path / "dumped.yaml").write_text(cfg.dump())
        expected = build_method(preset.pruning.method, 96, 12, 3, preset.pruning.options)
        for start in (name, "svit-adapter-t"):
            again = get_cfg()
            add_svit_config(again, start)
            again.merge_from_file(str(tmp_path / "dumped.yaml"))
            backbone, pruning = our_sections(again)
            assert backbone == preset.backbone and pruning.method == preset.pruning.method, name
            method = build_method(pruning.method, 96, 12, 3, pruning.options)
            assert method.traits == expected.traits and repr(method) == repr(expected), name
            assert {**pruning.options, **preset.pruning.options} == pruning.options, name


def test_every_option_of_a_method_can_be_set_from_the_command_line() -> None:
    cfg = configuration()
    for option in default_options("svit"):
        assert option in cfg.MODEL.SVIT.pruning.options
    words = "MODEL.SVIT.pruning.options.inference sample MODEL.SVIT.pruning.options.bias 1.5"
    cfg.merge_from_list(words.split())
    method = build_model(cfg).backbone.bottom_up.net.method
    assert method.inference == "sample"
    assert all(gate.fc2.bias[0] - gate.fc2.bias[1] == 1.5 for gate in method.gates)


def test_an_option_that_no_method_has_is_refused() -> None:
    cfg = configuration()
    with pytest.raises(AssertionError, match="Non-existent key"):
        cfg.merge_from_list(["MODEL.SVIT.pruning.options.inferense", "sample"])
    cfg.MODEL.SVIT.pruning.options.inferense = "sample"
    with pytest.raises(ValueError, match="no option 'inferense'; near names: inference"):
        build_model(cfg)


def test_the_canonical_size_of_regions_reaches_both_poolers() -> None:
    heads = build_model(configuration("detector.roi_canonical_size=56")).roi_heads
    assert heads.box_pooler.canonical_box_size == heads.mask_pooler.canonical_box_size == 56


def test_pixels_are_normalised_once_and_as_in_our_data_layer() -> None:
    cfg = configuration()
    model, one = build_model(cfg).eval(), inputs()
    images = model.preprocess_image([one])
    mean, std = (
        torch.tensor(pair).view(3, 1, 1) for pair in (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)
    )
    assert cfg.INPUT.FORMAT == "RGB" and cfg.MODEL.PIXEL_MEAN[0] == pytest.approx(123.675)
    assert torch.allclose(images.tensor[0], (one["image"].float() - mean) / std)


def test_random_masks_depend_on_the_image_id_of_detectron2s_inputs() -> None:
    model = build_model(configuration("pruning.options.inference=sample")).eval()
    with record(model) as tape, torch.no_grad():
        keep = []
        for image_id in (5, 5, 6):
            model([{**inputs(5), "image_id": image_id}])
            keep.append(tape.keep())
    assert np.array_equal(keep[0], keep[1])
    assert not np.array_equal(keep[0], keep[2])


def test_detectron2s_checkpoints_hold_canonical_names(tmp_path) -> None:
    model = build_model(configuration())
    DetectionCheckpointer(model, str(tmp_path)).save("saved")
    state = torch.load(tmp_path / "saved.pth", weights_only=True)["model"]
    detector = varied(build("torchvision"))
    detector.load_canonical(state)
    other = build_model(configuration())
    DetectionCheckpointer(other).load(str(tmp_path / "saved.pth"))
    expected = detector.canonical_state_dict()
    assert set(other.state_dict()) == set(expected)
    assert all(torch.equal(value, expected[name]) for name, value in other.state_dict().items())


def test_shared_masks_are_cropped_as_bitmaps_without_copies() -> None:
    masks = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(0)) > 0.5
    index = torch.tensor([2, 0, 2, 1, 2])
    shared, copied = SharedMasks(masks)[index], BitMasks(masks)[index]
    boxes = torch.tensor([[3.0, 4.0, 30.0, 35.0]]).repeat(5, 1) + torch.arange(5)[:, None]
    assert len(shared) == 5
    assert shared[1:3].tensor is shared.tensor is not None
    assert torch.equal(shared.crop_and_resize(boxes, 28), copied.crop_and_resize(boxes, 28))


if HAS_DETECTRON2:

    class Trainer(DefaultTrainer):
        @classmethod
        def build_evaluator(cls, cfg, dataset_name):
            return COCOEvaluator(dataset_name, output_dir=cfg.OUTPUT_DIR)


def test_the_default_trainer_and_the_coco_evaluator_accept_the_model(tmp_path) -> None:
    name = f"shapes-{tmp_path.name}"
    register_coco_instances(name, {}, str(write_dataset(tmp_path)), str(tmp_path))
    try:
        cfg = configuration()
        cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (name,)
        cfg.DATALOADER.NUM_WORKERS = 0
        cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR = 2, 2, 1e-4
        cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (64,), 64
        cfg.OUTPUT_DIR = str(tmp_path / "out")
        trainer = Trainer(cfg)
        before = [value.clone() for value in trainer.model.parameters()]
        trainer.train()  # steps, writes metrics and weights, evaluates
        after = trainer.model.parameters()
        moved = [not torch.equal(one, two) for one, two in zip(before, after, strict=True)]
        assert sum(moved) > 0.9 * len(moved)
        metrics = (tmp_path / "out" / "metrics.json").read_text()
        assert all(name in metrics for name in ("ratio_loss", "bbox/AP", "segm/AP"))
        assert (tmp_path / "out" / "model_final.pth").is_file()
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def write_dataset(folder) -> object:
    """Two pictures with two rectangles each, as COCO json."""
    images, annotations = [], []
    for image_id in (1, 2):
        pixels = np.random.default_rng(image_id).integers(0, 255, (64, 96, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{image_id}.png")
        images.append({"id": image_id, "file_name": f"{image_id}.png", "height": 64, "width": 96})
        for index, (x, y) in enumerate(((5, 5), (50, 20))):
            polygon = [x, y, x + 30, y, x + 30, y + 30, x, y + 30]
            annotations.append(
                {
                    "id": 10 * image_id + index,
                    "image_id": image_id,
                    "category_id": index + 1,
                    "bbox": [x, y, 30, 30],
                    "area": 900,
                    "iscrowd": 0,
                    "segmentation": [polygon],
                }
            )
    categories = [{"id": index + 1, "name": name} for index, name in enumerate(CLASSES)]
    content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    path = folder / "shapes.json"
    path.write_text(json.dumps(content))
    return path
