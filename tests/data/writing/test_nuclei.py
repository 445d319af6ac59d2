"""Nuclei from the competition's own layout: what is converted, what is told, and how it goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from svit.cli import main
from svit.data.reading import ImageError
from svit.data.writing import coco_folder, nuclei
from svit.data.writing.nuclei import Field, NucleiError, convert_nuclei, kind_of

HW = (40, 60)
RNG = np.random.default_rng(0)
GREY = RNG.integers(10, 60, HW, np.uint8)  # a dark field
RGBA = np.dstack([np.dstack([GREY] * 3), np.full(HW, 255, np.uint8)])
STAINED = np.dstack([RNG.integers(low, low + 30, HW, np.uint8) for low in (200, 140, 190)])
BRIGHT = RNG.integers(180, 220, HW, np.uint8)
PICTURES = {"a": RGBA, "b": GREY.astype(np.uint16) * 257, "c": STAINED, "d": BRIGHT, "e": GREY}


def disc(y: int, x: int, radius: int = 5) -> np.ndarray:
    rows, columns = np.mgrid[: HW[0], : HW[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def add_field(source: Path, name: str, pixels: np.ndarray, masks: list[np.ndarray]) -> Path:
    folder = source / name
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
    for number, mask in enumerate(masks):
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Five fields, a mask of each kind that is told of, and a picture without annotation."""
    stage = tmp_path / "stage1_train"
    first, second = (255 * disc(10, x).astype(np.uint8) for x in (10, 30))
    masks = {
        "a": [first, second],
        "b": [disc(20, 20).astype(np.uint8)],  # 0 and 1
        "c": [first, 255 * disc(14, 12).astype(np.uint8), second],  # the first two overlap
        "d": [np.zeros(HW, np.uint8), first, np.full((5, 5), 255, np.uint8)],
        "e": [],
    }
    for name, pixels in PICTURES.items():
        add_field(stage, name, pixels, masks[name])
    (stage / "f" / "images").mkdir(parents=True)
    Image.fromarray(GREY).save(stage / "f" / "images" / "f.png")
    return stage


def convert(source: Path, out: Path, **options) -> Path:
    convert_nuclei(source, out, workers=1, progress=False, **options)
    return out


def entries(out: Path) -> dict[str, dict]:
    """Of both sides: name in the source -> image entry with its annotations."""
    found = {}
    for split in nuclei.SPLITS:
        data = json.loads(coco_folder.annotations(out, split).read_text())
        for image in data["images"]:
            own = [one for one in data["annotations"] if one["image_id"] == image["id"]]
            found[image["source"]] = {**image, "objects": own, "split": split}
    return found


def told(out: Path) -> str:
    lines = [
        line
        for split in nuclei.SPLITS
        for line in json.loads(coco_folder.annotations(out, split).read_text())["info"]["told"]
    ]
    return "\n".join(lines)


def files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_pictures_stay_as_they_are_and_masks_are_read_back(source: Path, tmp_path: Path) -> None:
    out = convert(source, tmp_path / "out")
    found = entries(out)
    assert set(found) == set("abcde")
    for name, entry in found.items():
        stored = Image.open(out / entry["split"] / entry["file_name"])
        pixels = PICTURES[name] // 257 if name == "b" else PICTURES[name]
        expected = pixels if pixels.ndim == 2 else pixels[..., :3]
        assert np.array_equal(
            np.asarray(stored.convert("RGB")), np.array(Image.fromarray(expected).convert("RGB"))
        )
        assert stored.mode == ("RGB" if name == "c" else "L")
    coco = COCO(out / "annotations" / f"instances_{found['a']['split']}.json")
    masks = [coco.annToMask(one).astype(bool) for one in found["a"]["objects"]]
    assert np.array_equal(masks, [disc(10, 10), disc(10, 30)])
    (only,) = found["b"]["objects"]
    assert only["area"] == disc(20, 20).sum() and only["bbox"] == [15, 15, 11, 11]


def test_kinds_go_by_the_colours(source: Path, tmp_path: Path) -> None:
    kinds = {
        name: entry["kind"] for name, entry in entries(convert(source, tmp_path / "o")).items()
    }
    fluorescence, histology, brightfield = nuclei.KINDS
    assert kinds == dict(zip("abcde", [fluorescence] * 2 + [histology, brightfield, fluorescence]))
    assert kind_of(np.full((4, 4, 3), (90, 20, 60), np.uint8)) == fluorescence  # tinted, but dark


def test_what_masks_lack_is_counted_and_named(source: Path, tmp_path: Path) -> None:
    out = convert(source, tmp_path / "out")
    assert len(entries(out)["d"]["objects"]) == 1 and len(entries(out)["c"]["objects"]) == 3
    text = told(out)
    assert "1 empty mask: no pixel is marked, and no nucleus made (d/masks/0.png)" in text
    assert "1 mask of another size than the picture" in text and "d/masks/2.png" in text
    assert "2 nuclei that share pixels with another" in text and "c/masks/1.png" in text
    assert "1 picture without a nucleus" in text and "(e)" in text
    assert "1 picture without a folder of masks: not annotated, and left out (f)" in text


def test_masks_of_any_range_are_read_and_several_in_one_are_told(tmp_path: Path) -> None:
    one, other = disc(10, 10), disc(20, 40)
    masks = [one.astype(np.uint16), one * np.uint16(65535), one * np.uint8(1) + other * np.uint8(2)]
    folder = add_field(tmp_path / "in", "a", GREY, masks)
    (folder / "masks" / "0.png").rename(folder / "masks" / "0.PNG")
    out = convert(tmp_path / "in", tmp_path / "out")
    assert [one["area"] for one in entries(out)["a"]["objects"]] == [one.sum()] * 3
    assert "1 mask of more than two values" in told(out) and "a/masks/2.png" in told(out)
    assert "empty" not in told(out)


def test_a_name_has_its_side_and_its_number_whatever_is_left_out(
    source: Path, tmp_path: Path
) -> None:
    """The names of three real images, whose sides are those the shipped models were trained by."""
    real = {
        "00071198d059ba7f5914a526d124d28e6d010c92466da21d4a04cd5413362552": "train2017",
        "00ae65c1c6631ae6f2be1a449902976e6eb8483bf6b0740d00530220832c6d3e": "val2017",
        "0287e7ee5b007c91ae2bd7628d09735e70496bc6127ecb7f3dd043e04ce37426": "val2017",
    }
    for name, split in real.items():
        assert Field(1, Path("stage1_train") / name / "images" / f"{name}.png").split == split
    add_field(source, "aa", np.zeros((70, 90), np.uint8), [])
    numbers = {
        name: entry["id"] for name, entry in entries(convert(source, tmp_path / "all")).items()
    }
    short = convert(source, tmp_path / "short", longest=80)
    assert {name: entry["id"] for name, entry in entries(short).items()} == {
        name: number for name, number in numbers.items() if name != "aa"
    }
    assert "1 picture longer than asked for: left out (aa)" in told(short)


def test_an_interrupted_conversion_goes_on_to_the_same_bytes(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = files(convert(source, tmp_path / "whole"))
    monkeypatch.setattr(coco_folder, "PART", 1)
    seen: list[str] = []

    def interrupted(path: Path, pixels: np.ndarray) -> None:
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(path.name)
        write(path, pixels)

    write = nuclei.write_png
    monkeypatch.setattr(nuclei, "write_png", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "out")
    monkeypatch.setattr(nuclei, "write_png", write)
    assert files(convert(source, tmp_path / "out")) == whole
    monkeypatch.setattr(nuclei, "write_png", None)  # writing now would fail
    assert files(convert(source, tmp_path / "out")) == whole


def test_another_source_or_choice_is_refused_in_a_folder_that_is_begun(
    source: Path, tmp_path: Path
) -> None:
    out = convert(source, tmp_path / "out")
    with pytest.raises(NucleiError, match="longest: None there, 70 now"):
        convert(source, out, longest=70)
    mask = source / "a" / "masks" / "0.png"
    content = mask.read_bytes()
    mask.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # as many bytes as before
    with pytest.raises(NucleiError, match="source_sha256"):
        convert(source, out)
    mask.unlink()
    with pytest.raises(NucleiError, match="source_sha256"):
        convert(source, out)


def test_what_is_no_such_folder_is_told_with_what_to_name(source: Path, tmp_path: Path) -> None:
    with pytest.raises(NucleiError, match="expected folders ID/images/ID.png.*stage1_train"):
        convert(tmp_path, tmp_path / "out")  # one level too high
    with pytest.raises(NucleiError, match="no picture is left to convert: .*5 pictures longer"):
        convert(source, tmp_path / "out", longest=10)
    Image.fromarray(GREY).save(source / "a" / "images" / "more.png")
    with pytest.raises(NucleiError, match="a/images: expected one picture, found 2"):
        convert(source, tmp_path / "out")


def test_a_damaged_mask_is_named(source: Path, tmp_path: Path) -> None:
    mask = source / "a" / "masks" / "1.png"
    mask.write_bytes(mask.read_bytes()[:60])
    with pytest.raises(ImageError, match="a/masks/1.png"):
        convert(source, tmp_path / "out")


def test_the_command_converts_checks_and_tells(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "dataset",
        "nuclei",
        "--from",
        str(source),
        "--out",
        f"{tmp_path}/out",
        "--workers",
        "1",
    ]
    assert main.main(words) == 0
    out = capsys.readouterr().out
    assert "instances_train2017.json: good" in out and "told: 1 empty mask:" in out
    assert "kinds: " in out and "fluorescence" in out
    assert main.main(["dataset", "statistics", f"{tmp_path}/out"]) == 0
    assert "## train2017" in capsys.readouterr().out


def test_statistics_pass_over_a_side_without_pictures(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    train, val = (coco_folder.annotations(out, one) for one in nuclei.SPLITS)
    for folder in list(source.iterdir()):
        if Field(1, folder / "images" / f"{folder.name}.png").split == "val2017":
            shutil.rmtree(folder)
    words = ["--from", str(source), "--out", str(out), "--workers", "1"]
    assert main.main(["dataset", "nuclei", *words]) == 0
    assert "none falls on this one" in capsys.readouterr().out
    assert main.main(["dataset", "statistics", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "## train2017" in shown and "## val2017\n\nNo pictures on this side" in shown
    train.write_text(val.read_text())
    assert main.main(["dataset", "statistics", str(out)]) == 2
    assert "no pictures on any side" in capsys.readouterr().err
