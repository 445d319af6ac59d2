"""What people read: blocks in words, tables as commands print them, text from data made harmless."""

from __future__ import annotations

import re
from collections.abc import Sequence

_REGULAR = (
    *("annotation", "core", "detection", "draw", "file", "id", "image", "link", "mask"),
    *("name", "object", "orientation", "picture", "polygon", "set", "step", "thread", "token"),
)
_ONE = {"boxes": "box", "categories": "category", "classes": "class", "nuclei": "nucleus"}
_ONE |= {f"{word}s": word for word in _REGULAR}


def counted(count: int, things: str) -> str:
    """How many there are: "2,000 images", "1 image", "1 picture without a nucleus".

    Args:
        things: their name in the plural; its first word of `_ONE` is put into the singular.
    """
    if count == 1:
        things = re.sub(rf"\b({'|'.join(_ONE)})\b", lambda found: _ONE[found[0]], things, count=1)
    return f"{count:,} {things}"


def in_order(name: object) -> tuple[tuple[bool, int, str], ...]:
    """A key that sorts names as people count: "run2" before "run10".

    Args:
        name: a text or a path.
    """
    parts = re.split(r"(\d+)", str(name))
    return tuple((part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts)


def blocks(layers: Sequence[int]) -> str:
    """Zero-based blocks in words, from 1 as in the paper: "block 4", "blocks 4–12", "blocks 1, 5–6"."""
    words = streaks([layer + 1 for layer in layers], "–")
    return f"block{'' if len(layers) == 1 else 's'} {', '.join(words)}"


def streaks(numbers: Sequence[int], dash: str) -> list[str]:
    """Whole numbers in order, neighbours together: "4", "6-7"."""
    ends: list[list[int]] = []
    for number in sorted(numbers):
        if ends and number == ends[-1][-1] + 1:
            ends[-1].append(number)
        else:
            ends.append([number])
    return [f"{one[0]}{dash}{one[-1]}" if len(one) > 1 else f"{one[0]}" for one in ends]


def intervened(intervention: str, layers: Sequence[int] | None) -> str:
    """An intervention and where it acted, if not in all gated blocks: "off", "off in block 5".

    Args:
        layers: zero-based blocks, or None, as provenance holds them.
    """
    return intervention if layers is None else f"{intervention} in {blocks(layers)}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts; every row has as many cells as the head. No text leaves its cell."""
    lines = [list(map(_cell, head)), ["---"] * len(head), *(map(_cell, row) for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(text: str) -> str:
    """A bar would begin another cell, also behind backslashes of the text's own."""
    return re.sub(r"(\\*)\|", r"\1\1\\|", one_line(text))


def one_line(text: str) -> str:
    """Text from data for a line of Markdown that is also read as it is: no break, no HTML."""
    return " ".join(text.splitlines()).replace("<", "&lt;")


def shown(markdown: str) -> str:
    """Text of `table` and `one_line` as a page of Markdown shows it, for a terminal."""
    return markdown.replace("&lt;", "<")


def escaped(text: str) -> str:
    """Text from data with Markdown's signs, and those of HTML in it, made harmless."""
    return re.sub(r"([\\`*_{}\[\]()<>#+.!|~:$^-])", r"\\\1", text)
