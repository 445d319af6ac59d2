"""What pruning methods share; `svit.pruning.methods` holds them, one paper a file."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any

from svit.core.catalogue import METHODS, near
from svit.core.config import PruningConfig
from svit.pruning.base import Method
from svit.pruning.options import check_kinds


def method_class(name: str) -> type[Method]:
    """The class that the catalogue names for a method.

    Raises:
        ValueError: unknown name; near names and the choices are listed.
    """
    if name not in METHODS:
        raise ValueError(f"unknown pruning method {name!r}; {near(name, METHODS)}")
    return pkgutil.resolve_name(METHODS[name].path)


def default_options(name: str) -> dict[str, Any]:
    """Every option of a method with what it is unless told otherwise.

    Raises:
        ValueError: unknown name.
    """
    parameters = inspect.signature(method_class(name)).parameters.values()
    sizes = ("dim", "depth", "heads")
    return {one.name: one.default for one in parameters if one.name not in sizes}


def build_method(
    name: str, dim: int, depth: int, heads: int, options: Mapping[str, Any] | None = None
) -> Method:
    """The pruning method of that name for blocks of the given size, with its traits.

    Args:
        dim, depth, heads: of `Method`.
        options: arguments of the method's constructor.

    Raises:
        ValueError: unknown name or option (near names and the choices are listed), or a value that the
            method refuses.
    """
    cls, options = method_class(name), dict(options or {})
    known = default_options(name)
    for option in options:
        if option not in known:
            raise ValueError(f"method {name!r} has no option {option!r}; {near(option, known)}")
    check_kinds(cls, options)
    method = cls(dim, depth, heads, **options)
    method.traits = METHODS[name].traits_of(options)
    method.settings = PruningConfig(name, options)
    return method
