"""Evaluations by slices of their images: crowded and sparse ones, and texts of the data (`kind: histology`).

`svit evaluate` and `svit compare` write the images of an evaluation to `images.csv` and which detections are
right to `matches.npz`; from both every difference can be drawn anew over some of the images.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from analysis.sources import control_gain, paired
from analysis.sources.evaluations import Evaluation, EvaluationError, same_data
from svit.core.matches import MATCHES, MatchesError, MatchesFile
from svit.core.slices import crowding, slices_of
from svit.core.statistics import Drawn
from svit.core.types import ImageId

PER_IMAGE = "images.csv"
NUMBERS = (
    "objects",
    "area",
    "keep_ratio",
    "detections",
    "macs_backbone",
    "macs",
)  # the rest are texts
CROWDING = "crowding"
DRAWS = 300  # of the images of a slice; those of all images are kept by the evaluation
KIND = "box"
AGAINST = (paired.DENSE, "shuffle", "centre")
COLUMNS = ["slice", "of", "images", "name", "ap", "keep_ratio", *paired.COLUMNS[1:]]


@dataclass(frozen=True)
class Part(Evaluation):
    """An evaluation of which some images alone count: its box AP and its means are of them.

    Attributes:
        members: their ids, as text.
    """

    members: frozenset[str] = frozenset()

    @property
    def kinds(self) -> list[str]:
        """Box AP alone."""
        return [KIND]

    @cached_property
    def _box(self) -> Drawn:
        try:
            file = MatchesFile(self.path / MATCHES, self.summary["matches_sha256"])
            own = file.matches(KIND)
        except MatchesError as error:
            raise EvaluationError(str(error)) from error
        return own.drawn(DRAWS, members=_among(own.image_ids, self.members))

    def drawn(self, kind: str) -> Drawn | None:
        """AP of the members with its draws; None of other kinds than the box's.

        Raises:
            EvaluationError: matches are damaged, or of another evaluation.
        """
        return self._box if kind == KIND else None

    def ap(self, kind: str) -> float:
        """COCO AP of the members in percent; raises as `drawn`."""
        return self._box.value

    def interval(self, kind: str) -> tuple[float, float]:
        """The 95 % percentile interval of `ap` over the members; raises as `drawn`."""
        return self._box.interval().bounds

    def mean(self, name: str) -> float:
        """Mean over the members; NaN where no table of images was kept."""
        images = per_image(self)
        if images is None:
            return float("nan")
        return float(images.loc[images["image_id"].isin(self.members), name].mean())


def _among(ids: Sequence[ImageId], members: Collection[str]) -> np.ndarray:
    return np.array([str(image_id) in members for image_id in ids])


def per_image(one: Evaluation) -> pd.DataFrame | None:
    """The table of images beside a summary; None where none was kept. Ids and texts of slices stay as they
    are written: "2019", "NA" and "True" are texts, too.

    Raises:
        EvaluationError: it cannot be read.
    """
    path = one.path / PER_IMAGE
    if not path.is_file():
        return None
    try:
        kinds = defaultdict(lambda: str, dict.fromkeys(NUMBERS, float))
        empty = dict.fromkeys(NUMBERS, [""])
        return pd.read_csv(path, dtype=kinds, keep_default_na=False, na_values=empty)
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path} cannot be read ({error}); evaluate again") from error


def members(results: Sequence[Evaluation]) -> dict[tuple[str, str], frozenset[str]]:
    """Slice and text -> the images of it, as ("crowding", "sparse"), by the first table of images found.

    Slices of fewer than two images, of all, and without an object tell nothing and are left out.
    """
    tables = (per_image(one) for one in results)
    images = next((table for table in tables if table is not None), None)
    if images is None:
        return {}
    ids, objects = images["image_id"], images["objects"].to_numpy()
    fields: dict[str, list[str]] = slices_of(images.drop(columns="image_id").to_dict("records"))
    crowded = crowding(dict(zip(ids, objects)))
    told = {
        f"{CROWDING} (of the data)" if name == CROWDING else name: fields[name] for name in fields
    }
    fields = {CROWDING: [crowded[one] for one in ids]} | told
    return {
        (name, text): frozenset(ids[np.array(texts) == text])
        for name, texts in fields.items()
        for text in sorted(set(texts))
        if 2 <= texts.count(text) < len(texts) and objects[np.array(texts) == text].any()
    }


def frame(results: Sequence[Evaluation]) -> pd.DataFrame:
    """Box AP of models on the images of each slice, and how far it is above others: paired, means over
    training seeds.

    Columns: slice (a field of the data, or "crowding": more objects than the median image or not), of (its
    text), images; name, ap and keep_ratio of a model with its own masks, at the rate it was trained for;
    and as in `paired.differences`: against, of `AGAINST`, kind, value, low, high, above, seeds.

    Raises:
        EvaluationError: matches are damaged, or the results are of different images.
    """
    same_data(results)
    known = compared(results)
    tables = []
    for (name, text), ids in members(known).items():
        parts = [Part(one.path, one.summary, ids) for one in known]
        table = control_gain.frame(parts)
        rows = paired.differences(parts, AGAINST)
        own = table[~table["dial"]].groupby("name", as_index=False)[["box_ap", "keep_ratio"]].mean()
        rows = rows.merge(own.rename(columns={"box_ap": "ap"}), on="name")
        tables.append(rows.assign(slice=name, of=text, images=len(ids)))
    return pd.concat(tables)[COLUMNS] if tables else pd.DataFrame(columns=COLUMNS)


def compared(results: Sequence[Evaluation]) -> list[Evaluation]:
    """Those that have a part in `frame`: with matches of single pictures, and masks that are compared; none
    where no table of images is beside one of them.

    Raises:
        EvaluationError: matches are damaged.
    """
    known = [one for one in results if _has_part(one)]
    return known if members(known) else []


def _has_part(one: Evaluation) -> bool:
    masks = one.facts.source[2]
    if one.facts.masks_from or masks not in ("learned", *AGAINST):
        return False
    drawn = one.drawn(KIND)
    return drawn is not None and "videos" not in drawn.key
