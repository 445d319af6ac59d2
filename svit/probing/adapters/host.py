"""A model that is not ours, as recording sees it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


class HostError(ValueError):
    """Blocks, tokens or attention of a model cannot be told; the message says what was found and how to
    name it."""


@dataclass(frozen=True)
class Host:
    """Where a model's blocks are and how tokens lie in them.

    Attributes:
        kind: library and class, "unknown" where no adapter knows it; provenance repeats it.
        trunk: dotted name of the module that takes pictures (B, 3, height, width) and runs the blocks; ""
            for the model itself.
        blocks: dotted names, in the order in which they run.
        prefix: tokens before those of the picture (class, distillation, registers); None: not known.
        class_token: place of the class token among them; None: there is none, or it is not known.
        windows: tokens of a side of the square windows in which a block attends, 0 for all tokens; one a
            block. Windows lie in raster order from the upper left corner, the last ones are padded.
        input_hw: the only size of pictures that it takes; None for any.
        mean_rgb, std_rgb: normalisation of values 0..255; None where the model does not tell.
    """

    kind: str
    trunk: str
    blocks: tuple[str, ...]
    prefix: int | None = None
    class_token: int | None = None
    windows: tuple[int, ...] = ()
    input_hw: tuple[int, int] | None = None
    mean_rgb: tuple[float, ...] | None = None
    std_rgb: tuple[float, ...] | None = None

    @property
    def known(self) -> bool:
        """Whether an adapter knows the model: its tokens lie in raster order behind the prefix."""
        return self.kind != "unknown"


def is_of(module: nn.Module, library: str, names: tuple[str, ...]) -> bool:
    """Whether a module is of one of a library's classes, or of a class derived from one."""
    return any(
        kind.__name__ in names and kind.__module__.split(".")[0] == library
        for kind in type(module).__mro__
    )


def below(trunk: str, path: str, module: nn.Module) -> tuple[str, ...]:
    """Dotted names of the children of a list of blocks, which lies at `path` in the trunk."""
    return tuple(
        ".".join(filter(None, (trunk, path, name)))
        for name, _ in module.get_submodule(path).named_children()
    )


def windows_of(module: nn.Module, path: str) -> tuple[int, ...]:
    """`window_size` of every block of a list, 0 where a block has none."""
    return tuple(int(getattr(block, "window_size", 0)) for block in module.get_submodule(path))
