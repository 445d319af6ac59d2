"""Evaluations by slices of their images, from what `svit compare` keeps of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.figures.output import DrawOptions, RenderError
from analysis.figures.rates import slices as figure
from analysis.sources import slices
from analysis.sources.collection import Collection
from analysis.sources.evaluations import EvaluationError, find_evaluations
from analysis.sources.slices import Part
from svit.core.matches import MatchesFile

NUCLEI = Path(__file__).parents[2] / "results" / "comparison-nuclei"
LINES = ("svit-seed0/learned", "svit-seed0/shuffle", "dense-seed0/learned")


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """SViT with its own masks and with shuffled ones, and the dense model."""
    for line in LINES:
        shutil.copytree(NUCLEI / line, tmp_path / line)
    return tmp_path


def images(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / LINES[0] / "images.csv", dtype={"image_id": str})


def test_all_images_as_one_part_are_the_evaluation(three: Path) -> None:
    for one in find_evaluations(three):
        part = Part(one.path, one.summary, frozenset(images(three)["image_id"]))
        assert part.ap("box") == pytest.approx(one.ap("box"))
        assert part.kinds == ["box"] and part.drawn("mask") is None
        if one.facts.decides:
            assert part.mean("keep_ratio") == pytest.approx(one.mean("keep_ratio"))


def test_each_difference_is_that_of_the_images_of_its_slice(three: Path) -> None:
    table = slices.frame(find_evaluations(three))
    found = table.set_index(["slice", "of", "name", "against"])
    assert {key[:2] for key in found.index} == {
        *(("crowding", text) for text in ("crowded", "sparse")),
        *(("kind", text) for text in ("fluorescence", "histology")),
    }
    kinds = images(three).set_index("image_id")["kind"]
    box = [MatchesFile(three / line / "matches.npz").matches("box") for line in LINES]
    weights = np.array([kinds[str(one)] == "histology" for one in box[0].image_ids], np.int64)
    own, shuffled, dense = (one.ap(weights) for one in box)
    for against, ap in (("shuffle", shuffled), ("dense", dense)):
        row = found.loc[("kind", "histology", "svit", against)]
        assert row["value"] == pytest.approx(own - ap) and row["ap"] == pytest.approx(own)
        assert row["low"] < row["value"] < row["high"] and row["images"] == weights.sum()
    kept = images(three).query("kind == 'histology'")["keep_ratio"].mean()
    assert found.loc[("kind", "histology", "svit", "dense")]["keep_ratio"] == pytest.approx(kept)


def test_crowded_images_have_more_objects_than_the_median_one(three: Path) -> None:
    objects = images(three).set_index("image_id")["objects"]
    crowded = slices.members(find_evaluations(three))[("crowding", "crowded")]
    assert objects[list(crowded)].min() > objects.median()
    assert objects.drop(list(crowded)).max() <= objects.median()


def test_a_slice_without_an_object_has_no_ap_and_is_left_out(three: Path) -> None:
    for path in three.rglob("images.csv"):
        table = pd.read_csv(path)
        table.loc[table["kind"] == "histology", "objects"] = 0
        table.to_csv(path, index=False)
    kinds = {text for name, text in slices.members(find_evaluations(three)) if name == "kind"}
    assert kinds == {"fluorescence"}


def test_frames_of_videos_are_no_separate_images(three: Path) -> None:
    for one in find_evaluations(three):
        path = one.path / "matches.npz"
        with np.load(path) as file:
            arrays = {**file, "box_key": np.array("4 videos, 1000 draws of seed 0")}
        np.savez(path, **arrays)
        summary = json.loads((one.path / "summary.json").read_text())
        summary.pop("sha256", None)
        (one.path / "summary.json").write_text(json.dumps(summary | {"matches_sha256": ""}))
    assert not len(slices.frame(find_evaluations(three)))


def test_without_the_table_of_images_it_is_said_what_is_missing(three: Path) -> None:
    for path in three.rglob("images.csv"):
        path.unlink()
    found = Collection((), tuple(find_evaluations(three)))
    with pytest.raises(RenderError, match=r"images\.csv"):
        next(figure.draw(found, DrawOptions()))


def test_a_table_of_images_that_is_none_is_named(three: Path) -> None:
    (three / LINES[2] / "images.csv").write_bytes(b"\xff\x00")
    with pytest.raises(EvaluationError, match=r"images\.csv"):
        slices.frame(find_evaluations(three))


def test_twelve_texts_and_long_names_stay_on_the_canvas() -> None:
    rows = [
        {"slice": "weather " * 20, "of": f"{text} " * 12, "images": 10 + text, "name": name * 60}
        | {"ap": 50.0, "keep_ratio": 0.5, "against": against, "kind": "box", "value": text - 6.0}
        | {"low": text - 7.0, "high": text - 5.0, "above": 0.5, "seeds": 1}
        for text in range(12)
        for name in ("svit ", "evit ")
        for against in ("dense", "shuffle", "centre")
    ]
    drawn = figure.compose(pd.DataFrame(rows))
    drawn.draw_without_rendering()
    width, height = drawn.get_size_inches() * drawn.dpi
    legend = drawn.legends[0].get_window_extent()
    assert legend.x0 >= 0 and legend.x1 <= width and legend.y1 <= height
    assert all(ax.get_position().height > 0.3 for ax in drawn.axes)


@pytest.mark.parametrize("texts", [("2019", "2020"), ("NA", "None"), ("True", "False")])
def test_texts_that_look_like_numbers_or_nothing_are_slices_too(three: Path, texts) -> None:
    for path in three.rglob("images.csv"):
        table = pd.read_csv(path, dtype=str)
        table["kind"] = table["kind"].map(dict(zip(("fluorescence", "histology"), texts)))
        table.to_csv(path, index=False)
    found = {text for name, text in slices.members(find_evaluations(three)) if name == "kind"}
    assert found == set(texts)


def test_a_text_called_crowding_stands_beside_what_objects_say(three: Path) -> None:
    for path in three.rglob("images.csv"):
        pd.read_csv(path, dtype=str).rename(columns={"kind": "crowding"}).to_csv(path, index=False)
    found = slices.members(find_evaluations(three))
    objects = images(three).set_index("image_id")["objects"]
    crowded = found[("crowding", "crowded")]
    assert objects[list(crowded)].min() > objects.median()
    assert ("crowding (of the data)", "histology") in found


def test_a_slice_whose_name_is_no_file_name_is_drawn(three: Path) -> None:
    for path in three.rglob("images.csv"):
        pd.read_csv(path, dtype=str).rename(columns={"kind": "a/b"}).to_csv(path, index=False)
    names = [
        one.name for one in figure.draw(Collection((), find_evaluations(three)), DrawOptions())
    ]
    assert not any("/" in name for name in names) and any("slices-a_b-" in name for name in names)
