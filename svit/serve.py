"""`svit app`: starts Streamlit on the app of this checkout, on this computer only."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=Path, default=None, help="folder of recorded runs to offer")
    parser.add_argument("--port", type=int, default=8501, help="port of the local address")


def run(args: argparse.Namespace) -> int:
    return subprocess.run(command(args.port), cwd=ROOT, env=environment(args.runs)).returncode


def command(port: int) -> list[str]:
    """Streamlit's command line. It runs in the checkout, whose `.streamlit/config.toml` it reads.

    Raises:
        FileNotFoundError: this installation is not a checkout.
    """
    app = ROOT / "app.py"
    if not app.is_file():
        raise FileNotFoundError(
            f"no {app}: the app runs from a checkout; clone the repository and run `make app` there"
        )
    return [sys.executable, "-m", "streamlit", "run", str(app), "--server.port", str(port)]


def environment(runs: Path | None) -> dict[str, str]:
    """The environment the app reads: `SVIT_RUNS`, the folder whose runs it offers.

    Raises:
        NotADirectoryError: there is no such folder.
    """
    if runs is None:
        return dict(os.environ)
    if not runs.is_dir():
        raise NotADirectoryError(
            f"--runs: expected a folder of recorded runs, found no folder {runs}"
        )
    return {**os.environ, "SVIT_RUNS": str(runs.resolve())}
