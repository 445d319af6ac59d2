"""Pruning a vision transformer that is not ours, without training: controls and a rate curve of any model.

    with prune(model, "random", [0.7] * 9):
        model(pictures)          # the last nine blocks run on 70 % of their tokens, chosen anew in each

Rows are gathered before a block and put back behind it, so what is left out passes unchanged and may be
chosen again; class and register tokens always take part. Blocks that keep all are called as they are: at a
ratio of 1 the outputs are the model's, bit for bit. Only blocks that treat tokens as a set can be pruned so:
windows, relative positions and rotations belong to places, and are refused. `attach(model)` inside records
the masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from svit.core.catalogue import near
from svit.core.types import TokenGrid
from svit.probing.adapters.find import Blocks, host_of, patch_embedding
from svit.probing.adapters.host import Host, HostError, is_of
from svit.probing.attach import watches
from svit.probing.equal_counts import central
from svit.probing.planting import first_tensor
from svit.pruning.base import ScoreProbe, TokenProbe, gather_kept, scatter_kept
from svit.pruning.options import schedule
from svit.pruning.sampling import highest, uniform

PLACE = "token_pruning"  # where the probes lie in the model meanwhile
OF_PLACES = ("rel_pos", "rel_pos_h", "relative_position_bias_table", "rope")
BASES = (0.9, 0.8, 0.7, 0.6, 0.5)
Score = Callable[["Pruned", int, Tensor], Tensor]


def prune(
    model: nn.Module,
    by: str,
    ratios: Sequence[float],
    *,
    locations: Sequence[int] | None = None,
    blocks: Blocks = "auto",
    prefix: int | None = None,
    seed: int = 0,
) -> AbstractContextManager[Pruned]:
    """Prunes every forward of a model inside the `with`; nothing of it is left behind.

    Args:
        model: any module that holds a timm or Hugging Face ViT, or another one whose blocks take tokens
            (B, prefix + N, C) and nothing that belongs to places.
        by: of `SELECTIONS`: "random" (`seed`; all pictures draw the same numbers), "norm" (the largest),
            "centre" (nearest to the middle of the grid), "attention" (the class token's logits in this block,
            mean over heads; blocks as timm's).
        ratios: share of the N tokens of the picture that each pruned block runs on.
        locations: zero-based pruned blocks; default the last `len(ratios)`.
        blocks: as of `attach`.
        prefix: tokens before those of the picture, where no adapter knows it.
        seed: of random tokens.

    Returns:
        A context manager; what it yields has the masks of the last forward, `masks[block]`, bool (B, N).

    Raises:
        HostError: no blocks, or ones that cannot be pruned so; inside, a block that is given what belongs to
            places.
        ValueError: an unknown selection (near names are listed), ratios or locations that are no lists or do
            not match.
    """
    if by not in SELECTIONS:
        raise ValueError(f"unknown selection {by!r}; {near(by, SELECTIONS)}")
    host = host_of(model, blocks)
    known = host.prefix if prefix is None else prefix
    if known is None:
        raise HostError(
            f"no adapter knows {type(model).__name__}: say how many tokens come before those of the picture, "
            "as prefix=1 for a class token"
        )
    keep, where = schedule(ratios, locations, len(host.blocks), stages=False)
    pruned = Pruned(model, host, known, by, dict(zip(where, keep, strict=True)), seed)
    return pruned.installed()


class Pruned(nn.Module):
    """What lies in a model while it is pruned: a probe of masks and one of scores for each block.

    Attributes:
        masks: block -> bool (B, N), of the last forward.
    """

    def __init__(
        self,
        model: nn.Module,
        host: Host,
        prefix: int,
        by: str,
        ratios: dict[int, float],
        seed: int,
    ) -> None:
        super().__init__()
        self.probes = nn.ModuleList(TokenProbe(layer) for layer in range(len(host.blocks)))
        self.score_probes = nn.ModuleList(ScoreProbe(layer) for layer in range(len(host.blocks)))
        self.host, self.prefix, self.by, self.ratios, self.seed = host, prefix, by, ratios, seed
        self.masks: dict[int, Tensor] = {}
        self.grid_hw: tuple[int, int] | None = None
        self.__dict__["model"] = model  # not as a submodule of its own submodule
        self.__dict__["blocks"] = [model.get_submodule(name) for name in host.blocks]
        self._refuse()

    def _refuse(self) -> None:
        if len(set(self.blocks)) < len(self.blocks):
            raise HostError("a block that runs several times in one forward cannot be pruned")
        if hasattr(self.model, PLACE):
            raise HostError("the model is pruned already: leave the other `with` first")
        if any(watches(block) for block in self.blocks):
            raise HostError(
                "enter prune() before attach(), which asks at its beginning what is pruned"
            )
        for layer in self.ratios:
            windows = self.host.windows[layer] if self.host.windows else 0
            found = (
                ["windows"]
                if windows
                else [one for one in OF_PLACES if _has(self.blocks[layer], one)]
            )
            if found:
                raise HostError(
                    f"block {layer + 1} has {found[0]}, which belong to places: rows that are gathered would "
                    "lie elsewhere; prune blocks that treat tokens as a set"
                )
            if self.by == "attention" and not _reads_as_timm(self.blocks[layer]):
                raise HostError(
                    f"block {layer + 1} is not timm's Block with norm1 and attn.qkv, or norms queries and "
                    'keys: its class attention cannot be read before it runs; choose "norm" or "centre"'
                )
        if self.by == "attention" and self.host.class_token != 0:
            raise HostError(
                f"the model ({self.host.kind}) tells of no class token in front: choose another"
            )

    @contextmanager
    def installed(self) -> Iterator[Pruned]:
        """In the model, with the blocks' forwards around theirs."""
        with ExitStack() as undo:
            self.model.add_module(PLACE, self)
            undo.callback(delattr, self.model, PLACE)
            if self.by == "centre":
                cuts = patch_embedding(self.model, self.host)
                undo.callback(cuts.register_forward_hook(self._see_grid).remove)
            for layer, block in enumerate(self.blocks):
                decide = block.register_forward_pre_hook(self._decider(layer), with_kwargs=True)
                undo.callback(decide.remove)
                undo.callback(_restored, block, dict(block.__dict__))
                block.forward = self._around(layer, block.forward)
            yield self

    def _see_grid(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        self.grid_hw = (int(output.shape[-2]), int(output.shape[-1]))

    def _decider(self, layer: int) -> Callable[..., None]:
        """Decides before the block's own hooks: `attach` reads the mask before it looks at the tokens."""

        def decide(block: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            tokens = first_tensor((*args, *kwargs.values()))
            if tokens is None or tokens.ndim != 3:
                found = "none" if tokens is None else tuple(tokens.shape)
                raise HostError(
                    f"block {layer + 1}: expected tokens (B, {self.prefix} + N, C), found {found}"
                )
            self.masks[layer] = self.probes[layer](self._wanted(layer, tokens))

        return decide

    def _wanted(self, layer: int, tokens: Tensor) -> Bool[Tensor, "batch tokens"]:
        size = tokens.shape[1] - self.prefix
        count = max(1, round(self.ratios.get(layer, 1.0) * size))
        if count == size:
            return torch.ones(len(tokens), size, dtype=torch.bool, device=tokens.device)
        with torch.no_grad():
            score = SELECTIONS[self.by](self, layer, tokens)
        if score.shape != (len(tokens), size):
            raise HostError(
                f"block {layer + 1} has {size} tokens behind a prefix of {self.prefix}, the grid "
                f"{self.grid_hw}: give another prefix"
            )
        return highest(self.score_probes[layer](score), count)

    def _around(self, layer: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        """The forward of a block on the rows that are kept."""

        def run(*args: Any, **kwargs: Any) -> Any:
            keep = self.masks[layer]
            if bool(keep.all()):
                return forward(*args, **kwargs)
            self._only_tokens(layer, args, kwargs)
            return self._gathered(forward, args, kwargs, keep)

        return run

    @staticmethod
    def _only_tokens(layer: int, args: tuple, kwargs: dict[str, Any]) -> None:
        given = [*enumerate(args), *kwargs.items()]
        tensors = [name for name, value in given if isinstance(value, Tensor)]
        if len(tensors) > 1:
            raise HostError(
                f"block {layer + 1} is given {tensors[1]!r} beside its tokens, a tensor of places or masks: "
                "rows that are gathered would lie elsewhere; prune blocks that treat tokens as a set"
            )

    def _gathered(
        self, forward: Callable[..., Any], args: tuple, kwargs: dict[str, Any], keep: Tensor
    ) -> Any:
        tokens = first_tensor((*args, *kwargs.values()))
        kept = gather_kept(tokens[:, self.prefix :], keep)
        if kept.present is not None or not keep.any():
            raise HostError(
                "an edit keeps another number of tokens in each picture, or none, and the blocks of another "
                "model take no mask of keys: run the pictures one by one"
            )
        rows = torch.cat([tokens[:, : self.prefix], kept.rows], dim=1)
        swapped = [rows if one is tokens else one for one in args]
        named = {name: rows if one is tokens else one for name, one in kwargs.items()}
        output = forward(*swapped, **named)
        new = first_tensor(output)
        patches = scatter_kept(tokens[:, self.prefix :], kept, new[:, self.prefix :])
        whole = torch.cat([new[:, : self.prefix].to(patches.dtype), patches], dim=1)
        if isinstance(output, Tensor):
            return whole
        return type(output)(whole if one is new else one for one in output)


def _restored(block: nn.Module, before: dict[str, Any]) -> None:
    """The block's forward as it was: its class's, or one that somebody else had put there."""
    del block.forward
    if "forward" in before:
        block.forward = before["forward"]


def _has(block: nn.Module, name: str) -> bool:
    return any(getattr(module, name, None) is not None for module in block.modules())


def _reads_as_timm(block: nn.Module) -> bool:
    """Whether its attention reads `norm1` of the tokens by `qkv` alone. Others have the same names and norms
    behind the attention (`ResPostBlock`), biases of queries beside `qkv` (`EvaBlock`), or two attentions of
    which the difference counts (`DiffAttention`)."""
    attn = getattr(block, "attn", None)
    plain = all(isinstance(getattr(attn, one, None), nn.Identity) for one in ("q_norm", "k_norm"))
    known = is_of(block, "timm", ("Block",)) and is_of(attn, "timm", ("Attention",))
    return plain and known and isinstance(getattr(attn, "qkv", None), nn.Linear)


def _random(pruned: Pruned, layer: int, tokens: Tensor) -> Float[Tensor, "batch tokens"]:
    like = tokens[:, pruned.prefix :, 0].float()
    return uniform(like, [pruned.seed] * len(tokens), layer)


def _norm(pruned: Pruned, layer: int, tokens: Tensor) -> Float[Tensor, "batch tokens"]:
    return torch.linalg.vector_norm(tokens[:, pruned.prefix :].float(), dim=-1)


def _centre(pruned: Pruned, layer: int, tokens: Tensor) -> Float[Tensor, "batch tokens"]:
    grid = TokenGrid(pruned.grid_hw, pruned.grid_hw, pruned.grid_hw, patch=1)
    distance = torch.from_numpy(central(grid).ravel()).float().to(tokens.device)
    return -distance.expand(len(tokens), -1)


def _attention(pruned: Pruned, layer: int, tokens: Tensor) -> Float[Tensor, "batch tokens"]:
    """The class token's logits, mean over heads, up to a constant a picture: see `IdleViT`."""
    block = pruned.blocks[layer]
    attn = block.attn
    dim = tokens.shape[2]
    normed = block.norm1(tokens)
    query = nn.functional.linear(
        normed[:, :1], attn.qkv.weight[:dim], None if attn.qkv.bias is None else attn.qkv.bias[:dim]
    )
    reading = query @ attn.qkv.weight[dim : 2 * dim]
    return (normed[:, pruned.prefix :] @ reading.transpose(1, 2)).squeeze(2).float()


SELECTIONS: dict[str, Score] = {
    "random": _random,
    "norm": _norm,
    "centre": _centre,
    "attention": _attention,
}


def falling(base: float, depth: int) -> list[float]:
    """Keep ratios behind the first quarter of the blocks: r, r², r³, a quarter of them each (Fig. 7)."""
    quarter = max(1, depth // 4)
    return [base ** min(3, 1 + block // quarter) for block in range(depth - quarter)]


def rate_curve(
    model: nn.Module,
    measure: Callable[[], float],
    selections: Sequence[str] = ("random", "norm", "centre"),
    bases: Sequence[float] = BASES,
    **options: Any,
) -> pd.DataFrame:
    """What a model loses without tokens that nobody chose well: a line to measure every method against.

    Args:
        measure: runs the model and returns a number, such as its AP; called once for the model as it is and
            once for each selection and base ratio.
        bases: r of `falling`.
        options: of `prune`.

    Returns:
        One row a measurement: selection ("none" for the whole model), base, keep_ratio (mean over all
        blocks), value.

    Raises:
        HostError, ValueError: as `prune`.
    """
    depth = len(host_of(model, options.get("blocks", "auto")).blocks)
    rows = [("none", 1.0, 1.0, measure())]
    for by in selections:
        for base in bases:
            ratios = falling(base, depth)
            with prune(model, by, ratios, **options):
                value = measure()
            rows.append((by, base, (sum(ratios) + depth - len(ratios)) / depth, value))
    return pd.DataFrame(rows, columns=["selection", "base", "keep_ratio", "value"])
