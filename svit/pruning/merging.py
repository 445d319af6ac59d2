"""What merging methods share: who carries whom, the probe that shows it, a block that runs on carriers.

A *group* map is int64 (B, N): `group[n]` is the raster index of the token that carries token n, its own
where none does; a carrier carries itself. Maps of one forward are nested unless an edit splits a group. A
block computes carriers only, each with the mean of the tokens that it carries; behind the block every token
takes the value of its carrier, so that injectors, extractors and heads see a whole map. What an injector
then adds to the members is averaged again before the next block. The mean of the members of nested groups
is the size-weighted mean of means, so no sizes travel along. Source: ToMe (Bolya et al., ICLR 2023) 3, and
its dense form in ATC (Haurum et al., ECCV 2024; methods.md 13.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from svit.pruning.base import Kept, Method, State, TokenProbe, gather_kept

Group = Int[Tensor, "batch tokens"]


class MergeProbe(TokenProbe):
    """Identity on the group map of one block: int64 (B, N), the raster index of each token's carrier.

    What its hooks make of the map is what the block uses; the keep mask of its carriers passes the block's
    `TokenProbe` next. A carrier that is turned off there is pruned, and so are those that it carries; a
    carried token that is turned on leaves its group.
    """


@dataclass(frozen=True)
class Carriers:
    """The groups of a batch as rows for a block.

    Attributes:
        group: int64 (B, N), see the head of this file; a used token has its own index.
        keep: bool (B, N), the carriers in use.
        kept: where they are; its `rows` (B, K, 1) are their raster indices.
        place: int64 (B, N), the row that carries each token; K where none does.
        size: float32 (B, K), how many tokens a row carries, itself included; 1 in padding rows.
    """

    group: Group
    keep: Bool[Tensor, "batch tokens"]
    kept: Kept
    place: Int[Tensor, "batch tokens"]
    size: Float[Tensor, "batch rows"]

    @classmethod
    def of(cls, group: Group, keep: Bool[Tensor, "batch tokens"]) -> Carriers:
        """Those of a map whose carriers are in use where `keep` is True."""
        own = torch.arange(group.shape[1], device=group.device).expand_as(group)
        group = torch.where(keep, own, group)
        kept = gather_kept(own.unsqueeze(-1), keep)
        count = kept.index.shape[1]
        row = keep.cumsum(dim=1) - 1
        place = torch.where(keep.gather(1, group), row.gather(1, group), count)
        size = torch.zeros(len(group), count + 1, device=group.device)
        size = size.scatter_add(1, place, torch.ones_like(place, dtype=size.dtype))
        return cls(group, keep, kept, place, size[:, :count].clamp(min=1))

    @property
    def rows(self) -> int:
        """K, rows of the longest image."""
        return self.kept.index.shape[1]

    @property
    def alone(self) -> bool:
        """Whether every token of the batch is in use by itself."""
        return self.rows == self.group.shape[1] and self.kept.present is None

    @property
    def carried(self) -> Bool[Tensor, "batch tokens"]:
        """Tokens whose value a row has: all but the pruned ones."""
        return self.place < self.rows

    def average(self, tokens: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch rows dim"]:
        """The mean of the tokens of each group (merging)."""
        if self.alone:
            return tokens
        place = self.place.unsqueeze(-1).expand(-1, -1, tokens.shape[2])
        sums = tokens.new_zeros(len(tokens), self.rows + 1, tokens.shape[2], dtype=torch.float32)
        sums = sums.scatter_add(1, place, tokens.float())[:, : self.rows]
        return (sums / self.size.unsqueeze(-1)).to(tokens.dtype)

    def spread(
        self, rows: Float[Tensor, "batch rows dim"], old: Float[Tensor, "batch tokens dim"]
    ) -> Float[Tensor, "batch tokens dim"]:
        """Every token with the value of its row (unmerging), pruned ones as in `old`."""
        if self.alone:
            return rows
        rows = torch.cat([rows, rows.new_zeros(len(rows), 1, rows.shape[2])], dim=1).to(old.dtype)
        new = rows.gather(1, self.place.unsqueeze(-1).expand_as(old))
        return torch.where(self.carried.unsqueeze(-1), new, old)

    def key_bias(self, proportional: bool) -> Float[Tensor, "batch rows"] | None:
        """What is added to the attention logits of each row as a key: log(size) if `proportional`, minus
        infinity for padding; None where that is nothing."""
        seen = self.kept.present
        if self.alone or not (proportional or seen is not None):
            return None
        bias = self.size.log() if proportional else torch.zeros_like(self.size)
        if seen is None:
            return bias
        seen = seen | ~seen.any(dim=1, keepdim=True)  # an image that keeps nothing sees everything
        return bias.masked_fill(~seen, float("-inf"))

    def joined(self, into: Int[Tensor, "batch rows"]) -> Group:
        """The map in which each row went into row `into`, itself where it stays."""
        carrier = self.kept.rows.squeeze(-1).gather(1, into)
        moved = carrier.gather(1, self.place.clamp(max=self.rows - 1))
        return torch.where(self.carried, moved, self.group)


@dataclass
class MergeState(State):
    """What a merging method carries along: the carriers of the block before."""

    carriers: Carriers = field(default=None)  # type: ignore[assignment]


class MergingMethod(Method):
    """A method that merges tokens in its `locations`, between the attention and the MLP of the block.

    The recorded mask of a deciding block stands for its MLP; its attention runs on all carriers that entered.
    An image whose edited groups split a group that entered runs the whole block on the edited ones.

    Args:
        proportional: adds log(size) to the attention logits of a carrier as a key, so that it weighs as much
            as the tokens it carries (ToMe 3, proportional attention).
    """

    def __init__(self, dim: int, depth: int, heads: int, *, proportional: bool = True) -> None:
        super().__init__(dim, depth, heads)
        self.proportional = proportional
        self.merge_probes = nn.ModuleList(MergeProbe(layer) for layer in range(depth))

    def begin(
        self, tokens: Tensor, class_position: Tensor, seeds: list[int] | None = None
    ) -> MergeState:
        """Every token alone."""
        own = torch.arange(tokens.shape[1], device=tokens.device).expand(len(tokens), -1)
        return MergeState(seeds=seeds, carriers=Carriers.of(own, torch.ones_like(own, dtype=bool)))

    def forward(self, layer: int, block: nn.Module, tokens: Tensor, state: MergeState) -> Tensor:
        """Attention among the carriers that entered, a merge where this block decides, then the MLP."""
        source, held = state.carriers, tokens
        rows, key = self._attend(block, tokens, source)
        wanted = source.group
        if layer in self.locations and source.rows:
            wanted = self.decide(layer, key, rows, source, state)
        target, edited = self._probed(layer, wanted, state)
        if target is not source:
            if edited and bool((split := _splits(source, target)).any()):
                source = _chosen(split, target, source)
                rows, _ = self._attend(block, tokens, source)
            held = source.spread(rows, tokens)
            rows = target.average(held)
        state.carriers = target
        return target.spread(block.feed_forward(rows), held)

    def decide(
        self, layer: int, key: Tensor, rows: Tensor, source: Carriers, state: MergeState
    ) -> Group:
        """The groups behind a deciding block.

        Args:
            key: (B, heads, K, C / heads), of the block's attention, a row a carrier.
            rows: (B, K, C), the carriers after attention.
            source: the carriers that entered the block.
        """
        raise NotImplementedError

    def reaches(self, entering: float) -> float:
        """The least share of all tokens that a merge of this share of them can leave."""
        return 0.0

    def check_steps(self, ratios: Sequence[float]) -> None:
        """Raises ValueError where a block is to leave more tokens than enter it, or fewer than it can."""
        entering = 1.0
        for location, ratio in zip(self.locations, ratios):
            least = self.reaches(entering)
            if ratio > entering or ratio < least - 1e-9:
                raise ValueError(
                    f"block {location + 1} has {entering:g} of the tokens and can merge them down to "
                    f"{least:g}; keep_ratios asks for {ratio:g}"
                )
            entering = ratio

    def set_keep_ratios(self, ratios: Sequence[float]) -> None:
        """As of every method; ratios that no merge reaches are refused with a ValueError."""
        self.check_steps(ratios)
        super().set_keep_ratios(ratios)

    def target(self, layer: int, source: Carriers) -> int:
        """How many carriers a deciding block is to leave of each image."""
        share = self.keep_ratios[self.locations.index(layer)]
        return max(1, round(share * source.group.shape[1]))

    def _attend(
        self, block: nn.Module, tokens: Tensor, source: Carriers
    ) -> tuple[Tensor, Tensor | None]:
        """The attention half of the block on carriers, (B, K, C), and its keys."""
        rows = source.average(tokens)
        if not source.rows:
            return rows, None
        query, key, value = block.attn.project(block.norm1(rows))
        bias = source.key_bias(self.proportional)
        mixed = block.attn.mix(query, key, value, None if bias is None else bias.to(query.dtype))
        return rows + block.drop_path(mixed), key

    def _probed(self, layer: int, wanted: Group, state: MergeState) -> tuple[Carriers, bool]:
        """What the probes make of the wanted groups, and whether a hook answered."""
        source = state.carriers
        group = self.merge_probes[layer](wanted)
        if group is not wanted:
            _check(layer, group)
        keep = source.keep if group is source.group else _leading(group) & source.carried
        used = self.probe(layer, keep, state)
        same = group is source.group and used is source.keep
        edited = group is not wanted or used is not keep
        return source if same else Carriers.of(group, used), edited


def grid_of(state: State) -> tuple[int, int]:
    """Token rows and columns, for methods that merge by place.

    Raises:
        ValueError: the method runs without a backbone that says so.
    """
    if state.grid_hw is None:
        raise ValueError(
            "tokens merge by their place: set grid_hw of the state to rows and columns"
        )
    return state.grid_hw


def _leading(group: Group) -> Bool[Tensor, "batch tokens"]:
    """Tokens that carry themselves."""
    return group == torch.arange(group.shape[1], device=group.device)


def _splits(source: Carriers, target: Carriers) -> Bool[Tensor, " batch"]:
    """Images in which a token is in use that was pruned, or without its carrier."""
    joint = source.carried & (target.group == target.group.gather(1, source.group))
    return (target.carried & ~joint).any(dim=1)


def _chosen(first: Bool[Tensor, " batch"], one: Carriers, other: Carriers) -> Carriers:
    """The carriers of `one` for these images, of `other` for the rest."""
    here = first.unsqueeze(1)
    group = torch.where(here, one.group, other.group)
    return Carriers.of(group, torch.where(here, one.keep, other.keep))


def _check(layer: int, group: Group) -> None:
    """Raises ValueError unless carriers lie in the grid and carry themselves."""
    count = group.shape[1]
    inside = bool(((group >= 0) & (group < count)).all())
    if not inside or not torch.equal(group.gather(1, group), group):
        raise ValueError(
            f"the groups of block {layer + 1}: expected the index of a carrier (0 to {count - 1}) for each "
            f"token, its own for a carrier, found {'a carrier that is carried' if inside else 'another'}"
        )
