"""Runs the notebooks in place: `python -m notebooks.execute [NOTEBOOK ...]`, all of them by default.

`jupyter execute` would do, but it notes when every cell ran and keeps pictures of full colour. What is
committed changes only where the code or what it shows changes, and is small.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

FOLDER = Path(__file__).resolve().parent
COLOURS = 256  # of a picture
SECONDS = 600  # for a cell; one that hangs is an error


def executed(path: Path, folder: Path, **environment: str) -> NotebookNode:
    """A notebook with the outputs of a fresh kernel that works in `folder`; the file stays as it is.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    # a backend set for this process would keep pictures out of the notebook
    inherited = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=SECONDS, resources=resources, record_timing=False)
    client.execute(env={**inherited, **environment})
    return notebook


def slim(notebook: NotebookNode) -> NotebookNode:
    """Leaves out what no reader needs: colours of pictures, and facts about the kernel."""
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            shown = output.get("data", {})
            shown.pop("image/jpeg", None)  # pictures of Pillow come twice
            if "image/png" in shown:
                shown["image/png"] = _fewer_colours(shown["image/png"])
    return notebook


def _fewer_colours(encoded: str) -> str:
    picture = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
    buffer = io.BytesIO()
    picture.quantize(COLOURS).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        "python -m notebooks.execute", description=__doc__.split("\n")[0]
    )
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all of this folder")
    for path in parser.parse_args(words).notebooks or sorted(FOLDER.glob("*.ipynb")):
        print(f"executing {path}", file=sys.stderr)
        nbformat.write(slim(executed(path, path.resolve().parent)), path)


if __name__ == "__main__":
    main(sys.argv[1:])
