"""`svit record`: options that fit, images that cannot be read, models that are untrained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.scenes import detector, photos_with_damage

from svit.cli import main
from svit.runs.run import open_run
from svit.weights import checkpoint


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "nano.safetensors"
    checkpoint.save(path, detector(), {"class_names": list("abcdefgh")})
    return path


def test_an_unreadable_image_goes_into_the_error_table_and_the_job_goes_on(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture
) -> None:
    photos = photos_with_damage(tmp_path / "photos")
    words = ["record", "--weights", str(weights), "--framework", "torchvision"]
    words += ["--images", str(photos), "--out", str(tmp_path / "run")]
    assert main.main(words) == 1
    told = capsys.readouterr().err
    assert f"1 of 3 images could not be read; {tmp_path / 'run'} lists them" in told
    run = open_run(tmp_path / "run")
    assert run.image_ids == ("0.png", "2.png") and run.class_names == list("abcdefgh")
    (error,) = run.errors.to_dict("records")
    assert error["image_id"] == "1.png" and "damaged or truncated" in error["message"]
    Image.new("RGB", (70, 50)).save(photos / "1.png")  # mended: a rerun fetches it
    assert main.main(words) == 0
    assert set(open_run(tmp_path / "run").image_ids) == {"0.png", "1.png", "2.png"}


def test_bad_pictures_are_named_at_once_on_lines_of_their_own(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture
) -> None:
    photos = photos_with_damage(tmp_path / "photos")
    (photos / "3.jpg").symlink_to("moved.jpg")
    (photos / "4.png").write_text("<html>404</html>")
    words = ["record", "--weights", str(weights), "--framework", "torchvision", "--limit", "6"]
    assert main.main([*words, "--images", str(photos), "--out", str(tmp_path / "run")]) == 1
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    reasons = {
        "1.png": "damaged or truncated",
        "3.jpg": "a link to moved.jpg, where nothing is",
        "4.png": "text/HTML, not a picture",
    }
    places = [
        next(i for i, line in enumerate(lines) if line.startswith(f"{photos / name}: {reason}"))
        for name, reason in reasons.items()
    ]
    assert places == sorted(places) and lines[-1].startswith("3 of 5 images could not be read")
    assert any("5/5" in line for line in lines[places[0] :])  # the bar goes on below


def test_a_preset_runs_untrained_only_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    photos = photos_with_damage(tmp_path / "photos")
    words = ["record", "--model", "svit-plain-nano", "--framework", "torchvision"]
    words += ["--images", str(photos / "0.png"), "--out", str(tmp_path / "run")]
    assert main.main(words) == 2
    assert "give --weights FILE" in capsys.readouterr().err
    words += ["--random-weights", "3", "--inference", "topk", "--no-scores", "--thumbnail", "0"]
    words += ["--set", "data.short_side=64", "detector.max_detections=2"]
    assert main.main(words) == 0
    run = open_run(tmp_path / "run")
    assert run.provenance["weights"] == "random 3" and run.trace("0.png").scores is None
    assert run.picture("0.png") is None and len(run.detections("0.png")) == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--random-weights", "0"], "needs --model PRESET"),
        (["--weights", "x", "--random-weights", "0"], "give --weights FILE"),
        (["--weights", "missing.safetensors"], "missing.safetensors"),
    ],
)
def test_contradicting_options_are_refused(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main.main(["record", *words, "--images", ".", "--out", str(tmp_path / "run")]) == 2
    assert sentence in capsys.readouterr().err


def test_settings_in_the_weights_are_changed_by_set_and_told_where_a_preset_replaces_them(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture
) -> None:
    photos = photos_with_damage(tmp_path / "photos")
    words = ["record", "--framework", "torchvision", "--images", str(photos / "0.png")]
    more = ["--set", "detector.max_detections=2", "data.short_side=64"]
    own = ["--weights", str(weights), *more, "--out", str(tmp_path / "own")]
    assert main.main([*words, *own]) == 0
    assert len(open_run(tmp_path / "own").detections("0.png")) == 2
    assert "other settings" not in capsys.readouterr().err
    saved = checkpoint.read(weights)
    options = {**saved.config.pruning.options, "inference": "calibrated"}
    pruning = replace(saved.config.pruning, options=options)
    name = next(name for name in saved.state if name.endswith("method.thresholds"))
    state = {**saved.state, name: saved.state[name] + 0.1}
    other = tmp_path / "other.safetensors"
    checkpoint.write(other, state, replace(saved.config, pruning=pruning), saved.extra)
    words += ["--weights", str(other), "--model", saved.config.name]
    assert main.main([*words, *more, "--out", str(tmp_path / "replaced")]) == 0
    said = capsys.readouterr().err
    assert "pruning.options.inference: 'calibrated' there, 'threshold' now" in said
    assert "max_detections" not in said  # was meant
    more.append("pruning.options.inference=calibrated")
    assert main.main([*words, *more, "--out", str(tmp_path / "meant")]) == 0
    assert "pruning.options.inference" not in capsys.readouterr().err


def test_settings_that_weights_do_not_hold_are_told_unless_a_preset_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    torch.save({"model": detector().canonical_state_dict()}, tmp_path / "theirs.pth")
    Image.new("RGB", (70, 50)).save(tmp_path / "a.png")
    words = ["record", "--weights", str(tmp_path / "theirs.pth"), "--framework", "torchvision"]
    words += ["--images", str(tmp_path / "a.png"), "--out"]
    assert main.main([*words, str(tmp_path / "guessed")]) == 0
    told = "theirs.pth: it holds no settings: "
    assert told in capsys.readouterr().err
    assert main.main([*words, str(tmp_path / "named"), "--model", "svit-plain-nano"]) == 0
    assert told not in capsys.readouterr().err


def test_images_have_to_be_named_in_one_way(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["record", "--weights", str(weights), "--framework", "torchvision"]
    for also in ([], ["--coco", "a.json"], ["--images", "x", "--image-root", "y"]):
        assert main.main([*words, *also, "--out", str(tmp_path / "run")]) == 2
        assert "name the images" in capsys.readouterr().err
    also = ["--images", "x", "--class-map", "a=b"]
    assert main.main([*words, *also, "--out", str(tmp_path / "run")]) == 2
    assert "--class-map goes with --coco" in capsys.readouterr().err
