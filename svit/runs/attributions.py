"""What objects of a run need, kept beside its shards: no part of what was recorded. No torch.

    RUN/attribution/KEY/settings.json              how it was asked; KEY follows from it
    RUN/attribution/KEY/IMAGE-annotation-3.json    an object; IMAGE follows from the image's id

docs/run-format.md specifies both. `Run.content_hash` is the same with and without them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from svit.core.attribution import Explanation, Hit, TokenSet
from svit.core.statistics import image_key
from svit.core.types import ImageId, TokenGrid
from svit.runs.head import RunError, read_head
from svit.system.claims import refuse_others
from svit.system.files import plain_json, prepare_folder, read_json, write_json

FOLDER, SETTINGS = "attribution", "settings.json"
_REMEDY = "delete it, and `svit explain` makes it anew"
_FRAMES = ("curves", "beside", "forced")
_HITS = ("own", "full", "none")


@dataclass(frozen=True)
class Decided:
    """How far the model decided as it was recorded to.

    Attributes:
        agreement: share of the recorded masks' decisions that it made again on its picture.
        original: whether that was the original picture, not the one that the run stores; None if not known.
    """

    agreement: float
    original: bool | None = None


class Attributions:
    """The explanations of a run that were asked for with equal settings.

    Args:
        run: the run's folder.
        settings: plain JSON values that the results follow from.

    Attributes:
        folder: where they lie.
    """

    def __init__(self, run: Path, settings: Mapping[str, Any]) -> None:
        text = json.dumps(plain_json(dict(settings)), sort_keys=True)
        self.folder = run / FOLDER / hashlib.sha256(text.encode()).hexdigest()[:8]
        self._run, self._settings = run, dict(settings)

    def claim(self) -> None:
        """Makes the folder, or proves that the one there is of this recording.

        Raises:
            FileError: it is of another recording, or cannot be written.
        """
        facts = {"created": read_head(self._run)["created"], "settings": self._settings}
        prepare_folder(self.folder)
        path = self.folder / SETTINGS
        if not path.exists():
            write_json(path, plain_json(facts), indent=1, sealed=True)
        refuse_others(path, read_json(path, _REMEDY, RunError), facts, what="recording")

    def path(self, image_id: ImageId, source: str, number: int) -> Path:
        """The file of an object."""
        return self.folder / f"{image_key([image_id])}-{source}-{number}.json"

    def decided(self, one: Explanation) -> Decided:
        """What was kept beside an explanation."""
        entries = read_json(self.path(one.image_id, one.source, one.number), _REMEDY, RunError)
        return Decided(entries["agreement"], entries.get("original"))

    def write(self, one: Explanation, decided: Decided) -> Path:
        """Keeps an explanation. Returns: the file."""
        path = self.path(one.image_id, one.source, one.number)
        entries = {**vars(one), **asdict(decided), "sets": [asdict(own) for own in one.sets]}
        entries |= {name: asdict(getattr(one, name)) for name in (*_HITS, "grid")}
        entries |= {name: getattr(one, name).to_dict("list") for name in _FRAMES}
        write_json(path, plain_json(entries), sealed=True)
        return path


def read_attributions(run: Path) -> Iterator[tuple[Path, Explanation]]:
    """All explanations of a run with their files; those of equal settings follow each other.

    Raises:
        RunError: a file is damaged, or of another recording than the run it lies in.
    """
    for settings in sorted(run.glob(f"{FOLDER}/*/{SETTINGS}")):
        _of_this_run(settings, run)
        for path in sorted(settings.parent.glob("*.json")):
            if path != settings:
                yield path, read_explanation(path)


def problems(run: Path) -> Iterator[str]:
    """What is wrong with each damaged file, and with settings of another recording."""
    for path in sorted(run.glob(f"{FOLDER}/*/*.json")):
        try:
            _of_this_run(path, run) if path.name == SETTINGS else read_explanation(path)
        except RunError as error:
            yield str(error)


def _of_this_run(settings: Path, run: Path) -> None:
    """Raises RunError where it was asked of another recording."""
    created, there = read_head(run)["created"], read_json(settings, _REMEDY, RunError)
    if there.get("created") != created:
        raise RunError(
            f"{settings} is of a run recorded {there.get('created')}, and this one of {created}: "
            f"delete {settings.parent}"
        )


def read_explanation(path: Path) -> Explanation:
    """One file.

    Raises:
        RunError: it is damaged.
    """
    entries = read_json(path, _REMEDY, RunError)
    for name in ("agreement", "original"):
        entries.pop(name, None)
    try:
        entries |= {name: Hit(**entries[name]) for name in _HITS}
        entries |= {name: pd.DataFrame(entries[name]) for name in _FRAMES}
        entries |= {name: tuple(entries[name]) for name in ("box_xyxy", "layers")}
        grid = {
            name: tuple(side) if isinstance(side, list) else side
            for name, side in entries["grid"].items()
        }
        sets = [TokenSet(**{**one, "tokens": tuple(one["tokens"])}) for one in entries["sets"]]
        return Explanation(**{**entries, "grid": TokenGrid(**grid), "sets": tuple(sets)})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path} is no explanation of an object ({error!r}): {_REMEDY}") from error
