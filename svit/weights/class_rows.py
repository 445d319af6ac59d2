"""The layers of a detector that belong to its classes: a training takes them from its start by name.

Every class has rows of its own in three layers. A start with the same classes in another order gives the same
model; of a start with other classes, the rows of those that both know are taken and the rest begins anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from svit.data.classes import ClassError, match_classes
from svit.weights.conversion import Converted

# layer -> rows of a class; what is left at the end of a layer is the background's
ROWS = {
    "roi_heads.box_predictor.cls_score": 1,
    "roi_heads.box_predictor.bbox_pred": 4,
    "roi_heads.mask_head.predictor": 1,
}
CLASS_LAYERS = rf"({'|'.join(name.replace('.', '[.]') for name in ROWS)})[.](weight|bias)"


def by_name(
    converted: Converted, own: Mapping[str, Tensor], wanted: Sequence[str]
) -> tuple[Converted, bool]:
    """Weights for a model of these classes.

    Args:
        own: the model's tensors; rows of classes that the weights do not know are taken from here.
        wanted: the model's classes by the names that the weights may have for them.

    Returns: the weights, and whether the layers of the classes are left out of them: the two have none in
        common, or the weights name none and have another number.
    """
    names, layers = converted.report.class_names, [one for one in converted.state if _rows(one)]
    if not layers or tuple(wanted) == names:
        return converted, False
    if not names:
        if all(converted.state[name].shape == own[name].shape for name in layers):
            return _noted(
                converted, converted.state, "it names no classes: taken by position"
            ), False
        return _without(converted, layers), True
    try:
        labels = match_classes(wanted, names, objects=[0] * len(wanted)).labels
    except ClassError:  # none in common
        return _without(converted, layers), True
    new = [name for name, label in zip(wanted, labels) if label is None]
    state = {
        name: _picked(tensor, own[name], labels, _rows(name)) if name in layers else tensor
        for name, tensor in converted.state.items()
    }
    note = "layers of the classes are taken by name" + (f", new: {', '.join(new)}" if new else "")
    return _noted(converted, state, note), False


def _rows(name: str) -> int:
    """Rows of a class in a tensor; 0 where they do not depend on classes."""
    return ROWS.get(name.rpartition(".")[0], 0)


def _picked(theirs: Tensor, ours: Tensor, labels: Sequence[int | None], rows: int) -> Tensor:
    result = ours.detach().to(device=theirs.device, dtype=theirs.dtype, copy=True)
    for place, label in enumerate(labels):
        if label is not None:
            source = theirs[label * rows : (label + 1) * rows]
            result[place * rows : (place + 1) * rows] = source
    if len(result) > len(labels) * rows:
        result[-1] = theirs[-1]
    return result


def _without(converted: Converted, layers: Sequence[str]) -> Converted:
    state = {name: tensor for name, tensor in converted.state.items() if name not in layers}
    return _noted(converted, state, "it knows other classes: their layers begin anew")


def _noted(converted: Converted, state: dict[str, Tensor], note: str) -> Converted:
    report = converted.report
    used = tuple(name for name in report.used if name in state)
    return converted._replace(
        state=state, report=replace(report, used=used, notes=(*report.notes, note))
    )
