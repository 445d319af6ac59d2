"""`svit evaluate`: one table of several evaluations, several processes, a full disk."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support.scenes import IMAGES, detector, shapes

from svit.cli import main
from svit.data.coco import CocoDataset
from svit.data.shapes import CLASSES, write_dataset
from svit.runs.rescue import read_rescue
from svit.runs.run import open_run
from svit.weights import checkpoint

DRAWS = 5


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CocoDataset:
    return shapes(tmp_path_factory.mktemp("evaluate"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "nano.safetensors"
    checkpoint.save(path, detector())
    return path


def test_two_processes_give_what_one_gives(
    dataset: CocoDataset,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    forked_processes: None,
) -> None:
    # as many threads in each of two processes as in the one: sums round alike
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    threads = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    torch.set_num_threads(1)
    words = ["evaluate", "--weights", str(weights), "--framework", "torchvision", "--batch", "2"]
    words += ["--data-root", str(dataset.image_root.parent), "--draws", str(DRAWS)]
    words += ["--inference", "sample", "--record", str(tmp_path / "run")]
    assert main.main([*words, "--out", str(tmp_path / "two"), "--num-gpus", "2"]) == 0
    words[-1] = str(tmp_path / "other")
    assert main.main([*words, "--out", str(tmp_path / "one")]) == 0
    for name in ("coco_instances_results.json", "images.csv", "table.md"):
        assert (tmp_path / "one" / name).read_text() == (tmp_path / "two" / name).read_text()
    assert open_run(tmp_path / "run").content_hash() == open_run(tmp_path / "other").content_hash()


def test_the_command_makes_one_table_of_modes_interventions_and_seeds(
    dataset: CocoDataset, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    json_path = dataset.image_root.parent / "annotations" / "instances_val2017.json"
    words = ["evaluate", "--weights", str(weights), "--framework", "torchvision", "--limit", "2"]
    words += ["--dataset", str(json_path), "--image-root", str(dataset.image_root)]
    words += ["--intervene", "learned,shuffle,off", "--seed", "0,1", "--draws", str(DRAWS)]
    assert main.main([*words, "--inference", "topk", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "table.md").read_text().strip() == printed.strip()
    lines = [line for line in printed.splitlines() if line.startswith("| topk")]
    kinds = [line.split(" | ")[1:3] for line in lines]
    shown = [["learned", "0"], ["shuffle", "0"], ["shuffle", "1"], ["off", "0"]]
    over_seeds = [["learned", "1"], ["shuffle", "2"], ["off", "1"]]
    assert kinds == [*shown, *over_seeds, *shown[1:]]  # results, means, differences to learned
    assert (tmp_path / "topk-shuffle-seed1" / "summary.json").is_file()
    assert "Correlation of an image's keep ratio" in printed


def test_blocks_count_from_one_and_rows_say_where_masks_changed(
    dataset: CocoDataset, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["evaluate", "--weights", str(weights), "--framework", "torchvision", "--limit", "1"]
    words += ["--data-root", str(dataset.image_root.parent), "--draws", "2"]
    words += ["--intervene", "learned,off", "--blocks", "5,11-12", "--out", str(tmp_path / "out")]
    assert main.main(words) == 0
    printed = capsys.readouterr().out
    assert "| off in blocks 5, 11–12 | 0 |" in printed and "| learned | 0 |" in printed
    (off,) = tmp_path.glob("out/*-off-*/summary.json")
    facts = json.loads(off.read_text())
    kept = [row["keep"] for row in facts["layers"]]
    assert [block for block, share in enumerate(kept, 1) if share == 0] == [5, 11, 12]
    (learned,) = tmp_path.glob("out/*-learned-*/summary.json")
    assert json.loads(learned.read_text())["provenance"]["layers"] is None


@pytest.mark.parametrize(
    ("intervene", "blocks", "sentence"),
    [
        ("off", "99", "decides, blocks 4–12; found block 99"),
        ("random", "-1", "expected numbers from 1"),
        ("random", "0,4", "decides, blocks 4–12; found block 0"),
        ("shuffle", "3-4", "decides, blocks 4–12; found block 3"),
        ("off", "4,x", "expected numbers from 1 like 4,5 or 4-6, found '4,x'"),
        ("off", "6-4", "blocks 4–12; found none"),
        ("off", "4-400", "blocks 4–12; found blocks 13–400"),
        ("off", "4-9999999999", "expected numbers from 1 like 4,5 or 4-6, found '4-9999999999'"),
        ("learned", "4", "--blocks goes with --intervene or --masks-from"),
    ],
)
def test_blocks_in_which_nothing_would_change_are_refused_before_any_work(
    dataset: CocoDataset,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    intervene: str,
    blocks: str,
    sentence: str,
) -> None:
    words = ["evaluate", "--weights", str(weights), "--framework", "torchvision"]
    words += ["--data-root", str(dataset.image_root.parent), "--out", str(tmp_path / "out")]
    assert main.main([*words, "--intervene", intervene, f"--blocks={blocks}"]) == 2
    assert sentence in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that name their classes."""
    path = tmp_path_factory.mktemp("named") / "nano.safetensors"
    checkpoint.save(path, detector(), {"class_names": list(CLASSES)})
    return path


def rows_of(dataset: CocoDataset, weights: Path, out: Path, change: dict, *more: str) -> list[dict]:
    """COCO results of two pictures whose json is changed."""
    out.mkdir()
    (out / "data.json").write_text(json.dumps({**dataset.coco(), **change}))
    words = ["evaluate", "--weights", str(weights), "--framework", "torchvision", "--limit", "2"]
    words += ["--dataset", str(out / "data.json"), "--image-root", str(dataset.image_root)]
    assert main.main([*words, "--draws", "2", "--out", str(out), *more]) == 0
    return json.loads((out / "coco_instances_results.json").read_text())


def test_classes_are_found_by_name_in_any_order(
    dataset: CocoDataset, named: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    truth = dataset.coco()
    number = {one["id"]: 100 - one["id"] for one in truth["categories"]}
    project = {"id": 0, "name": "project"}  # as Roboflow writes it: a class without an object
    change = {
        "categories": [
            project,
            *({**one, "id": number[one["id"]]} for one in truth["categories"]),
        ],
        "annotations": [
            {**one, "category_id": number[one["category_id"]]} for one in truth["annotations"]
        ],
    }
    plain = rows_of(dataset, named, tmp_path / "plain", {})
    assert "classes" not in capsys.readouterr().err
    turned = rows_of(dataset, named, tmp_path / "turned", change)
    assert [number[one["category_id"]] for one in plain] == [one["category_id"] for one in turned]
    said = capsys.readouterr().err
    assert "matched by name" in said and "left out: 'project'" in said


def test_other_classes_are_refused_until_a_class_map_names_them(
    dataset: CocoDataset, named: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    german = [
        {**one, "name": "Kreis" if one["name"] == "circle" else one["name"]}
        for one in dataset.coco()["categories"]
    ]
    with pytest.raises(AssertionError):
        rows_of(dataset, named, tmp_path / "one", {"categories": german})
    said = capsys.readouterr().err
    assert "classes the model does not have: 'Kreis'" in said and "--class-map" in said
    rows = rows_of(
        dataset, named, tmp_path / "two", {"categories": german}, "--class-map", "Kreis=circle"
    )
    assert rows == rows_of(dataset, named, tmp_path / "three", {})
    rows_of(dataset, weights, tmp_path / "four", {"categories": german})
    assert "the weights name no classes: taken by position" in capsys.readouterr().err


def test_what_the_check_refuses_is_not_measured(
    dataset: CocoDataset, named: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    truth = dataset.coco()
    images = [{**one, "file_name": one["file_name"].upper()} for one in truth["images"]]
    with pytest.raises(AssertionError):
        rows_of(dataset, named, tmp_path / "out", {"images": images})
    assert "4 foreign file names" in capsys.readouterr().err
    assert not (tmp_path / "out" / "table.md").exists()


def test_one_command_calibrates_and_compares_the_inference_modes(
    dataset: CocoDataset, tmp_path: Path, weights: Path
) -> None:
    words = ["evaluate", "--weights", str(weights), "--framework", "torchvision"]
    words += ["--data-root", str(dataset.image_root.parent), "--draws", "2", "--seed", "0,1,2"]
    words += ["--inference", "sample,calibrated", "--out", str(tmp_path / "out")]
    assert main.main(words) == 2  # never calibrated: told before anything is written
    assert not (tmp_path / "out").exists()
    assert main.main([*words, "--calibrate-on", "val2017"]) == 0
    text = (tmp_path / "out/table.md").read_text()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    (head,) = [row for row in lines if row[:2] == ["block", "target"] and "sample" in row]
    assert head[2:] == ["sample", "calibrated"]
    (missed,) = [row for row in lines if row[:1] == ["largest miss"]]
    # fitted on the very images evaluated: a token of all of them is the finest step
    assert float(missed[3]) <= 0.5 / (16 * IMAGES) + 0.001
    (means,) = [row for row in lines if row[:3] == ["sample", "learned", "3"]]
    kept = [json.loads(path.read_text())["keep_ratio"]["mean"] for path in sampled(tmp_path)]
    mean, spread = (float(part) for part in means[5].split(" ± "))
    assert mean == pytest.approx(np.mean(kept), abs=6e-4)
    assert spread == pytest.approx(np.std(kept, ddof=1), abs=6e-5)


def sampled(folder: Path) -> list[Path]:
    return sorted(folder.glob("out/sample-learned-seed*/summary.json"))


def test_a_full_disk_does_not_cost_the_printed_table(
    dataset: CocoDataset, weights: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("svit.cli.evaluate.write_text", full)
    words = ["evaluate", "--weights", str(weights), "--framework", "torchvision", "--limit", "2"]
    words += ["--data-root", str(dataset.image_root.parent), "--draws", "2"]
    assert main.main([*words, "--out", str(tmp_path / "out")]) == 2
    found = capsys.readouterr()
    assert "| topk | learned | 0 |" in found.out
    assert "table.md: No space left on device" in found.err


def test_missed_objects_are_asked_about_beside_the_recording(
    dataset: CocoDataset, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["evaluate", "--weights", str(weights), "--framework", "torchvision", "--limit", "1"]
    words += ["--data-root", str(dataset.image_root.parent), "--draws", "2"]
    words += ["--record", str(tmp_path / "run"), "--out", str(tmp_path / "out"), "--rescue", "1"]
    assert main.main([*words, "--rescue-blocks", "4-5"]) == 0
    assert "missed objects come back when their tokens are kept in blocks 4–5" in (
        capsys.readouterr().err
    )
    answers = read_rescue(tmp_path / "run")
    assert answers.facts["blocks"] == [4, 5] and len(answers.frame) > 0
    assert main.main(["check", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "--rescue keeps its answers beside a run: name one with --record RUN"),
        (["--record", "run", "--rescue-blocks", "3-4"], "decides, blocks 4–12; found block 3"),
        (["--record", "run", "--rescue-blocks", "x"], "--rescue-blocks: expected numbers from 1"),
    ],
)
def test_questions_about_missed_objects_are_refused_before_any_work(
    dataset: CocoDataset,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    words: list[str],
    sentence: str,
) -> None:
    words = [str(tmp_path / word) if word == "run" else word for word in words]
    words += ["--weights", str(weights), "--framework", "torchvision", "--rescue"]
    words += ["--data-root", str(dataset.image_root.parent), "--out", str(tmp_path / "out")]
    assert main.main(["evaluate", *words]) == 2
    assert sentence in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--calibrate-on", "val2017"],
            "no line of the table is of it: add --inference calibrated",
        ),
        (
            ["--masks-from", "weights", "--inference", "sample"],
            "--masks-from FILE decides in its place, as its settings say: leave --inference out",
        ),
    ],
)
def test_what_would_change_no_number_is_refused_before_any_work(
    dataset: CocoDataset,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    words: list[str],
    sentence: str,
) -> None:
    words = [str(weights) if word == "weights" else word for word in words]
    words += ["--weights", str(weights), "--framework", "torchvision"]
    words += ["--data-root", str(dataset.image_root.parent), "--out", str(tmp_path / "out")]
    assert main.main(["evaluate", *words]) == 2
    assert sentence in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_thresholds_fitted_on_images_that_are_evaluated_are_told(
    dataset: CocoDataset, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["evaluate", "--weights", str(weights), "--framework", "torchvision", "--limit", "2"]
    words += ["--data-root", str(dataset.image_root.parent), "--draws", "2"]
    words += ["--inference", "topk,calibrated", "--calibrate-on", "val2017"]
    assert main.main([*words, "--out", str(tmp_path / "out")]) == 0
    told = "Thresholds (or levels) were fitted on 2 of the 2 images evaluated"
    assert told in capsys.readouterr().err and told in (tmp_path / "out" / "table.md").read_text()
    facts = {
        mode: json.loads((tmp_path / "out" / f"{mode}-learned-seed0" / "summary.json").read_text())
        for mode in ("topk", "calibrated")
    }
    assert facts["calibrated"]["provenance"]["calibrated_on_evaluated"] == 2
    assert "calibrated_on_evaluated" not in facts["topk"]["provenance"]


def test_calibrated_weights_know_the_pictures_they_were_fitted_on(
    dataset: CocoDataset, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    root, fitted = tmp_path / "copy", tmp_path / "fitted.safetensors"
    shutil.copytree(dataset.image_root.parent, root)
    one = ["--framework", "torchvision", "--images", "1", "--out", str(fitted)]
    json_file = root / "annotations" / "instances_val2017.json"
    one += ["--dataset", str(json_file), "--image-root", str(root / "val2017")]
    assert main.main(["calibrate", "--weights", str(weights), *one]) == 0
    words = ["evaluate", "--framework", "torchvision", "--weights", str(fitted), "--draws", "2"]
    words += ["--data-root", str(dataset.image_root.parent), "--inference", "calibrated"]
    assert main.main([*words, "--limit", "2", "--out", str(tmp_path / "out")]) == 0
    assert "were fitted on 1 of the 2 images evaluated" in capsys.readouterr().err
    write_dataset(tmp_path / "others", 0, 2, seed=9, size=64, workers=1, progress=False)
    words[words.index("--data-root") + 1] = str(tmp_path / "others")
    assert main.main([*words, "--out", str(tmp_path / "unseen")]) == 0
    assert "were fitted on" not in capsys.readouterr().err


def test_lent_masks_are_repeated_for_seeds_as_their_model_draws_them(
    dataset: CocoDataset, weights: Path, tmp_path: Path
) -> None:
    lender = tmp_path / "sampling.safetensors"
    checkpoint.save(lender, detector(inference="sample"))
    words = ["evaluate", "--weights", str(weights), "--masks-from", str(lender), "--limit", "1"]
    words += ["--framework", "torchvision", "--data-root", str(dataset.image_root.parent)]
    words += ["--draws", "2", "--seed", "0,1", "--out", str(tmp_path / "out")]
    assert main.main(words) == 0
    assert len([*tmp_path.glob("out/*-learned-seed*/summary.json")]) == 2
