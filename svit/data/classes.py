"""A class is its name, not its position: from the names of a data set to those of a model; no torch.

Two files list the same classes in two orders, one of them lists more, or counts from another number: by
position every label would be another class, and nothing would fail. So labels go by names everywhere, and
what names do not decide is refused until `--class-map` says it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path


class ClassError(ValueError):
    """The classes of a data set are not those of a model."""


@dataclass(frozen=True)
class ClassMatch:
    """Where the classes of a data set stand among those of a model.

    Attributes:
        labels: one a class of the data set: its label in the model; None for one the model has not,
            which is in the list without an object.
        notes: what the reader should know, a sentence each; empty where both lists are the same.
    """

    labels: tuple[int | None, ...]
    notes: tuple[str, ...] = ()


def match_classes(
    data: Sequence[str],
    model: Sequence[str],
    *,
    objects: Sequence[int] | None = None,
    renamed: Mapping[str, str] | None = None,
) -> ClassMatch:
    """Finds every class of a data set among those of a model, by name.

    Args:
        data: names in the order of the category ids.
        model: names in the order of the model's labels.
        objects: number of annotations of each class of the data set; a class without one may be unknown to
            the model. Without it every class counts as annotated.
        renamed: name in the data set -> name in the model, for those that differ.

    Raises:
        ClassError: a class with objects is unknown to the model, a name stands for two classes, or
            `renamed` speaks of names that do not exist; both lists stand side by side.
    """
    renamed = dict(renamed or {})
    _check_renamed(renamed, data, model)
    wanted = [renamed.get(name, name) for name in data]
    if list(wanted) == list(model):
        return ClassMatch(tuple(range(len(model))), _told_renamed(renamed))
    counts = [1] * len(data) if objects is None else list(objects)
    _check_unique(wanted, model, counts, data)
    place = {name: label for label, name in enumerate(model)}
    annotated = {name for name, count in zip(wanted, counts) if count}
    labels = tuple(
        place.get(name) if count or name not in annotated else None
        for name, count in zip(wanted, counts)
    )
    strangers = [n for n, label, count in zip(data, labels, counts) if label is None and count]
    if strangers or all(label is None for label in labels):
        named = _listed(strangers or data)
        raise ClassError(f"classes the model does not have: {named}\n{side_by_side(data, model)}")
    return ClassMatch(labels, (*_told_renamed(renamed), *_notes(data, model, labels)))


def check_map(renamed: Mapping[str, str], data: Sequence[str]) -> None:
    """Refuses a class map with names that a data set does not have, where no model's are known yet.

    Raises:
        ClassError: it names them, and those there are.
    """
    if unknown := [name for name in renamed if name not in data]:
        raise ClassError(
            f"the class map names {_listed(unknown)}, which the data set does not have; it has "
            f"{_listed(data)} (--class-map 'OURS=THEIRS,...': the data set's name first)"
        )


def _check_renamed(renamed: Mapping[str, str], data: Sequence[str], model: Sequence[str]) -> None:
    for side, known, names in (
        ("data set", data, renamed.keys()),
        ("model", model, renamed.values()),
    ):
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ClassError(
                f"the class map names {_listed(unknown)}, which the {side} does not have\n"
                f"{side_by_side(data, model)}"
            )


def _check_unique(
    wanted: Sequence[str], model: Sequence[str], counts: Sequence[int], data: Sequence[str]
) -> None:
    annotated = [name for name, count in zip(wanted, counts) if count]
    for whose, names in (("data set", annotated), ("model", model)):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ClassError(
                f"{_listed(twice)} names more than one class of the {whose}; give each its own name\n"
                f"{side_by_side(data, model)}"
            )


def _told_renamed(renamed: Mapping[str, str]) -> tuple[str, ...]:
    pairs = ", ".join(f"{ours} is {theirs}" for ours, theirs in renamed.items())
    return (f"classes by the class map: {pairs}",) if pairs else ()


def _notes(data: Sequence[str], model: Sequence[str], labels: Sequence[int | None]) -> list[str]:
    notes = []
    known = [label for label in labels if label is not None]
    if known != sorted(known) or known != list(range(len(known))):
        notes.append("classes are matched by name; their order or number differs from the model's")
    extra = [name for name, label in zip(data, labels) if label is None]
    if extra:
        notes.append(
            "classes without an object and unknown to the model, or named as another, left out: "
            + _listed(extra)
        )
    absent = [name for label, name in enumerate(model) if label not in known]
    if absent:
        notes.append(f"classes of the model that the data set does not have: {_listed(absent)}")
    return notes


def _listed(names: Sequence[str], limit: int = 10) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(name) for name in list(names)[:limit]) + more


def side_by_side(data: Sequence[str], model: Sequence[str]) -> str:
    """Both lists as a table, and the way out."""
    width = max(map(len, ["data set", *data]))
    rows = zip_longest(["data set", *data], ["model", *model], fillvalue="")
    table = "\n".join(f"  {ours:<{width}}  {theirs}".rstrip() for ours, theirs in rows)
    return (
        f"{table}\nwhere two names mean the same class, say so: --class-map 'OURS=THEIRS,...' (the data "
        "set's name first), or a file with one such pair a line"
    )


def read_class_map(text: str | None) -> dict[str, str]:
    """What `--class-map` says: data set's name -> model's name.

    Args:
        text: `A=B,C=D`, or the path of a text file with a pair a line (for names with commas).

    Raises:
        ClassError: a pair without "=" or a name given twice; the file cannot be read.
    """
    if not text:
        return {}
    pairs = [pair.strip() for pair in _pairs(text)]
    renamed: dict[str, str] = {}
    for pair in filter(None, pairs):
        ours, equals, theirs = (part.strip() for part in pair.partition("="))
        if not (ours and equals and theirs):
            raise ClassError(f"--class-map: expected pairs OURS=THEIRS, found {pair!r}")
        if ours in renamed:
            raise ClassError(f"--class-map: {ours!r} is given twice")
        renamed[ours] = theirs
    return renamed


def _pairs(text: str) -> list[str]:
    path = Path(text)
    if path.is_file():
        return path.read_text(encoding="utf-8").splitlines()
    if "=" not in text:
        raise ClassError(f"--class-map: {text!r} is no file and holds no pair OURS=THEIRS")
    return text.split(",")
