"""Fixtures for tests that drive the app in a real Chromium; a test module names its runs.

@pytest.fixture(scope="module")
def runs_folder(tmp_path_factory): ...   # a folder that holds recorded runs

@pytest.mark.browser
def test_something(tab, workbench):
    tab.goto(f"{workbench}/compare?layer=5")
    settle(tab)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.browser import NoBrowser, chromium, opened, served


@pytest.fixture(scope="module")
def workbench(browser, runs_folder: Path) -> Iterator[str]:
    """The address of the app on `runs_folder`."""
    with served(runs_folder) as server:
        yield server.url


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """A headless Chromium; the tests that ask for it are skipped where there is none."""
    try:
        with chromium() as browser:
            yield browser
    except NoBrowser as error:
        pytest.skip(str(error))


@pytest.fixture
def tab(browser) -> Iterator:
    """A page at 1440 x 900 in a session of its own; errors on its console fail the test."""
    errors = []
    with opened(browser) as page:
        page.on("console", lambda told: errors.append(told.text) if _is_ours(told) else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
    assert not errors, "\n".join(errors)


def _is_ours(told) -> bool:
    """An error, unless Streamlit's own: below a page's path it first looks for its server there."""
    return told.type == "error" and "/_stcore/" not in told.location.get("url", "")
