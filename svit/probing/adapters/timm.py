"""timm: ViT, DeiT, DINOv2 with registers, EVA and what derives from them.

Tokens are (B, prefix + N, C) in raster order; the class token comes first, then distillation or register
tokens (`_pos_embed`). The SAM encoder keeps maps (B, rows, columns, C) and folds windows inside a block.
"""

from __future__ import annotations

from torch import nn

from svit.probing.adapters.host import Host, below, is_of, windows_of

NAMES = (
    "VisionTransformer",
    "VisionTransformerDistilled",
    "VisionTransformerRelPos",
    "VisionTransformerSAM",
    "Eva",
    "Beit",
)


def host(name: str, module: nn.Module) -> Host | None:
    """The module as a host, where it is one of `NAMES`."""
    if not is_of(module, "timm", NAMES):
        return None
    told = getattr(module, "pretrained_cfg", None) or {}
    colours = {
        f"{key}_rgb": tuple(255 * float(value) for value in told[key])
        for key in ("mean", "std")
        if told.get(key)
    }
    return Host(
        kind=f"timm {type(module).__name__}",
        trunk=name,
        blocks=below(name, "blocks", module),
        prefix=int(getattr(module, "num_prefix_tokens", 0)),
        class_token=0 if getattr(module, "cls_token", None) is not None else None,
        windows=windows_of(module, "blocks"),
        input_hw=_only_size(module.patch_embed),
        **colours,
    )


def _only_size(embedding: nn.Module) -> tuple[int, int] | None:
    """The size of pictures that the embedding insists on."""
    strict, size = getattr(embedding, "strict_img_size", True), getattr(embedding, "img_size", None)
    return (int(size[0]), int(size[1])) if strict and size else None
