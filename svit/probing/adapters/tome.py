"""Models patched by ToMe (Bolya et al., ICLR 2023), which keeps what it merged in `_tome_info`.

With `trace_source=True`, `source` is (B, rows, prefix + N): whether a token is part of a row. It is None
before the first merge of a forward.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from svit.probing.adapters.host import HostError


def kept(model: nn.Module) -> Callable[[int], Tensor | None] | None:
    """A function from a block to the source matrix at that time; None for a model without ToMe.

    Raises:
        HostError: the patch keeps no source.
    """
    patched = [module for module in model.modules() if hasattr(module, "_tome_info")]
    if not patched:
        return None
    told = patched[0]._tome_info
    if not told.get("trace_source"):
        raise HostError(
            "the model is patched by ToMe without its sources: patch it with trace_source=True, so that "
            "it tells which tokens a row carries"
        )
    return lambda layer: told["source"]
