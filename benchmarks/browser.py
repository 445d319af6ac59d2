"""The app as its viewers have it: a server on a free local port, and a headless Chromium before it.

Needs `playwright` (in the `dev` extra) and an installed Chromium; nothing is downloaded.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (  # no sandbox: containers allow none; the rest keeps it quiet and off the network
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
PATIENCE = 120.0  # seconds, on a busy machine
READY = "[data-testid=stApp][data-test-script-state=notRunning] [data-testid=stMain]"
BUSY = "[data-testid=stSkeleton], [data-stale=true]"


class NoBrowser(RuntimeError):
    """Playwright or Chromium is not here; the message says how to get it."""


@dataclass(frozen=True)
class Server:
    """A running app: its address and the process that serves it."""

    url: str
    process: int


@contextmanager
def served(*folders: Path) -> Iterator[Server]:
    """The app on folders of runs, until the `with` ends.

    Raises:
        RuntimeError: the server did not start; the message holds what it printed.
    """
    with running("svit", "app", "--runs", *map(str, folders), "--port") as server:
        yield server


@contextmanager
def running(*module: str) -> Iterator[Server]:
    """A server started as `python -m MODULE ... PORT` in the checkout, until the `with` ends.

    Raises:
        RuntimeError: as `served`.
    """
    port = _free_port()
    words = [sys.executable, "-m", *module, str(port)]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            if not _answers(process, f"{url}/_stcore/health"):
                log.seek(0)
                raise RuntimeError(f"the app did not start:\n{log.read().decode()}")
            yield Server(url, process.pid)
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(process: subprocess.Popen, url: str) -> bool:
    """Waits until the server answers; False where it ended or `PATIENCE` ran out."""
    until = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    return False


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium.

    Raises:
        NoBrowser: playwright or Chromium is not installed.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError as error:
        raise NoBrowser("playwright is not installed: pip install -e '.[dev]'") from error
    with sync_playwright() as driver:
        path = _installed(driver.chromium.executable_path)
        browser = driver.chromium.launch(executable_path=path, args=FLAGS, timeout=PATIENCE * 1000)
        try:
            yield browser
        finally:
            browser.close()


def _installed(own: str) -> str:
    """The Chromium that `SVIT_CHROMIUM` names, one on the path, or playwright's own."""
    named = os.environ.get("SVIT_CHROMIUM")
    found = [named] if named else [*map(shutil.which, BROWSERS), own]
    for path in found:
        if path and Path(path).is_file():
            return path
    raise NoBrowser(
        "Chromium is not installed (on Debian and Ubuntu: apt install chromium), "
        "and SVIT_CHROMIUM names none"
    )


def settle(page: Page) -> None:
    """Waits until the app has run and nothing on the page is stale."""
    page.wait_for_timeout(200)  # what was clicked or typed is on its way
    page.wait_for_function(
        "([ready, busy]) => document.querySelector(ready) && !document.querySelector(busy)",
        arg=[READY, BUSY],
        timeout=PATIENCE * 1000,
    )


@contextmanager
def opened(
    browser: Browser, size: Sequence[int] = (1440, 900), dark: bool = False
) -> Iterator[Page]:
    """A page of its own session, cookies and all.

    Args:
        size: width and height of the window in screen pixels.
    """
    scheme = "dark" if dark else "light"
    viewport = {"width": size[0], "height": size[1]}
    context = browser.new_context(viewport=viewport, color_scheme=scheme)
    context.set_default_timeout(PATIENCE * 1000)
    try:
        yield context.new_page()
    finally:
        context.close()
