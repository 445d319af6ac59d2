"""The Dataset page driven headless: every part, empty states, links, clicks, a damaged run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.driven import charts, linked, open_page, sent_ahead, texts
from support.explanations import explanation
from support.runs import PROVENANCE, parts, write_misses, write_others, write_permuted, write_run

from analysis.figures import registry
from analysis.numbers import image_list
from svit.runs.attributions import Attributions, Decided
from svit.runs.rescue import rescue_path, write_part
from svit.runs.run import RunWriter

PARTS = ("Tokens", "Objects", "Budget", "Errors", "Images", "Figures")
LABELS = {"Tokens": "Usage, averaged", "Objects": "Inside, on the contour", "Budget": "complexity"}
LABELS |= {"Errors": "5 missed objects", "Images": "5 of 5 images"}
LABELS["Figures"] = "Pruned tokens of each block as a share of all valid tokens"


@pytest.fixture
def dataset(monkeypatch, tmp_path):
    return lambda **query: open_page(monkeypatch, "dataset", tmp_path, **query)


def test_without_runs_the_page_tells_the_command(dataset):
    page = dataset()
    assert not page.exception and "make demo" in texts(page)


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_shown(dataset, tmp_path, part):
    write_run(tmp_path / "discs", (1, 2, 3, 4, 5))
    page = dataset(part=part)
    assert not page.exception and not page.error
    assert LABELS[part] in texts(page)
    assert "5 images · 10 annotated objects · 2 classes · 12 blocks" in texts(page)
    assert "framework torchvision" in texts(page)


def test_the_map_is_sent_ahead_of_what_draws_it_when_the_page_opens(dataset, tmp_path):
    write_run(tmp_path / "discs", (1, 2, 3))
    page = dataset(part="Tokens")
    [style] = sent_ahead(page)
    assert ".st-key-usage-map" in style and "data:image/png" in style
    page.selectbox(key="at_block").set_value(6).run()
    assert not sent_ahead(page)


def test_images_of_several_kinds_are_compared_by_kind(dataset, tmp_path):
    with RunWriter(tmp_path / "run", PROVENANCE) as writer:
        for image_id in (1, 2, 3, 4):
            writer.add(
                **{**parts(image_id), "extra": {f"kind={'light' if image_id > 2 else 'dark'}": 1.0}}
            )
    page = dataset(part="Budget")
    assert not page.exception and "By kind" in texts(page)
    (table,) = [one.value for one in page.dataframe if "of" in one.value]
    assert table["of"].tolist() == ["dark", "light"] and table["images"].tolist() == [2, 2]


def test_the_grid_of_images_is_filtered_by_kept_tokens_and_ordered(dataset, tmp_path):
    run = write_misses(tmp_path / "sparse")
    page = dataset(part="Images", order="Most tokens kept")
    ratios = image_list.image_frame(run).set_index("image_id")["keep_ratio"].sort_values()
    labels = [item.proto.label for item in page.get("page_link")]
    assert list(map(int, labels)) == ratios.index[::-1].tolist()
    assert "kept · 1 missed · 0 wrong · 0.95 sure" in texts(page).replace("\\", "")
    assert "Missed objects: the same in all images" in texts(page)
    low, _ = page.slider(key="range of keep_ratio").value
    page.slider(key="range of keep_ratio").set_value((low, ratios.iloc[:2].mean())).run()
    assert not page.exception and "1 of 3 images" in texts(page)
    again = dataset(part="Images", grid_keep_ratio=linked(page, "grid_keep_ratio"))
    assert "1 of 3 images" in texts(again)
    page.text_input(key="search").set_value("nothing").run()
    assert "No image fits" in texts(page)


def test_a_link_to_no_part_is_ignored_with_a_note(dataset, tmp_path):
    write_run(tmp_path / "discs")
    page = dataset(part="Nonsense")
    assert not page.exception and "which is not here" in texts(page)
    assert LABELS["Tokens"] in texts(page)


def test_images_behind_a_bar_are_ranked_by_their_own_share(dataset, tmp_path):
    run = write_run(tmp_path / "discs", (1, 2, 3, 4, 5))
    page = dataset(**{"part": "Tokens", "at_block": "7", "share_of": "kept"})
    assert "Most tokens kept at block 7" in texts(page)
    shares = {i: run.trace(i).keep[6, :8, :10].mean() for i in run.image_ids}
    best = max(shares, key=shares.get)
    links = [item.proto.label for item in page.get("page_link")]
    assert links[0].endswith(f"· {best}")


def test_a_run_that_prunes_nothing_says_so(dataset, tmp_path):
    write_misses(tmp_path / "dense", "dense")
    page = dataset()
    assert not page.exception and "prunes no token" in texts(page)


@pytest.mark.parametrize("part", ["Objects", "Errors"])
def test_without_annotations_a_part_tells_the_command(dataset, tmp_path, part):
    with RunWriter(tmp_path / "run", PROVENANCE) as writer:
        writer.add(parts(1)["trace"])
    page = dataset(part=part)
    assert not page.exception and "holds no annotations" in texts(page)
    assert "svit record" in texts(page)


def test_without_annotations_and_pictures_there_is_no_complexity(dataset, tmp_path):
    with RunWriter(tmp_path / "run", PROVENANCE) as writer:
        writer.add(parts(1)["trace"])
    page = dataset(part="Budget")
    assert not page.exception and "neither annotations nor pictures" in texts(page)


def test_a_run_that_prunes_nothing_has_no_points_to_compare(dataset, tmp_path):
    with RunWriter(tmp_path / "run", {**PROVENANCE, "method": "dense", "targets": []}) as writer:
        for image_id in (1, 2, 3):
            whole = parts(image_id)
            trace = whole["trace"]
            whole["trace"] = replace(trace, keep=np.ones_like(trace.keep), scores=None)
            writer.add(**whole)
    page = dataset(part="Budget")
    assert not page.exception and "prunes no token" in texts(page)
    assert not page.get("vega_lite_chart")


def test_two_images_are_not_laid_out_as_a_relation(dataset, tmp_path):
    write_run(tmp_path / "discs", (1, 2))
    page = dataset(part="Budget")
    assert not page.exception and "holds 2 images" in page.info[0].value
    assert not page.get("vega_lite_chart") and page.get("download_button")


@pytest.mark.parametrize("part", ["Objects", "Budget", "Errors"])
def test_files_side_by_side_are_told_apart_by_their_buttons(dataset, tmp_path, part):
    write_run(tmp_path / "discs", (1, 2, 3))
    files = dataset(part=part).get("download_button")
    told = [one.proto.label for one in files if one.proto.label.startswith("CSV: ")]
    assert len(told) == len(set(told)) == 2


def test_a_clicked_point_opens_its_image_on_the_image_page(dataset, tmp_path):
    write_run(tmp_path / "discs", (1, 2, 3))
    page = dataset(part="Budget")
    page.session_state["budget points"] = {"selection": {"picked": [{"image_id": 3}]}}
    page.run()
    assert not page.exception
    assert page.query_params["image"] in ("3", ["3"])
    assert any("3" in item.value for item in page.subheader)


def test_a_group_of_objects_can_be_opened(dataset, tmp_path):
    write_run(tmp_path / "discs", (1, 2, 3))
    page = dataset(**{"part": "Objects", "group_by": "class", "group": "ball"})
    assert not page.exception and page.selectbox(key="group").value == "ball"
    assert len(page.get("page_link")) == 3  # one ball an image
    page.selectbox(key="group_by").select("region").run()
    assert not page.exception and page.selectbox(key="group").options == [
        "contour",
        "inside",
        "background",
    ]


def test_missed_objects_are_listed_with_what_a_dense_run_does(dataset, tmp_path):
    write_misses(tmp_path / "sparse")
    write_misses(tmp_path / "dense", "dense", find=True)
    page = dataset(run="sparse", part="Errors", score="0.2")
    assert not page.exception and not page.error
    assert page.selectbox(key="second").value == "dense"
    assert "3 missed objects" in texts(page)
    table = page.dataframe[0].value
    assert table["dropped"].tolist() == [5, 5, 5] and table["back"].isna().all()
    assert table["second run"].tolist() == ["finds it"] * 3
    assert table["error"].tolist() == ["missed"] * 3
    assert all(picture.startswith("data:image/jpeg") for picture in table["object"])


def test_missed_objects_that_no_block_pruned_are_listed_with_the_detection_that_is_too_unsure(
    dataset, tmp_path
):
    write_run(tmp_path / "discs", (1, 2, 3))  # the second object of each is detected with 0.4
    page = dataset(part="Errors", score="0.5")
    table = page.dataframe[0].value
    assert set(table["nearest"]) == {"right, score too low"} and set(table["as"]) == {"ball"}
    assert table["score"].tolist() == pytest.approx([0.4] * 3) and (table["IoU"] == 1).all()
    page.selectbox(key="error_match").select("unsure").run()
    assert len(page.dataframe[0].value) == 3
    page.selectbox(key="error_order").select("largest").run()
    assert not page.exception and len(page.dataframe[0].value) == 3


def test_missed_objects_that_their_tokens_bring_back_stand_beside_random_draws(dataset, tmp_path):
    run = write_misses(tmp_path / "sparse")
    page = dataset(part="Errors", score="0.5")
    assert not page.exception and f" --record {run.path} --rescue" in texts(page)
    facts = {"blocks": [4, 5], "draws": 2, "score": 0.5, "iou": 0.5, "kind": "box", "seed": 0}
    row = {"before": 0.3, "added": 4, "random": [0.6, 0.2], "random_added": [4, 4], "object": 1}
    rows = [{**row, "image_id": one, "after": 0.5 + (one == 1) - 0.1} for one in (1, 2, 3)]
    write_part(rescue_path(run.path, (4, 5)), facts | {"created": run.created}, rows)
    page = dataset(part="Errors", score="0.5", error_order="its tokens bring it back")
    assert not page.exception
    assert "1 of 3 missed objects come back" in texts(page).replace("\\", "")
    table = page.dataframe[0].value
    assert table["with its tokens"].tolist() == ["comes back", *["stays missed"] * 2]
    assert table["at random"].tolist() == [0.5] * 3
    page.selectbox(key="error_rescued").select("comes back").run()
    assert not page.exception and page.dataframe[0].value["image"].tolist() == [1]


def test_the_error_table_is_filtered(dataset, tmp_path):
    write_misses(tmp_path / "sparse")
    page = dataset(part="Errors", score="0.2")
    page.selectbox(key="error_class").select("ball").run()
    assert set(page.dataframe[0].value["class"]) == {"ball"}
    page.selectbox(key="error_fate").select("rescued").run()
    assert not page.exception and "No such object" in texts(page)


def test_a_link_restores_a_missed_object_and_leads_to_both_runs(dataset, tmp_path):
    write_misses(tmp_path / "sparse")
    write_misses(tmp_path / "dense", "dense", find=True)
    page = dataset(run="sparse", part="Errors", score="0.2", image="2", object="1")
    assert not page.exception and "ball in image 2" in texts(page)
    assert "###### dense" in texts(page) and "The second run finds it" in texts(page)
    links = {item.proto.label: item.proto.query_string for item in page.get("page_link")}
    for asked in ("block=5", "image=2", "object=1", "token="):
        assert asked in links["Open the image with it"]
    assert "object=1" in links["What if its tokens were kept?"]
    assert "runs=sparse%7Cdense" in links["Compare both runs on the image"]
    assert texts(page).count("framework torchvision") == 2  # provenance of both


def test_a_link_to_a_region_lists_its_images(dataset, tmp_path):
    write_run(tmp_path / "discs", (1, 2, 3))
    page = dataset(**{"part": "Objects", "group_by": "region", "group": "inside"})
    assert not page.exception and "Most used: inside" in texts(page)
    assert len(page.get("page_link")) == 3


def test_a_second_run_on_other_images_is_left_out_with_a_note(dataset, tmp_path):
    write_misses(tmp_path / "sparse")
    write_run(tmp_path / "strange", (8, 9))
    page = dataset(run="sparse", part="Errors", second="strange", score="0.2")
    assert not page.exception and "holds none of this run's images" in texts(page)
    assert "second run" not in page.dataframe[0].value


def test_a_second_run_whose_labels_mean_other_things_is_left_out_with_a_note(dataset, tmp_path):
    write_misses(tmp_path / "sparse")
    write_permuted(tmp_path / "permuted")  # finds every object
    page = dataset(run="sparse", part="Errors", second="permuted", score="0.2")
    assert not page.exception and "permuted is left out" in texts(page)
    assert "the same categories in another order ('disc' and 'ball')" in texts(page)
    assert "second run" not in page.dataframe[0].value


def test_a_second_run_of_other_pictures_under_the_same_ids_is_left_out_with_a_note(
    dataset, tmp_path
):
    write_misses(tmp_path / "sparse")
    write_others(tmp_path / "others")
    page = dataset(run="sparse", part="Errors", second="others", score="0.2")
    assert not page.exception and "others is left out" in texts(page)
    assert "image 1 shows something else" in texts(page)
    assert "second run" not in page.dataframe[0].value


def test_no_missed_object_leaves_the_browser_empty(dataset, tmp_path):
    write_run(tmp_path / "discs")
    page = dataset(part="Errors", score="0.2")
    assert not page.exception and "0 missed objects" in texts(page)


def test_a_damaged_run_says_so_and_another_still_works(dataset, tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b")
    shard = next((tmp_path / "a").glob("*.tokens.parquet"))
    shard.write_bytes(shard.read_bytes()[:-9])
    page = dataset(run="a")
    assert not page.exception and "cannot be read as a whole" in page.error[0].value
    page.selectbox(key="run").select("b").run()
    assert not page.exception and not page.error and charts(page)


def test_an_empty_run_tells_how_to_fill_it(dataset, tmp_path):
    with RunWriter(tmp_path / "run", {}) as writer:
        writer.add_error(5, "cannot decode", "five.jpg")
    page = dataset()
    assert not page.exception and "svit record --out" in texts(page)


@pytest.mark.parametrize("name", ("reactivation", "lives", "regions", "misses", "errors"))
def test_any_figure_of_a_run_is_shown_with_its_definition_and_files(dataset, tmp_path, name):
    write_run(tmp_path / "discs", (1, 2, 3))
    page = dataset(part="Figures", figure=name)
    assert not page.exception and not page.error
    entry = registry.entries()[name]
    told = entry.screen_about if entry.screen else entry.definition
    assert told.split(":")[0][:40] in texts(page)
    assert "Left as shares" not in texts(page), "of the drawing on paper, which is not shown"
    assert [one.proto.label for one in page.get("download_button")] == ["CSV", "PNG", "PDF"]


def test_a_figure_that_the_run_lacks_numbers_for_says_why(dataset, tmp_path):
    with RunWriter(tmp_path / "run", PROVENANCE) as writer:
        writer.add(parts(1)["trace"])
    page = dataset(part="Figures", figure="regions")
    assert not page.exception and "holds no annotations" in texts(page)


def test_a_figure_of_what_was_asked_of_a_run_since_is_drawn_anew(dataset, tmp_path):
    run = write_run(tmp_path / "discs", (1, 2, 3))
    kept = Attributions(run.path, {"steps": 4})
    kept.claim()
    kept.write(explanation(3), Decided(1.0))
    page = dataset(part="Figures", figure="attribution")
    assert not page.exception and len(pictures(page)) == 2  # all objects, and the one with sets
    kept.write(explanation(1), Decided(1.0))
    assert len(pictures(page.run())) == 3


def pictures(page) -> list:
    """Those of the part."""
    return list(page.get("image") or page.get("imgs"))


def test_images_that_do_not_count_are_told_by_what_they_lack(dataset, tmp_path):
    with RunWriter(tmp_path / "run", PROVENANCE) as writer:
        writer.add(**parts(1))
        writer.add(**{**parts(2), "detections": None})
    page = dataset(part="Errors")
    assert not page.exception
    assert "1 of the run's 2 images count: they have annotations and detections." in texts(page)
