"""Attention that each token of a picture receives in one block, from the weights of its heads."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Iterator
from itertools import accumulate

import torch
from torch import Tensor

from svit.probing.adapters.host import Host, HostError
from svit.probing.rows import Rows, of_mask


class Received:
    """Adds up the attention of one block, head by head; a `svit.probing.attention.Reader`.

    Attention received by a token is the sum over queries of the mean over heads; rows of a merged model count
    once a token that they carry, as queries and as keys. 1 is what a token gets where all look everywhere
    alike.

    Args:
        layer: the zero-based block, for messages.
        rows: the tokens of its rows; where all stay and a part is used, its attention may run on that part.
        batch: how many items it is given.
        host: what is known of the model.
        grid_hw: token rows and columns of the pictures.
        wanted: of "attention" and "class_attention".
        order: as `tokens` of `attach`, where the model has an order of its own.

    Attributes:
        rows: the tokens of the rows that its attention ran on.
        found: name -> float32 (B, rows), once all heads are read.
    """

    def __init__(
        self,
        layer: int,
        rows: Rows,
        batch: int,
        host: Host,
        grid_hw: tuple[int, int],
        wanted: Collection[str],
        order: Callable[[Tensor, tuple[int, int]], Tensor] | None = None,
    ) -> None:
        self._layer, self.rows, self._grid_hw = layer, rows, grid_hw
        self._wanted, self._order, self._class = wanted, order, host.class_token
        self._side = host.windows[layer] if host.windows else 0
        self._ahead, self._groups = host.prefix or 0, batch
        self._keys: int | None = self._ahead + rows.count
        if self._side:
            self._cells = tuple(-(-cells // self._side) for cells in grid_hw)
            self._groups, self._keys = batch * math.prod(self._cells), self._side**2
        elif order is not None:
            self._ahead, self._keys = 0, None
        self.found: dict[str, Tensor] = {}

    def heads(self, lead: tuple[int, ...], queries: int, keys: int) -> int:
        """As `Reader.heads`.

        Raises:
            HostError: not the attention of all tokens to all, in groups that are known, or a second one.
        """
        total, sizes = math.prod(lead), [size for size in lead if size > 1]
        if self.found:
            raise HostError(
                f"block {self._layer + 1} attends more than once: attach with attention=False, or name "
                "modules that attend once as blocks"
            )
        if self._keys not in (None, keys):
            self._narrow(keys)
        if total % self._groups or queries != keys or self._keys not in (None, keys):
            raise HostError(
                f"block {self._layer + 1} attends with {queries} queries to {keys} keys in {total} maps, "
                f"expected {self._keys or 'its'} tokens in {self._groups} groups: what it leaves out or its "
                "windows are not known here; attach with attention=False"
            )
        if len(sizes) > 1 and self._groups not in (1, *accumulate(sizes, operator.mul)):
            raise HostError(
                f"block {self._layer + 1} attends in maps of {'x'.join(map(str, sizes))} for {self._groups} "
                "groups: where heads come first, pictures would be mixed; run them one by one, or attach "
                "with attention=False"
            )
        return total // self._groups

    def _narrow(self, keys: int) -> None:
        """To the used tokens, in raster order, where the block itself gathers them (`svit.probing.prune`)."""
        whole = self.rows.carrier is None and not self._side and self._order is None
        part = of_mask(self.rows.keep, keys - self._ahead) if whole else None
        if part is not None:
            self.rows, self._keys = part, keys

    def __call__(self, weights: Tensor, heads: int) -> None:
        """As `Reader`."""
        for name, one in self._values(weights.detach()):
            self.found[name] = self.found.get(name, 0) + one / heads

    def _values(self, weights: Tensor) -> Iterator[tuple[str, Tensor]]:
        if self._side:
            yield "attention", self._from_windows(weights)
        elif self._order is not None:
            yield "attention", self._order(weights.sum(dim=1)[..., None], self._grid_hw)[..., 0]
        else:
            sizes, ahead = self.rows.sizes(), self._ahead
            asks = torch.cat([sizes.new_ones(len(sizes), ahead), sizes], dim=1)
            if "attention" in self._wanted:
                received = torch.einsum("bq,bqk->bk", asks, weights)
                yield "attention", received[:, ahead:] / sizes
            if "class_attention" in self._wanted:
                of_class = weights[:, self._class, ahead:]
                yield "class_attention", of_class * asks.sum(dim=1, keepdim=True) / sizes

    def _from_windows(self, weights: Tensor) -> Tensor:
        """Within windows, back in raster order; padding neither asks nor receives."""
        (rows, columns), side, (down, across) = self._grid_hw, self._side, self._cells
        there = weights.new_zeros(down * side, across * side)
        there[:rows, :columns] = 1
        asks = there.view(down, side, across, side).transpose(1, 2).reshape(down * across, -1)
        got = torch.einsum("wq,bwqk->bwk", asks, weights.unflatten(0, (-1, down * across)))
        whole = got.view(-1, down, across, side, side).transpose(2, 3)
        return whole.reshape(-1, down * side, across * side)[:, :rows, :columns].flatten(1)
