"""The Live page in a real Chromium: upload, brush, keep as a run; two viewers at once with two models."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.browser import opened, settle
from svit.core.macs import HEAD_PARTS
from svit.live.pictures import drawn
from svit.live.session import Session
from svit.live.workplace import checkpoints
from svit.probing.edits import NoReactivation
from svit.runs.run import open_run

pytestmark = pytest.mark.browser
SEED = 5_000_000
GRID = "[data-testid=stVegaLiteChart] .marks"  # a canvas for many tokens, else an SVG


@pytest.fixture(scope="module")
def runs_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


def ready(page) -> None:
    """Waits for the numbers and until nothing moves."""
    page.get_by_text("Objects found").wait_for()
    settle(page)


def number(page, name: str) -> str:
    """What stands below a name among the numbers, and the change."""
    card = page.locator("[data-testid=stMetric]", has_text=name)
    return " ".join(card.inner_text().split())


def scene_file(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(drawn(seed).pixels).save(stream, "PNG")
    return stream.getvalue()


def drag_over_the_grid(page) -> None:
    """A field over all tokens of the picture."""
    box = page.locator(GRID).first.bounding_box()
    side = min(box["width"], box["height"])
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(box["x"] + side / 2, box["y"] + side / 2, steps=4)
    page.mouse.move(box["x"] + side - 3, box["y"] + side - 3, steps=4)
    page.mouse.up()


def test_tokens_brushed_off_in_an_uploaded_picture_change_what_is_found(
    tab, workbench, runs_folder
):
    tab.goto(f"{workbench}/live?source=upload")
    tab.get_by_text("Upload a picture").wait_for()
    upload = {"name": "mine.png", "mimeType": "image/png", "buffer": scene_file(SEED)}
    tab.locator("input[type=file]").set_input_files(upload)
    ready(tab)
    assert "no change" in number(tab, "Objects found")
    drag_over_the_grid(tab)
    tab.get_by_text(re.compile(r"\d+ tokens selected")).wait_for()
    settle(tab)
    tab.get_by_role("button", name="Turn off").click()
    tab.get_by_text(re.compile(r"off in blocks 4–12")).wait_for()
    settle(tab)
    assert re.search(r"\+\d+ −[1-9]", number(tab, "Objects found"))
    assert "points" in number(tab, "Kept tokens") and "%" in number(tab, "Network")
    keep_as(tab, "brushed")
    run = open_run(runs_folder / "brushed")
    assert len(run) == 1 and "off in blocks 4–12" in run.provenance["edits"][0]
    assert "uploaded picture" in run.provenance["picture"]


def keep_as(page, name: str) -> None:
    page.get_by_text("Keep the result as a run").click()
    field = page.get_by_label("Name of the run")
    field.fill(name)
    page.get_by_role("button", name="Keep", exact=True).click()
    page.get_by_text("Kept as").wait_for()


PANELS = ("map", "after", "controls", "objects")


@pytest.mark.parametrize("size", [(1440, 900), (1024, 768)], ids=lambda size: f"{size[0]}")
def test_an_edit_and_its_effect_stand_on_one_screen(browser, workbench, size):
    with opened(browser, size) as page:
        page.goto(f"{workbench}/live?forbid=True")
        ready(page)
        boxes = {name: page.locator(f".st-key-live-{name}").bounding_box() for name in PANELS}
        button = page.get_by_role("button", name="Turn off").bounding_box()
        numbers = page.locator(".st-key-live-numbers").bounding_box()
    height = {name: box["y"] + box["height"] for name, box in boxes.items()}
    assert max(*height.values(), button["y"] + button["height"]) <= size[1], height
    assert boxes["map"]["y"] == boxes["after"]["y"] and numbers["y"] < boxes["map"]["y"]
    assert boxes["map"]["x"] < boxes["after"]["x"]


def test_panels_stack_on_a_phone_and_nothing_is_wider_than_it(browser, workbench):
    with opened(browser, (390, 844)) as page:
        page.goto(f"{workbench}/live")
        ready(page)
        lefts = {page.locator(f".st-key-live-{name}").bounding_box()["x"] for name in PANELS}
        wide = page.evaluate("document.documentElement.scrollWidth")
    assert len(lefts) == 1 and wide <= 390


def test_tokens_are_turned_off_without_a_mouse(tab, workbench):
    tab.goto(f"{workbench}/live")
    ready(tab)
    tab.get_by_role("textbox", name="Tokens").focus()
    tab.keyboard.type("1-16,1-16")
    tab.keyboard.press("Enter")
    tab.get_by_text("256 tokens selected").wait_for()
    settle(tab)
    tab.get_by_role("button", name="Turn off").focus()
    tab.keyboard.press("Enter")
    tab.get_by_text(re.compile(r"off in blocks 4–12")).wait_for()
    settle(tab)
    assert "points" in number(tab, "Kept tokens")


def test_two_viewers_at_once_see_their_own_model_and_edits(browser, tab, workbench):
    """Neither masks nor models mix: each page shows what its session shows alone."""
    paths = {path.stem: path for path in checkpoints([])}
    views = {("svit-plain-nano", "forbid=True"): (NoReactivation(),), ("vit-plain-nano", ""): ()}
    with opened(browser) as other:
        for page, (model, query) in zip((tab, other), views, strict=True):
            page.goto(f"{workbench}/live?model={model}&{query}", wait_until="commit")
        for page, ((model, _), edits) in zip((tab, other), views.items(), strict=True):
            ready(page)
            alone = Session.load(paths[model]).run(drawn(SEED), edits)
            kept = alone.trace.keep[3:].mean() if edits else 1
            assert f" {kept:.1%} " in number(page, "Kept tokens")
            backbone = alone.macs.drop(list(HEAD_PARTS)).sum()
            assert f"{backbone / 1e9:.2f} GMACs" in number(page, "Backbone")
