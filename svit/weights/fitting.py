"""Whether the weights of a file are those of a model, and what to say where they are not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from svit.core.config import Config
from svit.system.text import counted
from svit.weights.conversion import Converted, Report, named
from svit.weights.name_tables import VIT

# all of a backbone that is neither the ViT's body nor the pruning method
NECK = r"backbone\.bottom_up\.(?!patch_embed\.|pos_embed|blocks\.|method\.).+"

Misfit = dict[str, list[str]]


def without_neck(converted: Converted) -> Converted:
    """For a model with the other neck: body and heads are common, as the paper's DeiT start has it."""
    report, neck = converted.report, converted.config.backbone.neck
    why = f"belongs to the neck of the file ({neck}), the model has the other"
    theirs = {name: why for name in converted.state if re.fullmatch(NECK, name)}
    report = replace(report, optional={**report.optional, **theirs})
    return converted._replace(report=report)


def told_otherwise(converted: Converted, ours: Config) -> Converted:
    """For a start of training: notes of what no shape shows and weights were made for otherwise."""
    theirs, report = converted.config, converted.report
    notes = []
    if theirs.backbone.heads != ours.backbone.heads:
        notes.append(
            f"its attention has {theirs.backbone.heads} heads, the model's {ours.backbone.heads}: queries "
            "and keys are divided otherwise than they were trained"
        )
    known = report.kind == "ours"  # others do not say what they were shown
    if known and theirs.data.normalisation != ours.data.normalisation:
        notes.append(
            f"it saw pictures by mean and deviation {theirs.data.normalisation}, the model sees them by "
            f"{ours.data.normalisation}: what it knows begins on other colours"
        )
    return converted._replace(report=replace(report, notes=(*report.notes, *notes)))


def misfit(
    own: Mapping[str, Tensor], taken: Mapping[str, Tensor], missing: Sequence[str]
) -> Misfit:
    """What keeps weights from being those of a model: kind of trouble -> names, empty where they fit.

    Args:
        own: the model's tensors.
        taken: the file's.
        missing: names of the model that the file must have and has not.
    """
    misshapen = [
        f"{name} {tuple(tensor.shape)} for {tuple(own[name].shape)}"
        for name, tensor in taken.items()
        if name in own and own[name].shape != tensor.shape
    ]
    whole = [
        f"{name} {tensor.dtype} for {own[name].dtype}"
        for name, tensor in taken.items()
        if name in own and own[name].is_floating_point() != tensor.is_floating_point()
    ]
    groups = {
        "unexpected in the file": [name for name in taken if name not in own],
        "of another shape": misshapen,
        "whole numbers for others, as of quantised weights": whole,
        "missing from the file": list(missing),
    }
    return {what: found for what, found in groups.items() if found}


def told(report: Report, problems: Misfit, theirs: Config, ours: Config) -> str:
    """The misfit in words: the first ten names of each kind, and what both look like."""
    if set(problems) == {"missing from the file"} and all(n.startswith(VIT) for n in report.used):
        return (
            f"{report.source} ({report.kind}) is a backbone without heads, so it finds no objects: start a "
            "training from it (`svit train --init FILE`), or give the weights of a whole detector"
        )
    lines = [f"  {len(found)} {what}: {named(found)}" for what, found in problems.items()]
    return "\n".join(
        [
            f"{report.source} ({report.kind}) does not fit the model {ours.name}:",
            *lines,
            f"The file looks like {_described(theirs)},",
            f"the model is {_described(ours)}.",
            *(f"note: {note}" for note in (report.guessed, *report.notes) if note),
        ]
    )


def _described(config: Config) -> str:
    backbone = config.backbone
    return (
        f"{config.name} (neck {backbone.neck}, patches of {backbone.patch}, {backbone.embed_dim} wide, "
        f"{backbone.depth} blocks, "
        f"pretrain_grid {backbone.pretrain_grid}, method {config.pruning.method}, "
        f"{counted(config.detector.classes, 'classes')})"
    )
