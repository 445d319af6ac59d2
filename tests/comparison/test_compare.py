"""The comparison: one recipe for all rows, folders that can be gone on with, results the tables read."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

import svit.comparison.row
from analysis import render
from analysis.sources import evaluations
from svit.cli import main
from svit.comparison import compare
from svit.comparison.plan import ALL_ROWS, CompareError, Job, Line, chosen, jobs, plan_text
from svit.comparison.row import RowMaker, Setting, run_row, state_of, weights_of
from svit.core.presets import PRESETS, load_config
from svit.data.shapes import CLASSES, write_dataset
from svit.detectors import build_detector
from svit.evaluation.evaluate import Scoring
from svit.evaluation.passes import ALONE, PassOptions
from svit.system.files import FileError
from svit.system.processes import Layout
from svit.system.signals import INTERRUPTED
from svit.training import loader
from svit.training.trainer import TrainError
from svit.weights import checkpoint

SMALL = [
    *("framework=torchvision", "data.short_side=64", "data.long_side=64", "train.batch=2"),
    *("train.precision=float32", "train.checkpoint_period=1", "detector.max_detections=3"),
    *("backbone.embed_dim=24", "backbone.depth=4", "detector.fpn_dim=16"),
    *("detector.box_head_dim=32", "detector.mask_head_dim=16", "detector.rpn_pre_nms_test=50"),
]


@pytest.fixture(scope="module", autouse=True)
def few_draws() -> Iterator[None]:
    """The bootstrap's intervals are no concern of these tests; a thousand draws a line are slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(svit.comparison.row, "Scoring", functools.partial(Scoring, draws=2))
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, 4, 2, seed=3, size=64, workers=1, progress=False)
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("start") / "dense.safetensors"
    checkpoint.save(path, build_detector(load_config("vit-plain-nano", SMALL)))
    return path


def job(name: str, seed: int = 0, steps: int = 2) -> Job:
    (found,) = jobs(chosen([name]), [seed], "plain", "nano", SMALL, steps)
    return found


def words(data: Path, out: Path, start: Path, rows: str) -> list[str]:
    options = ["--dataset", str(data), "--out", str(out), "--init", str(start), "--rows", rows]
    counts = ["--steps", "2", "--images", "2", "--calibrate-on", "1", "--device", "cpu"]
    return ["compare", *options, *counts, *SMALL]


@pytest.fixture(scope="module")
def made(data: Path, start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison of a dense control and ATS."""
    out = tmp_path_factory.mktemp("made")
    assert main.main(words(data, out, start, "dense,ats-preserve")) == 0
    return out


def test_a_comparison_runs_on_coco(coco_tiny: Path, tmp_path: Path, monkeypatch) -> None:
    """The photographs of val serve as both splits; the layout is COCO's, found by the environment."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    for split in ("train2017", "val2017"):
        (root / split).symlink_to(coco_tiny / "val2017")
        annotations = coco_tiny / "annotations" / "instances_val2017.json"
        (root / "annotations" / f"instances_{split}.json").symlink_to(annotations)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    options = ["--dataset", "coco", "--out", str(tmp_path / "out"), "--rows", "evit-remove"]
    counts = ["--steps", "2", "--images", "2", "--calibrate-on", "1", "--device", "cpu"]
    assert main.main(["compare", *options, *counts, *SMALL, "detector.classes=80"]) == 0
    row = json.loads((tmp_path / "out" / "evit-remove-seed0" / "row.json").read_text())
    assert row["config"]["detector"]["classes"] == 80
    assert row["trained_on_evaluated"] == 2
    told = "2 of the 2 images evaluated were trained on, and rates fitted on"
    assert told in (tmp_path / "out" / "table.md").read_text()
    (learned, *_) = evaluations.find_evaluations(tmp_path / "out" / "evit-remove-seed0" / "learned")
    assert learned.facts.data == "COCO, other images"


def test_rows_come_by_importance_and_seed_by_seed() -> None:
    planned = jobs(chosen([]), [0, 1], "plain", "nano")
    names = [one.name for one in planned]
    order = ["svit", "dense", "dynamicvit-preserve", "evit-preserve", "ats-preserve", "evovit"]
    assert names[:6] == [f"{name}-seed0" for name in order]
    pictures = [row for row in ALL_ROWS if not row.traits.streams]  # rows of videos when named
    count = len(pictures)
    assert names[count] == "svit-seed1" and len(set(names)) == 2 * count
    assert [row.name for row in chosen(["change-gate"])] == ["change-gate"]
    assert [one.row.name for one in planned[count - 4 : count]] == [
        *("svit-0.5", "svit-0.6", "svit-0.8", "svit-0.9")
    ]


@pytest.mark.parametrize(("neck", "size"), [("plain", "nano"), ("adapter", "s")])
def test_all_rows_have_one_recipe_and_one_budget(neck: str, size: str) -> None:
    overrides = ["train.rate=2e-5", "backbone.drop_path=0.05"]
    planned = jobs(chosen([]), [3], neck, size, overrides, steps=70)
    assert len({one.config.train for one in planned}) == 1
    recipe = planned[0].config.train
    assert (recipe.rate, recipe.iterations, recipe.seed) == (2e-5, 70, 3)
    assert recipe.warmup == PRESETS[f"svit-{neck}-{size}"].train.warmup
    assert len({one.config.detector for one in planned}) == 1
    bodies = {replace(one.config.backbone, norm_eps=1.0) for one in planned}
    assert len(bodies) == 1 and bodies.pop().drop_path == 0.05


def test_the_sweep_changes_the_keep_ratios_alone() -> None:
    half, whole = job("svit-0.5").config, job("svit").config
    assert half.pruning.options["keep_ratios"] == [0.5] * 3 + [0.25] * 3 + [0.125] * 3
    same = {**half.pruning.options, "keep_ratios": whole.pruning.options["keep_ratios"]}
    assert same == whole.pruning.options and half.train == whole.train


def test_learned_masks_are_measured_beside_others_and_only_svit_has_the_dial() -> None:
    shared = ("learned", "random", "shuffle", "oracle", "centre", "off")
    assert tuple(line.name for line in job("evovit").lines) == shared
    assert tuple(line.name for line in job("dense").lines) == ("learned", "off")
    dial = [line.name for line in job("svit").lines[6:]]
    assert dial == [f"calibrated-{base}" for base in (0.5, 0.6, 0.7, 0.8, 0.9)]


@pytest.mark.parametrize(
    ("row", "line"),
    [
        *[(name, "calibrated-0.7") for name in ("svit", "svit-fixed", "svit-inherit")],
        ("svit-0.5", "calibrated-0.5"),
        *[(name, "learned") for name in ("evit-preserve", "ats-remove", "random", "dense")],
    ],
)
def test_rows_with_thresholds_are_also_measured_at_equal_tokens(row: str, line: str) -> None:
    one = job(row)
    assert one.equal.name == line and one.equal in one.lines
    assert line == "learned" or len([at for at in one.lines if at.base]) == (
        5 if row == "svit" else 1
    )


def test_a_dense_start_with_an_idle_token_hands_its_token_on(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """EViT goes on with the token; SViT, which owns none, says that it leaves it. Both lines at equal
    tokens and paired intervals come into the table."""
    torch.manual_seed(1)
    token = build_detector(load_config("vit-token-plain-nano", SMALL))
    checkpoint.save(tmp_path / "token.safetensors", token)
    out, rows = tmp_path / "out", "evit-preserve,svit-fixed-inherit"
    assert main.main(words(data, out, tmp_path / "token.safetensors", rows)) == 0
    evit, svit = (
        json.loads((out / f"{name}-seed0" / "row.json").read_text()) for name in rows.split(",")
    )
    owns = [any("class_token" in name for name in row["initialised"]) for row in (evit, svit)]
    assert owns == [False, False]
    assert caplog.text.count("class token: the method owns none") == 1
    assert evit["lines"]["random"]["keep_ratio"] == evit["lines"]["learned"]["keep_ratio"]
    random = json.loads((out / "evit-preserve-seed0" / "random" / "summary.json").read_text())
    assert random["provenance"]["one_draw"] is True
    ratio = svit["lines"]["calibrated-0.7"]["keep_ratio"]
    cells = [line.split(" | ") for line in (out / "table.md").read_text().splitlines()[2:]]
    assert cells[1][-1].rstrip(" |") == f"{ratio:.3f}" and "[" in cells[0][6] and "–" in cells[0][4]


def test_the_plan_counts_views() -> None:
    text = plan_text([job("dense"), job("evovit")], ["to do", "finished"], 4, 10)
    assert "dense" in text.splitlines()[1] and text.splitlines()[1].split()[2:5] == ["2", "4", "20"]
    # learned 1 + random 2 + shuffle 2 + oracle 2 + centre 2 + off 1 looks at ten images
    assert text.splitlines()[2].split()[2:5] == ["2", "4", "100"]
    assert text.splitlines()[-1] == "2 rows: 8 training views, 120 evaluation views"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda data: data.update(annotations=[]), "has an object to find"),
        (lambda data: data["categories"][0].update(name="more"), "does not have: 'more'"),
        (lambda data: data["annotations"][0].update(image_id="1"), "id of another type"),
    ],
)
def test_data_that_no_row_could_use_is_refused_before_anything_is_written(
    change, sentence: str, data: Path, start: Path, tmp_path: Path, capsys
) -> None:
    folder, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(data, folder)
    path = folder / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    assert main.main(words(folder, out, start, "dense")) == 2
    assert sentence in capsys.readouterr().err and not out.exists()


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    data: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    command = words(data, out, start, "dense,evit-preserve")
    assert main.main([*command[: -len(SMALL)], "--dry-run", *SMALL]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["dense", "evit-preserve"]
    assert "to do" in lines[1] and not out.exists()
    assert lines[-1] == "left: 2 rows; how long they take is unknown until the first one is done"


def test_the_time_left_follows_from_the_slowest_finished_row(tmp_path: Path) -> None:
    planned = [job("dense"), job("dense", seed=1), job("evovit"), job("svit")]
    for one, seconds in zip(planned, (320, 64)):  # the second was interrupted
        (tmp_path / one.name).mkdir()
        facts = {"views": 4, "images": 10, "seconds_of_this_call": seconds}
        (tmp_path / one.name / "row.json").write_text(json.dumps(facts))
    # 10 s a forward: dense 3 x 4 + 20; left are 3 x 4 + 100 and, with the dial's 50, 3 x 4 + 150
    told = "left: 2 rows, about 46 minutes one after another at the pace of the slowest so far"
    assert compare.time_left(planned, tmp_path) == told
    assert compare.time_left(planned[:2], tmp_path) == "left: 0 rows"
    words = [compare.in_words(seconds) for seconds in (3, 600, 9000)]
    assert words == ["1 minutes", "10 minutes", "2.5 hours"]


def test_every_finished_row_says_what_it_was(made: Path, start: Path) -> None:
    row = json.loads((made / "ats-preserve-seed0" / "row.json").read_text())
    assert (row["row"], row["seed"], row["steps"], row["views"]) == ("ats-preserve", 0, 2, 4)
    known = ("init_sha256", "train_sha256", "val_sha256", "commit", "command", "device")
    assert all(name in row for name in known) and row["device"] == "cpu"
    assert set(row["lines"]) == {"learned", "random", "shuffle", "oracle", "centre", "off"}
    # a dense checkpoint has no class token: it starts anew, and that is written down
    own = "backbone.bottom_up.method."
    assert row["initialised"] == [f"{own}class_token", f"{own}levels"]
    dense = json.loads((made / "dense-seed0" / "row.json").read_text())
    assert dense["initialised"] == [] and dense["init_sha256"] == row["init_sha256"]
    assert not list(made.rglob("model_*.pth"))


def test_a_class_token_that_a_checkpoint_lacks_is_reported(start: Path) -> None:
    detector = build_detector(load_config("evit-preserve-plain-nano", SMALL))
    with pytest.raises(checkpoint.CheckpointError, match="class_token"):
        checkpoint.load_weights(detector, start)
    report = checkpoint.load_weights(detector, start, complete=False)
    assert [name.rpartition(".")[2] for name in report.missing] == ["class_token"]
    assert any("class_token" in line and "initialised" in line for line in report.lines())


def test_results_are_read_by_the_tables(made: Path, tmp_path: Path) -> None:
    found = evaluations.frame(evaluations.find_evaluations(made))
    rows = set(zip(found["model"], found["intervention"], strict=True))
    assert {("dense", "learned"), ("dense", "off"), ("ats preserve", "oracle")} <= rows
    assert found["data"].unique().tolist() == ["shapes"] and len(found) == 8
    assert found["gmacs_backbone"].notna().all()
    assert render.main(["tables", str(made), "--out", str(tmp_path)]) == 0
    page = (tmp_path / "tables.md").read_text()
    assert "### Controls: " in page and "\n| ats-preserve | " in page
    table = (made / "table.md").read_text().splitlines()
    assert len(table) == 6 and table[2].startswith("| dense | 0 |")
    assert table[-1] == (
        "Every row: 2 steps of 2 images from the same weights, evaluated on the same 2 images, "
        "at most 100 detections each."
    )


def test_the_table_has_the_rows_of_earlier_calls_and_names_those_made_otherwise(
    made: Path, data: Path, start: Path, tmp_path: Path
) -> None:
    """The dense control of another call is a control; one of other images or steps is none."""
    out = tmp_path / "out"
    shutil.copytree(made, out)
    path = out / "dense-seed0" / "row.json"
    assert main.main(words(data, out, start, "evit-remove")) == 0
    lines = (out / "table.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines[2:5]] == [
        *("| dense", "| ats-preserve", "| evit-remove")
    ]
    assert all("[" in line.split(" | ")[4] for line in lines[2:5])  # a paired difference to dense
    row = json.loads(path.read_text())
    path.write_text(json.dumps({**row, "images": 1}))
    assert main.main(words(data, out, start, "evit-remove")) == 0
    lines = (out / "table.md").read_text().splitlines()
    assert len(lines) == 8 and all(line.split(" | ")[4] == "–" for line in lines[2:4])
    assert lines[-1] == "Left out, made otherwise: dense-seed0 (images: 1 there, 2 now)."
    row["config"]["unknown"] = 1
    path.write_text(json.dumps(row))
    assert main.main(words(data, out, start, "evit-remove")) == 0
    assert "dense-seed0 (another version)" in (out / "table.md").read_text()


def test_a_row_measured_with_boundaries_shows_them_beside_one_that_was_not(
    made: Path, data: Path, start: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(made, out)
    assert main.main([*words(data, out, start, "evit-remove"), "--boundary"]) == 0
    cells = [line.split(" | ") for line in (out / "table.md").read_text().splitlines()]
    assert cells[0][4] == "boundary AP" and [row[4] for row in cells[2:4]] == ["–", "–"]
    assert (
        float(cells[4][4]) >= 0 and cells[4][7] == "–"
    )  # dense has no boundary AP to be apart from


def test_boundary_ap_stands_beside_mask_ap_where_every_row_has_it(
    data: Path, made: Path, start: Path, tmp_path: Path
) -> None:
    assert "boundary" not in (made / "table.md").read_text()
    out = tmp_path / "out"
    assert main.main([*words(data, out, start, "dense"), "--boundary"]) == 0
    lines = json.loads((out / "dense-seed0" / "row.json").read_text())["lines"]
    assert all({"mask_AP", "boundary_AP"} <= set(line) for line in lines.values())
    head = (out / "table.md").read_text().splitlines()[0]
    assert "| mask AP | boundary AP | box − dense | mask − dense | boundary − dense |" in head


def test_finished_rows_are_passed_over(
    made: Path, data: Path, start: Path, capsys: pytest.CaptureFixture, monkeypatch
) -> None:
    monkeypatch.setattr(compare, "run_row", None)  # calling it would fail
    assert main.main(words(data, made, start, "ats-preserve,dense")) == 0
    assert "2 of 2 rows are finished already" in capsys.readouterr().out


def test_a_broken_row_goes_on_where_it_was(
    data: Path, start: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting, one = Setting(tmp_path, str(data), start, images=2, calibration=1), job("dense")
    whole_train, whole_evaluate = svit.comparison.row.train, svit.comparison.row.evaluate
    short = lambda *args, **options: whole_train(*args, **options, max_steps_this_run=1)  # noqa: E731
    monkeypatch.setattr(svit.comparison.row, "train", short)
    assert not run_row(one, setting, ALONE)
    assert state_of(one, tmp_path) == "trained for 1 steps"

    def interrupted(detector, dataset, output, options: PassOptions, *args, **facts):
        if options.intervention == "off":
            raise KeyboardInterrupt
        return whole_evaluate(detector, dataset, output, options, *args, **facts)

    monkeypatch.setattr(svit.comparison.row, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_row(one, setting, ALONE)
    assert state_of(one, tmp_path) == "trained, 1 of 2 lines evaluated"
    learned = tmp_path / "dense-seed0" / "learned" / "summary.json"
    before = learned.stat().st_mtime_ns
    monkeypatch.setattr(svit.comparison.row, "train", None)
    monkeypatch.setattr(svit.comparison.row, "evaluate", whole_evaluate)
    assert run_row(one, setting, ALONE) and state_of(one, tmp_path) == "finished"
    assert learned.stat().st_mtime_ns == before
    weights = [
        checkpoint.fingerprint(checkpoint.read(weights_of(job("dense"), folder)).state)
        for folder in (tmp_path, made)
    ]
    assert weights[0] == weights[1]  # broken and unbroken, bit for bit


def test_a_folder_of_another_comparison_is_refused_also_where_its_rows_are_finished(
    made: Path, data: Path, start: Path, capsys: pytest.CaptureFixture
) -> None:
    command = words(data, made, start, "ats-preserve,dense")
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    for changed in (["--dry-run"], []):
        others = [*command[: -len(SMALL)], "--images", "1", *changed, *SMALL, "train.rate=0.5"]
        assert main.main(others) == 2
        found = capsys.readouterr().err
        assert "dense-seed0 belongs to another comparison; repeat its settings" in found
        assert "images: 2 there, 1 now" in found
        assert "config.train.rate: 0.0003 there, 0.5 now" in found
    assert before == {path: path.stat().st_mtime_ns for path in made.rglob("*")}


def test_a_row_does_not_move_into_a_folder_without_its_plan(
    data: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "dense-seed0"
    folder.mkdir()
    (folder / "dense-seed0.safetensors").write_bytes(b"weeks of training")
    assert main.main(words(data, tmp_path, start, "dense")) == 2
    assert "holds dense-seed0.safetensors and no plan.json" in capsys.readouterr().err


def test_a_failed_row_is_noted_and_the_next_one_begins(
    data: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    begun = []

    def failing(one: Job, setting: Setting, ranks) -> bool:
        begun.append(one.row.name)
        if one.row.name == "svit":
            raise TrainError("step 2: total_loss not finite")
        return True

    monkeypatch.setattr(compare, "run_row", failing)
    assert main.main(words(data, tmp_path, start, "svit,dense")) == 1
    assert begun == ["svit", "dense"] and "svit-seed0 failed" in capsys.readouterr().err
    assert "not finite" in (tmp_path / "svit-seed0" / "failed.txt").read_text()
    assert "tried again" in state_of(job("svit"), tmp_path)


def test_rows_at_once_are_the_rows_made_one_by_one(
    made: Path, data: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "run_row", None)  # nothing is made in this process
    monkeypatch.setattr(compare, "_made", made_with_few_draws)
    command = words(data, tmp_path, start, "dense,ats-preserve")
    assert main.main([*command[: -len(SMALL)], "--jobs", "2", *SMALL]) == 0
    for name in ("dense-seed0", "ats-preserve-seed0"):
        both = [
            checkpoint.read(folder / name / f"{name}.safetensors") for folder in (made, tmp_path)
        ]
        assert len({checkpoint.fingerprint(one.state) for one in both}) == 1
        rows = [json.loads((folder / name / "row.json").read_text()) for folder in (made, tmp_path)]
        assert rows[0]["lines"] == rows[1]["lines"]
    assert (tmp_path / "table.md").read_text() == (made / "table.md").read_text()


def made_with_few_draws(one: Job, setting: Setting, layout: Layout) -> int:
    """In a process of its own, where no fixture reaches."""
    svit.comparison.row.Scoring = functools.partial(Scoring, draws=2)
    return compare._made(one, setting, layout)


def test_of_rows_at_once_one_that_is_killed_takes_no_other_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    work = {"dense": (int, 0), "svit": (os.abort,), "evovit": (int, 0)}
    apart = lambda one, *rest: pool().submit(*work[one.row.name])  # noqa: E731
    monkeypatch.setattr(compare, "_apart", apart)
    planned, setting = [job("svit"), job("dense"), job("evovit")], Setting(tmp_path, "", tmp_path)
    assert compare.make(planned[2:], setting, Layout(), at_once=2) == 0
    assert compare.make(planned, setting, Layout(), at_once=2) == 1
    note = (tmp_path / "svit-seed0" / "failed.txt").read_text()
    assert "out of memory is the usual reason" in note
    assert not (tmp_path / "dense-seed0").exists()
    assert "svit-seed0 failed" in capsys.readouterr().err


def test_a_signal_ends_all_rows_at_once_and_begins_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    def apart(one: Job, *rest: object) -> Future:
        begun.append(one.row.name)
        if len(begun) == 2:
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
        return pool().submit(time.sleep, 60)

    monkeypatch.setattr(compare, "_apart", apart)
    planned, setting = [job("svit"), job("dense"), job("evovit")], Setting(tmp_path, "", tmp_path)
    assert compare.make(planned, setting, Layout(), at_once=2) == INTERRUPTED
    assert begun == ["svit", "dense"]


def test_rows_at_once_are_refused_where_several_machines_share_each(tmp_path: Path) -> None:
    setting, several = Setting(tmp_path, "", tmp_path), Layout(2, machines=2, address="tcp://a:1")
    with pytest.raises(CompareError, match="--jobs"):
        compare.make([job("dense")], setting, several, at_once=2)


def pool() -> ProcessPoolExecutor:
    """One process that needs no torch."""
    return ProcessPoolExecutor(1, get_context("spawn"))


def test_without_init_all_rows_start_from_the_same_random_weights(tmp_path: Path) -> None:
    path = tmp_path / "out" / compare.START
    compare.prepare_start(path, "plain", "nano", SMALL)
    first = path.read_bytes()
    compare.prepare_start(path, "plain", "nano", SMALL)
    assert path.read_bytes() == first
    path.unlink()
    compare.prepare_start(path, "plain", "nano", SMALL)
    assert path.read_bytes() == first
    assert checkpoint.read(path).config.pruning.method == "dense"


def test_lines_name_their_folders() -> None:
    assert [Line().name, Line("off").name, Line(base=0.5).name] == [
        "learned",
        "off",
        "calibrated-0.5",
    ]


def test_rows_that_count_other_detections_do_not_share_a_folder_and_crowded_images_are_told(
    made: Path, data: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    count = ["--max-detections", "1"]  # fewer than a shape's image has of some class
    others = [*words(data, made, start, "dense")[: -len(SMALL)], "--dry-run", *count, *SMALL]
    assert main.main(others) == 2
    assert "counted: nothing there, 1 now" in capsys.readouterr().err
    fresh = [*words(data, tmp_path / "new", start, "dense")[: -len(SMALL)], "--dry-run"]
    assert main.main([*fresh, *SMALL]) == 0
    assert "more objects of a class" not in capsys.readouterr().err
    truth = json.loads((data / "annotations" / "instances_val2017.json").read_text())
    first, *_ = truth["annotations"]
    truth["annotations"] += [{**first, "id": 10_000 + number} for number in range(100)]
    crowded = tmp_path / "crowded"
    shutil.copytree(data, crowded)
    (crowded / "annotations" / "instances_val2017.json").write_text(json.dumps(truth))
    fresh[fresh.index(str(data))] = str(crowded)
    assert main.main([*fresh, *SMALL]) == 0
    assert "1 image has more objects of a class than AP counts" in capsys.readouterr().err
    assert main.main([*fresh, "--max-detections", "200", *SMALL]) == 0
    assert "more objects of a class" not in capsys.readouterr().err


def test_rows_of_pictures_or_classes_read_otherwise_do_not_share_a_folder(
    made: Path, data: Path, start: Path, capsys: pytest.CaptureFixture
) -> None:
    for changed, told in (
        (["--exif", "on"], "exif: nothing there, 'on' now"),
        (["--class-map", "ring=star,star=ring"], "class_map.ring: nothing there, 'star' now"),
    ):
        for dry in (["--dry-run"], []):
            others = [*words(data, made, start, "dense")[: -len(SMALL)], *dry, *changed, *SMALL]
            assert main.main(others) == 2
            assert told in capsys.readouterr().err


def test_classes_that_the_data_call_otherwise_keep_what_a_row_with_levels_learned(
    data: Path, tmp_path: Path
) -> None:
    """Levels are fitted before and after the training: both read weights by the names these have."""
    torch.manual_seed(0)
    named, renamed = tmp_path / "named.safetensors", tmp_path / "renamed"
    names = {"class_names": list(CLASSES)}
    checkpoint.save(named, build_detector(load_config("vit-plain-nano", SMALL)), names)
    shutil.copytree(data, renamed)
    for path in (renamed / "annotations").glob("instances_*.json"):
        path.write_text(path.read_text().replace('"circle"', '"Kreis"'))
    found = []
    for source, more in ((data, []), (renamed, ["--class-map", "Kreis=circle"])):
        out = tmp_path / f"out-{source.name}"
        command = words(source, out, named, "ats-preserve")
        assert main.main([*command[: -len(SMALL)], *more, *SMALL]) == 0
        found.append(checkpoint.read(weights_of(job("ats-preserve"), out)))
    plain, german = found
    assert "Kreis" in german.extra["class_names"] and "circle" in plain.extra["class_names"]
    assert checkpoint.fingerprint(german.state) == checkpoint.fingerprint(plain.state)


def test_a_seed_among_the_settings_is_refused_as_seeds_are_those_of_rows() -> None:
    with pytest.raises(CompareError, match="name seeds by --seeds"):
        jobs(chosen(["dense"]), [0], "plain", "nano", ["train.seed=3"])


def test_rows_do_not_go_on_with_training_data_of_which_any_object_was_corrected(
    data: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many images the hash of the data looks at some objects alone."""
    monkeypatch.setattr(loader, "FINGERPRINTED", 1)
    folder, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(data, folder)

    def made(name: str) -> RowMaker:
        setting, one = Setting(out, str(folder), start, images=2), job(name)
        return RowMaker(one, setting, ALONE, *setting.data(one.config))

    state = checkpoint.read_foreign(start).state
    for name in ("dense", "svit"):
        (out / f"{name}-seed0").mkdir(parents=True)
        made(name).claim(state)
    plan = out / "svit-seed0" / "plan.json"
    told = json.loads(plan.read_text())
    del told["train_objects_sha256"]  # as plans were before
    plan.write_text(json.dumps(told))
    path = folder / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][-1]["bbox"][2] -= 1
    path.write_text(json.dumps(content))
    made("svit").claim(state)
    with pytest.raises(FileError, match="belongs to another comparison.*\n.*train_objects_sha256"):
        made("dense").claim(state)
