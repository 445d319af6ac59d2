"""What a block's attention looks at, read from the operations that torch runs: outputs are not touched.

Fused kernels show no weights. They show q, k and their bias as the model made them, with rotary and
relative positions inside, so the weights are computed again from these, one head at a time. A block that
calls `softmax` shows them itself. Nothing of this knows a model.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from svit.probing.adapters.host import HostError

# which of them is seen depends on the mode of autograd
SOFTMAX = ("softmax", "_softmax", "_safe_softmax")


class Reader(Protocol):
    """What is told of the attention of one block."""

    def heads(self, lead: tuple[int, ...], queries: int, keys: int) -> int:
        """How many heads there are, of maps (*lead, queries, keys), those of a group after each other."""

    def __call__(self, weights: Tensor, heads: int) -> None:
        """Takes one head's weights, (groups, queries, keys)."""


class AttentionReader(TorchDispatchMode):
    """Hands every attention that runs inside it to `read`, head by head; while that is None, none.

    Args:
        demanded: whether what cannot be read is an error; else `read` becomes None.

    Attributes:
        read: who is told.
        hidden: name of a kernel that ran and showed neither weights nor q and k; "" without.
    """

    def __init__(self, demanded: bool = True) -> None:
        super().__init__()
        self._demanded = demanded
        self.read: Reader | None = None
        self.hidden = ""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """The function's own result; what it shows is read beside it."""
        given = kwargs or {}
        output = function(*args, **given)
        if self.read is not None:
            try:
                # another reader would take it for the model's, a counter would count it
                with _disable_current_modes():
                    self._look(function, args, given, output)
            except HostError:
                if self._demanded:
                    raise
                self.read = None
        return output

    def _look(self, function: Any, args: tuple, given: dict, output: Any) -> None:
        name = function._schema.name.partition("::")[2]
        names = [argument.name for argument in function._schema.arguments]
        called = {**dict(zip(names, args)), **given}
        if "scaled_dot_product" in name and not name.endswith("backward"):
            self._fused(**called)
        elif name in SOFTMAX and _square(output) and called["dim"] in (-1, output.ndim - 1):
            heads = self.read.heads(tuple(output.shape[:-2]), *output.shape[-2:])
            maps = output.flatten(0, -3)
            for head in range(heads):
                self.read(maps[head::heads].float(), heads)
        elif name in ("_native_multi_head_attention", "_transformer_encoder_layer_fwd"):
            self.hidden = name

    def _fused(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        is_causal: bool = False,
        scale: float | None = None,
        attn_mask: Tensor | None = None,
        attn_bias: Tensor | None = None,
        **others: Any,
    ) -> None:
        """softmax(q k^T * scale + bias) of every head in float32."""
        bias = attn_mask if attn_mask is not None else attn_bias
        queries, keys = query.shape[-2], key.shape[-2]
        if is_causal:
            bias = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril()
        if query.ndim == 4:  # several heads may share their keys
            key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
        if bias is not None:
            bias = bias.expand(*query.shape[:-1], keys).flatten(0, -3)
        factor = query.shape[-1] ** -0.5 if scale is None else scale
        heads = self.read.heads(tuple(query.shape[:-2]), queries, keys)
        query, key = query.flatten(0, -3), key.flatten(0, -3)
        for head in range(heads):
            logits = (
                query[head::heads].float() @ key[head::heads].float().transpose(-2, -1) * factor
            )
            if bias is not None:
                logits = _biased(logits, bias[head::heads])
            blind = logits.isneginf().all(dim=-1, keepdim=True)  # padding that sees no key
            self.read(logits.softmax(dim=-1).masked_fill(blind, 0), heads)


def _biased(logits: Tensor, bias: Tensor) -> Tensor:
    if bias.dtype == torch.bool:
        return logits.masked_fill(~bias, float("-inf"))
    return logits + bias


def _square(output: Any) -> bool:
    return isinstance(output, Tensor) and output.ndim >= 3 and output.shape[-1] == output.shape[-2]
