"""The Compare page driven headless: no run, one, two, four; incompatible, damaged, without annotations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from streamlit.testing.v1 import AppTest
from support.colour import contrast
from support.driven import charts, linked, open_page, sent_ahead, texts
from support.runs import (
    PROVENANCE,
    TARGETS,
    grid_for,
    parts,
    trace_of,
    write_dense,
    write_others,
    write_permuted,
    write_run,
)

from analysis.numbers import comparison
from analysis.pages.parts.image import stage
from svit.core.types import Detections
from svit.runs.run import RunWriter, open_run


@pytest.fixture
def compare(monkeypatch, tmp_path):
    return lambda **query: open_page(monkeypatch, "compare", tmp_path, **query)


def two(folder: Path) -> None:
    write_run(folder / "sparse", (1, 2, 3, 4))
    write_dense(folder / "dense")


def tables_of(page: AppTest) -> dict[str, bytes]:
    """The tables of the token panels."""
    chart = page.get("vega_lite_chart")[0].proto
    return {table.name: table.data.data for table in chart.datasets}


def test_without_runs_the_page_tells_the_command(compare):
    page = compare()
    assert not page.exception and "make demo" in texts(page)


def test_one_run_asks_for_a_second_on_the_same_images(compare, tmp_path):
    write_run(tmp_path / "only")
    page = compare()
    assert not page.exception and "There is one run so far" in texts(page)
    assert "svit record" in texts(page)


def test_two_runs_are_shown_on_an_image_of_both(compare, tmp_path):
    two(tmp_path)
    page = compare()
    assert not page.exception and not page.error
    assert page.multiselect(key="runs").value == ["dense", "sparse"]
    assert "one of 3 images that both runs hold" in texts(page)
    assert page.selectbox(key="image").options == ["1  1.jpg", "2  2.jpg", "3  3.jpg"]
    assert "differ in inference" in texts(page)
    assert len(charts(page)) == 3  # tokens, kept, overlap


@pytest.mark.parametrize(("dark", "ground"), [(False, "#ffffff"), (True, "#12161c")])
def test_words_over_a_canvas_which_no_style_reaches_can_be_read(dark, ground):
    drawn = stage.legend(["pruned for good"], ["#ffffff"], dark).to_dict()
    assert contrast(drawn["encoding"]["fill"]["legend"]["labelColor"], ground) >= 4.5


def test_the_maps_of_all_panels_are_sent_ahead_of_their_chart(compare, tmp_path):
    two(tmp_path)
    [style] = sent_ahead(compare())
    assert style.count("url(data:image/png") == 2
    assert style.count("url(data:image/jpeg") == 1, "the picture below both is sent once"
    assert ") 0.000% 0 / 49.261% 100%" in style and ") 100.000% 0 / 49.261% 100%" in style


@pytest.mark.parametrize(
    ("part", "count", "heading"),
    [("Objects", 1, "Objects found and lost"), ("Numbers", 1, "Compute for this image")],
)
def test_the_other_parts_are_made_when_they_are_chosen(compare, tmp_path, part, count, heading):
    two(tmp_path)
    page = compare()
    assert heading not in texts(page)
    page.segmented_control(key="compare_part").set_value(part).run()
    assert not page.exception and heading in texts(page) and len(charts(page)) == count
    again = compare(compare_part=part)
    assert heading in texts(again) and "Tokens at block" not in texts(again)


@pytest.mark.parametrize("part", ["Tokens", "Objects", "Numbers"])
def test_other_pictures_under_the_same_ids_are_not_laid_over_each_other(compare, tmp_path, part):
    write_run(tmp_path / "one")
    write_others(tmp_path / "others")
    page = compare(runs="one|others", compare_part=part)
    assert not page.exception and "cannot be laid over each other" in page.error[0].value
    assert "image 3 shows something else" in texts(page) and not charts(page)


def test_objects_of_runs_whose_labels_mean_other_things_are_not_matched(compare, tmp_path):
    write_run(tmp_path / "sparse", (1, 2, 3))
    write_permuted(tmp_path / "permuted")
    page = compare(runs="sparse|permuted", compare_part="Objects")
    assert not page.exception and "look for other objects" in texts(page)
    assert "the same categories in another order ('disc' and 'ball')" in texts(page)
    assert not charts(page)
    page.segmented_control(key="compare_part").set_value("Tokens").run()
    assert not page.exception and len(charts(page)) == 3


def test_the_first_run_chosen_is_the_reference(compare, tmp_path):
    two(tmp_path)
    page = compare(runs="sparse|dense", image="2", compare_part="Numbers")
    assert page.multiselect(key="runs").value == ["sparse", "dense"]
    table = page.dataframe[1].value
    assert table["run"].tolist() == ["A · sparse", "B · dense"]
    assert table["kept, change"][0] == "reference"
    points = 100 * (table["kept"][1] - table["kept"][0])  # beside per cents
    assert points > 1 and table["kept, change"][1].startswith(f"{points:+.1f} [")
    image, images = page.dataframe[0].value, page.dataframe[2].value
    apart = 100 * (image["kept"][1] - image["kept"][0])
    assert image["kept, change"][1] == pytest.approx(apart)
    shown = images.set_index("image_id")["kept tokens, points"]
    assert shown[2] == pytest.approx(apart) and shown.mean() == pytest.approx(points)


def test_the_slider_shows_another_block_and_the_chart_stays(compare, tmp_path):
    two(tmp_path)
    page = compare()
    spec, before = charts(page)[0], tables_of(page)
    page.slider(key="block").set_value(11).run()
    assert not page.exception and "Tokens at block 11" in texts(page)
    assert charts(page)[0] == spec
    after = tables_of(page)
    assert {name for name in after if after[name] != before[name]} == {"titles", "maps", "tokens"}


@pytest.mark.parametrize(
    ("view", "heading"),
    [
        ("Usage", "Blocks that use each token"),
        ("Difference", "Against the first run at block 4"),
        ("Usage difference", "more, or fewer, than in the first run"),
        ("Agreement", "Agreement at block 4"),
    ],
)
def test_every_view_is_drawn_and_says_what_it_is(compare, tmp_path, view, heading):
    two(tmp_path)
    page = compare(shown=view)
    assert not page.exception and heading in texts(page)
    assert page.slider(key="block").disabled == ("sage" in view)


def test_a_clicked_token_shows_its_life_in_every_run(compare, tmp_path):
    two(tmp_path)
    page = compare()
    page.session_state["panels"] = {"selection": {"token": [{"row": 2, "column": 5}]}}
    page.run()
    assert not page.exception and "Token in row 3, column 6" in texts(page)  # counted from 1
    assert len(charts(page)) == 4


@pytest.mark.parametrize("token", ["2,5", "1,1"])
def test_a_link_restores_runs_image_view_block_and_token(compare, tmp_path, token):
    two(tmp_path)
    page = compare(runs="sparse|dense", image="3", shown="Usage", block="9", token=token)
    assert not page.exception and not page.warning
    assert page.subheader[0].value == "Image 3"
    assert page.slider(key="block").value == 9
    row, column = token.split(",")
    assert f"Token in row {row}, column {column}" in texts(page)


@pytest.mark.parametrize("token", ["99,1", "a,b", "1", "-1,1", "0,1"])
def test_a_token_that_the_image_lacks_is_ignored(compare, tmp_path, token):
    two(tmp_path)
    page = compare(token=token)
    assert not page.exception and "Token in row" not in texts(page)


def test_a_link_to_a_missing_run_says_so(compare, tmp_path):
    two(tmp_path)
    page = compare(runs="sparse|gone")
    assert not page.exception and "“gone”, which is not here" in texts(page)
    assert page.multiselect(key="runs").value == ["dense", "sparse"]


def test_four_runs_are_named_apart(compare, tmp_path):
    two(tmp_path)
    for name, changes in (("other", {"seed": 5}), ("sampled", {"inference": "sample"})):
        write_run(tmp_path / name, (1, 2, 3), {**PROVENANCE, **changes})
    page = compare(runs="dense|sparse|other|sampled", compare_part="Numbers")
    assert not page.exception and "all 4 runs" in texts(page)
    table = page.dataframe[1].value
    assert table["differs in"].tolist()[2:] == ["svit, threshold, seed 5", "svit, sample, seed 0"]
    runs = [open_run(tmp_path / name) for name in ("dense", "sparse", "other", "sampled")]
    traces = comparison.traces_of(runs, 1)
    assert f"{comparison.unanimous(traces).max()}" == "12"


def test_runs_without_common_images_say_how_to_get_some(compare, tmp_path):
    write_run(tmp_path / "a", (1, 2))
    write_run(tmp_path / "b", (3,))
    page = compare(runs="a|b")
    assert not page.exception and "no image in common" in texts(page)


def test_runs_of_other_depth_are_refused_with_the_reason(compare, tmp_path):
    write_run(tmp_path / "a", (1,))
    made = parts(1)
    short = trace_of(
        1, made["trace"].grid, np.zeros(made["trace"].grid.grid_hw), targets=TARGETS[:6]
    )
    with RunWriter(tmp_path / "b", PROVENANCE) as writer:
        writer.add(**{**made, "trace": short})
    page = compare(runs="a|b")
    assert not page.exception and "12 and 6 layers" in texts(page)


def test_runs_with_another_grid_are_refused_with_the_reason(compare, tmp_path):
    write_run(tmp_path / "a", (1,))
    large = grid_for((120, 150), scale=2)
    with RunWriter(tmp_path / "b", PROVENANCE) as writer:
        writer.add(**{**parts(1), "trace": trace_of(1, large, np.zeros(large.grid_hw))})
    page = compare(runs="a|b")
    assert not page.exception and "cannot be laid over each other" in page.error[0].value
    assert "record both with the same sizes" in texts(page)


def test_without_annotations_the_rest_is_shown(compare, tmp_path):
    for name in "ab":
        with RunWriter(tmp_path / name, PROVENANCE) as writer:
            writer.add(parts(1)["trace"])
    assert not compare().exception
    page = compare(compare_part="Objects")
    assert not page.exception and not page.error
    assert "holds no annotations" in texts(page) and not charts(page)


def test_a_damaged_run_says_so_and_the_others_are_compared(compare, tmp_path):
    two(tmp_path)
    write_run(tmp_path / "third")
    shard = next((tmp_path / "third").glob("*.tokens.parquet"))
    shard.write_bytes(shard.read_bytes()[:-9])
    page = compare(runs="dense|sparse|third")
    assert not page.exception and "cannot be read as a whole" in page.error[0].value
    assert "both runs" in texts(page)


def test_bytes_that_changed_on_disk_are_reported(compare, tmp_path):
    two(tmp_path)
    shard = next((tmp_path / "sparse").glob("*.tokens.parquet"))
    data = bytearray(shard.read_bytes())
    data[40:200] = bytes(255 - byte for byte in data[40:200])
    shard.write_bytes(data)
    page = compare()
    assert not page.exception and page.error
    page = compare(runs="dense|sparse")
    assert not page.exception and page.error


def test_an_empty_run_tells_how_to_fill_it(compare, tmp_path):
    two(tmp_path)
    with RunWriter(tmp_path / "empty", PROVENANCE):
        pass
    page = compare(runs="dense|empty")
    assert not page.exception and "svit record --out" in texts(page)


def test_fewer_than_two_chosen_runs_ask_for_more(compare, tmp_path):
    two(tmp_path)
    page = compare()
    page.multiselect(key="runs").unselect("sparse").run()
    assert not page.exception and "Choose two to four runs" in texts(page)


def test_the_row_of_an_image_opens_it_above(compare, tmp_path):
    two(tmp_path)
    page = compare(compare_part="Numbers")
    table = f"changes {page.selectbox(key='other').value} {page.selectbox(key='change_of').value}"
    page.session_state[table] = {"selection": {"rows": [1], "columns": [], "cells": []}}
    page.run()
    opened = page.dataframe[-1].value["image_id"].iloc[1]
    assert opened != 1 and page.subheader[0].value == f"Image {opened}"
    assert linked(page, "image") == str(opened)


def test_no_detection_at_all_loses_every_object(compare, tmp_path):
    write_run(tmp_path / "a", (1,))
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0))
    write_dense(tmp_path / "b", (1,), detections=nothing)
    page = compare(runs="a|b", compare_part="Numbers")
    table = page.dataframe[1].value
    assert not page.exception and table["objects found"].tolist() == [0.5, 0.0]


@pytest.mark.parametrize("most", [24, 1])
def test_objects_are_named_in_the_picture_only_where_they_are_few(
    compare, tmp_path, monkeypatch, most
):
    monkeypatch.setattr("analysis.pages.parts.compare.objects.MOST_NAMED", most)
    two(tmp_path)
    page = compare(compare_part="Objects")
    tables = tables_of(page)
    boxes = pa.ipc.open_stream(tables["boxes"]).read_pandas()
    assert not page.exception and boxes["tip"].ne("").all()
    assert boxes["name"].eq("").all() == (most == 1) == ("cursor names each" in texts(page))


def test_the_only_common_image_is_called_so(compare, tmp_path):
    write_run(tmp_path / "sparse", (1,))
    write_dense(tmp_path / "dense")
    assert "the only image that both runs hold" in texts(compare())


def test_a_row_that_opened_its_image_does_not_call_the_viewer_back_to_it(compare, tmp_path):
    two(tmp_path)
    page = compare(compare_part="Numbers")
    table = f"changes {page.selectbox(key='other').value} {page.selectbox(key='change_of').value}"
    picked = {"selection": {"rows": [1], "columns": [], "cells": []}}
    page.session_state[table] = picked
    page.run()
    opened = page.selectbox(key="image").value
    elsewhere = next(one for one in (1, 2, 3) if one != opened)
    page.session_state[table] = picked  # the row stays selected in the browser
    page.selectbox(key="image").set_value(elsewhere).run()
    assert not page.exception and page.selectbox(key="image").value == elsewhere
    assert page.subheader[0].value == f"Image {elsewhere}"


def test_runs_that_differ_in_number_type_or_in_who_decides_say_so(compare, tmp_path):
    write_run(tmp_path / "a", (1, 2))
    write_run(tmp_path / "b", (1, 2), {**PROVENANCE, "dtype": "bfloat16"})
    write_run(tmp_path / "c", (1, 2), {**PROVENANCE, "masks_from": "abcdef0123"})
    page = compare(runs="a|b|c", compare_part="Numbers")
    assert not page.exception
    assert "differ in the model that decides and number type" in texts(page)
    table = page.dataframe[0].value
    assert table["differs in"].tolist() == ["", "bfloat16", "masks of abcdef01"]
