"""All figures by name: every module below this package with an `ENTRY` is one, named as its file.

To add a figure, write its file; nothing lists it. Its docstring is the definition, `frame` makes the numbers,
`print` draws them on given Axes, `screen` as an Altair chart, `draw` composes the products of the command. A
file whose one drawing serves several figures names them in `FIGURES`.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

from analysis.figures.output import Entry

# in this order, others after them
SUBJECTS = ("images", "tokens", "videos", "objects", "pairs", "rates")


def entries() -> dict[str, Entry]:
    """Name on the command line -> entry; subjects in their order, figures in alphabetical order.

    Raises:
        ValueError: two figures have one name.
    """
    found: dict[str, Entry] = {}
    for name in sorted(_modules(), key=_place):
        module = import_module(name)
        here = dict(getattr(module, "FIGURES", {}))
        if hasattr(module, "ENTRY"):
            here[name.rpartition(".")[2].replace("_", "-")] = module.ENTRY
        if twice := found.keys() & here.keys():
            raise ValueError(f"{name}: there is a figure {', '.join(twice)} already")
        found |= here
    return found


def _modules() -> list[str]:
    """Dotted names of the figures' files, those of a subject in its package."""
    below = pkgutil.walk_packages(import_module(__package__).__path__, f"{__package__}.")
    return [one.name for one in below if not one.ispkg and one.name != __name__]


def _place(name: str) -> tuple[int, str]:
    subject = name.split(".")[2]
    return (SUBJECTS.index(subject) if subject in SUBJECTS else len(SUBJECTS), name)
