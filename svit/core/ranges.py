"""What a number may be: one notion for settings, options of the command line and arguments of methods."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real


@dataclass(frozen=True)
class Range:
    """Numbers from `least` to `most`, finite in any case.

    Attributes:
        above: `least` itself is left out.
        below: `most` itself is left out.
        whole: only whole numbers.
    """

    least: float = -math.inf
    most: float = math.inf
    above: bool = False
    below: bool = False
    whole: bool = False

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, Integral if self.whole else Real):
            return False
        inside = self.least <= value <= self.most and math.isfinite(value)
        return inside and not (
            self.above and value == self.least or self.below and value == self.most
        )

    def __str__(self) -> str:
        words = ["a whole number" if self.whole else "a number"]
        if self.least > -math.inf:
            words.append(f"above {self.least:g}" if self.above else f"from {self.least:g}")
        if self.most < math.inf:
            words.append(f"below {self.most:g}" if self.below else f"to {self.most:g}")
        return " ".join(words)

    def parse(self, text: str) -> float:
        """The number that a text says.

        Raises:
            ValueError: none of this range.
        """
        try:
            value = int(text) if self.whole else float(text)
        except ValueError:
            value = math.nan
        if value not in self:
            raise ValueError(f"expected {self}, found {text!r}")
        return value


ANY = Range()
POSITIVE = Range(0, above=True)
NOT_NEGATIVE = Range(0)
SHARE = Range(0, 1)
RATIO = Range(0, 1, above=True)
PART = Range(0, 1, below=True)
COUNT = Range(1, whole=True)
COUNT_OR_NONE = Range(0, whole=True)


@dataclass(frozen=True)
class Several:
    """A list of numbers of one range, of a fixed length where one is given."""

    each: Range
    length: int | None = None

    def __contains__(self, value: object) -> bool:
        fits = isinstance(value, (list, tuple)) and self.length in (None, len(value))
        return fits and all(item in self.each for item in value)

    def __str__(self) -> str:
        return f"a list of {self.length or 'numbers'}, each {self.each}"


Allowed = Range | Several
