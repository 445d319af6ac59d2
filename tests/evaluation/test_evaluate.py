"""One evaluation pass: files, keep ratios, compute, resuming, ranks, and the table of several."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pycocotools.coco import COCO
from support.scenes import IMAGES, detector, nano, shapes

from analysis.sources.evaluations import read_evaluation
from svit.core.coverage import token_cover
from svit.core.macs import block_macs
from svit.core.matches import MATCHES, MatchesError, MatchesFile
from svit.core.presets import PRESETS
from svit.data.coco import CocoDataset
from svit.detectors import build_detector
from svit.detectors.base import Detector
from svit.evaluation.average_precision import METRICS, average_precision, load_truth
from svit.evaluation.evaluate import Scoring, evaluate
from svit.evaluation.evaluation_table import Choice, choices, pairs_with_learned, report
from svit.evaluation.passes import PassOptions
from svit.evaluation.summary import Model, Outcome, Summary, summarise
from svit.runs.run import open_run

DRAWS = 5


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CocoDataset:
    return shapes(tmp_path_factory.mktemp("evaluate"))


def quiet(
    model: Detector,
    dataset: CocoDataset,
    output: Path,
    record: Path | None = None,
    evaluator: str = "pycocotools",
    **options,
) -> Summary:
    scoring = Scoring(evaluator, DRAWS, record)
    found = evaluate(model, dataset, output, PassOptions(progress=False, **options), scoring)
    assert found is not None
    return found


def test_an_evaluation_writes_results_that_pycocotools_reads_and_scores_alike(
    dataset: CocoDataset, tmp_path: Path
) -> None:
    summary = quiet(detector(), dataset, tmp_path)
    rows = json.loads((tmp_path / "coco_instances_results.json").read_text())
    assert len(rows) == 3 * IMAGES and rows == summary.rows
    truth = COCO(str(dataset.image_root.parent / "annotations" / "instances_val2017.json"))
    again = average_precision(load_truth(truth.dataset), rows, "box")
    assert again == summary.scores["box"] and list(again) == list(METRICS)
    images = pd.read_csv(tmp_path / "images.csv")
    assert images["image_id"].tolist() == dataset.image_ids
    assert images["objects"].tolist() == [len(dataset.target(i)) for i in range(IMAGES)]
    written = json.loads((tmp_path / "summary.json").read_text())
    assert written["images"] == IMAGES and written["errors"] == {}
    assert written["mask"]["AP"] == summary.scores["mask"]["AP"]
    facts = written["provenance"]
    assert facts["intervention"] == "learned" and facts["inference"] == "topk"
    assert facts["command"] and facts["threads"] and facts["limit"] is None


def test_a_single_image_has_no_interval_and_no_spread(dataset: CocoDataset, tmp_path: Path) -> None:
    summary = quiet(detector(), dataset, tmp_path, limit=1)
    written = json.loads((tmp_path / "summary.json").read_text())
    assert written["box"]["AP_interval"] == [None, None]
    assert written["keep_ratio"]["spread"] is None
    told = report([summary])
    assert "One image with objects tells nothing of others" in told and "nan" not in told
    assert "0.000 |" not in told.split("| block |")[1]
    assert math.isnan(read_evaluation(tmp_path / "summary.json").interval("box")[0])


def test_keep_ratios_and_macs_are_those_of_the_masks(dataset: CocoDataset, tmp_path: Path) -> None:
    model = detector()
    summary = quiet(model, dataset, tmp_path / "out", record=tmp_path / "run")
    traces = [open_run(tmp_path / "run").trace(image_id) for image_id in dataset.image_ids]
    keep = np.stack([trace.keep.reshape(12, -1) for trace in traces])
    expected = keep.mean(axis=2)
    assert summary.layers["keep"].tolist() == pytest.approx(expected.mean(axis=0).tolist())
    assert summary.layers["keep_spread"].tolist() == pytest.approx(expected.std(axis=0).tolist())
    assert summary.layers["gated"].tolist() == [False] * 3 + [True] * 9
    assert summary.images["keep_ratio"].tolist() == pytest.approx([10 / 16] * IMAGES)
    blocks = block_macs(model.config.backbone, "svit", 16, keep[0].sum(axis=1)).sum()
    off = quiet(model, dataset, tmp_path / "off", intervention="off").images["macs_backbone"][0]
    without = block_macs(model.config.backbone, "svit", 16, [16] * 3 + [0] * 9).sum()
    assert summary.images["macs_backbone"][0] - off == pytest.approx(blocks - without)


def outcomes(ratios: list[float], truth: dict) -> list[Outcome]:
    made = []
    for image, ratio in zip(truth["images"], ratios, strict=True):
        kept = (100, *[int(100 * ratio)] * 3)
        valid = (50, *[int(50 * ratio)] * 3)
        made.append(Outcome(image["id"], [], (10, 10), 50, kept, valid))
    return made


def small_truth() -> dict:
    objects = []
    for image in range(1, 5):
        for _ in range(image):
            box = [0, 0, 10, 10 * image]
            number = len(objects) + 1
            common = {"image_id": image, "category_id": 1, "iscrowd": 0, "segmentation": [box * 2]}
            objects.append({"id": number, "bbox": box, "area": 100 * image, **common})
    objects.append({**objects[0], "id": 99, "iscrowd": 1})
    images = [{"id": image, "height": 100, "width": 100} for image in range(1, 5)]
    return {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "a"}]}


def test_ratios_follow_valid_tokens_and_correlate_with_objects_and_area() -> None:
    config = replace(PRESETS["svit-plain-nano"], backbone=replace(nano().backbone, depth=4))
    model = Model(config, [1.0, 0.5, 0.5, 0.5], [1, 2, 3])
    truth = small_truth()
    found = summarise(model, truth, outcomes([0.2, 0.4, 0.6, 0.8], truth)[::-1], {}, draws=2)
    assert found.images["keep_ratio"].tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert found.images["objects"].tolist() == [1, 2, 3, 4]  # the crowd is not counted
    assert found.images["area"].tolist() == pytest.approx([0.01, 0.04, 0.09, 0.16])
    assert found.correlation["objects"] == pytest.approx(1)
    assert found.correlation["area"] == pytest.approx(
        np.corrcoef([1, 2, 3, 4], [1, 4, 9, 16])[0, 1]
    )
    assert found.layers["keep_valid"].tolist() == pytest.approx([1, 0.5, 0.5, 0.5])
    equal = summarise(model, truth, outcomes([0.4] * 4, truth), {}, draws=2)
    assert equal.correlation == {"objects": None, "area": None}
    json.dumps(equal.to_json(), allow_nan=False)


def test_an_evaluation_that_records_can_be_gone_on_with_and_read_back(
    dataset: CocoDataset, tmp_path: Path
) -> None:
    model, run = detector(), tmp_path / "run"
    plain = quiet(model, dataset, tmp_path / "a", inference="sample", seed=2)
    options = {"inference": "sample", "seed": 2, "record": run}
    quiet(model, dataset, tmp_path / "b", limit=2, **options)
    resumed = quiet(model, dataset, tmp_path / "b", **options)
    model.predict = None  # from here on everything has to come from the run
    read = quiet(model, dataset, tmp_path / "c", **options)
    for other in (resumed, read):
        assert other.rows == plain.rows and other.images.equals(plain.images)
    assert len(open_run(run)) == IMAGES


def test_the_oracle_reads_the_ground_truth_of_the_data_set(
    dataset: CocoDataset, tmp_path: Path
) -> None:
    model = detector()
    learned = quiet(model, dataset, tmp_path / "learned")
    summary = quiet(
        model, dataset, tmp_path / "oracle", intervention="oracle", record=tmp_path / "run"
    )
    assert summary.layers["keep"].tolist() == learned.layers["keep"].tolist()
    trace, target = open_run(tmp_path / "run").trace(dataset.image_ids[0]), dataset.target(0)
    covered = token_cover(target.masks.any(axis=0)[None], trace.grid)[0]
    kept = trace.keep[5]
    assert covered[kept].min() >= covered[~kept].max() - 0.01  # hundredths, then outlines


def test_no_detections_at_all_are_a_legal_result(dataset: CocoDataset, tmp_path: Path) -> None:
    config = nano()
    blind = replace(config, detector=replace(config.detector, score_threshold=1.0))
    summary = quiet(build_detector(blind).eval(), dataset, tmp_path)
    assert summary.scores["box"]["AP"] == summary.scores["mask"]["AP"] == 0
    assert json.loads((tmp_path / "coco_instances_results.json").read_text()) == []


def test_an_unreadable_image_counts_as_one_without_detections(
    dataset: CocoDataset, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(dataset.image_root.parent, root)
    (root / "val2017" / dataset.file_name(1)).write_bytes(b"")
    broken = shapes(root)
    whole = quiet(detector(), dataset, tmp_path / "whole")
    summary = quiet(detector(), broken, tmp_path / "out")
    lost = dataset.image_ids[1]
    assert list(summary.errors) == [lost] and len(summary.images) == IMAGES - 1
    assert summary.rows == [row for row in whole.rows if row["image_id"] != lost]


def test_seeds_repeat_only_what_draws_random_numbers() -> None:
    found = choices("topk", ["sample", "topk"], ["learned", "random", "on"], [0, 1])
    assert found == [
        *[Choice("sample", "learned", 0), Choice("sample", "learned", 1)],
        *[Choice("sample", "random", 0), Choice("sample", "random", 1)],
        Choice("sample", "on", 0),
        Choice("topk", "learned", 0),
        *[Choice("topk", "random", 0), Choice("topk", "random", 1)],
        Choice("topk", "on", 0),
    ]
    assert len(choices("topk", [None], ["learned"], [0, 1])) == 1  # the model's own mode is topk


def test_differences_pair_equal_seeds_and_need_equal_images(
    dataset: CocoDataset, tmp_path: Path
) -> None:
    model = detector()
    a = quiet(model, dataset, tmp_path / "a")
    b = quiet(model, dataset, tmp_path / "b", intervention="shuffle", seed=1)
    assert pairs_with_learned([a, b]) == [(a, b)]
    assert (a.drawn["box"] - a.drawn["box"]).interval().high == 0
    text = report([a, b])
    assert f"Differences in AP points over the same {DRAWS} draws" in text
    assert f"95 % percentile intervals over images ({DRAWS} draws)" in text
    fewer = quiet(model, dataset, tmp_path / "c", limit=2)
    with pytest.raises(ValueError, match="the same images"):
        a.drawn["mask"] - fewer.drawn["mask"]


def test_the_file_of_matches_holds_all_that_intervals_follow_from(
    dataset: CocoDataset, tmp_path: Path
) -> None:
    a = quiet(detector(seed=1), dataset, tmp_path / "a")
    b = quiet(detector(seed=2), dataset, tmp_path / "b")
    files = []
    for folder, summary in ((tmp_path / "a", a), (tmp_path / "b", b)):
        written = json.loads((folder / "summary.json").read_text())
        files.append(MatchesFile(folder / MATCHES, written["matches_sha256"]))
        again = files[-1].matches("mask")
        assert list(again.image_ids) == dataset.image_ids
        assert again.ap() == summary.scores["mask"]["AP"]
        assert again.drawn(DRAWS).interval() == summary.intervals["mask"]
    apart = files[0].drawn("box") - files[1].drawn("box")
    assert apart.value == a.scores["box"]["AP"] - b.scores["box"]["AP"]
    expected = a.drawn["box"].draws - b.drawn["box"].draws
    assert apart.draws == pytest.approx(expected, abs=1e-4)
    with pytest.raises(MatchesError, match="not the one its summary names"):
        MatchesFile(tmp_path / "b" / MATCHES, files[0].sha256).drawn("box")


def test_masks_of_another_model_can_be_put_on_a_dense_one(
    dataset: CocoDataset, tmp_path: Path
) -> None:
    summary = quiet(
        detector("dense"), dataset, tmp_path, intervention="random", masks_from=detector()
    )
    assert summary.layers["keep"][3:].tolist() == pytest.approx([10 / 16] * 9)
    lent = summary.provenance["masks_from"]
    told = f"another model decides (--masks-from, weights {lent[:10]})"
    assert len(lent) == 64 and told in report([summary])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"evaluator": "magic"}, "expected one of pycocotools"),
        ({"inference": "magic"}, "expected one of sample"),
        ({"intervention": "magic"}, "expected one of learned"),
        ({"limit": 0}, "limit: expected a whole number from 1, found 0"),
    ],
)
def test_unknown_choices_are_refused_with_the_known_ones(
    dataset: CocoDataset, tmp_path: Path, options: dict, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        quiet(detector(), dataset, tmp_path, **options)


def test_numbers_for_a_training_curve_are_plain_floats(
    dataset: CocoDataset, tmp_path: Path
) -> None:
    numbers = quiet(detector(), dataset, tmp_path).numbers()
    assert {"box_AP", "mask_AP", "keep_ratio", "macs_backbone"} <= numbers.keys()
    assert json.loads(json.dumps(numbers)) == numbers


def test_in_bfloat16_the_backbone_computes_otherwise_and_the_results_say_so(
    dataset: CocoDataset, tmp_path: Path
) -> None:
    plain = quiet(detector(), dataset, tmp_path / "float32", limit=2)
    half = quiet(detector(), dataset, tmp_path / "bfloat16", limit=2, dtype="bfloat16")
    assert half.provenance["dtype"] == "bfloat16" and "dtype" not in plain.provenance
    pairs = [(one["score"], two["score"]) for one, two in zip(plain.rows, half.rows, strict=False)]
    assert max(abs(one - two) for one, two in pairs) > 1e-6  # not the same numbers


def test_ratios_of_lent_masks_are_told_of_the_blocks_in_which_their_model_decides(
    dataset: CocoDataset, tmp_path: Path
) -> None:
    lender = detector(keep_ratios=[0.5] * 3)  # in the last three blocks alone
    summary = quiet(detector("dense"), dataset, tmp_path, masks_from=lender)
    assert summary.layers["gated"].tolist() == [False] * 9 + [True] * 3
    assert summary.layers["target"].tolist() == [1.0] * 9 + [0.5] * 3
    assert summary.images["keep_ratio"].mean() == pytest.approx(0.5)
