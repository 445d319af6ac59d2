"""A small memory for tensors that depend on the image size alone, so that equal sizes pay for them once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import torch

Value = TypeVar("Value")


class SizeCache(Generic[Value]):
    """The last few results by key; the oldest leaves first.

    Its module owns it as a plain attribute, so it is in no state dict; copies of the module (and pickled
    ones) start empty. What a result depends on belongs into the key: size, device, dtype.

    Args:
        limit: results kept.
    """

    def __init__(self, limit: int = 8) -> None:
        self._limit = limit
        self._kept: dict[Hashable, Value] = {}

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The result kept under `key`, else that of `make()`, computed without gradient."""
        found = self._kept.get(key)
        if found is not None:
            return found
        # a tensor made in inference mode could not be used in a later training step
        with torch.inference_mode(False), torch.no_grad():
            found = make()
        while len(self._kept) >= self._limit:
            self._kept.pop(next(iter(self._kept), None), None)  # another thread may be faster
        self._kept[key] = found
        return found

    def __len__(self) -> int:
        return len(self._kept)

    def __reduce__(self) -> tuple[type[SizeCache], tuple[int]]:
        return SizeCache, (self._limit,)
