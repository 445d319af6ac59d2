"""Checks of the arguments that methods share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints

from svit.core.ranges import ANY, RATIO, Range, Several

NUMBERS = {float: ANY, int: Range(whole=True)}


def gated_blocks(given: Sequence[int] | None, gates: int, depth: int, *, stages: bool) -> list[int]:
    """Zero-based blocks that decide anew, ascending, one a keep ratio.

    Args:
        given: the user's choice, or None.
        stages: without a choice, True takes the first block of each later quarter (4, 7, 10 of 12 in the
            paper's counting), False the last `gates` blocks (4..12).

    Raises:
        ValueError: blocks outside the model, repeated, unsorted, or not one a keep ratio.
    """
    most = 3 if stages else depth
    if given is None and gates > most:
        raise ValueError(
            f"expected at most {most} keep ratios (one a deciding block), found {gates}; "
            "name the blocks with locations=[...] to decide elsewhere"
        )
    if given is None and stages:
        group = depth // 4
        given = [group * (index + 1) for index in range(gates)]
    elif given is None:
        given = list(range(depth - gates, depth))
    locations = _listed(
        "locations", given, int, "zero-based blocks, one a keep ratio, as [3, 6, 9]"
    )
    good = len(locations) == gates and locations == sorted(set(locations))
    if not good or not all(0 <= location < depth for location in locations):
        raise ValueError(
            f"expected {gates} ascending gated layers in locations, one a keep ratio, from 0 (the paper's "
            f"block 1) to {depth - 1}, found {locations}"
        )
    return locations


def schedule(
    keep_ratios: Sequence[float], locations: Sequence[int] | None, depth: int, *, stages: bool
) -> tuple[list[float], list[int]]:
    """Keep ratios and the blocks that decide, one a ratio; see `gated_blocks`.

    Raises:
        ValueError: a ratio outside (0, 1], or blocks that do not match.
    """
    ratios = _listed("keep ratios", keep_ratios, float, "one a deciding block, as [0.7, 0.5]")
    check_ratios(ratios)
    return ratios, gated_blocks(locations, len(ratios), depth, stages=stages)


def _listed(name: str, given: Any, number: type, example: str) -> list[Any]:
    try:
        return [number(one) for one in given]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected a list, {example}, found {given!r}") from error


def check_ratios(ratios: Sequence[float]) -> None:
    """Raises ValueError unless every keep ratio lies in (0, 1]."""
    if not ratios or not all(ratio in RATIO for ratio in ratios):
        raise ValueError(f"expected keep ratios in (0, 1], found {list(ratios)}")


def preserves(retain: str) -> bool:
    """Whether pruned tokens stay in the map: what the option `retain` of removing methods says.

    Raises:
        ValueError: neither "remove" nor "preserve".
    """
    check_choice("retain", retain, ("remove", "preserve"))
    return retain == "preserve"


def check_kinds(method: type, options: Mapping[str, Any]) -> None:
    """Compares options with the annotations of the constructor that takes them; one without any, or
    with another than ours have, takes all.

    Raises:
        ValueError: one is of another kind, or a number that is not finite.
    """
    hints = get_type_hints(method.__init__)
    for name, value in options.items():
        expected, fits = _kind(hints.get(name), value)
        if not fits:
            raise ValueError(f"pruning.options.{name}: expected {expected}, found {value!r}")


def _kind(hint: Any, value: object) -> tuple[str, bool]:
    """What a type hint asks for in words, and whether the value is that."""
    inner = get_args(hint)
    if len(inner) == 2 and type(None) in inner:
        expected, fits = _kind(inner[0], value)
        return f"{expected} or none", fits or value is None
    if get_origin(hint) in (Sequence, list) and inner[0] in NUMBERS:
        each = NUMBERS[inner[0]]
        return f"a list, each {each}", value in Several(each)
    if hint in NUMBERS:
        return str(NUMBERS[hint]), value in NUMBERS[hint]
    words = {bool: "true or false", str: "a word"}
    return (words[hint], isinstance(value, hint)) if hint in words else ("anything", True)


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raises ValueError with the choices unless `value` is one of them."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, found {value!r}")
