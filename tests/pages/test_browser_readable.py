"""Every word on every page can be read in both themes, and every chart and picture says what it shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.colour import contrast
from support.runs import write_run

from benchmarks.browser import opened, settle

pytestmark = pytest.mark.browser
PAGES = ["image", "compare", "dataset", "rates", "live"]
LEAST = 4.5
# every element with words of its own (a slider's value stands over its thumb, not on it): colour and ground
# as painted, all layers of opacity and grounds mixed
WORDS = """
() => {
  const numbers = text => {
    const found = text.match(/[\\d.]+/g).map(Number);
    const bytes = text.startsWith("color(") ? found.map((n, i) => i < 3 ? n * 255 : n) : found;
    return bytes.length < 4 ? [...bytes, 1] : bytes;
  };
  const over = (top, below) => below.map((value, i) => top[3] * top[i] + (1 - top[3]) * value);
  const ground = element => {
    const layers = [];
    for (let at = element; at; at = at.parentElement)
      layers.unshift(numbers(getComputedStyle(at).backgroundColor));
    return layers.reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const clear = element => {
    let share = 1;
    for (let at = element; at; at = at.parentElement) share *= Number(getComputedStyle(at).opacity);
    return share;
  };
  const own = element => [...element.childNodes].some(n => n.nodeType === 3 && n.data.trim());
  const seen = element => {
    const box = element.getBoundingClientRect();
    const how = {checkOpacity: true, checkVisibilityCSS: true};
    return box.width > 1 && box.height > 1 && element.checkVisibility(how);
  };
  const off = element => element.closest(
    "[disabled], [aria-disabled=true], [data-testid=stSliderThumbValue], [data-testid=stIconMaterial]," +
    "style, script");
  const words = [...document.querySelectorAll("body *")].filter(e => own(e) && seen(e) && !off(e));
  return words.map(e => {
    const style = getComputedStyle(e), drawn = e instanceof SVGElement;
    const ink = numbers(drawn ? style.fill : style.color);
    ink[3] *= clear(e) * (drawn ? Number(style.fillOpacity) : 1);
    const below = ground(e);
    return [e.textContent.trim().slice(0, 40), over(ink, below), below];
  });
}
"""
NAMELESS = """
() => [
  ...[...document.querySelectorAll("[data-testid=stMain] img")].filter(e => !e.alt),
  ...[...document.querySelectorAll("[data-testid=stVegaLiteChart]")].filter(
    e => e.getAttribute("role") !== "graphics-document" || !e.getAttribute("aria-label")),
].map(e => e.outerHTML.slice(0, 300))
"""


@pytest.fixture(scope="module")
def runs_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name in ("first", "second"):
        write_run(folder / name)
    return folder


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_words_are_read_and_pictures_are_named(browser, workbench, name: str, dark: bool):
    with opened(browser, dark=dark) as page:
        page.goto(f"{workbench}/{name}" if name != "image" else workbench)
        settle(page)
        page.wait_for_timeout(1500)  # charts fade in
        words, nameless = page.evaluate(WORDS), page.evaluate(NAMELESS)
    assert len(words) > 10
    ratios = {text: contrast(_shares(ink), _shares(ground)) for text, ink, ground in words}
    assert {text: round(ratio, 2) for text, ratio in ratios.items() if ratio < LEAST} == {}
    assert nameless == []


def _shares(colour: list[float]) -> tuple[float, ...]:
    return tuple(min(max(value / 255, 0), 1) for value in colour)
