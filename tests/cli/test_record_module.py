"""`svit record --module`: any torch module in a run folder, and nothing said of it that nobody told."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.numbers import comparison
from analysis.sources import labels
from analysis.sources.evaluations import facts_of
from svit.cli import main
from svit.runs.run import open_run

MODELS = """
import timm
import torch


def fixed():
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", img_size=(64, 96), depth=2)


def free():
    torch.manual_seed(0)
    return timm.create_model("vit_small_patch14_reg4_dinov2", img_size=56, depth=2, dynamic_img_size=True)


def unknown():
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    return VisionTransformer(64, 16, 2, 3, 48, 96)


class Unfolding(torch.nn.Module):
    def __init__(self, unused):
        super().__init__()
        if unused:
            self.other = torch.nn.Conv2d(3, 32, 16, 16)
        self.embed = torch.nn.Linear(768, 32)
        layer = torch.nn.TransformerEncoderLayer
        self.blocks = torch.nn.ModuleList(layer(32, 2, 64, batch_first=True) for _ in range(2))

    def forward(self, pictures):
        tokens = self.embed(torch.nn.functional.unfold(pictures, 16, stride=16).mT)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


def unfolding():
    torch.manual_seed(0)
    return Unfolding(False)


class HeadsFirst(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = torch.nn.Linear(32, 32)

    def forward(self, tokens):
        heads = tokens.unflatten(2, (2, 16)).permute(2, 0, 1, 3)
        mixed = (heads @ heads.mT).softmax(-1) @ heads
        return tokens + self.attn(mixed.permute(1, 2, 0, 3).flatten(2))


def heads_first():
    torch.manual_seed(0)
    model = Unfolding(False)
    model.blocks = torch.nn.ModuleList(HeadsFirst() for _ in range(2))
    return model


def misleading():
    return Unfolding(True)


def number():
    return 3
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user stands: models in a file, two pictures with a bright token each, one damaged."""
    (tmp_path / "their_models.py").write_text(MODELS)
    (tmp_path / "photos").mkdir()
    for name, size in (("wide", (180, 120)), ("tall", (120, 180))):
        pixels = np.zeros((size[1], size[0], 3), np.uint8)
        pixels[60:90, 90:] = 255
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "their_models", raising=False)
    return tmp_path


PHOTOS = ("--images", "photos")


def record(function: str, *words: str, out: str = "run", pictures: tuple[str, ...] = PHOTOS) -> int:
    module = f"their_models:{function}"
    return main.main(["record", "--module", module, *pictures, "--out", out, *words])


def test_a_model_of_one_size_is_recorded_with_what_it_tells_and_unknown_for_the_rest(
    folder: Path,
) -> None:
    (folder / "photos" / "broken.png").write_bytes(b"\x89PNG")
    assert record("fixed", "--batch", "2", "--count", "--class-attention") == 1
    run = open_run("run")
    assert run.image_ids == ("tall.png", "wide.png") and len(run.errors) == 1 and run.finished
    assert run.measures == ("update", "norm", "attention", "class_attention")
    told = run.provenance
    assert told["method"] == told["targets"] == "unknown" and run.targets == []
    assert "FlopCounterMode" in told["cost"] and (run.images.macs > 1e6).all()
    assert told["host"]["kind"] == "timm VisionTransformer" and told["host"]["prefix"] == 1
    assert (
        told["data"]["normalisation"] == "told by the model"
        and told["data"]["mean_rgb"] == [127.5] * 3
    )
    tall, wide = run.trace("tall.png"), run.trace("wide.png")
    assert tall.grid.grid_hw == wide.grid.grid_hw == (4, 6)
    assert tall.grid.valid_hw == (4, 3) and wide.grid.valid_hw == (4, 6)
    assert tall.keep.all() and np.isfinite(tall.measures["update"]).all()
    assert run.detections("tall.png") is None and run.picture("tall.png").shape == (180, 120, 3)


def test_pictures_of_any_size_are_padded_to_patches_and_a_rerun_changes_nothing() -> None:
    size = ("--short-side", "42", "--long-side", "70")
    assert record("free", *size, "--no-attention") == 0
    run = open_run("run")
    assert run.measures == ("update", "norm")
    assert run.trace("wide.png").grid.grid_hw == (3, 5) and run.trace("tall.png").grid.grid_hw == (
        5,
        3,
    )
    assert run.provenance["host"]["prefix"] == 5 and run.provenance["cost"] == "unknown"
    before = run.content_hash()
    assert record("free", *size, "--no-attention") == 0
    assert open_run("run").content_hash() == before
    assert record("free", *size, "--no-attention", "--batch", "2", out="other") == 0
    np.testing.assert_allclose(
        open_run("other").trace("tall.png").measures["update"],
        run.trace("tall.png").measures["update"],
        rtol=1e-2,
    )


def test_where_the_normalisation_is_from_is_said_and_a_chosen_one_is_not_told_by_the_model(
    capsys: pytest.CaptureFixture,
) -> None:
    said = "does not tell how its pictures are normalised"
    assert record("fixed", "--mean", "0", "0", "0", "--no-attention") == 0
    told = open_run("run").provenance["data"]["normalisation"]
    assert told == "chosen otherwise than the model tells"
    assert said not in capsys.readouterr().err
    size = ("--short-side", "64", "--long-side", "64", "--no-attention")
    assert record("unknown", *size, out="guessed") == 0
    assert said in capsys.readouterr().err


def test_a_model_that_no_adapter_knows_is_tried_with_planted_patches() -> None:
    assert (
        record("unknown", "--short-side", "64", "--long-side", "64", "--mean", "0", "0", "0") == 0
    )
    run = open_run("run")
    assert run.provenance["host"]["kind"] == "unknown"
    assert run.provenance["host"]["prefix"] == "found by planting patches"
    assert run.provenance["data"]["normalisation"].startswith("chosen")
    assert run.trace("wide.png").keep.shape == (2, 4, 4)


def test_annotations_of_a_json_come_along_with_its_own_classes(folder: Path) -> None:
    box = {"bbox": [90, 60, 90, 30], "area": 2700, "iscrowd": 0, "segmentation": []}
    data = {
        "images": [{"id": 7, "file_name": "wide.png", "height": 120, "width": 180}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, **box}],
        "categories": [{"id": 3, "name": "patch"}],
    }
    (folder / "truth.json").write_text(json.dumps(data))
    named = ("--coco", "truth.json", "--image-root", "photos")
    assert record("fixed", "--no-attention", pictures=named) == 0
    run = open_run("run")
    assert run.class_names == ["patch"] and run.image_ids == (7,)
    np.testing.assert_array_equal(run.target(7).boxes_xyxy, [[90, 60, 180, 90]])


@pytest.mark.parametrize("grid", ["4x6", "16"])
def test_a_grid_may_be_told_by_rows_and_columns_or_by_the_side_of_a_token(grid: str) -> None:
    assert record("fixed", "--no-attention") == 0
    assert record("fixed", "--no-attention", "--grid", grid, out="told") == 0
    told, plain = open_run("told"), open_run("run")
    assert told.provenance["host"]["grid"] == ([4, 6] if "x" in grid else 16)
    for image_id in plain.image_ids:
        assert told.trace(image_id).grid == plain.trace(image_id).grid
        np.testing.assert_array_equal(
            told.trace(image_id).measures["update"], plain.trace(image_id).measures["update"]
        )


@pytest.mark.parametrize(
    ("grid", "sentence"),
    [
        ("4x4", "does not cut pictures of 64x96 into squares"),
        ("8", "block 1 has 24 tokens behind a prefix of 1, the grid 8x12"),
    ],
)
def test_a_grid_that_does_not_fit_is_refused(
    grid: str, sentence: str, capsys: pytest.CaptureFixture
) -> None:
    assert record("fixed", "--no-attention", "--grid", grid) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("grid", ["4x", "0x6", "1x2x3", "auto"])
def test_a_grid_is_two_numbers_or_one(grid: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        record("fixed", "--grid", grid)
    assert f"as 16; found '{grid}'" in capsys.readouterr().err


def test_facts_of_such_a_run_are_unknown_and_costs_refuse_with_a_sentence() -> None:
    record("fixed", "--no-attention")
    run = open_run("run")
    facts = facts_of(run.provenance, 2)
    assert (facts.method, facts.size, facts.neck, facts.targets) == ("unknown",) * 3 + ((),)
    assert labels.label(run) == "run: their_models:fixed · torch"
    with pytest.raises(comparison.CostError, match="record it with --count"):
        comparison.costs_of(run)
    assert comparison.image_frame(run, run.image_ids, [0]).gmacs.isna().all()
    record("fixed", "--no-attention", "--count", out="counted")
    counted = open_run("counted")
    with pytest.raises(comparison.CostError, match="torch counted 0.0.* GMACs an image in all"):
        comparison.costs_of(counted)
    frame = comparison.image_frame(counted, counted.image_ids, [0])
    np.testing.assert_allclose(frame.gmacs, counted.images.macs / 1e9)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--module", "their_models"], "expected PACKAGE:FUNCTION, found 'their_models'"),
        (["--module", "their_models:other"], "has no attribute 'other'"),
        (["--module", "nowhere.there:build"], "No module named 'nowhere'"),
        (["--module", "their_models:number"], "gave int, expected a torch module"),
        (
            ["--module", "their_models:fixed", "--weights", "a.pth"],
            "--weights cannot go with --module",
        ),
        (["--module", "their_models:fixed", "--short-side", "9"], "takes pictures of 64x96 alone"),
        (["--module", "their_models:free", "--blocks", "x.*"], "names no modules"),
        (["--count", "--weights", "a.pth"], "--count go with --module"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture
) -> None:
    assert main.main(["record", *words, "--images", "photos", "--out", "run"]) == 2
    assert sentence in capsys.readouterr().err
    assert not Path("run").exists()


SMALL = ("--short-side", "64", "--long-side", "96")


def test_a_model_without_a_patch_embedding_is_recorded_by_its_grid_and_its_hidden_attention_unknown() -> (
    None
):
    assert record("unfolding", "--grid", "16", *SMALL) == 0
    run = open_run("run")
    assert run.measures == ("update", "norm") and run.finished
    assert run.provenance["host"]["attention"] == "unknown"
    assert run.provenance["measures"] == ["update", "norm"]
    assert run.trace("wide.png").grid.grid_hw == (4, 6)


def test_attention_that_only_single_pictures_show_is_recorded_of_all_or_refused(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    for number in range(2):
        Image.new("RGB", (180, 120), (number, 0, 0)).save(folder / "photos" / f"{number}.png")
    words = ("--grid", "16", *SMALL)
    assert record("heads_first", *words, "--batch", "4") == 2
    assert "attention of 3 pictures together cannot be read" in capsys.readouterr().err
    assert record("heads_first", *words, "--batch", "1", out="alone") == 0
    traces = list(open_run("alone").iter_traces(measures=["attention"]))
    assert len(traces) == 4 and all("attention" in one.measures for one in traces)
    assert record("heads_first", *words, "--batch", "4", "--no-attention", out="without") == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["unfolding"], "give the grid"),
        (["misleading"], "did not run before the first block: give the grid"),
        (["unfolding", "--grid", "8"], "the grid does not fit: 12x8 are 96 tokens, and 24 enter"),
        (["misleading", "--grid", "8"], "the grid does not fit: 12x8 are 96 tokens, and 24 enter"),
    ],
)
def test_a_grid_that_is_missing_or_wrong_is_one_sentence_and_leaves_no_run_behind(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture
) -> None:
    assert record(*words, *SMALL) == 2
    assert sentence in capsys.readouterr().err
    assert not Path("run").exists()
