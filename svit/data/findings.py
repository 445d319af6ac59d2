"""What a check of annotations says: findings by kind, with places, types and values; no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from svit.system.text import counted

EXAMPLES = 5
OF_ALL = ("no images", "image ids of two types")  # kinds of a whole file: no count
LONGEST = 60  # characters of a value in a message
TYPES = {
    bool: "logical value",
    int: "whole number",
    float: "number",
    str: "text",
    list: "list",
    dict: "object",
    type(None): "nothing",
}


class CocoError(ValueError):
    """A COCO json, or the files it names, cannot be used as they are."""


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        source: the file, for the reader.
        counts: images, annotations and categories as listed.
        errors: one line for each kind of problem that only its owner can mend.
        offers: likewise of problems that `mended` would mend, but does only when asked to.
        repairs: one line for each kind that `repaired` mends.
        notes: what is good, and should be known.
    """

    source: str
    counts: Mapping[str, int]
    errors: tuple[str, ...] = ()
    offers: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether nothing should be computed with these data."""
        return bool(self.errors or self.offers)

    @property
    def says(self) -> bool:
        """Whether there is anything to tell."""
        return self.refused or bool(self.repairs or self.notes)

    def lines(self) -> list[str]:
        """The report for a terminal, one item a line; the first line is the summary."""
        counts = ", ".join(counted(number, name) for name, number in self.counts.items())
        verdict = "good after repairs" if self.repairs else "good"
        head = f"{self.source}: {'unusable' if self.refused else verdict}"
        lines = [head + (f" ({counts})" if counts else "")]
        for name in ("errors", "offers", "repairs", "notes"):
            lines += [f"{name[:-1]}: {line}" for line in getattr(self, name)]
        return lines


@dataclass
class Findings:
    """Kind of problem -> how often, and the first few places."""

    table: Mapping[str, str]
    counts: dict[str, int] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, place: object, count: int = 1) -> None:
        """One more of a kind, or several that one place tells of."""
        self.counts[kind] = self.counts.get(kind, 0) + count
        places = self.places.setdefault(kind, [])
        if len(places) < EXAMPLES:
            places.append(str(place))

    def drop(self, *kinds: str) -> None:
        """Takes back what only follows from another finding."""
        for kind in kinds:
            self.counts.pop(kind, None)
            self.places.pop(kind, None)

    def lines(self) -> tuple[str, ...]:
        """One line a kind, in the order of the table."""
        return tuple(self._line(kind) for kind in self.table if kind in self.counts)

    def _line(self, kind: str) -> str:
        count = self.counts[kind]
        more = ", ..." if count > len(self.places[kind]) == EXAMPLES else ""
        remedy = f": {self.table[kind]}" if self.table[kind] else ""
        head = kind if kind in OF_ALL else counted(count, kind)
        return f"{head}{remedy} ({'; '.join(self.places[kind])}{more})"


def shown(value: Any) -> str:
    """A value of a json with its type, as text "143.0"."""
    kind = TYPES.get(type(value), type(value).__name__)
    try:
        written = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        written = repr(value)
    short = written if len(written) <= LONGEST else written[: LONGEST - 3] + "..."
    return kind if value is None else f"{kind} {short}"


def place_of(item: Any, position: int) -> str:
    """How a report names an entry: by its id where it has one."""
    number = item.get("id") if isinstance(item, Mapping) else None
    return f"entry {position}" if number is None else f"id {number}"
