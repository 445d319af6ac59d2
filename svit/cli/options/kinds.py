"""Kinds of options: numbers within a range, files and folders to write; each says what it allows."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from svit.core.ranges import COUNT, COUNT_OR_NONE, Range


def number(allowed: Range) -> Callable[[str], float]:
    """The `type` of an option that takes a number of a range."""

    def parse(text: str) -> float:
        try:
            return allowed.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse


count = number(COUNT)
count_or_none = number(COUNT_OR_NONE)
seed = number(Range(0, 2**63 - 1, whole=True))
port = number(Range(1, 65535, whole=True))
draws = number(Range(2, whole=True))  # one draw has no interval


def place(text: str) -> Path:
    """A file or folder to write; the empty text would be the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a name, found ''")
    return Path(text)
