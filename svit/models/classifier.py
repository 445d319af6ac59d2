"""A plain ViT that classifies by its class token: DeiT (Touvron et al., ICML 2021), and SViT on it
(`classification/selective_vit.py` of github.com/uzh-rpg/svit at d2472c1; the paper's supplement).

Pruning methods work on the tokens of the picture, as in a detector; the class token takes part in every block
they run. Parameters have DeiT's names.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from svit.core.config import BackboneConfig
from svit.models.vit import ViT
from svit.pruning.base import Method, State
from svit.pruning.class_token import ClassTokenMethod
from svit.pruning.merging import MergingMethod


class ViTClassifier(ViT):
    """Pictures in, logits out.

    Args:
        config: its neck is not looked at.
        method: any that does not merge. Those that own an artificial class token use the real one.
        classes: of the head.
        class_gated: a gate of SViT's before the last block decides about the class token, too, as the
            official one does; a class token that is pruned there keeps its value.

    Raises:
        ValueError: a method that merges tokens.
    """

    def __init__(
        self, config: BackboneConfig, method: Method, classes: int, *, class_gated: bool = False
    ) -> None:
        super().__init__(config, method)
        if isinstance(method, MergingMethod):
            raise ValueError(
                f"{type(method).__name__} merges tokens inside a block, and a classifier's class token has "
                "no place in its groups; choose a method that prunes"
            )
        self.divisor = config.patch
        self.class_gated = class_gated
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.embed_dim))
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        self.norm = nn.LayerNorm(config.embed_dim, eps=1e-6)
        self.head = nn.Linear(config.embed_dim, classes)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits of the classes.

        Raises:
            ValueError: a side that the patch does not divide.
        """
        self._check(images)
        grid_hw = self.grid_hw(images)
        tokens = self.embed(images, grid_hw)
        state = self._begin(tokens, self.class_position(), grid_hw)
        state.class_token = (self.cls_token + self.class_position()).expand(len(tokens), -1, -1)
        self.run_blocks(range(len(self.blocks)), tokens, state)
        self._finish(state)
        return self.head(self.norm(state.class_token)[:, 0])

    def run_blocks(self, layers: range, tokens: Tensor, state: State) -> Tensor:
        """The map after these blocks; the class token goes along in the state."""
        if isinstance(self.method, ClassTokenMethod):
            return super().run_blocks(layers, tokens, state)
        for layer in layers:
            beside = _Beside(self.blocks[layer], state, self._class_gate(layer, state))
            tokens = self.method(layer, beside, tokens, state)
            if not beside.ran:  # nothing of the picture was kept
                beside(tokens[:, :0])
        return tokens

    def _class_gate(self, layer: int, state: State) -> Float[Tensor, "batch 1"] | None:
        last = len(self.blocks) - 1
        if not self.class_gated or layer != last or last not in self.method.locations:
            return None
        return self.method.decide_beside(len(self.method.locations) - 1, state.class_token, state)


class _Beside:
    """A block that is given the class token beside the rows of a method.

    Args:
        gate: (B, 1), 0 where the class token is pruned from this block; None where it never is.
    """

    def __init__(self, block: nn.Module, state: State, gate: Tensor | None) -> None:
        self.block, self.state, self.gate = block, state, gate
        self.ran = False

    def __call__(self, rows: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """The block's rows; the class token in the state is updated with them."""
        self.ran = True
        front = self.state.class_token.to(rows.dtype)
        updated = self.block(torch.cat([front, rows], dim=1), key_mask=self._seen(rows, key_mask))
        new = updated[:, :1]
        if self.gate is not None:
            weight = self.gate.unsqueeze(2).to(new.dtype)
            new = weight * new + (1 - weight) * front
        self.state.class_token = new
        return updated[:, 1:]

    def _seen(self, rows: Tensor, key_mask: Tensor | None) -> Tensor | None:
        """Keys; an image that keeps nothing of the picture sees the class token, not what stands for rows."""
        if key_mask is None and self.gate is None:
            return None
        own = torch.ones_like(rows[..., 0], dtype=torch.bool) if key_mask is None else key_mask
        own = own & self.state.previous.any(dim=1, keepdim=True)
        kept = torch.ones_like(own[:, :1]) if self.gate is None else self.gate > 0
        alone = ~(
            own.any(dim=1, keepdim=True) | kept
        )  # something must be seen; the result is discarded
        return torch.cat([kept | alone, own], dim=1)
