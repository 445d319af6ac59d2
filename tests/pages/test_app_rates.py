"""The Rates page driven headless, and the frames behind it: what is measured, printed, left out, apart."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest
from support.driven import charts, linked, open_page, texts
from support.runs import write_run
from support.summaries import SHAPES, write_benchmark, write_result

from analysis.pages.parts import shell
from analysis.pages.parts.rates import origins
from analysis.paper import claims
from analysis.sources import benchmarks
from analysis.sources.collection import collect_readable
from analysis.sources.rates import rate_frame

NUCLEI = Path(__file__).parents[2] / "results" / "comparison-nuclei"


@pytest.fixture
def page(monkeypatch, tmp_path):
    """Opens the page on a folder of runs; results lie beside it."""
    (tmp_path / "runs").mkdir()
    return lambda **query: open_page(monkeypatch, "rates", tmp_path / "runs", **query)


def write_curve(folder: Path, **choices) -> None:
    """A dense model and one model at three keep ratios, on the same images."""
    write_result(folder / "dense", 41, 37, macs=120e9, method="dense", **choices)
    for number, base in enumerate((0.5, 0.7, 0.9)):
        write_result(folder / f"svit-{base}", 38 + number, 34 + number, base=base, **choices)


def points(app: AppTest, chart: int = 0) -> set[str]:
    """Folders of the results that a chart shows."""
    data = app.get("vega_lite_chart")[chart].proto
    blobs = [data.data.data, *(item.data.data for item in data.datasets)]
    return {
        name
        for name in ("dense", "svit-0.5", "svit-0.7", "svit-0.9", "shapes")
        if any(f"/{name}".encode() in blob for blob in blobs)
    }


def test_without_evaluations_the_page_tells_the_command_and_shows_the_paper(page):
    app = page()
    assert not app.exception
    assert "No evaluation found" in texts(app) and "svit demo" in texts(app)
    assert len(charts(app)) == 1 and "In the paper" in texts(app)


def test_runs_of_all_data_stand_in_one_table_and_are_filtered(page, tmp_path):
    empty = page(view="Runs")
    assert "svit demo" in texts(empty) and "None" not in texts(empty)
    write_curve(tmp_path / "results")
    write_result(
        tmp_path / "results" / "shapes",
        60,
        55,
        classes=SHAPES,
        images=100,
        facts={"data_sha256": "beef" * 16},
    )
    app = page(view="Runs")
    assert not app.exception and "5 of 5 evaluations" in texts(app)
    table = app.dataframe[0].value
    assert set(table["data"]) == {"COCO val2017", "shapes"} and table["box AP"].max() == 60
    app.text_input(key="words").set_value("Dense coco").run()
    assert not app.exception and app.dataframe[0].value["box AP"].tolist() == [41]
    app.selectbox(key="masks").select("others").run()
    assert "0 of 5 evaluations" in texts(app)
    app.selectbox(key="evaluated_on").select_index(1).run()
    assert not app.exception and "0 of 5 evaluations" in texts(app)


def test_results_beside_the_chosen_folder_make_a_curve(page, tmp_path):
    write_curve(tmp_path / "results")
    app = page()
    assert not app.exception and not app.error
    assert points(app) == {"dense", "svit-0.5", "svit-0.7", "svit-0.9"}
    assert "COCO val2017, 5000 images" in texts(app)
    measured, printed = charts(app)
    assert "box AP" in measured and "(paper)" not in measured and "(paper)" in printed
    assert points(app, 1) == set()  # what the paper prints shares nothing with what was measured


def test_a_single_result_has_room_around_it(page, tmp_path):
    """Vega makes of one value an axis of no length, with eight digits a tick."""
    write_result(tmp_path / "results" / "dense", 41, 37, macs=120e9, method="dense")
    app = page()
    assert not app.exception
    domains = [found for found in _domains(json.loads(charts(app)[0])) if len(found) == 2]
    assert [0.95, 1.05] in domains and all(least < most for least, most in domains)


def _domains(spec: object) -> list[list]:
    """Every scale's domain in a chart."""
    if isinstance(spec, list):
        return [found for part in spec for found in _domains(part)]
    if not isinstance(spec, dict):
        return []
    own = [spec["domain"]] if isinstance(spec.get("domain"), list) else []
    return own + _domains([part for part in spec.values() if isinstance(part, (dict, list))])


def test_results_on_other_images_never_share_a_chart(page, tmp_path):
    write_curve(tmp_path / "runs")
    other = {"data_sha256": "beef" * 16}
    write_result(tmp_path / "runs" / "shapes", classes=SHAPES, images=100, facts=other)
    app = page()
    assert not app.exception and "shapes" not in points(app)
    choice = app.selectbox(key="data")
    assert choice.options == ["COCO val2017, 5000 images", "shapes, 100 images"]
    choice.select(choice.options[1]).run()
    assert points(app) == {"shapes"}


@pytest.mark.parametrize(
    ("cost", "title"),
    [
        ("base", "base keep ratio"),
        ("kept", "kept tokens"),
        ("backbone", "GMACs"),
        ("macs", "GMACs"),
    ],
)
def test_accuracy_stands_against_every_cost(page, tmp_path, cost, title):
    write_curve(tmp_path / "results")
    app = page(against=cost, ap="mask")
    assert not app.exception and not app.warning
    assert title in charts(app)[0] and "mask AP" in charts(app)[0]
    assert ("The paper prints no such costs" in texts(app)) == (cost != "base")


def test_the_chosen_axis_and_families_go_into_the_files(page, tmp_path, monkeypatch):
    write_curve(tmp_path / "results")
    write_result(tmp_path / "results" / "shapes", 30, 28, method="evit")
    made = {}
    monkeypatch.setattr(shell, "downloads", lambda name, *things: made.update({name: things}))
    app = page(against="macs", families="svit")
    assert not app.exception and not app.warning
    assert points(app) == {"dense", "svit-0.5", "svit-0.7", "svit-0.9"}
    table, figure = made["tradeoff-box-macs"]
    assert set(table["model"]) == {"dense", "svit"}
    assert {ax.get_xlabel() for ax in figure().axes} == {"GMACs of the network"}


def test_files_tell_commit_and_weights_and_no_path_of_the_server(tmp_path):
    facts = {"commit": "c0ffee", "weights_sha256": "feed"}
    write_result(tmp_path / "results" / "one", facts=facts)
    found = collect_readable([tmp_path / "results"]).results
    table = origins.sourced(rate_frame(found), found, [tmp_path / "results"])
    row = table.iloc[0]
    assert (row["commit"], row["weights_sha256"], row["path"]) == ("c0ffee", "feed", "results/one")
    claimed = pd.DataFrame({"source": [f"{tmp_path}/results/a, {tmp_path}/results/b", None]})
    short = origins.placed(claimed, "source", [tmp_path / "results"])["source"].tolist()
    assert short[0] == "results/a, results/b" and pd.isna(short[1])


def test_speed_needs_a_benchmark_of_an_evaluated_model(page, tmp_path):
    write_result(tmp_path / "results" / "one")
    app = page(against="speed")
    assert not app.exception and "svit benchmark --models" in texts(app)
    write_timed(tmp_path / "results" / "timed")
    app = page(against="speed")
    assert not app.exception and "images a second" in charts(app)[0]
    assert "Timed in timed: network, 800x1088, batch 1" in texts(app).replace("\\", "")


def write_timed(folder: Path, size: str = "800x1088") -> None:
    """A benchmark of the model that `write_result` makes, and of one that nobody evaluated."""
    seconds = {"svit-tiny 0.7 fused": [0.2, 0.1, 0.4], "other fused": [1.0] * 3}
    write_benchmark(folder, seconds, ["svit-tiny", "other"], keep=("0.7",), size=size)


def test_speeds_of_two_benchmarks_never_share_a_chart(page, tmp_path):
    write_result(tmp_path / "results" / "one")
    for size in ("800x800", "800x1088"):
        write_timed(tmp_path / "results" / size, size)
    found = collect_readable([tmp_path / "results"])
    small, large = benchmarks.speed_frames(found.results, found.speeds).values()
    assert small["images_per_second"].tolist() == [5.0] and len(large) == 1
    assert small["slow"].tolist() == pytest.approx([1 / 0.3])
    app = page(against="speed")
    assert "800x800" in app.selectbox(key="timing").value
    app.selectbox(key="timing").select_index(1).run()
    assert not app.exception and "800x1088" in texts(app)


def test_a_damaged_benchmark_is_named_and_the_others_count(page, tmp_path):
    write_timed(tmp_path / "results" / "timed")
    write_timed(tmp_path / "results" / "torn")
    (tmp_path / "results" / "torn" / "benchmark.json").write_text("{")
    found = collect_readable([tmp_path / "results"])
    assert len(found.speeds) == 2 and "torn/benchmark.json" in found.problems[0]


def test_a_damaged_summary_is_named_and_the_others_are_drawn(page, tmp_path):
    write_curve(tmp_path / "results")
    (tmp_path / "results" / "svit-0.5" / "summary.json").write_text('{"box": 3')
    run = write_run(tmp_path / "runs" / "broken")
    shard = next(run.path.glob("*.tokens.parquet"))
    shard.write_bytes(shard.read_bytes()[:-9])
    app = page()
    assert not app.exception and points(app) == {"dense", "svit-0.7", "svit-0.9"}
    assert "svit-0.5/summary.json" in texts(app) and shard.name in texts(app)
    assert any("cannot be read: 2" in one.label for one in app.expander)


def test_evaluations_behind_links_out_of_the_folder_are_not_read(tmp_path):
    write_curve(tmp_path / "elsewhere")
    (tmp_path / "runs").mkdir()
    for name in ("link", "svit"):
        (tmp_path / "runs" / name).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "runs" / "summary.json").symlink_to(
        tmp_path / "elsewhere" / "dense" / "summary.json"
    )
    assert collect_readable([tmp_path / "runs"]).results == []


def shown(app: AppTest):
    return app.dataframe[0].value


def test_the_ledger_says_what_a_result_of_the_papers_kind_confirms(page, tmp_path):
    write_result(tmp_path / "results" / "svit", box=45.4, mask=35.0)  # the paper: 45.5 and 40.7
    app = page(view="Claims")
    assert not app.exception and "confirmed" in texts(app)
    everything = len(shown(app))
    app.pills(key="verdict").set_value(["confirmed"]).run()
    assert set(shown(app)["verdict"]) == {"confirmed"}
    assert any(value.startswith("45.4") for value in shown(app)["measured"])
    app.pills(key="verdict").set_value(["contradicted"]).run()
    assert any(value.startswith("35.0") for value in shown(app)["measured"])
    assert 0 < len(shown(app)) < everything


def test_the_ledger_is_filtered_by_place_words_and_measurements(page, tmp_path):
    write_result(tmp_path / "results" / "svit", box=45.4)
    app = page(view="Claims")
    app.multiselect(key="where").set_value(["Table 3"]).run()
    assert set(shown(app)["where"]) == {"Table 3"}
    app.multiselect(key="where").set_value([]).run()
    app.text_input(key="words").set_value("DYNAMICVIT").run()
    assert shown(app)["claim"].str.contains("DynamicViT").all() and len(shown(app))
    app.text_input(key="words").set_value("").run()
    app.toggle(key="measured").set_value(True).run()
    assert not app.exception and (shown(app)["measured"] != "–").all()
    app.text_input(key="words").set_value("(no [such claim").run()
    assert not app.exception and len(shown(app)) == 0


def test_a_link_restores_the_filters_of_the_ledger(page):
    app = page(view="Claims", verdict="not tested", where="Table 3|4", words="reactivation")
    assert not app.exception and r"where “Table 3\|4”, which is not here" in app.warning[0].value
    assert set(shown(app)["where"]) == {"Table 3"} and len(shown(app))
    assert app.pills(key="verdict").value == ["not tested"]
    app.multiselect(key="where").set_value([]).run()
    assert "where" not in app.query_params and linked(app, "words") == "reactivation"


def test_tables_print_paper_and_measured_apart(page, tmp_path):
    write_result(tmp_path / "results" / "svit", box=45.4)
    app = page(view="Tables", table="Table 5")
    assert not app.exception and not app.warning
    row = shown(app)[shown(app)["measured on"].str.contains("svit")].iloc[0]
    assert row["box AP, paper"] == "45.5" and row["box AP, measured"].startswith("45.4")
    for name in ("Table 2", "Table 3", "Table 4"):
        app.segmented_control(key="table").set_value(name).run()
        assert not app.exception and len(shown(app)), name


def test_a_link_restores_the_view_and_wrong_ones_are_noted(page, tmp_path):
    write_curve(tmp_path / "results")
    app = page(view="Trade-off", against="macs", ap="mask")
    assert app.segmented_control(key="against").value == "macs" and not app.warning
    app = page(against="<b>money</b>")
    assert not app.exception and "which is not here" in app.warning[0].value
    assert app.segmented_control(key="against").value == "base"


def test_a_second_click_keeps_the_choice(page):
    app = page(view="Tables")
    app.segmented_control(key="view").set_value(None).run()
    assert not app.exception


def test_what_the_paper_prints_is_read_from_the_claims():
    frame = claims.printed_frame().set_index(["model", "size"])
    assert frame.loc[("svit", "small"), ["box_ap", "mask_ap", "fps"]].tolist() == [
        48.2,
        42.5,
        15.75,
    ]
    assert frame.loc[("dense", "tiny"), ["base_ratio", "fps_backbone"]].tolist() == [1.0, 27.61]
    assert frame.loc[("dynamicvit remove", "small")].isna().any()  # it diverged: no number


def test_every_result_is_read_once_and_by_itself(tmp_path):
    write_curve(tmp_path / "table")
    write_result(tmp_path / "table" / "svit-0.5" / "nested", seed=1)
    found = collect_readable([tmp_path, tmp_path / "table"])
    assert len(found.results) == 5 and not found.problems
    frame = rate_frame(found.results)
    assert frame["dense"].sum() == 1 and frame["series"].nunique() == 2
    assert len(json.dumps(frame["path"].tolist())) and frame["path"].is_unique


def test_speeds_have_a_view_of_what_pruning_gains_and_where_the_time_goes(page, tmp_path):
    names = ["svit-adapter-s dense fused", "svit-adapter-s paper fused"]
    times = {names[0]: [3.0, 3.0], names[1]: [2.0, 2.0]}
    keep = {"keep": ("dense", "paper"), "models": ["svit-adapter-s"]}
    write_benchmark(tmp_path / "results" / "first", times, **keep)
    times[names[1]] = [1.0, 1.0]
    write_benchmark(tmp_path / "results" / "second", times, **keep, size="640x640", part="backbone")
    app = page(view="Speed")
    assert not app.exception
    assert "What pruning gains" in texts(app) and "Where the time goes" in texts(app)
    assert "All 4 measured speeds" in texts(app)
    before = pictures(app)
    app.selectbox(key="stages_of").select_index(1).run()
    after = pictures(app)
    assert len(before) == 2 and after[0] == before[0] and after[1] != before[1]


def pictures(app: AppTest) -> list[str]:
    """Addresses of the pictures, by content."""
    return [item.proto.imgs[0].url for item in app.get("image") or app.get("imgs")]


def test_without_benchmarks_the_view_of_speeds_tells_the_command(page):
    app = page(view="Speed")
    assert not app.exception and "svit benchmark" in texts(app)


def test_controls_have_a_view_with_a_row_a_model(page, tmp_path):
    app = page(view="Controls")
    assert not app.exception and "--intervene" in texts(app)
    for number, line in enumerate(("learned", "random", "off")):
        facts = {"intervention": line}
        write_result(tmp_path / "results" / line, 60 - 10 * number, facts=facts)
    write_result(tmp_path / "results" / "alone", 40, base=0.5)
    app = page(view="Controls")
    assert not app.exception and not app.error
    (chart,) = charts(app)
    assert "triangle-up" in chart and "diamond" not in chart
    assert "box_off" in chart  # a number, not a mark: it would stretch the axis
    frame = app.dataframe[0].value
    assert frame["box_random"].tolist() == [50] and frame["box_off"].tolist() == [40]
    own = page(view="Runs", masks="own").dataframe[0].value
    assert len(own) == 2  # models with their own masks


@pytest.mark.parametrize("view", ["Trade-off", "Controls", "Runs", "Tables", "Claims"])
def test_data_without_masks_have_box_ap_and_say_so(page, tmp_path, view):
    for line in ("learned", "random"):
        write_result(tmp_path / "results" / line, 50, -1.0, facts={"intervention": line})
    app = page(view=view, ap="mask")
    assert not app.exception and not app.error
    assert ("These data have no masks" in texts(app)) == (view in ("Trade-off", "Controls"))


def test_slices_have_a_view_with_a_drawing_each_and_its_numbers(page, tmp_path):
    app = page(view="Slices")
    assert not app.exception and "svit evaluate" in texts(app)
    for line in ("svit-seed0/learned", "svit-seed0/shuffle", "dense-seed0/learned"):
        shutil.copytree(NUCLEI / line, tmp_path / "results" / line)
    app = page(view="Slices")
    assert not app.exception and not app.error
    pictures = [item.proto.imgs[0].alt for item in app.get("image") or app.get("imgs")]
    about = "nuclei, 108 images"
    assert pictures == [f"slices-crowding: {about}", f"slices-kind: {about}"]
    shutil.rmtree(tmp_path / "results" / "dense-seed0")
    shutil.rmtree(tmp_path / "results" / "svit-seed0" / "shuffle")
    alone = page(view="Slices")  # nothing to compare it with
    assert not alone.exception and "another to be compared with" in texts(alone)


def test_tables_show_other_models_in_the_papers_order(page, tmp_path):
    for method in ("svit", "dense"):
        write_result(tmp_path / "results" / method, method=method, neck="pyramid")
    app = page(view="Tables", table="Table 5")
    assert not app.exception and "On other models or data" in texts(app)
    shown = app.dataframe[1].value
    assert shown["model"].tolist() == ["DeiT", "SViT"] and "box AP, paper" in shown
