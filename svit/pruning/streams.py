"""What methods with state over frames share: a token's block runs again, or what it gave before stands.

In a frame of a video every deciding block runs on the tokens that the method chooses; all others take what
the block last made of them. The chosen ones look at all tokens: the keys and values of the others are those
of the frame in which each was last computed. So "kept" means recomputed, and an edit or a control that keeps
other tokens reuses in the same way. A token that was never computed passes unchanged and is no key.

The first frame is computed whole. A picture that belongs to no video is one of a single frame: the dense
model. A training sees such pictures alone.

Source of the mechanism: Eventful Transformers (Dutson et al., ICCV 2023) 4, whose gates stand before each
linear layer; here one stands before each block.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from svit.core.types import Detections, FrameId, TokenGrid
from svit.pruning.base import Method, State, all_tokens, in_stage


class StreamError(ValueError):
    """A frame does not follow the one before it; the message says what was found and what would."""


@dataclass(frozen=True)
class Stored:
    """What a block has of its tokens, each from the frame in which it was last computed.

    Attributes:
        known: bool (1, N), tokens that were computed at all; the rest holds nothing.
        rows: (1, N, C), what came in.
        key, value: (1, heads, N, C / heads), of its attention.
        output: (1, N, C), what came out.
    """

    known: Bool[Tensor, "1 tokens"]
    rows: Tensor | None = None
    key: Tensor | None = None
    value: Tensor | None = None
    output: Tensor | None = None

    def change(self, tokens: Float[Tensor, "1 tokens dim"]) -> Float[Tensor, "1 tokens"]:
        """||x - x'|| / ||x'|| of each token x and what it was when it was last computed, x'; float32,
        infinite for one that never was."""
        if self.rows is None:
            return torch.full_like(tokens[..., 0], float("inf"), dtype=torch.float32)
        before = self.rows.float()
        moved = torch.linalg.vector_norm(tokens.float() - before, dim=-1)
        length = torch.linalg.vector_norm(before, dim=-1).clamp(min=1e-12)
        return (moved / length).masked_fill(~self.known, float("inf"))

    def refreshed(
        self,
        block: nn.Module,
        tokens: Float[Tensor, "1 tokens dim"],
        keep: Bool[Tensor, "1 tokens"],
    ) -> Stored:
        """The same after the block ran on the kept tokens."""
        index = keep[0].nonzero().squeeze(1)
        if not index.numel():
            return self
        rows = tokens.index_select(1, index)
        query, key, value = block.attn.project(block.norm1(rows))
        count, known = tokens.shape[1], self.known | keep
        key, value = (
            _put(old, new, index, count, 2) for old, new in ((self.key, key), (self.value, value))
        )
        seen = None if bool(known.all()) else known
        mixed = rows + block.drop_path(block.attn.mix(query, key, value, seen))
        output = _put(self.output, block.feed_forward(mixed).to(tokens.dtype), index, count, 1)
        return Stored(known, _put(self.rows, rows, index, count, 1), key, value, output)

    def over(self, tokens: Float[Tensor, "1 tokens dim"]) -> Float[Tensor, "1 tokens dim"]:
        """What the block gives: stored outputs, and tokens that were never computed as they came."""
        if self.output is None:
            return tokens
        return torch.where(self.known.unsqueeze(-1), self.output, tokens)


def _put(old: Tensor | None, new: Tensor, index: Tensor, count: int, dim: int) -> Tensor:
    """`new` rows in the places `index` of `count` along a dimension, the others as in `old`; always another
    tensor than `old`, which a caller may still hold."""
    if len(index) == count:
        return new
    if old is None:
        shape = list(new.shape)
        shape[dim] = count
        old = new.new_zeros(shape)
    return old.index_copy(dim, index, new.to(old.dtype))


@dataclass
class Stream:
    """What is carried from frame to frame of one video.

    Attributes:
        frame: the last one.
        grid_hw: its token rows and columns.
        blocks: zero-based deciding block -> what it has of its tokens.
        hints: what the method itself keeps of a frame for the next, float32 (1, N); None where there is
        nothing.
    """

    frame: FrameId | None = None
    grid_hw: tuple[int, int] | None = None
    blocks: dict[int, Stored] = field(default_factory=dict)
    hints: Tensor | None = None

    def follow(self, frame: FrameId, grid_hw: tuple[int, int] | None) -> None:
        """Goes on to a frame; another video begins anew.

        Raises:
            StreamError: the frame comes before the last one of its video, or has another size.
        """
        if self.frame is None or frame.video != self.frame.video:
            self.blocks, self.hints, self.grid_hw = {}, None, grid_hw
        elif frame.number <= self.frame.number:
            raise StreamError(
                f"video {frame.video!r}: frame {frame.number} came after frame {self.frame.number}; frames "
                "come in their order, each once (`svit.pruning.streams.forget` begins anew)"
            )
        elif grid_hw != self.grid_hw:
            raise StreamError(
                f"video {frame.video!r}: frame {frame.number} has {_size(grid_hw)} tokens and those before "
                f"it {_size(self.grid_hw)}; frames of a video are of one size"
            )
        self.frame = frame


def _size(grid_hw: tuple[int, int] | None) -> str:
    return "unknown" if grid_hw is None else f"{grid_hw[0]} x {grid_hw[1]}"


@dataclass
class StreamState(State):
    """The state of one forward of a stream method.

    Attributes:
        stream: that of the frame's video; None for pictures alone.
    """

    stream: Stream | None = None


class StreamMethod(Method):
    """A method that reuses over frames; a subclass writes `wanted`.

    Attributes:
        looks_back: whether it chooses by what was detected in the frame before (`notice`).
    """

    looks_back = False

    def __init__(self, dim: int, depth: int, heads: int) -> None:
        super().__init__(dim, depth, heads)
        self.stream = Stream()  # no buffers: what is carried along is no weight
        self._others: dict[str, Stream] = {}

    def begin(
        self, tokens: Tensor, class_position: Tensor, seeds: list[int] | None = None
    ) -> StreamState:
        """A frame or picture; which of them, `forward` reads in the state."""
        return StreamState(seeds=seeds)

    def forward(self, layer: int, block: nn.Module, tokens: Tensor, state: StreamState) -> Tensor:
        """A deciding block on the tokens that are wanted; other blocks, and those of pictures, on all."""
        if layer == 0:
            state.stream = self._entered(tokens, state)
        if state.stream is None or layer not in self.locations:
            return self.run_open_block(layer, block, tokens, state)
        stored, wanted = state.stream.blocks.get(layer), all_tokens(tokens)
        if stored is None:
            stored = Stored(~wanted)
        else:
            wanted = self.wanted(layer, tokens, stored, state.stream)
        stored = stored.refreshed(block, tokens, self.probe(layer, wanted, state))
        state.stream.blocks[layer] = stored
        return stored.over(tokens)

    @in_stage("selection")
    def wanted(
        self, layer: int, tokens: Tensor, stored: Stored, stream: Stream
    ) -> Bool[Tensor, "1 tokens"]:
        """Tokens that a deciding block computes again in a frame that is not the first."""
        raise NotImplementedError

    def notice(self, found: Detections, grid: TokenGrid) -> None:
        """Told what was found in the frame that ran last."""

    def _entered(self, tokens: Tensor, state: StreamState) -> Stream | None:
        frames = [frame for frame in state.frames or () if frame is not None]
        if self.training or not frames:
            return None
        if len(tokens) != 1:
            raise StreamError(
                f"expected one frame at a time, found {len(tokens)} in a batch: set the batch to 1"
            )
        self.stream.follow(frames[0], state.grid_hw)
        return self.stream

    def forget(self) -> None:
        """Ends all streams."""
        self.stream, self._others = Stream(), {}

    @contextmanager
    def apart(self, name: str) -> Iterator[None]:
        """Forwards inside go on with a stream of their own, which the name keeps for the next time."""
        main, self.stream = self.stream, self._others.setdefault(name, Stream())
        try:
            yield
        finally:
            self.stream = main


def forget(method: Method) -> None:
    """Ends what a method carries from frame to frame; nothing for those that carry nothing."""
    if isinstance(method, StreamMethod):
        method.forget()


def looks_back(method: Method) -> bool:
    """Whether a method chooses by what was detected in the frame before."""
    return isinstance(method, StreamMethod) and method.looks_back
