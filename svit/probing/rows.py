"""Which row of a block carries each token: what a model says about pruned and merged tokens, as indices."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from svit.probing.adapters.host import HostError


@dataclass(frozen=True)
class Rows:
    """The rows of a block and the tokens of a picture.

    Attributes:
        count: rows of the block, without class and register tokens.
        keep: bool (B, N), the tokens that are rows: of a merged row the first in raster order.
        carrier: int64 (B, N), the row of each token, -1 where it is gone; None where row n is token n.
        group: int64 (B, N), the first token of the row of each, its own where it is gone; None where rows are
            single tokens.
    """

    count: int
    keep: Bool[Tensor, "batch tokens"]
    carrier: Int[Tensor, "batch tokens"] | None = None
    group: Int[Tensor, "batch tokens"] | None = None

    def spread(
        self, values: Float[Tensor, "batch rows *dims"]
    ) -> Float[Tensor, "batch tokens *dims"]:
        """Every token with the value of its row, NaN where it is gone."""
        if self.carrier is None:
            return values
        index = self.carrier.clamp_min(0)
        gone = self.carrier < 0
        if values.ndim == 3:
            index, gone = index[..., None].expand(-1, -1, values.shape[-1]), gone[..., None]
        return values.gather(1, index).masked_fill(gone, float("nan"))

    def sizes(self) -> Float[Tensor, "batch rows"]:
        """How many tokens each row carries."""
        batch = len(self.keep)
        sizes = torch.zeros(batch, self.count, device=self.keep.device)
        if self.carrier is None:
            return sizes + 1
        there = (self.carrier >= 0).float()
        return sizes.scatter_add(1, self.carrier.clamp_min(0), there)


def everything(batch: int, tokens: int, device: torch.device) -> Rows:
    """Every token is its own row."""
    return Rows(tokens, torch.ones(batch, tokens, dtype=torch.bool, device=device))


def of_mask(
    mask: Bool[Tensor, "batch tokens"],
    rows: int,
    group: Int[Tensor, "batch tokens"] | None = None,
) -> Rows | None:
    """Rows of a keep mask: the kept tokens in raster order, or all tokens where they stay. None: neither
    fits the number of rows.

    Args:
        group: the token that carries each one, where some merge.
    """
    if rows == mask.shape[1]:
        return Rows(rows, mask, group=group)
    if (mask.sum(dim=1) != rows).any():
        return None
    carrier = (mask.cumsum(dim=1) - 1).masked_fill(~mask, -1)
    return Rows(rows, mask, carrier if group is None else carrier.gather(1, group), group)


def of_index(index: Int[Tensor, "batch rows"], tokens: int) -> Rows:
    """Rows of the raster indices of kept tokens, in the order of the rows.

    Raises:
        HostError: a token stands in several rows of a picture.
    """
    carrier = index.new_full((len(index), tokens), -1, dtype=torch.int64)
    places = torch.arange(index.shape[1], device=index.device).expand_as(index)
    carrier = carrier.scatter(1, index.long(), places)
    keep = carrier >= 0
    if bool((keep.sum(dim=1) < index.shape[1]).any()):
        raise HostError(
            "the indices that `kept` gives name a token twice in one picture, so rows would be lost: give "
            "every row a token of its own, and run pictures of unequal counts one by one"
        )
    return Rows(index.shape[1], keep, carrier)


def of_source(source: Float[Tensor, "batch rows tokens"]) -> Rows:
    """Rows of a matrix that is positive where a row carries a token.

    Raises:
        HostError: a token is part of several rows, or a row carries none.
    """
    part = source > 0
    if bool((part.sum(dim=1) > 1).any()) or not bool(part.any(dim=2).all()):
        raise HostError(
            "the matrix that tells which tokens a row carries has a token in several rows or a row without "
            "any: give one that is positive in one row a token at most, as of hard merges"
        )
    carrier = part.int().argmax(dim=1).masked_fill(~part.any(dim=1), -1)
    first = part & (part.cumsum(dim=2) == 1)
    firsts = part.int().argmax(dim=2)
    own = torch.arange(source.shape[2], device=source.device)
    group = torch.where(carrier < 0, own, firsts.gather(1, carrier.clamp_min(0)))
    return Rows(source.shape[1], first.any(dim=1), carrier, group)


def of_told(
    told: Tensor, rows: int, tokens: int, prefix: int, group: Tensor | None = None
) -> Rows | None:
    """Rows of whatever a model says: a mask (with its groups), indices or a source matrix, the last with or
    without the prefix. None: it does not fit so many rows and tokens.

    Raises:
        HostError: as `of_index` and `of_source`, or tokens of the prefix merge with those of the picture.
    """
    if told.dtype == torch.bool and told.ndim == 2:
        return of_mask(told, rows, group) if told.shape[1] == tokens else None
    if told.ndim == 2:
        fits = told.shape[1] == rows and 0 <= int(told.min()) <= int(told.max()) < tokens
        return of_index(told, tokens) if fits else None
    if told.shape[1:] == (prefix + rows, prefix + tokens):
        if bool((told[:, :prefix, prefix:] > 0).any() | (told[:, prefix:, :prefix] > 0).any()):
            raise HostError(
                f"of the {prefix} tokens before those of the picture some merge with them or leave their "
                "place, so which row is which is not known (ToMe keeps the class token apart, and no "
                "registers): merge the picture's tokens alone"
            )
        told = told[:, prefix:, prefix:]
    return of_source(told) if told.shape[1:] == (rows, tokens) else None
