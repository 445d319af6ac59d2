"""Where the app, its settings and the demo stand: in a checkout, or where a wheel put them."""

from __future__ import annotations

from functools import cache
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "svit-workbench"
_CHECKOUT = Path(__file__).resolve().parents[2]


def is_checkout() -> bool:
    """Whether this package runs from a checkout of the repository."""
    return all((_CHECKOUT / name).is_file() for name in ("app.py", "pyproject.toml"))


@cache
def home() -> Path:
    """The folder with `app.py`, `.streamlit/` and `demo/`.

    Raises:
        FileNotFoundError: neither a checkout nor an installed wheel holds them.
    """
    if is_checkout():
        return _CHECKOUT
    try:
        files = metadata.files(DISTRIBUTION) or ()
    except metadata.PackageNotFoundError:
        files = ()
    for file in files:
        if file.parts[-2:] == (DISTRIBUTION, "app.py"):
            return Path(str(file.locate())).resolve().parent
    raise FileNotFoundError(
        f"no app.py beside {_CHECKOUT} and none installed: clone the repository, "
        f"or `python -m pip install {DISTRIBUTION}`"
    )
