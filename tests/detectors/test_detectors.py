"""One contract for the Mask R-CNN of every framework, and equality between them.

The rows of the table "Two frameworks" in docs/reference.md 7 are tests here; numbers of the
official implementation are in detectors/test_golden_heads.py, pooling and pasting against slow versions in
detectors/test_pooling.py, detectron2's own tools in detectors/test_detectron2_tools.py.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.tiny_detectors import FRAMEWORKS, SETTINGS, build, samples, varied
from torchvision.ops import box_iou

import svit.detectors
from svit.core.config import ConfigError
from svit.core.coverage import token_cover
from svit.core.presets import PRESETS, load_config
from svit.core.types import Target
from svit.data.samples import pad_batch, to_device
from svit.detectors import build_detector, resolve_framework
from svit.detectors.base import (
    Detector,
    NumbersError,
    image_seeds,
    mismatch,
    renamed,
    training_target,
)
from svit.probing.recorder import record

LOSSES = {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask"}
HEADS = [
    *(f"backbone.fpn_{kind}{level}" for kind in ("lateral", "output") for level in range(2, 6)),
    *(
        f"proposal_generator.rpn_head.{part}"
        for part in ("conv", "objectness_logits", "anchor_deltas")
    ),
    *(f"roi_heads.box_head.fc{index}" for index in (1, 2)),
    *(f"roi_heads.box_predictor.{part}" for part in ("cls_score", "bbox_pred")),
    *(f"roi_heads.mask_head.{part}" for part in ("mask_fcn1", "mask_fcn2", "deconv", "predictor")),
]


@pytest.fixture(params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def detector(framework: str) -> Detector:
    return varied(build(framework)).eval()


# the interface


def test_a_detector_says_what_it_was_built_from(framework: str) -> None:
    detector = build(framework)
    assert detector.framework == detector.config.framework == framework
    assert detector.backbone.channels == detector.config.backbone.embed_dim


def test_detections_are_sorted_lie_in_the_source_image_and_have_boolean_masks(
    detector: Detector,
) -> None:
    batch = samples((96, 64, 3), (64, 128, 2))
    for found, sample in zip(detector.predict(batch), batch, strict=True):
        height, width = sample.image_hw
        assert len(found) > 0
        assert (np.diff(found.scores) <= 0).all()
        assert found.masks.shape == (len(found), height, width) and found.masks.dtype == bool
        assert (found.boxes_xyxy >= 0).all()
        assert (found.boxes_xyxy <= [width, height, width, height]).all()


def test_boxes_scale_with_the_source_image(detector: Detector) -> None:
    (sample,) = samples((64, 96, 1))
    (same,) = detector.predict([replace(sample, image_hw=(64, 96))])
    (large,) = detector.predict([replace(sample, image_hw=(128, 288))])
    assert np.allclose(large.boxes_xyxy, same.boxes_xyxy * [3, 2, 3, 2], atol=1e-3)
    assert np.array_equal(large.labels, same.labels)


def test_nothing_found_is_an_empty_result_of_the_right_shape(detector: Detector) -> None:
    with torch.no_grad():
        _parameter(detector, "roi_heads.box_predictor.cls_score.bias")[-1] = 1e4
    (found,) = detector.predict(samples((64, 96, 1)))
    assert len(found) == 0
    assert found.boxes_xyxy.shape == (0, 4)
    assert found.masks.shape == (0, 128, 192) and found.masks.dtype == bool


def test_boxes_outside_the_image_are_dropped(detector: Detector) -> None:
    with torch.no_grad():
        deltas = _parameter(detector, "roi_heads.box_predictor.bbox_pred.bias").view(-1, 4)
        deltas[:3, 0] = 1e4  # the boxes of three classes move far to the right
    (found,) = detector.predict(samples((64, 96, 1)))
    assert 0 < len(found) < 100
    assert set(found.labels) <= {3, 4}
    assert (found.boxes_xyxy[:, 2:] > found.boxes_xyxy[:, :2]).all()


def test_maps_that_are_not_finite_stop_a_prediction_and_name_the_image(detector: Detector) -> None:
    with torch.no_grad():
        next(detector.backbone.parameters()).fill_(math.nan)
    with pytest.raises(NumbersError, match="image .*: the model's feature map .* is not finite"):
        detector.predict(samples((64, 96, 1)))


def test_a_wrong_mode_is_refused_with_the_remedy(framework: str) -> None:
    detector = build(framework)
    with pytest.raises(RuntimeError, match=r"predict\(\) needs eval mode; call detector.eval\(\)"):
        detector.train().predict(samples((64, 64, 1)))
    with pytest.raises(RuntimeError, match=r"losses\(\) needs train mode"):
        detector.eval().losses(samples((64, 64, 1)))


def test_a_call_gives_losses_in_training_and_detections_otherwise(framework: str) -> None:
    detector = build(framework)
    assert set(detector.train()(samples((64, 64, 1)))) == LOSSES | {"ratio_loss"}
    assert len(detector.eval()(samples((64, 64, 1)))) == 1


# rows of the table


def test_labels_count_from_zero_and_the_background_is_last(detector: Detector) -> None:
    for label in (0, 4):
        with torch.no_grad():
            bias = _parameter(detector, "roi_heads.box_predictor.cls_score.bias")
            bias.copy_(torch.tensor([-1e4] * 6))
            bias[label] = 1e4
        (found,) = detector.predict(samples((64, 96, 1)))
        assert len(found) > 0
        assert set(found.labels) == {label}


def test_training_labels_are_the_same_classes(framework: str) -> None:
    """Logits that name the object's class everywhere cost less than those of any other class."""
    batch = [_with_labels(sample, 2) for sample in samples((64, 96, 3))]
    costs = []
    for label in range(5):
        detector = build(framework).train()
        with torch.no_grad():
            _parameter(detector, "roi_heads.box_predictor.cls_score.bias")[label] = 3.0
        torch.manual_seed(0)
        costs.append(float(detector.losses(batch)["loss_cls"].detach()))
    assert np.argmin(costs) == 2


def test_mask_losses_belong_to_the_class_of_the_object(framework: str) -> None:
    detector = varied(build(framework)).train()
    batch = [_with_labels(sample, 3) for sample in samples((64, 96, 3))]
    detector.losses(batch)["loss_mask"].backward()
    gradient = _gradient(detector, "roi_heads.mask_head.predictor.weight")
    touched = gradient.abs().sum(dim=(1, 2, 3)).nonzero().flatten()
    assert touched.tolist() == [3]


def test_anchors_are_unrounded_and_start_at_the_corner(detector: Detector) -> None:
    maps = [torch.zeros(1, 16, 3, 5)] * 5
    if detector.framework == "torchvision":
        from svit.detectors.torchvision_rcnn import ImageList

        anchors = detector.rpn.anchor_generator(ImageList(maps[0], [(1, 1)]), maps)[0]
    else:
        found = detector.model.proposal_generator.anchor_generator(maps)
        anchors = torch.cat([boxes.tensor for boxes in found])
    slow = []
    for stride, size in zip((4, 8, 16, 32, 64), detector.config.detector.anchor_sizes, strict=True):
        for row in range(3):
            for column in range(5):
                for ratio in (0.5, 1.0, 2.0):
                    half_w, half_h = size / math.sqrt(ratio) / 2, size * math.sqrt(ratio) / 2
                    x, y = column * stride, row * stride
                    slow.append([x - half_w, y - half_h, x + half_w, y + half_h])
    assert torch.allclose(anchors, torch.tensor(slow), atol=1e-4)


def test_box_deltas_are_tenths_and_fifths_of_the_proposal(framework: str) -> None:
    """mmdet's stds .1 .1 .2 .2; moving every box right by half its width moves results as much."""
    detector = varied(build(framework)).eval()
    with torch.no_grad():
        for name in ("weight", "bias"):
            _parameter(detector, f"roi_heads.box_predictor.bbox_pred.{name}").zero_()
        bias = _parameter(detector, "roi_heads.box_predictor.bbox_pred.bias").view(-1, 4)
        (still,) = detector.predict(samples((64, 96, 1)))
        bias[:, 2] = 5 * math.log(0.5)  # half as wide
        bias[:, 3] = 5 * math.log(0.25)  # a quarter as high
        (small,) = detector.predict(samples((64, 96, 1)))
    widest = [(one.boxes_xyxy[:, 2:] - one.boxes_xyxy[:, :2]).max(axis=0) for one in (still, small)]
    assert np.allclose(widest[1] / widest[0], [0.5, 0.25], atol=1e-3)


def test_box_losses_are_l1(framework: str) -> None:
    """The gradient of L1 is a whole number of steps of 1/n, however close prediction and target are."""
    detector, regions = build(framework).train(), []
    heads = {"torchvision": "roi_heads.box_head", "detectron2": "model.roi_heads.box_head"}
    head = detector.get_submodule(heads[framework])
    head.register_forward_hook(lambda module, inputs, output: regions.append(len(output)))
    losses = detector.losses(samples((64, 96, 3)))
    (losses["loss_rpn_loc"] + losses["loss_box_reg"]).backward()
    anchors = _gradient(detector, "proposal_generator.rpn_head.anchor_deltas.bias") * 64
    boxes = _gradient(detector, "roi_heads.box_predictor.bbox_pred.bias") * regions[0]
    for steps in (anchors, boxes):
        assert steps.abs().max() >= 1
        assert torch.allclose(steps, steps.round(), atol=1e-4)


def test_images_are_padded_once_and_neither_resized_nor_normalised_again(
    detector: Detector,
) -> None:
    seen = []
    hook = detector.backbone.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0])
    )
    batch = samples((96, 64, 1), (64, 100, 1))
    detector.predict(batch)
    hook.remove()
    assert len(seen) == 1
    assert torch.equal(seen[0], pad_batch(batch, detector.config.data.pad_multiple))


def test_the_ratio_loss_of_gated_methods_comes_with_the_others(framework: str) -> None:
    torch.manual_seed(0)
    gated, dense = build(framework).train(), build(framework, "pruning.method=dense").train()
    losses = gated.losses(samples((64, 64, 1)))
    assert set(losses) == LOSSES | {"ratio_loss"}
    losses["ratio_loss"].backward()
    assert gated.backbone.method.gates[0].fc2.weight.grad.abs().sum() > 0
    assert set(dense.losses(samples((64, 64, 1)))) == LOSSES


def test_methods_that_learn_from_objects_are_shown_their_cover(framework: str) -> None:
    """Pictures of two sizes in one batch: nothing covers the padding."""
    config = load_config("cropr-plain-nano", [*SETTINGS, f"framework={framework}"])
    detector, seen = build_detector(config).train(), []
    method = detector.backbone.method
    begin = method.begin
    method.begin = lambda *given: seen.append(begin(*given)) or seen[-1]
    batch = samples((64, 96, 2), (48, 64, 1), (64, 64, 0))
    losses = detector.losses(batch)
    assert set(losses) == LOSSES | {"task_loss"}
    cover = seen[0].cover.unflatten(1, (4, 6))
    for one, sample in zip(cover, batch, strict=True):
        grid = sample.grid((64, 96), 16)
        rows, columns = grid.valid_hw
        union = sample.target.masks.any(axis=0, keepdims=True)
        assert np.allclose(one[:rows, :columns], token_cover(union, grid)[0])
        assert not one[rows:].any() and not one[:, columns:].any()
    losses["task_loss"].backward()
    assert method.scorers[0].queries.grad.abs().sum() > 0


# training


@pytest.mark.parametrize("objects", [(0, 0), (2, 0)])
def test_images_without_objects_give_finite_losses_and_gradients(
    framework: str, objects: tuple[int, int]
) -> None:
    detector = build(framework).train()
    losses = detector.losses(samples((64, 64, objects[0]), (64, 96, objects[1])))
    assert all(torch.isfinite(value) for value in losses.values())
    sum(losses.values()).backward()
    without = [name for name, value in detector.named_parameters() if value.grad is None]
    assert without == []  # DistributedDataParallel waits for every gradient
    assert all(torch.isfinite(value.grad).all() for value in detector.parameters())


def test_crowds_and_boxes_without_area_are_not_learned_from() -> None:
    (sample,) = samples((64, 64, 3))
    boxes = sample.target.boxes_xyxy.copy()
    boxes[1, 2] = boxes[1, 0]
    target = replace(sample.target, boxes_xyxy=boxes, crowd=np.array([False, False, True]))
    kept = training_target(replace(sample, target=target))
    assert len(kept) == 1
    assert np.array_equal(kept.boxes_xyxy[0], boxes[0])
    assert np.array_equal(kept.masks[0], sample.target.masks[0])


def test_training_without_a_target_names_the_image(framework: str) -> None:
    (sample,) = samples((64, 64, 1))
    with pytest.raises(ValueError, match="image 'image-0': training needs a target"):
        build(framework).train().losses([replace(sample, target=None)])


def test_training_runs_only_the_backbone_in_the_callers_precision(framework: str) -> None:
    detector = build(framework).train()
    seen = {}
    path = {"torchvision": "roi_heads.box_head", "detectron2": "model.roi_heads.box_head"}
    parts = {
        "block": detector.backbone.blocks[0].mlp.fc1,
        "head": detector.get_submodule(path[framework]),
    }
    for name, part in parts.items():
        part.register_forward_hook(
            lambda m, i, output, name=name: seen.update({name: output.dtype})
        )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = detector.losses(samples((64, 64, 1)))
    assert seen == {"block": torch.bfloat16, "head": torch.float32}
    assert all(torch.isfinite(value) for value in losses.values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_at_inference_heads_follow_into_bfloat16_alone_and_boxes_stay_near(
    framework: str, dtype: torch.dtype
) -> None:
    """The same boxes for both precisions: what remains is the scores' and masks' rounding."""
    detector, picture = varied(build(framework)).eval(), samples((96, 128, 1))
    conv = {"torchvision": "fpn.layer_blocks.0.0", "detectron2": "model.backbone.fpn_output2"}
    seen: list[torch.dtype] = []
    hook = detector.get_submodule(conv[framework]).register_forward_hook(
        lambda module, given, output: seen.append(output.dtype)
    )
    with torch.autocast("cpu", dtype=dtype):
        (half,) = detector.predict(picture)
    hook.remove()
    assert seen == [torch.bfloat16 if dtype == torch.bfloat16 else torch.float32]
    (full,) = detector.predict(picture)
    assert half.scores.dtype == half.boxes_xyxy.dtype == np.float32
    best = box_iou(*(torch.from_numpy(one.boxes_xyxy[:20]) for one in (full, half))).amax(dim=1)
    assert best.median() > 0.9


def test_heads_start_as_detectron2s_do(framework: str) -> None:
    torch.manual_seed(0)
    state = build(framework, "detector.box_head_dim=256").canonical_state_dict()

    def spread(name: str) -> float:
        return float(state[f"{name}.weight"].std())

    assert spread("proposal_generator.rpn_head.conv") == pytest.approx(0.01, rel=0.1)
    assert spread("proposal_generator.rpn_head.objectness_logits") == pytest.approx(0.01, rel=0.3)
    assert spread("roi_heads.box_predictor.cls_score") == pytest.approx(0.01, rel=0.1)
    assert spread("roi_heads.box_predictor.bbox_pred") == pytest.approx(0.001, rel=0.1)
    assert spread("roi_heads.mask_head.predictor") == pytest.approx(0.001, rel=0.3)
    # Caffe2's "Xavier": uniform with variance 1 / fan in
    assert spread("roi_heads.box_head.fc1") == pytest.approx((16 * 49) ** -0.5, rel=0.05)
    assert spread("backbone.fpn_output3") == pytest.approx((16 * 9) ** -0.5, rel=0.1)
    # Kaiming: normal with variance 2 / fan out
    assert spread("roi_heads.mask_head.mask_fcn1") == pytest.approx((2 / (16 * 9)) ** 0.5, rel=0.1)
    assert spread("roi_heads.mask_head.deconv") == pytest.approx((2 / (16 * 4)) ** 0.5, rel=0.1)
    for name in HEADS:
        assert (state[f"{name}.bias"] == 0).all(), name


# random masks


def test_sampled_masks_depend_on_the_image_and_the_seed_alone(framework: str) -> None:
    detector = varied(build(framework, "pruning.options.inference=sample")).eval()
    batch = samples((64, 96, 1), (64, 96, 1), (64, 96, 1))
    with record(detector) as tape:
        detector.predict(batch)
        together = tape.keep()
        detector.predict(batch[2:])
        alone = tape.keep()
        detector.seed = 1
        detector.predict(batch[2:])
        other = tape.keep()
    assert np.array_equal(together[2], alone[0])
    assert not np.array_equal(alone[0], other[0])
    assert len(set(image_seeds(batch, 0))) == 3


# weights


def test_canonical_names_are_detectron2s(framework: str) -> None:
    state = build(framework).canonical_state_dict()
    backbone = {name for name in state if name.startswith("backbone.bottom_up.")}
    assert set(state) - backbone == {
        f"{name}.{kind}" for name in HEADS for kind in ("weight", "bias")
    }
    assert "backbone.bottom_up.blocks.0.attn.qkv.weight" in backbone
    assert "backbone.bottom_up.method.gates.0.fc1.weight" in backbone
    assert state["roi_heads.box_predictor.cls_score.weight"].shape[0] == 6
    assert state["roi_heads.box_predictor.bbox_pred.weight"].shape[0] == 20
    assert state["roi_heads.mask_head.predictor.weight"].shape[0] == 5


def test_weights_survive_the_round_trip(framework: str) -> None:
    one, two = varied(build(framework)), build(framework)
    two.load_canonical(one.canonical_state_dict())
    mine, theirs = one.state_dict(), two.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_weights_that_do_not_fit_are_refused_by_name_and_change_nothing(framework: str) -> None:
    detector = build(framework)
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    state = varied(build(framework)).canonical_state_dict()
    del state["roi_heads.box_head.fc1.bias"]
    state["roi_heads.stray"] = torch.zeros(1)
    state["backbone.fpn_lateral2.bias"] = torch.zeros(7)
    with pytest.raises(ValueError, match="these weights do not fit") as caught:
        detector.load_canonical(state)
    assert "1 missing (roi_heads.box_head.fc1.bias)" in str(caught.value)
    assert "1 unexpected (roi_heads.stray)" in str(caught.value)
    assert "backbone.fpn_lateral2.bias (7,) instead of (16,)" in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())


def test_a_long_list_of_names_is_cut() -> None:
    assert mismatch({f"name{i}": torch.zeros(1) for i in range(9)}, {}).endswith("name4, ...)")
    assert mismatch({}, {}) == ""


def test_the_first_matching_prefix_is_renamed() -> None:
    assert renamed("a.b", {"a.": "x.", "a.b": "y"}) == "x.b"
    assert renamed("c", {"a.": "x."}) == "c"


# two frameworks


@pytest.mark.detectron2
@pytest.mark.parametrize("objectness", [0.0, 12.0])  # at 12 many probabilities are equal in float32
def test_one_state_gives_the_same_detections_in_both_frameworks(objectness: float) -> None:
    ours, theirs = varied(build("torchvision")).eval(), build("detectron2").eval()
    with torch.no_grad():
        _parameter(ours, "proposal_generator.rpn_head.objectness_logits.bias").fill_(objectness)
    theirs.load_canonical(ours.canonical_state_dict())
    batch = samples((96, 64, 3), (64, 100, 2), (128, 128, 0))
    for one, two in zip(ours.predict(batch), theirs.predict(batch), strict=True):
        assert len(one) == len(two) > 50
        assert np.array_equal(one.labels, two.labels)
        assert np.abs(one.boxes_xyxy - two.boxes_xyxy).max() < 1e-3
        assert np.abs(one.scores - two.scores).max() < 1e-5
        assert (one.masks != two.masks).sum() <= 4


@pytest.mark.detectron2
@pytest.mark.parametrize(
    "bare", [[(), ()], [(1,), (0,)], [(0, 2), ()], [(), (0, 1)], [(0, 1, 2), (0, 1)]]
)
def test_one_state_and_seed_give_the_same_losses_and_gradients_in_both_frameworks(bare) -> None:
    """Both draw their samples in the same order, so even single steps agree, whatever masks are missing."""
    ours = varied(build("torchvision")).train()
    theirs = build("detectron2").train()
    theirs.load_canonical(ours.canonical_state_dict())
    first, second, empty = samples((96, 64, 3), (64, 100, 2), (64, 64, 0))
    batch = [*without_masks([first], *bare[0]), *without_masks([second], *bare[1]), empty]
    results = []
    for detector in (ours, theirs):
        torch.manual_seed(3)
        losses = detector.losses(batch)
        sum(losses.values()).backward()
        gradients = {
            renamed(name, detector.names).replace(".net.", "."): value.grad
            for name, value in detector.named_parameters()
        }
        results.append((losses, gradients))
    (one, one_gradients), (two, two_gradients) = results
    assert set(one) == set(two)
    assert (one["loss_mask"] > 0) == (sum(map(len, bare)) < 5)
    for name in one:
        assert torch.allclose(one[name], two[name], rtol=1e-5), name
    assert set(one_gradients) == set(two_gradients)
    for name, gradient in one_gradients.items():
        assert torch.allclose(gradient, two_gradients[name], rtol=1e-3, atol=1e-5), name


@pytest.mark.gpu
def test_a_detector_finds_the_same_on_a_gpu(framework: str) -> None:
    detector, batch = varied(build(framework)).eval(), samples((96, 64, 3), (64, 100, 2))
    expected = detector.predict(batch)
    detector.cuda()
    on_gpu = [to_device(sample, "cuda") for sample in batch]
    for one, two in zip(expected, detector.predict(on_gpu), strict=True):
        assert len(one) == len(two)
        assert np.allclose(one.scores, two.scores, atol=1e-3)  # convolutions may run in TF32
    losses = detector.train().losses(on_gpu)
    sum(losses.values()).backward()
    assert all(torch.isfinite(value.grad).all() for value in detector.parameters())


# choosing


def test_torchvision_can_be_asked_for() -> None:
    assert resolve_framework("torchvision")[0] == "torchvision"


@pytest.mark.detectron2
def test_auto_prefers_detectron2() -> None:
    framework, reason = resolve_framework("auto")
    assert framework == "detectron2" and reason.endswith(".")


def test_without_detectron2_auto_chooses_torchvision_and_says_why(monkeypatch) -> None:
    monkeypatch.setattr(svit.detectors, "HAS_DETECTRON2", False)
    framework, reason = resolve_framework("auto")
    assert framework == "torchvision" and "not installed" in reason
    config = replace(PRESETS["svit-plain-nano"], framework="auto")
    assert build_detector(config).config.framework == "torchvision"


def test_asking_for_a_missing_detectron2_tells_how_to_install_it(monkeypatch) -> None:
    monkeypatch.setattr(svit.detectors, "HAS_DETECTRON2", False)
    with pytest.raises(ConfigError) as caught:
        resolve_framework("detectron2")
    line = (
        "pip install --no-build-isolation 'git+https://github.com/facebookresearch/detectron2.git'"
    )
    assert line in str(caught.value)


def test_a_broken_detectron2_does_not_block_auto(monkeypatch) -> None:
    def fail(name: str) -> None:
        raise ImportError("undefined symbol")

    monkeypatch.setattr(svit.detectors, "HAS_DETECTRON2", True)
    monkeypatch.setattr(svit.detectors.importlib, "import_module", fail)
    framework, reason = resolve_framework("auto")
    assert framework == "torchvision" and "undefined symbol" in reason


def test_an_unknown_framework_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match="auto, detectron2 or torchvision, found 'mmdet'"):
        resolve_framework("mmdet")


def _parameter(detector: Detector, name: str) -> torch.Tensor:
    """A parameter by its canonical name."""
    return detector.canonical_state_dict()[name]


def _gradient(detector: Detector, name: str) -> torch.Tensor:
    named = {renamed(own, detector.names): value for own, value in detector.named_parameters()}
    return named[name].grad


def _with_labels(sample, label: int):
    target: Target = sample.target
    return replace(sample, target=replace(target, labels=np.full(len(target), label)))


def without_masks(batch: list, *places: int) -> list:
    """The batch with the objects at these places of its first image annotated by boxes alone."""
    target = batch[0].target
    known = np.ones(len(target), bool)
    known[list(places)] = False
    return [replace(batch[0], target=replace(target, has_mask=known)), *batch[1:]]


def test_boxes_alone_are_learnt_without_a_mask_loss(framework: str) -> None:
    detector, batch = build(framework).train(), samples((64, 96, 3), (64, 64, 0))
    torch.manual_seed(1)
    losses = detector.losses(without_masks(batch, 0, 1, 2))
    assert losses["loss_mask"] == 0 and losses["loss_box_reg"] > 0
    sum(losses.values()).backward()
    assert all(one.grad is not None for one in detector.parameters() if one.requires_grad)


def test_what_an_object_without_a_mask_shows_does_not_count(framework: str) -> None:
    """Its bitmap may be anything: neither loss nor gradient follows from it."""
    losses = []
    for filled in (False, True):
        detector, batch = build(framework).train(), samples((64, 96, 3))
        masks = batch[0].target.masks.copy()
        masks[1] = filled
        changed = replace(batch[0], target=replace(batch[0].target, masks=masks))
        torch.manual_seed(1)
        losses.append(detector.losses(without_masks([changed], 1))["loss_mask"].item())
    assert losses[0] == losses[1] > 0
