"""Recording any torch module with transformer blocks: what each block does to each token.

    with attach(model) as tape:
        model(pictures)
    tape["blocks.3.update"]      # (B, N)
    tape.traces(samples)         # as of `record`, with measures

Hooks stand on the patch embedding and on the blocks; outputs stay bit for bit, and no hook outlives the
`with`. Which blocks, how many class and register tokens, which windows: `svit.probing.adapters` knows it of
some libraries; of others it is found by planting a patch (`svit.probing.planting`), in the first forward.
What cannot be told is an error. docs/any-model.md has the names of what a tape holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from svit.probing import rows as rowmaps
from svit.probing.adapters import tome
from svit.probing.adapters.find import Blocks, host_of, patch_embedding
from svit.probing.adapters.host import Host, HostError
from svit.probing.attention import AttentionReader
from svit.probing.planting import (
    Grid,
    entered,
    find_prefix,
    first_tensor,
    given_sizes,
    one_a_picture,
    padded_only,
    token_side,
)
from svit.probing.received import Received
from svit.probing.recorder import Seam, Tape, listening, probes_of
from svit.probing.rows import Rows
from svit.pruning.base import TokenProbe

KEPT_TENSORS = ("hook_in", "hook_out")
LARGEST = 65504.0  # of a float16: a row that was all zeros has no relative update, and changed
Tokens = Callable[[Tensor, Grid], Tensor]


@contextmanager
def attach(
    model: nn.Module,
    blocks: Blocks = "auto",
    grid: str | Grid | Callable[[Tensor], Grid] = "auto",
    prefix: str | int = "auto",
    *,
    tokens: str | Tokens = "auto",
    kept: Callable[[int], Tensor | None] | None = None,
    attention: bool | None = None,
    class_attention: bool = False,
    tensors: Sequence[str] = (),
) -> Iterator[Tape]:
    """Records every forward inside the `with`; the tape holds the last one.

    Args:
        model: any module; the blocks may lie deep in it.
        blocks: "auto", a pattern of dotted names (`backbone.blocks.*`), or names or modules in the order in
            which they run. A module that stands several times runs so many times.
        grid: "auto": what the patch embedding makes; or (rows, columns), or a function of the pictures
            (B, channels, height, width) that the trunk is given.
        prefix: tokens of a block before those of the picture; "auto" asks the adapter or plants patches.
        tokens: input of a block (B, ..., C) and grid -> (B, N, C) in raster order, for models that reorder
            tokens; "raster" vouches that they do not, where none can be planted (in training).
        kept: zero-based block -> which tokens its rows are, where the model drops or merges some: a mask bool
            (B, N), raster indices int (B, rows) or a matrix (B, rows, N) that is positive where a row carries
            a token. `TokenProbe`s in the model and ToMe's sources are found.
        attention: whether attention received is recorded: None, where every block shows it; True demands it.
        class_attention: whether that of the class token is too; demanded, as attention received then is.
        tensors: of `KEPT_TENSORS`: tokens (B, N, C) before and behind each block, on the model's device.

    Raises:
        HostError: no blocks or several lists, no grid, a model that is traced or compiled, probes that count
            more blocks than are named; inside, tokens or attention that was demanded that cannot be told.
    """
    unknown = set(tensors) - set(KEPT_TENSORS)
    if unknown:
        raise HostError(f"tensors: expected some of {KEPT_TENSORS}, found {sorted(unknown)}")
    host = host_of(model, blocks)
    if prefix != "auto":
        host = replace(host, prefix=int(prefix))
    start, grid_hw, patch = _geometry(model, host, grid)
    probes = probes_of(model)
    _check_numbers(probes, len(host.blocks))
    tape = Tape(patch, len(host.blocks))
    watch = _Watch(tape, model, host, tokens, attention, class_attention, tuple(tensors))
    watch.told = kept or tome.kept(model) or (tape.masks.get if probes else None)
    seam = Seam(start, grid_hw, patch, len(host.blocks), tuple(probes))
    with ExitStack() as hooks:
        watch.install(hooks, seam)
        yield tape


def _check_numbers(probes: Sequence[TokenProbe], blocks: int) -> None:
    """Refuses a part of the blocks whose probes go by their numbers among all."""
    last = max((probe.layer for probe in probes), default=-1)
    if last >= blocks:
        raise HostError(
            f"probes in the model count blocks up to {last + 1}, and {blocks} are named: masks would stand "
            "at other blocks; leave `blocks` out, or name all that the probes count"
        )


def _geometry(
    model: nn.Module, host: Host, grid: str | Grid | Callable[[Tensor], Grid]
) -> tuple[nn.Module, Callable[[Tensor], Grid], int]:
    """The module that is given pictures, their grid, and pixels of a token's side (0: not known yet)."""
    if grid == "auto":
        cuts = patch_embedding(model, host)
        return cuts, lambda pictures: _cut(cuts, pictures), int(cuts.stride[0])
    trunk = model.get_submodule(host.trunk)
    if callable(grid):
        return trunk, grid, 0
    rows, columns = (int(side) for side in grid)
    return trunk, lambda pictures: (rows, columns), 0


def _cut(cuts: nn.Conv2d, pictures: Tensor) -> Grid:
    padding = cuts.padding if isinstance(cuts.padding, tuple) else (0, 0)
    rows, columns = (
        (side + 2 * pad - size) // step + 1
        for side, pad, size, step in zip(
            pictures.shape[-2:], padding, cuts.kernel_size, cuts.stride
        )
    )
    return rows, columns


def watches(block: nn.Module) -> bool:
    """Whether an `attach` is open on a block."""
    hooks = block._forward_pre_hooks.values()
    return any(isinstance(getattr(hook, "__self__", None), _Watch) for hook in hooks)


# whether a recording of this thread tries just now how tokens lie; those of others go on
_PLANTING: ContextVar[bool] = ContextVar("planting", default=False)


class _Watch:
    """The hooks of one `attach`: measures blocks as they run and writes the tape."""

    def __init__(
        self,
        tape: Tape,
        model: nn.Module,
        host: Host,
        tokens: str | Tokens,
        attention: bool | None,
        class_attention: bool,
        tensors: tuple[str, ...],
    ) -> None:
        self.tape, self.model, self.host = tape, model, host
        self.tokens, self.tensors = tokens, tensors
        self.demanded = bool(attention or class_attention)
        reads = self.demanded or attention is None
        self.reader = AttentionReader(self.demanded) if reads else None
        self.unread = False
        self.wanted = [
            name
            for name, asked in (("attention", attention), ("class_attention", class_attention))
            if asked is not False
        ]
        self.told: Callable[[int], Tensor | None] | None = None
        self.places: dict[nn.Module, list[int]] = {}
        for layer, name in enumerate(host.blocks):
            self.places.setdefault(model.get_submodule(name), []).append(layer)
        self.inside = self.planting = self.planted = False
        self.given: list[Grid] = []
        self.batch = 0
        self.runs: dict[nn.Module, int] = {}
        self.before: tuple[int, Tensor, Rows] | None = None
        if class_attention and host.class_token is None:
            raise HostError(
                f"the model ({host.kind}) tells of no class token: record without class_attention"
            )

    def install(self, hooks: ExitStack, seam: Seam) -> None:
        """Hooks that end with the stack; those on blocks once it is known how tokens lie."""
        if self.tokens == "auto" and not self.host.known:
            first = self.model.register_forward_pre_hook(
                lambda module, args, kwargs: self._plant(hooks, seam, args, kwargs),
                with_kwargs=True,
            )
            hooks.callback(first.remove)
        else:
            self._listen(hooks, seam)

    def _plant(self, hooks: ExitStack, seam: Seam, args: tuple, kwargs: dict[str, Any]) -> None:
        """Before the first forward of a model that no adapter knows."""
        if self.planting or self.planted:
            return
        if _PLANTING.get():
            raise HostError(
                "another recording of this model is open, and both would try how its tokens lie: tell the "
                'inner one, as attach(model, tokens="raster", prefix=1)'
            )
        if self.model.training:
            raise HostError(
                "no adapter knows how tokens lie in this model, and in training it cannot be tried: call "
                'model.eval(), or vouch for raster order with tokens="raster" and a prefix'
            )
        self.planting, before_it = True, _PLANTING.set(True)
        held = [(module, dict(vars(module))) for module in self.model.modules()]
        try:
            found = find_prefix(
                lambda: self.model(*args, **kwargs),
                seam.start,
                self.model.get_submodule(self.host.blocks[0]),
                seam.grid_hw,
                self._rows_in_order,
            )
        finally:
            self.planting = False
            _PLANTING.reset(before_it)
            for module, before in held:  # what a forward uses up, as the seeds of its random masks
                vars(module).update(before)
        if self.host.prefix not in (None, found):
            raise HostError(
                f"a prefix of {self.host.prefix} was given, and planted patches lie behind {found} tokens"
            )
        self.host, self.planted = replace(self.host, prefix=found), True
        self._listen(hooks, seam)
        self._begin_call(
            args, kwargs
        )  # the forward that goes on: torch calls no hook it gets on its way
        if self.model is seam.start:
            self.tape.begin(seam.grid_hw(entered(args, kwargs)))
            self._begin(self.model, args, kwargs)

    def _listen(self, hooks: ExitStack, seam: Seam) -> None:
        self.tape.prefix = self.host.prefix or 0
        hooks.enter_context(listening(seam, self.tape))
        begin = seam.start.register_forward_pre_hook(self._begin, with_kwargs=True)
        hooks.callback(begin.remove)
        if self.model is not seam.start:
            outer = self.model.register_forward_pre_hook(
                lambda module, args, kwargs: self._begin_call(args, kwargs),
                with_kwargs=True,
                prepend=True,
            )
            hooks.callback(outer.remove)
        hooks.callback(self.model.register_forward_hook(lambda *_: self._end_call()).remove)
        for block in self.places:
            before = block.register_forward_pre_hook(self._before, with_kwargs=True)
            after = block.register_forward_hook(self._after)
            # also where the block fails, or whatever runs next would be taken for its attention
            ended = block.register_forward_hook(lambda *_: self._end_block(), always_call=True)
            for handle in (before, after, ended):
                hooks.callback(handle.remove)
        if self.reader is not None:
            hooks.enter_context(self.reader)

    def _begin_call(self, args: tuple, kwargs: dict[str, Any]) -> None:
        self.inside, self.tape.calls = True, 0
        self.given = given_sizes(args, kwargs)

    def _end_call(self) -> None:
        self.inside = False

    def _end_block(self) -> None:
        if self.reader is not None:
            self.reader.read = None

    def _begin(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        """A new batch of pictures enters the model; those that another recording plants are none."""
        if _PLANTING.get():
            return
        pictures = entered(args, kwargs)
        tape = self.tape
        tape.calls = tape.calls + 1 if self.inside else 1
        self.batch, self.runs, self.before, self.unread = len(pictures), {}, None, False
        given = self.given if self.inside else []
        tape.resized = bool(given) and not padded_only(pictures, given)
        if self.reader is not None:
            self.reader.read = None
        if not isinstance(module, nn.Conv2d):
            tape.patch = token_side(pictures, tape.grid_hw)

    def _before(self, block: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        if _PLANTING.get():
            return
        if not self.batch:
            raise HostError("a block ran before its patch embedding: give grid=(rows, columns)")
        count = self.runs.get(block, 0)
        places = self.places[block]
        if count == len(places):
            raise HostError(
                f"block {places[-1] + 1} ran {count + 1} times in one forward: list it in `blocks` as often"
            )
        layer, self.runs[block] = places[count], count + 1
        tokens = first_tensor((*args, *kwargs.values()))
        held = self._patches(tokens, layer)
        rows = self._rows(layer, layer, held.shape[1])
        self.tape.masks.setdefault(layer, rows.keep.clone())  # models may write over what they gave
        if rows.group is not None:
            self.tape.groups.setdefault(layer, rows.group)
        self.before = layer, held.detach().clone(), rows  # a block may write over its input
        if self.reader is not None:
            self.reader.hidden = ""
            self.reader.read = Received(
                layer,
                rows,
                len(tokens),
                self.host,
                self.tape.grid_hw,
                self.wanted,
                self.tokens if callable(self.tokens) else None,
            )

    def _after(self, block: nn.Module, args: tuple, output: Any) -> None:
        layer, old, rows = self.before
        if self.reader is not None:
            self._keep_attention(layer)
        new = self._patches(first_tensor(output), layer).detach()
        self.tape.finite[layer] = new.isfinite().flatten(1).all(dim=1)
        then = rows if new.shape == old.shape else self._rows(layer, layer + 1, new.shape[1])
        if then is not rows:
            old, new, rows = rows.spread(old), then.spread(new), None
        old, new = old.float(), new.float()
        size, change = old.norm(dim=-1), (new - old).norm(dim=-1)
        # a row of zeros that stays one did not change
        update = torch.where(change > 0, change / size, change).clamp(max=LARGEST)
        values = {"update": update, "norm": new.norm(dim=-1)}
        if rows is not None:
            values = {name: rows.spread(one) for name, one in values.items()}
        else:
            gone = size.isnan()
            values = {name: one.masked_fill(gone, float("nan")) for name, one in values.items()}
        for name, one in values.items():
            self.tape.measures.setdefault(name, {})[layer] = one
        for name, one in (("hook_in", old), ("hook_out", new)):
            if name in self.tensors:
                kept = one if rows is None else rows.spread(one)
                self.tape.tensors.setdefault(name, {})[layer] = kept.clone()
        self.before = None

    def _keep_attention(self, layer: int) -> None:
        received, self.reader.read = self.reader.read, None
        if not self.demanded and (self.unread or received is None or not received.found):
            self.unread = True  # a measure is one of all blocks
            self.tape.measures.pop("attention", None)
            return
        if not received.found:
            why = f" ({self.reader.hidden} shows no q and k)" if self.reader.hidden else ""
            raise HostError(
                f"the attention of block {layer + 1} cannot be read{why}: it ran neither softmax over its "
                "tokens nor scaled_dot_product_attention; choose another implementation (as "
                'attn_implementation="sdpa"), or attach with attention=False'
            )
        for name, one in received.found.items():
            self.tape.measures.setdefault(name, {})[layer] = received.rows.spread(one)

    def _rows_in_order(self, tokens: Tensor, grid: Grid) -> Tensor:
        """What a block is given as (B, rows, C): sequences as they are, maps in raster order."""
        if callable(self.tokens):
            return self.tokens(tokens, grid)
        if tokens.ndim == 3:
            return tokens
        last, first = tokens.shape[1:3] == grid, tokens.shape[2:4] == grid
        if last == first:
            raise HostError(
                f"expected tokens (B, rows, C) or maps of {grid[0]}x{grid[1]} tokens in a block, found "
                f"{tuple(tokens.shape)}: name blocks of one grid, or say how tokens lie, as "
                "tokens=lambda x, grid: (batch, rows * columns, channels)"
            )
        return tokens.flatten(1, 2) if last else tokens.flatten(2).transpose(1, 2)

    def _patches(self, tokens: Tensor | None, layer: int) -> Tensor:
        """The rows of a block that carry tokens of the picture: (B, rows, C)."""
        if tokens is None:
            raise HostError(f"block {layer + 1} takes or gives no tokens (B, rows, C)")
        ordered = self._rows_in_order(tokens, self.tape.grid_hw)
        one_a_picture(ordered, self.batch, f"block {layer + 1}")
        plain = tokens.ndim == 3 and not callable(self.tokens)
        return ordered[:, self.host.prefix or 0 :] if plain else ordered

    def _rows(self, layer: int, now: int, count: int) -> Rows:
        """Which tokens the rows are: all of them, or what the model says."""
        total = self.tape.grid_hw[0] * self.tape.grid_hw[1]
        told = None if self.told is None else self.told(now)
        if told is None and count == total:
            device = next(self.model.parameters()).device
            return rowmaps.everything(self.batch, total, device)
        given = (count, total, self.host.prefix or 0, self.tape.groups.get(now))
        found = None if told is None else rowmaps.of_told(told, *given)
        if found is None:
            rows, columns = self.tape.grid_hw
            says = "does not say which" if told is None else f"says {tuple(told.shape)}"
            raise HostError(
                f"block {layer + 1} has {count} tokens behind a prefix of {self.host.prefix or 0}, the grid "
                f"{rows}x{columns}, and the model {says}: give prefix or grid, or kept=lambda block: a mask "
                "(B, N), indices (B, rows) or a matrix (B, rows, N) of the tokens that are there"
            )
        return found
