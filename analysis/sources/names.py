"""Folders by names that tell them apart."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def told_apart(folders: Iterable[Path]) -> list[str]:
    """Folder names, from as far up as it takes to tell different ones apart."""
    paths = [folder.resolve().parts for folder in folders]
    for depth in range(1, max(map(len, paths), default=0) + 1):
        found = ["/".join(parts[-depth:]) for parts in paths]
        if len(set(found)) == len(set(paths)):
            return found
    return []
