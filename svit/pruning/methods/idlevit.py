"""IdleViT: idle tokens pass a block unchanged and compete again in the next one (Xu et al., 2023,
arXiv:2310.05654; `vit.py` and `losses.py` of github.com/Ackesnal/IdleViT at d46c1c2).

In every deciding block the patches that the class token's query meets with the largest logits are attended
to and updated; the others idle. The choice is made anew from all patches, so a token that idled may work
again: class attention as in Evo-ViT, with the re-selection that SViT has. A token-cut loss turns the
attention of the tokens at work away from the idle ones before these are taken out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from svit.core.catalogue import PAPER_KEEP_RATIOS
from svit.pruning.attention import QUERY, QUERY_KEY
from svit.pruning.base import State, all_tokens, in_stage, scatter_kept
from svit.pruning.class_token import ClassTokenMethod
from svit.pruning.sampling import floor_share, highest


class IdleViT(ClassTokenMethod):
    """Per-block top-k of the class token's logits over all patches; preserved, re-selected in every block.

    The class token is an artificial one, as with every attention method here. The release's loss skips every
    second block, because its loop deletes from the list it walks over; ours counts all of them. The authors'
    distillation is left out.

    Args:
        keep_ratios: share of all N tokens that work in each deciding block; rounded down, at least one token.
        locations: zero-based deciding blocks; default the last `len(keep_ratios)`.
        cut_weight: lambda of the token-cut loss; 0 leaves it out, and the N x N logits with it.

    Raises:
        ValueError: a ratio outside (0, 1] or locations that do not match.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        *,
        keep_ratios: Sequence[float] = PAPER_KEEP_RATIOS,
        locations: Sequence[int] | None = None,
        cut_weight: float = 10.0,
    ) -> None:
        super().__init__(dim, depth, heads)
        self.decide_at(keep_ratios, locations)
        self.cut_weight = cut_weight

    def forward(self, layer: int, block: nn.Module, tokens: Tensor, state: State) -> Tensor:
        """The block on the class token and the chosen patches; in training the cut it makes is judged."""
        wanted = all_tokens(tokens)
        if layer in self.locations:
            wanted = self._wanted(layer, block, tokens, state)
        keep = self.probe(layer, wanted, state)
        if self.training and self.cut_weight and layer in self.locations:
            state.extra.setdefault("cuts", []).append(self._cut(block, tokens, keep, state))
        sequence = self.assemble(tokens, keep, state)
        updated = block.feed_forward(self.attend(block, sequence, *self.project(block, sequence)))
        state.class_token = updated[:, :1]
        return scatter_kept(tokens, sequence.kept, updated[:, 1:])

    @in_stage("selection")
    def _wanted(
        self, layer: int, block: nn.Module, tokens: Tensor, state: State
    ) -> Bool[Tensor, "batch tokens"]:
        """floor(ratio * N) of all patches."""
        score = self.score_probes[layer](self._score(block, tokens, state))
        ratio = self.keep_ratios[self.locations.index(layer)]
        return highest(score, floor_share(ratio, tokens.shape[1]))

    @staticmethod
    def _score(block: nn.Module, tokens: Tensor, state: State) -> Float[Tensor, "batch tokens"]:
        """Logits of the class token's query, averaged over heads, up to a constant an image; float32.

        The mean over heads of q . (W x + b) is (W^T q) . x and a constant, so no patch needs a key for it:
        O(N C), where the release projects the keys of all patches. Only the order of scores is used.
        """
        dim, heads = tokens.shape[2], block.attn.heads
        (query,) = block.attn.project(block.norm1(state.class_token.to(tokens.dtype)), QUERY)
        with torch.autocast(tokens.device.type, enabled=False):
            reading = _side_by_side(query) @ block.attn.qkv.weight[dim : 2 * dim].float()
            score = block.norm1(tokens.float()) @ reading.transpose(1, 2)
        return (score.squeeze(2) * (heads * dim) ** -0.5).detach()

    @staticmethod
    def _cut(block: nn.Module, tokens: Tensor, keep: Tensor, state: State) -> Float[Tensor, ""]:
        """The token-cut loss of one block, before its idle tokens are taken out.

        Of the attention from every token to every token (softmax of the logits' mean over heads), what
        crosses between working and idle ones, the class token's column apart, is to be 0; what stays among
        working ones is to be 1 in each of their rows.
        """
        sequence = torch.cat([state.class_token.to(tokens.dtype), tokens], dim=1)
        query, key = block.attn.project(block.norm1(sequence), QUERY_KEY)
        scale = (block.attn.heads * tokens.shape[2]) ** -0.5
        with torch.autocast(tokens.device.type, enabled=False):
            logits = _side_by_side(query) @ _side_by_side(key).transpose(1, 2) * scale
            patches = F.pad(keep.float(), (1, 0))
            working = F.pad(keep.float(), (1, 0), value=1.0)  # the class token works in every block
            columns = torch.stack([working, 1 - working, patches], dim=2)
            staying, to_idle, from_idle = (logits.softmax(dim=-1) @ columns).unbind(2)
            crossing = torch.where(working > 0, to_idle, from_idle)
            return crossing.square().mean() + F.mse_loss(working * staying, working)

    def losses(self, state: State) -> dict[str, Tensor]:
        """The mean token-cut loss of the deciding blocks, times lambda."""
        cuts = state.extra.get("cuts")
        return {"cut_loss": self.cut_weight * torch.stack(cuts).mean()} if cuts else {}


def _side_by_side(
    parts: Float[Tensor, "batch heads rows head_dim"],
) -> Float[Tensor, "batch rows dim"]:
    """The parts of all heads in one vector a row, float32."""
    return parts.float().transpose(1, 2).flatten(2)
