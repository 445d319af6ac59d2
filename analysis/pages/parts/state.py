"""What a view of the app is, as one typed value, and how it is written into an address; no Streamlit.

Every page shows some fields of a `State`. Blocks are counted from 1. Rows and columns of tokens are those
of arrays, from 0; addresses count them from 1, as all that is shown does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, NamedTuple

from svit.system.text import streaks

BETWEEN = "|"  # parts the names of a list, and the marks
PART = "~"  # parts the pieces of a mark
LONGEST = 4000  # characters that marks may have in an address: servers refuse very long ones


@dataclass(frozen=True)
class Mark:
    """Tokens turned on or off by hand on the Live page; places in the order of the picture, each once.

    Attributes:
        blocks: in which they are.
        tokens: rows and columns; None for all of them, or for those of the box.
        box: of an object whose tokens stay, in source pixels.
        name: of the object.
    """

    blocks: tuple[int, ...]
    on: bool
    tokens: tuple[tuple[int, int], ...] | None = None
    box: tuple[float, float, float, float] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(sorted(set(self.blocks))))
        if self.tokens is not None:
            object.__setattr__(self, "tokens", tuple(sorted(set(self.tokens))))


class Kind(NamedTuple):
    """How values of a field are written and read.

    Attributes:
        read: raises ValueError for text that stands for no value.
        expected: what is, in words.
    """

    write: Callable[[Any], str]
    read: Callable[[str], Any]
    expected: str


def _number(
    kind: type[int] | type[float], low: float, high: float | None = None
) -> tuple[Callable[[str], Any], str]:
    """A reader of finite numbers of a range, and what it expects."""
    most = float("inf") if high is None else high

    def read(text: str) -> Any:
        value = kind(text)
        if not low <= value <= most or value == float("inf"):
            raise ValueError(text)
        return value

    said = "a whole number" if kind is int else "a number"
    return read, f"{said} from {low:g}" + ("" if high is None else f" to {high:g}")


def _truth(text: str) -> bool:
    return {"True": True, "False": False}[text]


def _pair(text: str) -> tuple[int, int]:
    row, column = (_count(part, 1) for part in text.split(","))
    return row - 1, column - 1


def _count(text: str, least: int = 0) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise ValueError(text)
    return int(text)


def _range(text: str) -> tuple[int, int]:
    low, high = (_count(part, 1) for part in text.split("-"))
    if low > high:
        raise ValueError(text)
    return low, high


def _ends(text: str) -> tuple[float, float]:
    read, _ = _number(float, float("-inf"))
    low, high = (read(part) for part in text.split(","))
    if low > high:
        raise ValueError(text)
    return low, high


def _quoted(name: str) -> str:
    """A name without the signs that part names."""
    for sign in ("%", BETWEEN, PART):
        name = name.replace(sign, f"%{ord(sign):02X}")
    return name


def _unquoted(text: str) -> str:
    for sign in (PART, BETWEEN, "%"):
        text = text.replace(f"%{ord(sign):02X}", sign)
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(_unquoted(part) for part in text.split(BETWEEN) if part)


def _stretches(numbers: tuple[int, ...]) -> str:
    return ",".join(streaks(numbers, "-"))


def _numbers(text: str) -> tuple[int, ...]:
    ends = [[_count(end, 1) for end in part.split("-")] for part in text.split(",") if part]
    if any(len(pair) > 2 or pair[-1] - pair[0] > 10_000 for pair in ends):
        raise ValueError(text)
    return tuple(number for pair in ends for number in range(pair[0], pair[-1] + 1))


def _mark_text(mark: Mark) -> str:
    """Such as `off~4-12~2:3-7,9 5:1` (rows with columns), `on~4-12` (all), `on~7~12.5,3,40,50~ball`."""
    pieces = ["on" if mark.on else "off", _stretches(mark.blocks)]
    if mark.tokens is not None:
        rows = {row: tuple(c + 1 for r, c in mark.tokens if r == row) for row, _ in mark.tokens}
        pieces.append(" ".join(f"{row + 1}:{_stretches(columns)}" for row, columns in rows.items()))
    elif mark.box is not None:
        pieces += [",".join(map(repr, mark.box)), _quoted(mark.name)]
    return PART.join(pieces)


def _mark(text: str) -> Mark:
    side, blocks, *more = text.split(PART)
    on, where = {"on": True, "off": False}[side], _numbers(blocks)
    if not where or len(more) > 2:
        raise ValueError(text)
    if not more:
        return Mark(where, on)
    if len(more) == 1:
        rows = [part.split(":") for part in more[0].split(" ") if part]
        places = ((_count(r, 1), column) for r, columns in rows for column in _numbers(columns))
        return Mark(where, on, tuple((row - 1, column - 1) for row, column in places))
    read, _ = _number(float, float("-inf"))
    left, top, right, bottom = (read(side) for side in more[0].split(","))
    return Mark(where, on, None, (left, top, right, bottom), _unquoted(more[1]))


def _marks_text(marks: tuple[Mark, ...]) -> str:
    """Those that fit an address, in their order."""
    return BETWEEN.join(_mark_text(mark) for mark in travelling(marks))


def travelling(marks: tuple[Mark, ...]) -> tuple[Mark, ...]:
    """The marks that an address holds: the first ones of at most `LONGEST` characters together, so that
    what a link shows is what was seen before the later ones were made."""
    length = 0
    for place, mark in enumerate(marks):
        length += len(_mark_text(mark)) + 1
        if length > LONGEST:
            return marks[:place]
    return marks


def _whole(low: int, high: int | None = None) -> Kind:
    return Kind(str, *_number(int, low, high))


def _real(low: float, high: float) -> Kind:
    return Kind(repr, *_number(float, low, high))


TEXT = Kind(str, str, "a name")
TRUTH = Kind(str, _truth, "True or False")
NAMES = Kind(lambda names: BETWEEN.join(map(_quoted, names)), _names, f"names between {BETWEEN}")
TOKEN = Kind(lambda token: f"{token[0] + 1},{token[1] + 1}", _pair, "a row and a column from 1 on")
RANGE = Kind(lambda ends: "{}-{}".format(*ends), _range, "two blocks, such as 4-12")
ENDS = Kind(lambda ends: ",".join(map(repr, ends)), _ends, "two numbers, such as 0.3,0.7")
MARKS = Kind(
    _marks_text,
    lambda text: tuple(_mark(one) for one in text.split(BETWEEN) if one),
    "edits as a link of this page writes them",
)
BLOCK, INDEX, SHARE = _whole(1), _whole(0), _real(0, 1)


def _of(kind: Kind, pages: str, default: Any = None) -> Any:
    """A field of a kind that the links of some pages hold; with the default it is left out of them."""
    return field(default=default, metadata={"kind": kind, "pages": frozenset(pages.split())})


@dataclass(frozen=True)
class State:
    """What all pages show. None: not chosen yet, so the page takes what suits the data.

    Fields that name something of the data hold its text (`image`: `str` of the id), since what there is
    depends on the run.
    """

    run: str | None = _of(TEXT, "image dataset live")
    runs: tuple[str, ...] = _of(NAMES, "compare", ())
    image: str | None = _of(TEXT, "image compare dataset live")
    object: int = _of(
        INDEX, "image compare dataset live", -1
    )  # place among the annotated; -1: none
    token: tuple[int, int] | None = _of(TOKEN, "image compare")
    block: int | None = _of(BLOCK, "image compare live")
    opacity: float | None = _of(SHARE, "image compare live")
    score: float | None = _of(SHARE, "image compare dataset live")

    mode: str | None = _of(TEXT, "image")
    boxes: str | None = _of(TEXT, "image")
    search: str = _of(TEXT, "image dataset", "")
    order: str | None = _of(TEXT, "image dataset")
    maps: bool = _of(TRUTH, "image dataset", False)
    gallery_page: int = _of(_whole(1), "image", 1)

    compare_part: str | None = _of(TEXT, "compare")
    shown: str | None = _of(TEXT, "compare")
    everywhere: bool | None = _of(TRUTH, "compare")
    other: str | None = _of(TEXT, "compare")
    change_of: str | None = _of(TEXT, "compare")

    part: str | None = _of(TEXT, "dataset")
    at_block: int | None = _of(BLOCK, "dataset")
    share_of: str | None = _of(TEXT, "dataset")
    group_by: str | None = _of(TEXT, "dataset")
    group: str | None = _of(TEXT, "dataset")
    complexity: str | None = _of(TEXT, "dataset")
    second: str | None = _of(TEXT, "dataset")
    object_size: str | None = _of(TEXT, "dataset")
    error_size: str = _of(TEXT, "dataset", "all")
    error_type: str = _of(TEXT, "dataset", "all")
    error_match: str = _of(TEXT, "dataset", "all")
    error_order: str | None = _of(TEXT, "dataset")
    error_fate: str = _of(TEXT, "dataset", "all")
    error_class: str = _of(TEXT, "dataset", "all")
    error_second: str = _of(TEXT, "dataset", "all")
    error_rescued: str = _of(TEXT, "dataset", "all")
    error_page: int = _of(_whole(1), "dataset", 1)
    grid_page: int = _of(_whole(1), "dataset", 1)
    grid_keep_ratio: tuple[float, float] | None = _of(ENDS, "dataset")
    grid_missed: tuple[float, float] | None = _of(ENDS, "dataset")
    grid_wrong: tuple[float, float] | None = _of(ENDS, "dataset")
    grid_confidence: tuple[float, float] | None = _of(ENDS, "dataset")
    figure: str | None = _of(TEXT, "dataset")

    view: str | None = _of(TEXT, "rates")
    ap: str | None = _of(TEXT, "rates")
    against: str | None = _of(TEXT, "rates")
    families: tuple[str, ...] = _of(NAMES, "rates", ())
    data: str | None = _of(TEXT, "rates")
    evaluated_on: str | None = _of(TEXT, "rates")
    masks: str | None = _of(TEXT, "rates")
    timing: str | None = _of(TEXT, "rates")
    speed_of: str | None = _of(TEXT, "rates")
    stages_of: str | None = _of(TEXT, "rates")
    verdict: tuple[str, ...] = _of(NAMES, "rates", ())
    where: tuple[str, ...] = _of(NAMES, "rates", ())
    words: str = _of(TEXT, "rates", "")
    measured: bool = _of(TRUTH, "rates", False)
    table: str | None = _of(TEXT, "rates")

    model: str | None = _of(TEXT, "live")
    source: str | None = _of(TEXT, "live")
    scene: int | None = _of(_whole(0, 10**12), "live")
    blocks: tuple[int, int] | None = _of(RANGE, "live")  # first and last that are edited
    marks: tuple[Mark, ...] = _of(MARKS, "live", ())
    dial: str = _of(TEXT, "live", "trained")
    shift: float = _of(_real(-4, 4), "live", 0.0)
    ratio: float = _of(_real(0.05, 1), "live", 0.7)
    forbid: bool = _of(TRUTH, "live", False)
    remove: bool = _of(TRUTH, "live", False)
    lender: str = _of(TEXT, "live", "")
    control: str = _of(TEXT, "live", "none")
    draw: int = _of(_whole(0, 999), "live", 0)


FIELDS: dict[str, Field] = {one.name: one for one in fields(State)}


def changed(state: State, **values: Any) -> State:
    """The state with other values. Object and token belong to an image of a run: another drops them."""
    before = {name: getattr(state, name) for name in ("run", "image")}
    moved = any(one not in (None, values.get(name, one)) for name, one in before.items())
    return replace(state, **({"object": -1, "token": None} if moved else {}) | values)


def of_page(page: str) -> list[str]:
    """Names of the fields that the links of a page hold."""
    return [name for name, one in FIELDS.items() if page in one.metadata["pages"]]


def text_of(name: str, value: Any) -> str:
    """A field's value as an address has it; raises KeyError for names that are no field."""
    return FIELDS[name].metadata["kind"].write(value)


def to_query(state: State, page: str) -> dict[str, str]:
    """The query parameters of a page's link: all fields of the page that differ from their default."""
    values = {name: getattr(state, name) for name in of_page(page)}
    return {n: text_of(n, value) for n, value in values.items() if value != FIELDS[n].default}


def from_query(query: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The fields that query parameters hold, and a sentence on each parameter that holds none.

    `State(**values)` is a whole state; the parameters of `to_query` give back what they were made of, but
    for marks beyond `LONGEST`.
    """
    values: dict[str, Any] = {}
    said: list[str] = []
    for name, text in query.items():
        if name not in FIELDS:
            said.append(f"The link holds “{name[:80]}”, which no page of this app knows.")
            continue
        kind = FIELDS[name].metadata["kind"]
        try:
            values[name] = kind.read(text)
        except (ValueError, KeyError):
            said.append(
                f"The link asks for {spoken(name)} “{text[:80]}”, but {kind.expected} is expected."
            )
    return values, said


def spoken(name: str) -> str:
    """A field's name in words."""
    return name.replace("_", " ")


def left_behind(state: State, page: str) -> list[str]:
    """Sentences on what the link of a page cannot hold."""
    if page != "live":
        return []
    gone = len(state.marks) - len(travelling(state.marks))
    said = []
    if gone:
        said.append(
            f"{gone} of {len(state.marks)} edits by hand stay behind: their tokens are too many for an "
            "address. Keep the result as a run to pass them on."
        )
    if state.source == "upload":
        said.append("The uploaded picture stays behind: the link asks for a picture.")
    return said
