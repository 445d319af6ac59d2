"""detectron2 as its users know it: predictor, configurations, operator counts, the right resize."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.golden import FOLDER, needs_golden
from support.scenes import nano, shapes

from benchmarks.golden_tensors import Reference
from svit.core.macs import ledger
from svit.core.presets import PRESETS, load_config
from svit.data.coco import prepare
from svit.data.images import resize_image
from svit.detectors import HAS_DETECTRON2, build_detector
from svit.probing.recorder import record

if HAS_DETECTRON2:
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.config import LazyConfig, get_cfg, instantiate
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.data.datasets import register_coco_instances
    from detectron2.data.detection_utils import read_image
    from detectron2.engine import DefaultPredictor, SimpleTrainer
    from detectron2.evaluation import inference_on_dataset
    from detectron2.modeling import build_model
    from detectron2.utils.analysis import FlopCountAnalysis

    from svit.detectors.detectron2_rcnn import add_svit_config, our_sections
    from svit.detectors.detectron2_tools import FLOP_HANDLES, ResizeAsCv2

pytestmark = pytest.mark.detectron2
ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "svit" / "detectors" / "configs"
PICTURE = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


def configuration(config):
    cfg = get_cfg()
    add_svit_config(cfg, config)
    cfg.MODEL.DEVICE = "cpu"
    return cfg


def documented(words: str) -> str:
    """The Python code of docs/detectron2.md that has these words."""
    blocks = (ROOT / "docs" / "detectron2.md").read_text(encoding="utf-8").split("```python\n")
    return next(block for block in blocks if words in block.split("```")[0]).split("```")[0]


def test_the_augmentation_gives_the_pixels_and_sizes_of_our_pipeline() -> None:
    moved = ResizeAsCv2(64, 80).get_transform(PICTURE)
    np.testing.assert_array_equal(moved.apply_image(PICTURE), resize_image(PICTURE, (57, 80)))
    assert moved.apply_box(np.array([[0, 0, 70, 50.0]])).round(3).tolist() == [[0, 0, 80, 57]]
    assert moved.apply_segmentation(PICTURE[..., 0]).shape == (57, 80)
    sides = {ResizeAsCv2([20, 30], 999).get_transform(PICTURE).new_h for _ in range(40)}
    assert sides == {20, 30}


def test_the_default_predictor_detects_what_our_detector_does(tmp_path: Path) -> None:
    cfg = configuration(nano(detections=5))
    model = build_model(cfg)
    DetectionCheckpointer(model, str(tmp_path)).save("weights")
    cfg.MODEL.WEIGHTS = str(tmp_path / "weights.pth")
    predictor = DefaultPredictor(cfg)
    predictor.aug = ResizeAsCv2(64, 96)
    found = predictor(PICTURE[:, :, ::-1])["instances"]
    ours = build_detector(nano(detections=5))
    ours.load_canonical(model.state_dict())
    expected = ours.eval().predict([prepare(PICTURE, nano().data, "a")])[0]
    np.testing.assert_allclose(found.pred_boxes.tensor.numpy(), expected.boxes_xyxy, atol=1e-3)
    np.testing.assert_array_equal(found.pred_classes.numpy(), expected.labels)
    np.testing.assert_allclose(found.scores.numpy(), expected.scores, atol=1e-5)


@needs_golden
def test_the_default_predictor_gives_the_official_masks_of_a_photograph(tmp_path: Path) -> None:
    photo, official = Reference(FOLDER).photo("svit-adapter-t")
    torch.save({"model": Reference(FOLDER).weights("svit-adapter-t")}, tmp_path / "svit.pth")
    cfg = configuration("svit-adapter-t")
    cfg.MODEL.WEIGHTS = str(tmp_path / "svit.pth")
    predictor = DefaultPredictor(cfg)
    picture = read_image(str(photo), "BGR")
    with record(predictor.model) as tape:
        predictor(picture)
        by_pil = tape.keep()[0]
        predictor.aug = ResizeAsCv2(800, 1333)
        found = predictor(picture)["instances"]
    keep = official["photo.keep_masks"].bool().numpy()
    np.testing.assert_array_equal(tape.keep()[0], keep)
    assert (by_pil != keep).sum() > 50  # detectron2's own resize makes another model of it
    boxes = official["photo.boxes_scores"][:, :4]
    assert torch.cdist(boxes, found.pred_boxes.tensor, p=float("inf")).amin(1).max() < 0.01


@pytest.mark.parametrize("size", ["t", "s"])
def test_the_yacs_files_are_the_presets_and_build(size: str) -> None:
    cfg = configuration("svit-adapter-t")
    cfg.merge_from_file(str(CONFIGS / f"yacs_svit_adapter_{size}.yaml"))
    preset = PRESETS[f"svit-adapter-{size}"]
    backbone, pruning = our_sections(cfg)
    assert backbone == preset.backbone and pruning.method == "svit"
    assert build_model(cfg).backbone.bottom_up.net.method.keep_ratios == [
        *preset.pruning.options["keep_ratios"]
    ]


@pytest.mark.parametrize("size", ["t", "s"])
def test_the_lazy_files_are_the_presets(size: str) -> None:
    cfg = LazyConfig.load(str(CONFIGS / f"lazy_svit_adapter_{size}.py"))
    assert load_config(cfg.model.preset) == PRESETS[f"svit-adapter-{size}"]
    assert cfg.train.max_iter == {"t": 6, "s": 4}[size] * 7330
    schedule = instantiate(cfg.lr_multiplier)
    assert schedule(0.5) == pytest.approx(1) and schedule(0.99) == pytest.approx(0.1)


def test_the_lazy_files_are_imported_side_by_side_and_changed_by_their_user(monkeypatch) -> None:
    names = [f"svit.detectors.configs.lazy_svit_adapter_{size}" for size in "st"]
    for name in names:  # another test may have changed them
        monkeypatch.delitem(sys.modules, name, raising=False)
    small, tiny = map(import_module, names)
    assert (tiny.model.preset, small.model.preset) == ("svit-adapter-t", "svit-adapter-s")
    assert tiny.lr_multiplier.scheduler.num_updates == tiny.train.max_iter == 6 * tiny.EPOCH
    small.train.device, small.train.amp.enabled = "cpu", False
    assert small.train.max_iter == 4 * tiny.EPOCH and tiny.train.device == "cuda"


def test_a_lazy_configuration_trains_and_evaluates(tmp_path: Path) -> None:
    """What tools/lazyconfig_train_net.py does with the one of the documentation."""
    data, name = shapes(tmp_path), f"lazy-{tmp_path.name}"
    json = tmp_path / "annotations" / "instances_val2017.json"
    register_coco_instances(name, {}, str(json), str(data.image_root))
    try:
        (tmp_path / "mine.py").write_text(documented("import register_coco_instances"))
        cfg = LazyConfig.load(str(tmp_path / "mine.py"))
        words = f"""dataloader.train.dataset.names={name} dataloader.test.dataset.names={name}
            dataloader.train.total_batch_size=2 dataloader.train.num_workers=0
            dataloader.test.num_workers=0"""
        cfg = LazyConfig.apply_overrides(cfg, words.split())
        cfg.dataloader.train.mapper.augmentations[0].short_sides = [48, 64]
        cfg.dataloader.test.mapper.augmentations[0].short_sides = 64
        model = instantiate(cfg.model)
        cfg.optimizer.params.model = model
        trainer = SimpleTrainer(
            model, instantiate(cfg.dataloader.train), instantiate(cfg.optimizer)
        )
        trainer.train(0, 2)
        cfg.dataloader.evaluator.output_dir = str(tmp_path / "out")
        results = inference_on_dataset(
            model, instantiate(cfg.dataloader.test), instantiate(cfg.dataloader.evaluator)
        )
        assert {"bbox", "segm"} <= results.keys() or results == {}
        assert (cfg.train.device, cfg.train.max_iter) == ("cpu", 3)
    finally:
        for one in (name, "shapes_train", "shapes_val"):
            DatasetCatalog.pop(one, None)
            MetadataCatalog.pop(one, None)


def test_the_train_net_of_the_documentation_trains(tmp_path: Path) -> None:
    data, name = shapes(tmp_path), f"yacs-{tmp_path.name}"
    json = tmp_path / "annotations" / "instances_val2017.json"
    register_coco_instances(name, {}, str(json), str(data.image_root))
    try:
        cfg = configuration(nano())
        cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (name,)
        cfg.DATALOADER.NUM_WORKERS, cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER = 0, 2, 1
        cfg.OUTPUT_DIR = str(tmp_path / "out")
        names: dict[str, Any] = {}
        exec(documented("class Trainer"), names)
        trainer = names["Trainer"](cfg)
        assert isinstance(trainer.optimizer, torch.optim.AdamW)
        trainer.train()
        assert (tmp_path / "out" / "model_final.pth").is_file()
        tested = next(iter(trainer.build_test_loader(cfg, name)))[0]["image"]
        assert tested.dtype == torch.uint8 and max(tested.shape[1:]) <= 96
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.mark.parametrize("preset", ["svit-plain-nano", "svit-adapter-nano", "vit-adapter-nano"])
def test_detectron2s_operator_counts_are_the_ledgers(preset: str) -> None:
    options = ["pruning.options.bias=0.0"] if preset.startswith("svit") else []
    config = load_config(preset, options)
    model = build_model(configuration(config)).eval()
    image = torch.randint(0, 256, (3, 128, 192), generator=torch.Generator().manual_seed(0))
    inputs = [{"image": image.to(torch.uint8), "height": 128, "width": 192}]
    with torch.no_grad(), record(model) as tape:
        found = model(inputs)[0]["instances"]
    counted = FlopCountAnalysis(model, inputs).set_op_handle(**FLOP_HANDLES)
    counted.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    kept = tape.keep()[0].sum(axis=(1, 2))
    rows = counted.by_module()
    expected = ledger(config.backbone, None, config.pruning, (8, 12), kept)
    assert rows["model.backbone.bottom_up"] == pytest.approx(expected.sum(), rel=1e-12)
    parts = ledger(
        config.backbone, config.detector, config.pruning, (8, 12), kept, None, len(found)
    )
    assert rows["model.proposal_generator"] == parts["rpn"]
    assert counted.by_module()["model.roi_heads"] <= parts["box_head"] + parts["mask_head"]
