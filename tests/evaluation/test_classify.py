"""Top-1 on folders of pictures, and the tokens that a classifier used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from svit.cli.main import main
from svit.cli.options import classifier as options
from svit.core.config import BackboneConfig
from svit.evaluation.classify import (
    ACCURACY,
    Accuracy,
    FolderError,
    class_folder,
    classify,
    write_accuracy,
)
from svit.models.classifier import ViTClassifier
from svit.pruning import build_method
from svit.runs.run import RunWriter, open_run

INHERIT = {"inherit": True, "keep_ratios": [0.7, 0.49, 0.343], "inference": "topk"}
COLOURS = {"blue": (20, 20, 220), "green": (20, 220, 20), "red": (220, 20, 20)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve pictures of three plain colours, of two sizes."""
    for name, colour in COLOURS.items():
        (tmp_path / "val" / name).mkdir(parents=True)
        for index in range(4):
            size = (80, 96) if index % 2 else (96, 80)
            picture = np.full((*size, 3), colour, np.uint8) - np.uint8(index)
            Image.fromarray(picture).save(tmp_path / "val" / name / f"{index}.png")
    return tmp_path / "val"


def model(method: str = "dense", classes: int = 3, **options) -> ViTClassifier:
    torch.manual_seed(0)
    config = BackboneConfig(embed_dim=24, heads=3, depth=12, pretrain_grid=4, drop_path=0.0)
    return ViTClassifier(config, build_method(method, 24, 12, 3, options), classes).eval()


class Named(ViTClassifier):
    """Knows the colours: the brightest channel is the class."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        super().forward(images)
        return images.mean(dim=(2, 3)).flip(1)


def test_top_1_counts_the_folder_s_names_in_their_order(folder: Path) -> None:
    knowing = model()
    knowing.__class__ = Named
    found = classify(knowing, class_folder(folder, 64), batch=5)
    assert (found.images, found.top1, found.top5) == (12, 100.0, 100.0)
    assert found.keep == [1.0] * 12 and np.array(found.usage).tolist() == [[12.0] * 4] * 4
    knowing.head = torch.nn.Linear(24, 3)
    few = classify(knowing, class_folder(folder, 64), limit=4)
    assert few.images == 4


class Looking(ViTClassifier):
    """Keeps what it is shown."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.shown = images
        return super().forward(images)


def test_weights_are_shown_colours_as_they_were_trained_and_a_run_the_picture(
    folder: Path, tmp_path: Path
) -> None:
    """timm's augreg weights saw 0..1 less .5, over .5; the stored pictures are the same for both."""
    seen, runs = {}, []
    for name in ("imagenet", "half"):
        looking = model()
        looking.__class__ = Looking
        found = classify(looking, class_folder(folder, 64, name), batch=12, run=tmp_path / name)
        assert found.provenance.get("colours", "imagenet") == name
        seen[name] = looking.shown
        runs.append(open_run(tmp_path / name))
    picture = torch.from_numpy(runs[0].picture(runs[0].image_ids[0]) / 255).permute(2, 0, 1)
    assert torch.allclose(seen["half"][0], 2 * picture.float() - 1, atol=0.05)  # JPEG in between
    red = (picture[0].float() - 0.485) / 0.229
    assert torch.allclose(seen["imagenet"][0, 0], red, atol=0.1)
    pairs = zip(*(run.samples("picture") for run in runs), strict=True)
    assert all(np.abs(a.astype(int) - b).max() <= 2 for (a,), (b,) in pairs)
    with pytest.raises(ValueError, match="unknown colours 'halve'.*half"):
        class_folder(folder, 64, "halve")


def test_usage_is_the_mean_number_of_blocks_that_used_a_place(folder: Path, tmp_path: Path) -> None:
    """As `plot_distribution.py` sums it, on the model's own grid; the recorded run says the same."""
    pruned = model("magnitude", keep_ratios=[0.5] * 9)
    pictures = class_folder(folder, 64)
    found = classify(pruned, pictures, run=tmp_path / "run")
    assert found.keep == [1.0] * 3 + [0.5] * 9
    usage = np.array(found.usage)
    assert usage.shape == (4, 4) and usage.sum() == pytest.approx(16 * 3 + 8 * 9)
    recorded = [trace.keep.sum(axis=0) for trace in open_run(tmp_path / "run").iter_traces()]
    assert np.allclose(np.mean(recorded, axis=0), usage)
    write_accuracy(tmp_path / "line", found, trained={"seed": 3})
    told = json.loads((tmp_path / "line" / ACCURACY).read_text())
    assert told["top1"] == 100 * told["hits"].count("1") / 12 and len(told["hits"]) == 12
    source = told["provenance"]
    assert source["method"] == "magnitude" and source["trained"] == {"seed": 3}
    assert source["classifier"]["pruning"]["options"] == {"keep_ratios": [0.5] * 9}
    assert source["data_sha256"] == open_run(tmp_path / "run").provenance["data_sha256"]


@pytest.mark.parametrize("masks", ["shuffle", "random"])
def test_moved_masks_have_the_same_number_of_tokens_whatever_the_batch(
    folder: Path, masks: str
) -> None:
    pruned, pictures = model("magnitude", keep_ratios=[0.5] * 9), class_folder(folder, 64)
    learned = classify(pruned, pictures)
    moved = [classify(pruned, pictures, masks=masks, batch=batch) for batch in (12, 5)]
    assert moved[0].keep == learned.keep and moved[0].usage != learned.usage
    assert moved[0] == moved[1]


@pytest.mark.parametrize("masks", ["shuffle", "random"])
@pytest.mark.parametrize(
    ("method", "options"),
    [("dynamicvit", {"retain": "remove"}), ("evit", {"retain": "remove"}), ("svit", INHERIT)],
)
def test_moved_masks_of_a_method_that_never_calls_back_call_nothing_back(
    folder: Path, tmp_path: Path, method: str, options: dict, masks: str
) -> None:
    pruned, pictures = model(method, **options), class_folder(folder, 64)
    learned = classify(pruned, pictures, limit=3)
    moved = classify(pruned, pictures, masks=masks, limit=3, run=tmp_path / "run")
    assert moved.keep == learned.keep and moved.usage != learned.usage
    for trace in open_run(tmp_path / "run").iter_traces():
        assert not (trace.keep[1:] & ~trace.keep[:-1]).any()


def test_what_does_not_fit_is_said_in_a_sentence(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="has 3 subfolders, the model 5 classes"):
        classify(model(classes=5), class_folder(folder, 64))
    with pytest.raises(ValueError, match="unknown masks 'shufle'; near names: shuffle"):
        classify(model(), class_folder(folder, 64), masks="shufle")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FolderError, match="expected a subfolder of pictures for each class"):
        class_folder(tmp_path / "empty")
    assert isinstance(classify(model(), class_folder(folder, 64)), Accuracy)


def test_the_command_measures_a_classifier_with_its_own_and_with_moved_masks(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pruned = model("magnitude", keep_ratios=[0.5] * 9)
    monkeypatch.setattr(options, "load_classifier", lambda path, method: pruned)
    words = ["evaluate", "--weights", "a.pth", "--class-folder", str(folder), "--batch", "6"]
    places = ["--out", str(tmp_path / "out"), "--record", str(tmp_path / "runs")]
    assert main([*words, *places, "--intervene", "learned,shuffle"]) == 0
    told = capsys.readouterr().out
    assert "| shuffle | 0 |" in told and "12 images; with intervals" in told
    for line in ("default-learned-seed0", "default-shuffle-seed0"):
        assert (tmp_path / "out" / line / ACCURACY).is_file()
        assert len(open_run(tmp_path / "runs" / line)) == 12


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--boundary", "--model", "x"], "--model, --boundary cannot go with --class-folder"),
        (["--intervene", "off"], "masks are learned, shuffle, random, found 'off'"),
        ([], "goes with --weights FILE"),
    ],
)
def test_the_command_refuses_what_a_classifier_has_not(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    weights = ["--weights", "a.pth"] if words else []
    given = ["evaluate", "--class-folder", str(tmp_path), "--out", f"{tmp_path}/out"]
    assert main([*given, *weights, *words]) == 2
    assert sentence in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert main(["evaluate", "--method", "evit", "--out", f"{tmp_path}/out"]) == 2
    assert "--method goes with --class-folder" in capsys.readouterr().err


def test_a_mode_of_thresholds_that_were_never_fitted_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(options, "load_classifier", lambda path, method: model("svit", **INHERIT))
    words = ["evaluate", "--weights", "a.pth", "--class-folder", str(folder)]
    words += ["--out", str(tmp_path / "out"), "--inference", "topk,calibrated"]
    assert main(words) == 2 and not (tmp_path / "out").exists()
    assert "never calibrated here; take sample, threshold, topk" in capsys.readouterr().err


def test_an_accuracy_does_not_replace_that_of_other_masks_and_the_same_command_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pruned = model("magnitude", keep_ratios=[0.5] * 9)
    monkeypatch.setattr(options, "load_classifier", lambda path, method: pruned)
    words = ["evaluate", "--weights", "a.pth", "--class-folder", str(folder), "--batch", "5"]
    words += ["--out", str(tmp_path / "out"), "--record", str(tmp_path / "run")]
    stop, whole = len(COLOURS) * 2, RunWriter.add

    def interrupted(writer: RunWriter, *args, **kwargs) -> None:
        if len(writer.done) == stop:
            raise KeyboardInterrupt
        whole(writer, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "add", interrupted)
        assert main(words) == 130
    assert len(open_run(tmp_path / "run")) == stop
    assert main(words) == 0 and len(open_run(tmp_path / "run")) == 12
    before = (tmp_path / "out" / ACCURACY).read_text()
    assert main([*words[:-2], "--intervene", "shuffle"]) == 2
    said = capsys.readouterr().err
    assert "another evaluation" in said and "intervention: 'learned' there, 'shuffle' now" in said
    assert (tmp_path / "out" / ACCURACY).read_text() == before
    assert main(words) == 0


def test_numbers_as_names_of_classes_stand_in_one_order_or_are_refused(tmp_path: Path) -> None:
    """As texts 10 comes before 2, and every class would be taken for another."""
    for name in ("2", "10"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name / "a.jfif", "JPEG")
    (tmp_path / "2" / "._a.jpg").write_bytes(b"what macOS leaves")
    with pytest.raises(FolderError, match="10 before 2.*002, 010"):
        class_folder(tmp_path, 64)
    (tmp_path / "2").rename(tmp_path / "02")
    assert class_folder(tmp_path, 64).classes == ["02", "10"] and len(class_folder(tmp_path)) == 2
