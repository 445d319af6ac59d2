"""Non-maximum suppression of which only the best boxes are asked for."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import batched_nms, nms

MANY = (
    1000  # boxes: above, torchvision suppresses group by group on a CPU, and so does the short way
)
FIRST_LOOK = 2  # times as many boxes as are asked for


def best_apart(
    boxes: Float[Tensor, "boxes 4"],
    scores: Float[Tensor, " boxes"],
    groups: Int[Tensor, " boxes"],
    threshold: float,
    count: int,
) -> Int[Tensor, " at_most_count"]:
    """`torchvision.ops.batched_nms(boxes, scores, groups, threshold)[:count]`, index by index (of equal
    scores, which torchvision leaves in any order, the first).

    Whether a box stays depends on better ones alone. So many boxes are looked at best first, and no
    further than to the last that is asked for: the work grows with the square of their number.
    """
    if len(boxes) <= MANY or boxes.device.type != "cpu":
        return batched_nms(boxes, scores, groups, threshold)[:count]
    order, looked = scores.argsort(descending=True, stable=True), FIRST_LOOK * count
    while True:
        first = order[:looked]
        kept = _kept(boxes[first], scores[first], groups[first], threshold)
        if len(kept) >= count or looked >= len(order):
            return first[kept[:count]]
        looked *= 2


def _kept(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """Places of the boxes that stay, ascending."""
    stays = boxes.new_zeros(len(boxes), dtype=bool)
    for group in groups.unique():
        among = (groups == group).nonzero().squeeze(1)
        stays[among[nms(boxes[among], scores[among], threshold)]] = True
    return stays.nonzero().squeeze(1)
