"""Kinds of options: numbers within a range, files and folders to write; each says what it allows."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from svit.core.ranges import COUNT, COUNT_OR_NONE, Range


def number(allowed: Range) -> Callable[[str], float]:
    """The `type` of an option that takes a number of a range."""

    def parse(text: str) -> float:
        try:
            return allowed.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse


def listed(each: Callable[[str], Any] = str) -> Callable[[str], tuple[Any, ...]]:
    """The `type` of an option that takes several of a kind, separated by commas, each once."""

    def parse(text: str) -> tuple[Any, ...]:
        found = tuple(each(part.strip()) for part in text.split(","))
        twice = [one for one, times in Counter(found).items() if times > 1]
        if twice:  # a mean over the same twice would look like one of two
            raise argparse.ArgumentTypeError(f"names {twice[0]} more than once, found {text!r}")
        return found

    return parse


def flags(names: Iterable[str]) -> str:
    """Options as a user writes them, from their names in the parser."""
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


count = number(COUNT)
count_or_none = number(COUNT_OR_NONE)
seed = number(Range(0, 2**63 - 1, whole=True))
port = number(Range(1, 65535, whole=True))
at_once = number(Range(1, 1024, whole=True))  # of more, most systems start none and abort
at_once_or_none = number(Range(0, 1024, whole=True))
draws = number(Range(2, whole=True))  # one draw has no interval


def place(text: str) -> Path:
    """A file or folder to write; the empty text would be the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a name, found ''")
    return Path(text)
