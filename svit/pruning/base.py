"""What every pruning method shares: the probes, the protocol, and three ways to run a block on kept tokens.

Vocabulary of shapes: B images, N tokens of the padded grid in raster order, C channels.

The probe is the only door: a method passes its decision for block l through `TokenProbe` l. A forward hook
on it reads the mask (recording) or returns another one (editing). Source of the block equations: paper 3.3.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from svit.core.catalogue import Traits
from svit.core.config import PruningConfig
from svit.core.types import FrameId
from svit.pruning.options import check_choice, check_ratios, schedule

Call = TypeVar("Call", bound=Callable[..., Any])
Block = Callable[..., Tensor]  # rows (B, K, C), key_mask bool (B, K) or None -> rows


class TokenProbe(nn.Identity):
    """Identity on the keep mask of one block: bool (B, N), True where the token is used as a query.

    What its hooks make of the mask is what the block uses.
    """

    def __init__(self, layer: int) -> None:
        super().__init__()
        self.layer = layer

    def extra_repr(self) -> str:
        """What `print(model)` shows of it."""
        return f"layer={self.layer}"


class ScoreProbe(TokenProbe):
    """Identity on the keep scores of one block: float32 (B, N); the token is kept where score > 0.

    What its hooks make of the scores is what the method decides by.
    """


def in_stage(stage: str) -> Callable[[Call], Call]:
    """Declares that what a method of a module does is a stage of the network: "blocks", or "selection" for
    what a pruning method spends on its decision.

    The method is left as it is; `svit benchmark` times it while it measures.
    """

    def declare(function: Call) -> Call:
        function.stage = stage
        return function

    return declare


def declared_stages(module: nn.Module) -> list[tuple[Callable[..., Any], str]]:
    """The methods of a module that are declared to be a stage, each with its stage."""
    functions = inspect.getmembers(type(module), inspect.isfunction)
    return [
        (getattr(module, name), function.stage)
        for name, function in functions
        if hasattr(function, "stage")
    ]


@dataclass
class State:
    """What one forward carries from block to block. It lives as long as the forward.

    Attributes:
        seeds: one integer an image for methods that draw random numbers at inference; None takes them
            from torch's generator.
        gates: block -> differentiable keep values (B, N) in {0, 1}, filled in training for the ratio loss.
        previous: the keep mask (B, N) of the last block, None before the first.
        class_token: (B, 1, C) of methods that own an artificial class token.
        extra: what one method alone carries along, by name.
        grid_hw: token rows and columns; None where a method is run without a backbone.
        cover: float32 (B, N), share of each token that objects cover; only for methods `taught` by it.
        frames: of which video each image is, and which frame; None of pictures alone.
    """

    seeds: list[int] | None = None
    gates: dict[int, Tensor] = field(default_factory=dict)
    previous: Tensor | None = None
    class_token: Tensor | None = None
    extra: dict[str, Tensor] = field(default_factory=dict)
    grid_hw: tuple[int, int] | None = None
    cover: Tensor | None = None
    frames: list[FrameId | None] | None = None


@dataclass(frozen=True)
class Fitted:
    """A buffer, one number a deciding block, that `svit.probing.calibrate` fits on training images.

    Attributes:
        buffer: its name.
        compares: True for thresholds of the block's scores; False for numbers of which a larger one
            makes the block keep more tokens.
        mode: the inference mode that decides by it; "" where every mode does.
        published: whether the values it starts with are its authors', so that weights of another method,
            which lack it, run with these.
    """

    buffer: str
    compares: bool
    mode: str = ""
    published: bool = False


class Method(nn.Module):
    """A pruning method: owns its gates and probes, runs each block on the tokens it chooses.

    A subclass writes `forward` and overrides what is different with it; the last arguments of its
    constructor are its documented options, which `PruningConfig.options` fills. What is declared here is
    all that the workbench asks a method for; the rest stands in its entry of `svit.core.catalogue`.
    What it spends on its decision is timed where it is marked by `in_stage("selection")`.

    Args:
        dim: channels C of a token.
        depth: number of blocks.
        heads: attention heads of a block.

    Attributes:
        modes: ways to decide outside of training that `set_inference` chooses from; empty for one way.
        inference: the mode it decides by; "" for a method with one way.
        fits: what calibration fits, or None.
        taught: whether its losses need to know what objects cover (`State.cover`).
        noise_scale: factor of the noise in the decisions of a training, which a trainer may lower to 0;
            None for a method that draws none.
        traits: what it selects by and preserves with its options; `build_method` sets them, and
        settings: its name in the catalogue with the options that were given.
        locations: zero-based blocks that decide, ascending.
        keep_ratios: share of all N tokens that each of them is to keep.
        staged: whether a decision holds until the next one, or for its block only.
        gates: networks that score tokens.
    """

    modes: ClassVar[tuple[str, ...]] = ()
    fits: ClassVar[Fitted | None] = None
    taught: ClassVar[bool] = False
    traits: Traits
    settings: PruningConfig

    def __init__(self, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        self.dim, self.depth, self.heads = dim, depth, heads
        self.inference = ""
        self.noise_scale: float | None = None
        self.locations: list[int] = []
        self.keep_ratios: list[float] = []
        self.staged = False
        self.probes = nn.ModuleList(TokenProbe(layer) for layer in range(depth))
        self.score_probes = nn.ModuleList(ScoreProbe(layer) for layer in range(depth))
        self.gates = nn.ModuleList()

    def decide_at(
        self, keep_ratios: Sequence[float], locations: Sequence[int] | None, *, staged: bool = False
    ) -> None:
        """Sets which blocks decide, one a keep ratio; without locations the last ones, or if `staged`
        the first of each later quarter.

        Raises:
            ValueError: a ratio outside (0, 1], or locations that do not match.
        """
        self.keep_ratios, self.locations = schedule(
            keep_ratios, locations, self.depth, stages=staged
        )
        self.staged = staged

    def set_keep_ratios(self, ratios: Sequence[float]) -> None:
        """Sets what share of all tokens each deciding block is to keep. What was learned or fitted for other
        ratios stays: gates and levels follow when they are fitted anew (`svit.probing.calibrate`).

        Raises:
            ValueError: not one a deciding block, or a ratio outside (0, 1].
        """
        check_ratios(ratios)
        if len(ratios) != len(self.locations):
            expected = f"expected {len(self.locations)} keep ratios (one a deciding block)"
            raise ValueError(f"{expected}, found {len(ratios)}")
        self.keep_ratios = [float(ratio) for ratio in ratios]

    def set_inference(self, mode: str) -> None:
        """Chooses how masks are made outside training: one of `modes`.

        Raises:
            ValueError: no such mode.
        """
        if not self.modes:
            raise ValueError(f"inference: the method decides in one way only, found {mode!r}")
        check_choice("inference", mode, self.modes)
        self.inference = mode

    @property
    def compares_scores(self) -> bool:
        """Whether tokens are kept by comparing scores with a number: moved scores prune more or less."""
        return False

    @property
    def fitted(self) -> Tensor:
        """The numbers that calibration fits, float32 (deciding blocks,); only of methods with `fits`."""
        return self.get_buffer(self.fits.buffer)

    def begin(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        class_position: Float[Tensor, "1 1 dim"],
        seeds: list[int] | None = None,
    ) -> State:
        """The state of a new forward; `class_position` is the position embedding of a class token."""
        return State(seeds=seeds)

    def forward(
        self, layer: int, block: nn.Module, tokens: Float[Tensor, "batch tokens dim"], state: State
    ) -> Float[Tensor, "batch tokens dim"]:
        """The dense map after block `layer` ran on the tokens this method keeps, in the type of `tokens`."""
        raise NotImplementedError

    def decide_beside(
        self, index: int, rows: Float[Tensor, "batch extra dim"], state: State
    ) -> Float[Tensor, "batch extra"] | None:
        """What deciding block `index` makes of tokens that lie beside the map, as a classifier's class token:
        0 or 1, in training with the gradient of the soft decision; None where it decides of the map alone."""
        return None

    def losses(self, state: State) -> dict[str, Tensor]:
        """Extra training losses of a finished forward, scalars by name, already weighted."""
        return {}

    def target_ratios(self) -> list[float]:
        """Target share of kept tokens for every block; 1 where the method does not prune."""
        targets = [1.0] * self.depth
        for location, ratio in zip(self.locations, self.keep_ratios):
            end = self.depth if self.staged else location + 1
            targets[location:end] = [ratio] * (end - location)
        return targets

    def run_open_block(self, layer: int, block: nn.Module, tokens: Tensor, state: State) -> Tensor:
        """A block that keeps everything, and says so; an edited probe prunes it all the same."""
        everything = all_tokens(tokens)
        keep = self.probe(layer, everything, state)
        # no hook answered: skip the gather (comparing values would cost a device synchronisation)
        if keep is everything:
            return block(tokens)
        return run_masked(block, tokens, keep) if self.training else run_block(block, tokens, keep)

    def probe(self, layer: int, keep: Bool[Tensor, "batch tokens"], state: State) -> Tensor:
        """The decision for a block after recording and edits. Every method calls it once a block."""
        state.previous = self.probes[layer](keep)
        return state.previous


def all_tokens(tokens: Float[Tensor, "batch tokens dim"]) -> Bool[Tensor, "batch tokens"]:
    """A keep mask that keeps everything."""
    return torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)


def straight_through(
    keep: Tensor, soft: Float[Tensor, "batch tokens"]
) -> Float[Tensor, "batch tokens"]:
    """Values of `keep` (0 or 1) with the gradient of `soft` (straight-through estimator, paper Eq. 1)."""
    return keep.to(soft.dtype) + (soft - soft.detach())


def run_masked(
    block: Block,
    tokens: Float[Tensor, "batch tokens dim"],
    keep: Bool[Tensor, "batch tokens"],
    gate: Float[Tensor, "batch tokens"] | None = None,
    *,
    preserve: bool = True,
) -> Float[Tensor, "batch tokens dim"]:
    """Training form of Eq. 1: all rows are computed, pruned keys are invisible, outputs are blended.

    x <- M * Block(x, M) + (1 - M) * x. A pruned token does not even see itself (methods.md 6.3). An image
    that keeps nothing attends to everything and discards the result, so values and gradients stay finite.

    Args:
        gate: differentiable values of `keep`; without it pruned rows pass through bit-identical.
        preserve: False replaces (1 - M) * x by zero (token removal).
    """
    empty = ~keep.any(dim=1, keepdim=True)
    updated = block(tokens, key_mask=keep | empty)
    old = tokens if preserve else torch.zeros_like(tokens)
    if gate is None:
        return torch.where(keep.unsqueeze(-1), updated, old)
    weight = gate.unsqueeze(-1).to(updated.dtype)
    return weight * updated + (1 - weight) * old


def run_gathered(
    block: Block,
    tokens: Float[Tensor, "1 tokens dim"],
    keep: Bool[Tensor, "1 tokens"],
    *,
    preserve: bool = True,
) -> Float[Tensor, "1 tokens dim"]:
    """Batch-1 inference: gather the kept rows, run the block on them, scatter them back.

    Pruned rows are bit-identical before and after; with nothing kept the block is skipped.
    """
    old = tokens if preserve else torch.zeros_like(tokens)
    index = keep[0].nonzero().squeeze(1)
    if index.numel() == 0:
        return old
    if index.numel() == keep.shape[1]:
        return block(tokens)
    updated = block(tokens.index_select(1, index)).to(old.dtype)
    # the caller still holds `tokens`: only a map of our own may be written in place
    return old.index_copy(1, index, updated) if preserve else old.index_copy_(1, index, updated)


@dataclass(frozen=True)
class Kept:
    """Kept rows of a batch, left-aligned and padded to the longest image.

    Attributes:
        rows: (B, K, C).
        index: int64 (B, K), the raster position of each row.
        present: bool (B, K), False for padding rows (which are pruned tokens of that image); None where
            nothing is padded, which spares attention its mask.
    """

    rows: Tensor
    index: Tensor
    present: Tensor | None


def gather_kept(
    tokens: Float[Tensor, "batch tokens dim"], keep: Bool[Tensor, "batch tokens"]
) -> Kept:
    """The kept rows in raster order; K is the largest count of the batch (0 if nothing is kept)."""
    if len(tokens) == 1:  # one index for all channels: no sort, no padding
        index = keep[0].nonzero().squeeze(1)
        return Kept(tokens.index_select(1, index), index.unsqueeze(0), None)
    counts = keep.sum(dim=1, keepdim=True)
    shortest, longest = torch.stack(counts.aminmax()).tolist()
    order = torch.argsort(keep.to(torch.uint8), dim=1, descending=True, stable=True)
    index = order[:, :longest]
    rows = tokens.gather(1, _rows(index, tokens))
    if shortest == longest:
        return Kept(rows, index, None)
    return Kept(rows, index, torch.arange(longest, device=tokens.device) < counts)


def scatter_kept(
    old: Float[Tensor, "batch tokens dim"], kept: Kept, updated: Float[Tensor, "batch kept dim"]
) -> Float[Tensor, "batch tokens dim"]:
    """`old` with the kept rows replaced by `updated`: the inverse of `gather_kept`."""
    new = updated.to(old.dtype)
    if len(old) == 1:
        return old.index_copy(1, kept.index[0], new)
    rows = _rows(kept.index, old)
    if kept.present is not None:  # a padding row is a pruned token: it gets back what it had
        new = torch.where(kept.present.unsqueeze(-1), new, old.gather(1, rows))
    return old.scatter(1, rows, new)


def _rows(index: Tensor, tokens: Tensor) -> Tensor:
    return index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1])


def run_padded(
    block: Block,
    tokens: Float[Tensor, "batch tokens dim"],
    keep: Bool[Tensor, "batch tokens"],
    *,
    preserve: bool = True,
) -> Float[Tensor, "batch tokens dim"]:
    """Inference with unequal counts: kept rows are left-aligned, padded to the longest, keys masked."""
    old = tokens if preserve else torch.zeros_like(tokens)
    kept = gather_kept(tokens, keep)
    if kept.index.shape[1] == 0:
        return old
    seen = kept.present
    if seen is not None:
        seen = seen | ~seen.any(dim=1, keepdim=True)  # an image that keeps nothing sees everything
    return scatter_kept(old, kept, block(kept.rows, key_mask=seen))


def run_block(
    block: Block,
    tokens: Float[Tensor, "batch tokens dim"],
    keep: Bool[Tensor, "batch tokens"],
    *,
    preserve: bool = True,
) -> Float[Tensor, "batch tokens dim"]:
    """Inference on kept tokens by the execution that suits the batch; all executions agree to 1e-5."""
    run = run_gathered if tokens.shape[0] == 1 else run_padded
    return run(block, tokens, keep, preserve=preserve)
