"""What two ceilings of a machine allow: each operator bound by its arithmetic or by its memory traffic.

The roofline model (Williams, Waterman, Patterson, CACM 2009): an operator takes at least as long as its
multiply-adds at the rate of a large matrix product, and as its operands at the rate of a large copy. The sum
over operators is the time a stage could not go below with these operators; fusing them is what could.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count


class Roofline(TorchDispatchMode):
    """Adds up, while it is on, the least seconds of every operator under the stage that is open.

    Attributes:
        seconds: stage -> least seconds so far.

    Args:
        stage: the stage of the operator that runs now.
        matmul_gflops, copy_gbs: the ceilings, as `svit.system.timing.machine` measures them.
    """

    def __init__(self, stage: Callable[[], str], matmul_gflops: float, copy_gbs: float) -> None:
        super().__init__()
        self.seconds: dict[str, float] = defaultdict(float)
        self._stage, self._flops, self._bytes = stage, 1e9 * matmul_gflops, 1e9 * copy_gbs

    def __torch_dispatch__(
        self,
        operator: torch._ops.OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = operator(*args, **kwargs)
        arithmetic = _flops(operator, args, kwargs, result) / self._flops
        traffic = _traffic(operator, (args, kwargs), result) / self._bytes
        self.seconds[self._stage()] += max(arithmetic, traffic)
        return result


def _flops(
    operator: torch._ops.OpOverload, args: tuple, kwargs: Mapping[str, Any], result: Any
) -> float:
    """Operations of matrix products, convolutions and attention; 0 for all others, as torch counts."""
    if operator.overloadpacket is torch.ops.aten._scaled_dot_product_flash_attention_for_cpu:
        # torch counts the kernels of other devices alone
        return sdpa_flop_count(*(one.shape for one in args[:3]))
    count = flop_registry.get(operator.overloadpacket)
    return count(*args, **kwargs, out_val=result) if count else 0


def _traffic(operator: torch._ops.OpOverload, operands: Any, result: Any) -> int:
    """Bytes that must be read and written; none for views and for memory that is only set aside."""
    if operator.is_view or "empty" in operator.overloadpacket.__name__:
        return 0
    return _size(tree_leaves(operands)) + _size(tree_leaves(result))


def _size(values: Iterable[Any]) -> int:
    """Bytes of the tensors; what is repeated by a stride of 0 counts once."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    return sum(min(one.nbytes, one.untyped_storage().nbytes()) for one in tensors)
