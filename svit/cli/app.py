"""`svit app`: starts Streamlit on the workbench's app, on this computer only."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from svit.cli.options import kinds
from svit.system.home import home

# what the pages need and what takes long to load; the first viewer need not wait for it
SLOW_TO_LOAD = (
    *("pandas", "altair", "matplotlib.figure", "pyarrow.parquet"),
    *("matplotlib.style", "omegaconf", "pycocotools.mask"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `svit app`."""
    parser.add_argument(
        "--runs",
        nargs="+",
        action="extend",
        type=Path,
        metavar="DIR",
        help="folders of recorded runs (default: ./runs and the shipped recordings)",
    )
    parser.add_argument(
        "--pictures",
        nargs="+",
        action="extend",
        type=Path,
        default=[],
        metavar="DIR",
        help="folders of the recorded images: the Live page runs on these, not on the JPEGs of runs",
    )
    parser.add_argument("--port", type=kinds.port, default=8501, help="of the local address (8501)")


def run(args: argparse.Namespace) -> None:
    """`svit app`: this process becomes the server, so that a signal to it ends the server."""
    from streamlit.web import cli

    sys.argv = command(args.port, args.runs or default_folders(), args.pictures)
    os.chdir(home())
    threading.Thread(target=_load, args=(SLOW_TO_LOAD,), daemon=True).start()
    cli.main()


def default_folders() -> list[Path]:
    """Where runs are looked for when none are named: here, in the checkout, and what ships."""
    folders = dict.fromkeys([Path("runs").resolve(), home() / "runs", home() / "demo" / "runs"])
    return [folder for folder in folders if folder.is_dir()]


def command(port: int, runs: Sequence[Path], pictures: Sequence[Path] = ()) -> list[str]:
    """Streamlit's command line. It runs at home, whose `.streamlit/config.toml` it reads; folders
    there are named from there, as pages show them.

    Raises:
        NotADirectoryError: one of `runs` or `pictures` is no folder.
    """
    words = ["streamlit", "run", str(home() / "app.py"), "--server.port", str(port), "--"]
    for option, folders in (("runs", runs), ("pictures", pictures)):
        for folder in folders:
            if not folder.is_dir():
                raise NotADirectoryError(
                    f"--{option}: expected a folder of {option}, found none at {folder}"
                )
        words += [f"--{option}", *map(_from_home, folders)] * bool(folders)
    return words


def _load(modules: Sequence[str]) -> None:
    """Imports while the server starts and the browser opens."""
    for module in modules:
        importlib.import_module(module)


def _from_home(folder: Path) -> str:
    whole = folder.resolve()
    return str(whole.relative_to(home()) if whole.is_relative_to(home()) else whole)
