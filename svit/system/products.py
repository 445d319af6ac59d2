"""float32 matrix products by MKL or oneDNN: the one that this processor runs faster, as measured on it.

torch multiplies float32 by its BLAS (MKL on x86), which on processors of other makers may run at half of
their rate; its convolutions run in oneDNN, and so does the linear operator of its compiler. Both libraries
are torch's own, both sum in float32: results agree within 2e-6. Where oneDNN is not clearly faster nothing
is changed. Rates are measured once for a processor, a torch and a number of threads, and kept.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import _get_current_dispatch_mode

from svit.system.files import write_json
from svit.system.timing import cpu_name

LIBRARIES = {"mkl": "MKL", "onednn": "oneDNN"}
VARIABLE = "SVIT_LINEAR"
SIZES = (
    (1600, 192, 768),
    (1600, 768, 192),
    (1600, 384, 1536),
)  # rows, inputs, outputs: T and S at 640²
ROUNDS = 8
WORTH = 1.25  # how many times as fast oneDNN must be to be taken
FEWEST_ROWS = 64  # below, ordering the weights for oneDNN costs more than it gains
LOGITS_AT_ONCE = (
    1 << 19
)  # 2 MB: a cache holds them; of twice as many the allocator may ask the system every time


def product(
    values: Float[Tensor, "rows inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None = None,
) -> Float[Tensor, "rows outputs"]:
    """`F.linear` in oneDNN, whatever the number of threads; without gradients."""
    offset = None if bias is None else bias.contiguous()  # which the operator takes for granted
    # it orders weights anew: from both orders of a dense matrix fast, from any other a thousand times slower
    ordered = weight if weight.t().is_contiguous() else weight.contiguous()
    return torch.ops.mkldnn._linear_pointwise(values.contiguous(), ordered, offset, "none", [], "")


class _Linear(torch.autograd.Function):
    """`product` and its gradients, themselves products."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(values, weight)
        return product(values, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return (
            product(gradient, weight.t()) if wanted[0] else None,
            _transposed_product(gradient, values) if wanted[1] else None,
            gradient.sum(0) if wanted[2] else None,
        )


def _transposed_product(one: Tensor, other: Tensor) -> Tensor:
    """one' · other: the narrower is the one that has to be copied into another order."""
    if one.shape[1] <= other.shape[1]:
        return product(one.t(), other.t())
    return product(other.t(), one.t()).t()


class OneDnnLinear(nn.Linear):
    """`nn.Linear` whose float32 products on a CPU run in oneDNN; all others as ever."""

    def forward(self, values: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows outputs"]:
        return _in_onednn(values, self.weight, self.bias)


class OneDnnPointwise(nn.Conv2d):
    """A 1 x 1 convolution as `OneDnnLinear`; its map lies with the channels together."""

    def forward(
        self, values: Float[Tensor, "batch inputs height width"]
    ) -> Float[Tensor, "batch outputs height width"]:
        if not _plain(values, self.weight):
            return super().forward(values)
        rows = _in_onednn(values.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias)
        return rows.permute(0, 3, 1, 2)


def linear(
    values: Float[Tensor, "*rows inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None = None,
) -> Float[Tensor, "*rows outputs"]:
    """`F.linear` in the library that is faster here: for products that are no module of their own."""
    return (F.linear if library() == "mkl" else _in_onednn)(values, weight, bias)


def matmul(
    one: Float[Tensor, "rows inner"], other: Float[Tensor, "inner columns"]
) -> Float[Tensor, "rows columns"]:
    """`one @ other` in the library that is faster here; whoever watches the operators sees torch's own."""
    if library() == "mkl" or len(one) < FEWEST_ROWS or not _plain(one, other):
        return one @ other
    return _Linear.apply(one, other.t(), None)


def _in_onednn(values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows = values.numel() // weight.shape[1]
    if rows < FEWEST_ROWS or not _plain(values, weight):
        return F.linear(values, weight, bias)
    made = _Linear.apply(values.reshape(rows, weight.shape[1]), weight, bias)
    return made.view(*values.shape[:-1], len(weight))


def attention(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch heads keys head_dim"],
    value: Float[Tensor, "batch heads keys head_dim"],
    attn_mask: Tensor | None = None,
) -> Float[Tensor, "batch heads queries head_dim"]:
    """`F.scaled_dot_product_attention` whose float32 products on a CPU run in oneDNN, some queries of a head
    at a time; with a mask or gradients torch's own."""
    graded = torch.is_grad_enabled() and any(one.requires_grad for one in (query, key, value))
    few = query.shape[2] < FEWEST_ROWS
    if attn_mask is not None or graded or few or not _plain(query, key, value):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)
    batch, heads, queries, width = query.shape
    mixed = query.new_empty(batch, queries, heads, width).transpose(1, 2)  # as heads are merged
    step = max(FEWEST_ROWS, LOGITS_AT_ONCE // key.shape[2])
    scaled = key * width**-0.5
    for place in itertools.product(range(batch), range(heads)):
        known, columns = scaled[place].contiguous(), value[place].contiguous().t()
        for asked, made in zip(query[place].split(step), mixed[place].split(step), strict=True):
            logits = product(asked, known)
            made.copy_(product(torch.softmax(logits, dim=-1, out=logits), columns))
    return mixed


def _plain(*operands: Tensor) -> bool:
    """Whether nobody watches the operators (as counters and readers of attention do) and all is float32."""
    kinds = {(one.device.type, one.dtype) for one in operands}
    watched = torch.jit.is_tracing() or _get_current_dispatch_mode() is not None
    return (
        kinds == {("cpu", torch.float32)} and not watched and not torch.is_autocast_enabled("cpu")
    )


def fused_attention() -> Callable[..., Tensor]:
    """`attention`, or torch's own where MKL multiplies."""
    return F.scaled_dot_product_attention if library() == "mkl" else attention


def route(model: nn.Module) -> None:
    """Lets linears, 1 x 1 convolutions and attention of a new model run in the library that is faster here,
    parameters and names kept."""
    if library() == "mkl":
        return
    for part in model.modules():
        if type(part) is nn.Linear:
            part.__class__ = OneDnnLinear
        elif type(part) is nn.Conv2d and _is_pointwise(part):
            part.__class__ = OneDnnPointwise
        elif getattr(part, "kernel", None) is F.scaled_dot_product_attention:
            part.kernel = attention


def _is_pointwise(layer: nn.Conv2d) -> bool:
    whole = layer.groups == 1 and layer.padding == (0, 0)
    return whole and layer.kernel_size == layer.stride == (1, 1)


def library() -> str:
    """The library of linears here, one of `LIBRARIES`: as `SVIT_LINEAR` says, else the faster.

    Raises:
        ValueError: the variable names none, or one that this torch lacks.
    """
    asked, there = os.environ.get(VARIABLE), available()
    if asked and (asked not in LIBRARIES or (asked == "onednn" and not there)):
        known = " or ".join(LIBRARIES if there else ["mkl"])
        raise ValueError(f"{VARIABLE}: expected {known}, found {asked!r}")
    if asked or not there:
        return asked or "mkl"
    found = rates(torch.get_num_threads())
    return "onednn" if found["onednn"] > WORTH * found["mkl"] else "mkl"


def available() -> bool:
    """Whether this torch has oneDNN and lets it multiply."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@cache
def rates(threads: int) -> dict[str, float]:
    """GFLOP/s a thread of each library with torch's `threads`, as kept or as measured now."""
    key = f"{cpu_name()}, torch {torch.__version__}, {threads} threads"
    kept = _kept()
    if key not in kept:
        kept[key] = measure()
        try:
            _file().parent.mkdir(parents=True, exist_ok=True)
            write_json(_file(), kept, indent=1)
        except OSError:  # a home that cannot be written: every start measures
            pass
    return kept[key]


def measure(rounds: int = ROUNDS) -> dict[str, float]:
    """GFLOP/s of each library over `SIZES`, in turn, the best of some rounds.

    By the processor's clock, all threads together, so that a busy machine changes little.
    """
    works = {"mkl": nn.functional.linear, "onednn": product}
    seconds = dict.fromkeys(works, 0.0)
    with torch.no_grad():
        for rows, inputs, outputs in SIZES:
            values, weight = torch.ones(rows, inputs), torch.ones(outputs, inputs)
            turns = [
                {name: _seconds(work, values, weight) for name, work in works.items()}
                for _ in range(1 + rounds)  # the first warms up
            ]
            for name in works:
                seconds[name] += min(turn[name] for turn in turns)
    operations = 2 * sum(rows * inputs * outputs for rows, inputs, outputs in SIZES)
    return {name: operations / one / 1e9 for name, one in seconds.items()}


def told() -> str:
    """Both rates and the choice, in a sentence."""
    if not available():
        return "linears run in torch's BLAS; this torch has no oneDNN to compare it with"
    found = rates(torch.get_num_threads())
    both = " and ".join(f"{found[name]:.0f} in {title}" for name, title in LIBRARIES.items())
    why = f"as {VARIABLE} says" if os.environ.get(VARIABLE) else f"{VARIABLE} may say otherwise"
    return f"GFLOP/s a thread of float32 products: {both}; linears run in {LIBRARIES[library()]} ({why})"


def _seconds(work: Any, *operands: Tensor) -> float:
    begin = time.process_time()
    work(*operands)
    return time.process_time() - begin


def _file() -> Path:
    place = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(place) / "svit" / "linear.json"


def _kept() -> dict[str, dict[str, float]]:
    """Rates measured before; none where the file is missing or damaged."""
    try:
        kept = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    rates_of = kept.values() if isinstance(kept, dict) else [None]
    fits = all(isinstance(one, dict) and set(one) == set(LIBRARIES) for one in rates_of)
    return kept if fits else {}
