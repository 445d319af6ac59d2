"""The Live page driven headless with the shipped nano model: edits, pictures, busy models, kept runs."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest
from support.driven import linked, open_page, sent_ahead, texts
from support.runs import PROVENANCE

from svit.core.presets import changed
from svit.live.pictures import drawn
from svit.live.session import Latency, Outcome, Session
from svit.probing.attribution.options import Options
from svit.runs.run import RunWriter, open_run
from svit.system.home import home

SEED = 5_000_000
NAME = "svit-plain-nano"


@pytest.fixture(scope="module")
def session() -> Session:
    return Session.load(home() / "demo" / f"{NAME}.safetensors")


@pytest.fixture(scope="module")
def plain(session: Session) -> Outcome:
    return session.run(drawn(SEED))


@pytest.fixture
def page(monkeypatch, tmp_path):
    """Opens the page on an empty folder of runs."""
    folder = tmp_path / "runs"
    folder.mkdir()

    return lambda **query: open_page(monkeypatch, "live", folder, **query)


def button(app: AppTest, label: str):
    return next(one for one in app.button if one.label == label)


def about(app: AppTest) -> str:
    """The line on model and picture."""
    return app.caption[0].value.replace("\\", "")


def keep_as(app: AppTest, name: str) -> None:
    """Fills in the form and sends it."""
    next(one for one in app.text_input if "Name of the run" in one.label).set_value(name)
    button(app, "Keep").click().run()


def edits(app: AppTest) -> list[str]:
    """The sentences of the list of edits."""
    return [one.value for one in app.markdown if one.value[:1].isdigit() and "\\." in one.value[:4]]


def metric(app: AppTest, label: str) -> tuple[str, str]:
    return next((one.value, one.delta) for one in app.metric if one.label == label)


def kept(outcome: Outcome) -> str:
    return f"{outcome.trace.keep[3:].mean():.1%}"


def test_the_page_says_what_runs_and_shows_no_change_before_an_edit(page, plain):
    app = page()
    assert not app.exception and not app.error
    assert about(app).startswith(f"{NAME} · svit, mode threshold · 12 blocks")
    assert "bit for bit" in texts(app)
    assert metric(app, "Kept tokens")[0] == kept(plain)
    assert metric(app, "Objects found")[1] == "no change"


def test_the_picture_is_sent_ahead_of_its_tokens_until_they_are_drawn_on(page):
    app = page()
    [style] = sent_ahead(app)
    assert ".st-key-grid-0" in style and "data:image/jpeg" in style
    button(app, "All off").click().run()
    assert not sent_ahead(app)


def test_the_page_opens_on_the_shipped_photograph_and_its_model_or_on_the_scene_of_a_link(
    monkeypatch,
):
    shipped = home() / "demo" / "runs"
    app = open_page(monkeypatch, "live", shipped)
    assert not app.exception and "from its file img2d" in texts(app)
    assert app.selectbox(key="model").value == "svit-plain-nuclei"
    assert linked(app, "source") == "recorded"
    app = open_page(monkeypatch, "live", shipped, scene=str(SEED))
    assert f"scene {SEED}" in texts(app) and app.selectbox(key="model").value == NAME


def test_rules_and_the_dial_change_the_forward_and_are_listed_in_order(page, session, plain):
    app = page()
    app.segmented_control(key="dial").set_value("ratio").run()
    app.slider(key="ratio").set_value(0.3).run()
    app.toggle(key="forbid").set_value(True).run()
    assert not app.exception
    first, second = edits(app)
    assert "base keep ratio of 0\\.30" in first and "no reactivation" in second
    assert metric(app, "Kept tokens")[0] != kept(plain)
    app.toggle(key="remove").set_value(True).run()  # removal alone forbids reactivation
    assert len(edits(app)) == 2 and "removed instead of preserved" in edits(app)[1]
    button(app, "Start over").click().run()
    assert edits(app) == [] and metric(app, "Kept tokens")[0] == kept(plain)


def test_selected_tokens_are_turned_off_in_the_chosen_blocks(page, plain):
    app = page()
    assert button(app, "Turn off").disabled
    app.session_state["grid-0"] = {
        "selection": {"token": [{"row": 2, "column": 3}], "field": {"x0": [1, 30], "y0": [20, 1]}}
    }
    app.run()
    assert "5 tokens selected" in texts(app)  # one clicked, four in the field
    app.slider(key="blocks").set_value((5, 6)).run()
    button(app, "Turn off").click().run()
    assert not app.exception and "off in blocks 5–6" in edits(app)[0]
    button(app, "All off").click().run()
    assert "all tokens off in blocks 5–6" in edits(app)[1]
    app.slider(key="block").set_value(5).run()
    assert "Block 5 keeps 0%" in texts(app)
    app.button(key="drop 1").click().run()
    assert len(edits(app)) == 1


def test_an_objects_tokens_are_kept(page):
    app = page()
    choice = app.selectbox(key="object to keep")
    assert "at" in choice.options[0]
    button(app, "Keep its tokens").click().run()
    assert not app.exception and edits(app)[0].endswith("on in blocks 4–12")
    assert "tokens of the" in edits(app)[0]


def test_brushed_tokens_are_forgotten_with_their_picture_and_rules_stay(page):
    app = page()
    app.toggle(key="forbid").set_value(True).run()
    button(app, "All off").click().run()
    assert len(edits(app)) == 2
    button(app, "Next").click().run()
    assert not app.exception and len(edits(app)) == 1
    assert app.number_input(key="scene").value == SEED + 1


def test_tokens_selected_in_one_picture_are_not_those_of_the_next(page):
    app = page()
    app.session_state["grid-0"] = {"selection": {"token": [{"row": 2, "column": 3}]}}
    app.text_input(key="typed 0").set_value("1,1").run()
    assert "2 tokens selected" in texts(app)
    button(app, "Next").click().run()
    assert not app.exception and "Select tokens in the map" in texts(app)
    assert button(app, "Turn off").disabled


def test_masks_of_another_model_and_a_control_are_used(page, plain):
    app = page()
    lender = app.selectbox(key="lender")
    lender.select("model vit-plain-nano").run()  # a dense one: every token on
    assert not app.exception and metric(app, "Kept tokens")[0] == "100.0%"
    app.selectbox(key="lender").select("").run()
    app.segmented_control(key="control").set_value("random").run()
    assert "random masks" in edits(app)[0]
    assert metric(app, "Kept tokens")[0] == kept(plain)  # equal counts


def test_an_edit_that_does_not_fit_says_why_and_how_to_go_on(page):
    app = page(model="vit-plain-nano", dial="ratio")
    assert not app.exception and "prunes nothing" in app.error[0].value
    button(app, "Start over").click().run()
    assert not app.exception and not app.error and edits(app) == []


def write_recorded(folder: Path, plain: Outcome, seed: int = SEED) -> None:
    """A run that holds a scene, under the id of the first, with other masks: every second token."""
    picture = drawn(seed)
    keep = np.zeros_like(plain.trace.keep)
    keep[:, :, ::2] = True
    trace = type(plain.trace)(SEED, plain.trace.grid, keep)
    with RunWriter(folder, {**PROVENANCE, "class_names": list(picture.class_names)}) as writer:
        writer.add(trace, plain.detections, picture.target, picture.pixels)


def test_the_image_of_a_run_takes_the_masks_of_a_run(page, plain, tmp_path):
    write_recorded(tmp_path / "runs" / "stripes", plain)
    app = page(source="recorded")
    assert not app.exception and f"image {SEED} of run stripes as it is stored" in about(app)
    assert "does not tell its weights" in app.warning[0].value
    app.selectbox(key="lender").select("run stripes").run()
    assert not app.exception and metric(app, "Kept tokens")[0] == "50.0%"
    again = page(source="recorded", lender="run stripes")  # as the address says it now
    assert linked(app, "lender") == "run stripes" and metric(again, "Kept tokens")[0] == "50.0%"


def test_a_run_of_another_picture_under_the_same_id_lends_no_masks(page, plain, tmp_path):
    write_recorded(tmp_path / "runs" / "stripes", plain)
    write_recorded(tmp_path / "runs" / "strange", plain, SEED + 1)
    app = page(source="recorded", run="stripes")
    assert not app.exception and "of run stripes" in about(app)
    lenders = app.selectbox(key="lender").options
    assert "run stripes" in lenders and "run strange" not in lenders


def test_the_picture_of_a_run_opens_with_its_model_until_another_is_chosen_by_hand(page, tmp_path):
    other = Session.load(home() / "demo" / "vit-plain-nano.safetensors")
    other.keep(other.run(drawn(SEED)), drawn(SEED), tmp_path / "runs" / "dense")
    app = page()
    model = app.selectbox(key="model")
    assert model.value == NAME and linked(app, "model") == NAME
    app.segmented_control(key="source").set_value("recorded").run()
    assert app.selectbox(key="model").value == linked(app, "model") == "vit-plain-nano"
    assert not app.warning and "Before is what run dense recorded" in texts(app)
    app.selectbox(key="model").select(NAME).run()
    assert app.selectbox(key="model").value == NAME and not app.exception
    assert "This is not the model of run dense" in app.warning[0].value
    app.segmented_control(key="source").set_value("scene").run()
    assert app.selectbox(key="model").value == NAME and not app.warning


def test_before_is_the_record_or_says_why_not(page, session, plain, tmp_path):
    for name in ("jpeg", "whole"):
        session.keep(plain, drawn(SEED), tmp_path / "runs" / name)
    (tmp_path / "runs" / "jpeg" / "picture.png").unlink()
    assert "Before is what run whole recorded" in texts(page(source="recorded", run="whole"))
    told = texts(page(source="recorded", run="jpeg"))
    assert "Before differs from what run jpeg recorded" in told and "--pictures" in told


def test_a_run_with_other_settings_than_its_weights_hold_is_told_from_what_is_run_here(
    page, session, tmp_path
):
    config = changed(session.detector.config, ["detector.nms_threshold=0.45"])
    other = Session.load(home() / "demo" / f"{NAME}.safetensors", config=config)
    other.keep(other.run(drawn(SEED)), drawn(SEED), tmp_path / "runs" / "nms")
    app = page(source="recorded", run="nms")
    assert not app.exception and app.selectbox(key="model").value == NAME
    assert "detector.nms_threshold: 0.45 there, 0.5 now" in app.warning[0].value.replace("\\", "")
    assert "Before is what run nms recorded" not in texts(app)


def test_tokens_are_typed_as_rows_and_columns(page):
    app = page()
    app.text_input(key="typed 0").set_value("1-2,2 3,4-5").run()
    assert "4 tokens selected" in texts(app)
    button(app, "Turn off").click().run()
    assert not app.exception and "1/2, 2/2, 3/4, 3/5" in edits(app)[0]
    app.text_input(key="typed 1").set_value("3,99").run()
    assert "columns 1 to 16" in texts(app) and button(app, "Turn off").disabled
    app.text_input(key="typed 1").set_value("all").run()
    assert "expected row,column" in texts(app) and not app.exception


def test_the_cost_of_the_backbone_stands_before_that_of_the_network(page):
    app = page(forbid="True")
    labels = [one.label for one in app.metric]
    assert labels[:4] == ["Objects found", "Kept tokens", "Backbone", "Network"]
    assert metric(app, "Backbone")[1].startswith("-") and metric(app, "Network")[1].startswith("-")


def test_a_damaged_checkpoint_is_named_and_the_others_work(page, tmp_path):
    (tmp_path / "runs" / "torn.safetensors").write_bytes(b"no weights")
    app = page(model="torn")
    assert not app.exception and "torn.safetensors" in texts(app)
    app.selectbox(key="model").select(NAME).run()
    assert not app.exception and not app.error and about(app).startswith(NAME)


def test_a_damaged_run_lends_nothing_and_the_page_says_why(page, plain, tmp_path):
    write_recorded(tmp_path / "runs" / "torn", plain)
    shard = next((tmp_path / "runs" / "torn").glob("*.tokens.parquet"))
    shard.write_bytes(shard.read_bytes()[:-9])
    app = page(source="recorded", lender="run torn")
    assert not app.exception and shard.name in texts(app)


def test_a_result_is_kept_as_a_run_and_its_name_is_checked(page, tmp_path):
    app = page(forbid="True")
    keep_as(app, "../outside")
    assert not app.exception and "expected a name" in texts(app)
    assert not (tmp_path / "outside").exists()
    keep_as(app, "kept")
    assert not app.exception and "Kept as" in app.success[0].value
    run = open_run(tmp_path / "runs" / "kept")
    assert run.provenance["edits"] == ["no reactivation"] and len(run) == 1


def picture_file(side: int, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), 120, np.uint8)).save(stream, kind)
    return stream.getvalue()


def test_an_uploaded_picture_is_judged_by_its_bytes(page):
    app = page(source="upload")
    assert not app.exception and "Upload a picture" in app.info[0].value
    app.file_uploader(key="file").set_value(("scene.png", b"no picture", "image/png")).run()
    assert not app.exception and "text, not a picture" in texts(app)
    app.file_uploader(key="file").set_value(("a.png", picture_file(200), "image/png")).run()
    assert not app.exception and not app.error and "uploaded picture" in about(app)
    assert "without objects annotated" in texts(app)


def test_a_second_viewer_hears_that_the_model_is_busy(page, monkeypatch):
    from svit.live import workplace

    monkeypatch.setattr(workplace.Workplace, "session", _busy)
    app = page(scene="77")
    assert not app.exception and "Another session" in app.warning[0].value
    assert button(app, "Try again")


def _busy(self, path):
    from svit.live.workplace import Busy

    raise Busy("another session has been using the model for 10 seconds")


def test_a_link_restores_picture_and_rules(page):
    app = page(scene="42", block="7", remove="True", control="shuffle")
    assert not app.exception and not app.warning
    assert "scene 42" in about(app) and "Block 7 keeps" in texts(app)
    assert len(edits(app)) == 2


def test_latency_is_measured_on_request_and_forgotten_with_the_edits(page, monkeypatch):
    times = {"variant": ["before", "after"] * 6, "round": np.repeat(range(6), 2)}
    race = Latency(pd.DataFrame({**times, "wall_s": [0.2, 0.1] * 6}), "cpu")
    monkeypatch.setattr(
        Session, "race", lambda *wanted, **limits: race
    )  # `test_live` has real ones
    app = page()
    assert metric(app, "Time") == ("–", "not measured")
    button(app, "Measure").click().run()
    assert not app.exception and metric(app, "Time") == ("100 ms", "before 200 ms")
    assert "2.00x as fast: 95 % interval over 6 rounds" in texts(app)
    app.toggle(key="forbid").set_value(True).run()
    assert metric(app, "Time") == ("–", "not measured")


def test_without_torch_the_page_tells_the_command(page, monkeypatch):
    monkeypatch.setitem(sys.modules, "svit.live.workplace", None)
    monkeypatch.delattr("svit.live.workplace", raising=False)
    app = page()
    assert not app.exception and "pip install" in texts(app)


def test_an_object_is_explained_after_its_cost_was_told(page, monkeypatch) -> None:
    small = Options(orders=("gates", "random"), steps=2, draws=1, searches=1, budget=4)
    monkeypatch.setattr("svit.live.explaining.Options", lambda: small)
    app = page(model=NAME, scene=SEED)
    names = next(one for one in app.selectbox if one.key == "explained object").options
    assert any(name.startswith("annotation 1:") for name in names)
    assert any(name.startswith("detection 1:") for name in names)
    button(app, "Explain").click().run()
    assert any(one.value.startswith("At most") for one in app.caption) and not app.exception
    button(app, "Start").click().run()
    assert any("Kept nowhere" in one.value for one in app.caption) and not app.exception
    assert not any(one.label == "Start" for one in app.button)
