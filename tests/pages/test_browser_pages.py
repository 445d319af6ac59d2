"""One view across all pages in a real Chromium: switched untouched and touched, Back, Forward, links."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from support.runs import write_dense, write_run

from benchmarks.browser import opened, settle

pytestmark = pytest.mark.browser
PAGES = ("Image", "Compare", "Dataset", "Rates", "Live")


@pytest.fixture(scope="module")
def runs_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "first")
    write_dense(folder / "second", (1, 2, 3))
    return folder


def fields(tab) -> dict[str, str]:
    """What the address of the page holds."""
    return dict(parse_qsl(urlsplit(tab.url).query, keep_blank_values=True))


def shown(tab) -> dict[str, str]:
    """The same, once it no longer changes."""
    settle(tab)
    tab.wait_for_function("location.search.length > 1")
    return fields(tab)


def go(tab, page: str) -> dict[str, str]:
    """Follows the menu, and what the address holds there."""
    tab.get_by_test_id("stSidebarNav").get_by_role("link", name=page, exact=True).click()
    path = "" if page == "Image" else page.lower()
    tab.wait_for_function(f"location.pathname == '/{path}' && location.search.length > 1")
    return shown(tab)


def every_pair() -> list[str]:
    """A walk that steps from each page to each other one once (Hierholzer's circuit)."""
    ahead = {page: [other for other in PAGES if other != page] for page in PAGES}
    open_, walk = [PAGES[0]], []
    while open_:
        if ahead[open_[-1]]:
            open_.append(ahead[open_[-1]].pop())
        else:
            walk.append(open_.pop())
    return walk[::-1]


def test_the_walk_covers_every_pair_of_pages():
    walk = every_pair()
    assert sorted(zip(walk, walk[1:])) == sorted(permutations(PAGES, 2))


def test_no_pair_of_pages_changes_an_untouched_view(tab, workbench):
    tab.goto(workbench)
    first = shown(tab)
    assert (first["opacity"], first["score"], first["block"], first["image"]) == (
        "0.8",
        "0.5",
        "4",
        "1",
    )
    seen = {"Image": first}
    for page in every_pair()[1:]:
        found = go(tab, page)
        assert found == seen.setdefault(page, found), page
        assert {name: first[name] for name in found if name in first} == {
            name: found[name] for name in found if name in first
        }


def press(tab, slider: str, *, name: str) -> None:
    """Moves a slider by one step, and waits until the address says so."""
    before = fields(tab).get(name)
    tab.get_by_role("slider", name=slider).first.focus()
    tab.keyboard.press("ArrowRight")
    tab.wait_for_function(f"new URL(location).searchParams.get('{name}') != '{before}'")
    settle(tab)


def pick(tab, option: str) -> None:
    tab.get_by_role("radio", name=option, exact=True).click()
    settle(tab)


def touch_image(tab) -> None:
    for slider, name in (
        ("Block", "block"),
        ("Opacity of the map", "opacity"),
        ("Score from", "score"),
    ):
        press(tab, slider, name=name)
    pick(tab, "Usage")
    tab.get_by_role("spinbutton", name="Row").fill("2")
    tab.keyboard.press("Enter")
    tab.wait_for_function("new URL(location).searchParams.get('token').startsWith('2,')")


def touch_compare(tab) -> None:
    pick(tab, "Difference")
    press(tab, "Block", name="block")


def touch_dataset(tab) -> None:
    pick(tab, "Objects")


def touch_rates(tab) -> None:
    pick(tab, "Tables")
    pick(tab, "Table 5")


def touch_live(tab) -> None:
    tab.get_by_role("button", name="Next").click()
    tab.wait_for_function("new URL(location).searchParams.get('scene') == '5000001'")
    settle(tab)
    tab.get_by_role("button", name="All off").click()
    tab.wait_for_function("new URL(location).searchParams.has('marks')")


TOUCHES = dict(zip(PAGES, (touch_image, touch_compare, touch_dataset, touch_rates, touch_live)))


@pytest.mark.parametrize("page", PAGES)
def test_what_was_touched_survives_all_other_pages(tab, workbench, page):
    tab.goto(workbench)
    untouched = shown(tab)
    if page != "Image":
        untouched = go(tab, page)
    TOUCHES[page](tab)
    touched = shown(tab)
    assert touched != untouched
    for other in [*(one for one in PAGES if one != page), page]:
        found = go(tab, other)
        assert {name: touched[name] for name in found if name in touched} == {
            name: found[name] for name in found if name in touched
        }, other
    assert found == touched


def test_back_and_forward_lead_through_the_views(tab, workbench):
    tab.goto(f"{workbench}/?block=5&mode=Usage")
    first = shown(tab)
    press(tab, "Block", name="block")
    second = shown(tab)
    assert second == {**first, "block": "6"}
    compared = go(tab, "Compare")
    assert compared["block"] == "6"
    tab.go_back()  # to the bare address that the menu wrote
    settle(tab)
    assert not fields(tab), "written into the history, where a second press may be under way"
    tab.go_back()
    block(tab, 6)
    assert shown(tab) == second
    tab.go_back()
    block(tab, 5)
    assert shown(tab) == first
    tab.go_forward()
    block(tab, 6)
    assert shown(tab) == second
    press(tab, "Block", name="block")
    assert shown(tab) == {**second, "block": "7"}


def block(tab, number: int) -> None:
    """Waits until heading and slider say the block."""
    tab.get_by_text(f"Block {number} keeps").first.wait_for()
    settle(tab)
    slider = tab.locator(f'input[type=range][aria-label="Block"][aria-valuetext="{number}"]')
    slider.wait_for(state="attached")


def test_the_link_of_the_live_page_restores_its_edits_in_a_fresh_profile(tab, workbench, browser):
    edits = "scene=5000003&block=7&blocks=6-8&marks=off~5-6~2:3-4%7Con~5-12&control=random&draw=3"
    tab.goto(f"{workbench}/live?{edits}")
    tab.get_by_text("off in blocks 5–6").first.wait_for()
    before = shown(tab)
    assert before["marks"] == "off~5-6~2:3-4|on~5-12" and before["draw"] == "3"
    tab.get_by_role("button", name="Link to this view").click()
    link = tab.get_by_role("dialog").locator("code").inner_text()
    with opened(browser) as other:
        other.goto(link)
        other.get_by_text("off in blocks 5–6").first.wait_for()
        assert shown(other) == before
        for said in ("all tokens on in blocks 5–12", "draw 3"):
            other.get_by_text(said).first.wait_for()
