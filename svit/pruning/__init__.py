"""Token pruning: one method, one file. `METHODS` is the table of all of them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from svit.core.catalogue import near
from svit.pruning.ats import ATS
from svit.pruning.base import Method
from svit.pruning.controls import MagnitudeControl, RandomControl
from svit.pruning.dense import Dense
from svit.pruning.dynamicvit import DynamicViT
from svit.pruning.evit import EViT
from svit.pruning.evovit import EvoViT
from svit.pruning.svit import SViT

METHODS: dict[str, type[Method]] = {
    "dense": Dense,
    "svit": SViT,
    "dynamicvit": DynamicViT,
    "evit": EViT,
    "evovit": EvoViT,
    "ats": ATS,
    "random": RandomControl,
    "magnitude": MagnitudeControl,
}


def build_method(
    name: str, dim: int, depth: int, heads: int, options: Mapping[str, Any] | None = None
) -> Method:
    """The pruning method of that name for blocks of the given size.

    Raises:
        ValueError: unknown name or option; near names and the choices are listed.
    """
    if name not in METHODS:
        raise ValueError(f"unknown pruning method {name!r}; {near(name, METHODS)}")
    cls = METHODS[name]
    known = [
        key for key in inspect.signature(cls).parameters if key not in ("dim", "depth", "heads")
    ]
    for option in options or {}:
        if option not in known:
            raise ValueError(f"method {name!r} has no option {option!r}; {near(option, known)}")
    return cls(dim, depth, heads, **dict(options or {}))
