"""Whose a folder is: a file in it holds the facts its content follows from; other facts are refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from svit.system.files import FileError, plain_json, read_json, write_json

_SHOWN = 20


def claim(path: Path, facts: dict[str, Any], *, what: str, harmless: Collection[str] = ()) -> None:
    """Writes the facts into `path`, or proves that those there are the same.

    Args:
        path: a JSON file in the folder that is claimed.
        facts: plain JSON values.
        what: the folder holds, as "run" or "data set".
        harmless: names that may lie in a folder nobody has claimed yet, beside hidden ones.

    Raises:
        FileError: other facts, or other files without any; the differences are named.
    """
    check_claim(path, facts, what=what, harmless=harmless)
    if not path.exists():
        write_json(path, facts, indent=1)


def check_claim(
    path: Path, facts: dict[str, Any], *, what: str, harmless: Collection[str] = ()
) -> None:
    """As `claim`, without writing.

    Raises:
        FileError: see `claim`.
    """
    if path.exists():
        there = read_json(path, "delete the folder or choose another")
        refuse_others(path.parent, there, facts, what=what)
        return
    entries = path.parent.iterdir() if path.parent.exists() else ()
    found = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    strangers = [name for name in found if name not in harmless]
    if strangers:
        raise FileError(
            f"{path.parent} holds {', '.join(strangers[:3])} and no {path.name}, so it is no {what} "
            "to go on with: choose a new or empty folder"
        )


def refuse_others(place: Path, there: Mapping[str, Any], now: dict[str, Any], *, what: str) -> None:
    """Compares the facts that a folder or file follows from with those of now.

    Raises:
        FileError: they differ; it names each fact, side by side.
    """
    lines = differences(there, plain_json(now))
    if lines:
        more = [f"... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        raise FileError(
            f"{place} belongs to another {what}; repeat its settings or choose another place. "
            "Differences:\n  " + "\n  ".join(lines[:_SHOWN] + more)
        )


def differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line a fact that differs between two nested dictionaries, by its dotted name."""
    old, new = _flat(there), _flat(now)
    return [
        f"{name}: {_shown(old, name)} there, {_shown(new, name)} now"
        for name in {**old, **new}
        if name not in old or name not in new or old[name] != new[name]
    ]


def _shown(values: Mapping[str, Any], name: str) -> str:
    return repr(values[name]) if name in values else "nothing"


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one with dotted names."""
    flat: dict[str, Any] = {}
    for name, item in value.items():
        nested = isinstance(item, Mapping) and item
        flat |= _flat(item, f"{prefix}{name}.") if nested else {f"{prefix}{name}": item}
    return flat
