"""detectron2's ViTDet: maps (B, rows, columns, C); windows are padded and folded inside the block."""

from __future__ import annotations

from torch import nn

from svit.probing.adapters.host import Host, below, is_of, windows_of


def host(name: str, module: nn.Module) -> Host | None:
    """The module as a host, where it is detectron2's `ViT`."""
    if not is_of(module, "detectron2", ("ViT",)):
        return None
    return Host(
        kind=f"detectron2 {type(module).__name__}",
        trunk=name,
        blocks=below(name, "blocks", module),
        prefix=0,
        windows=windows_of(module, "blocks"),
    )
