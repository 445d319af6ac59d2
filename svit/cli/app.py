"""`svit app`: starts Streamlit on the app of this checkout, on this computer only."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# what the pages need and what takes long to load; the first viewer need not wait for it
SLOW_TO_LOAD = ("pandas", "altair", "matplotlib.figure", "pyarrow.parquet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runs",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="folders of recorded runs (default: runs and demo/runs of the checkout)",
    )
    parser.add_argument("--port", type=int, default=8501, help="of the local address (8501)")


def run(args: argparse.Namespace) -> None:
    """`svit app`: this process becomes the server, so that a signal to it ends the server."""
    from streamlit.web import cli

    sys.argv = command(args.port, args.runs or ())
    os.chdir(ROOT)
    threading.Thread(target=_load, args=(SLOW_TO_LOAD,), daemon=True).start()
    cli.main()


def command(port: int, runs: Sequence[Path] = ()) -> list[str]:
    """Streamlit's command line. It runs in the checkout, whose `.streamlit/config.toml` it reads; folders
    in the checkout are named from there, as pages show them.

    Raises:
        FileNotFoundError: this installation is not a checkout.
        NotADirectoryError: one of `runs` is no folder.
    """
    for folder in runs:
        if not folder.is_dir():
            raise NotADirectoryError(f"--runs: expected a folder of runs, found none at {folder}")
    app = ROOT / "app.py"
    if not app.is_file():
        raise FileNotFoundError(
            f"no {app}: the app runs from a checkout; clone it, then `make app`"
        )
    words = ["streamlit", "run", str(app), "--server.port", str(port)]
    return [*words, "--", "--runs", *map(_from_checkout, runs)] if runs else words


def _load(modules: Sequence[str]) -> None:
    """Imports while the server starts and the browser opens."""
    for module in modules:
        importlib.import_module(module)


def _from_checkout(folder: Path) -> str:
    whole = folder.resolve()
    return str(whole.relative_to(ROOT) if whole.is_relative_to(ROOT) else whole)
