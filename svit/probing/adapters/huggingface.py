"""Hugging Face transformers: ViT, DINOv2 with and without registers, VitDet, the encoder of SAM.

ViT and DINOv2 hold (B, prefix + N, C), VitDet (B, C, rows, columns), SAM (B, rows, columns, C); the last two
fold windows inside a block. Lists of blocks stand in other places in other releases.
"""

from __future__ import annotations

from torch import nn

from svit.probing.adapters.host import Host, below, is_of, windows_of

# class -> tokens before the picture's; registers come from the configuration
PREFIX = {
    "ViTModel": 1,
    "Dinov2Model": 1,
    "Dinov2Backbone": 1,
    "Dinov2WithRegistersModel": 1,
    "Dinov2WithRegistersBackbone": 1,
    "VitDetModel": 0,
    "VitDetBackbone": 0,
    "SamVisionEncoder": 0,
}
INSIST = ("ViTModel", "SamVisionEncoder")  # on pictures of one size
LISTS = ("encoder.layer", "encoder.layers", "layers", "layer")


def host(name: str, module: nn.Module) -> Host | None:
    """The module as a host, where it is one of `PREFIX`."""
    kinds = [kind for kind in PREFIX if is_of(module, "transformers", (kind,))]
    if not kinds:
        return None
    path = next(path for path in LISTS if _has(module, path))
    registers = int(getattr(module.config, "num_register_tokens", 0))
    size = module.config.image_size
    side = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    return Host(
        kind=f"transformers {type(module).__name__}",
        trunk=name,
        blocks=below(name, path, module),
        prefix=PREFIX[kinds[0]] + registers,
        class_token=0 if PREFIX[kinds[0]] else None,
        windows=windows_of(module, path),
        input_hw=side if kinds[0] in INSIST else None,
    )


def _has(module: nn.Module, path: str) -> bool:
    for name in path.split("."):
        module = getattr(module, name, None)
    return isinstance(module, nn.ModuleList)
