"""Which missed objects come back when their tokens are kept: files beside the shards of a run. No torch.

    RUN/rescue-4-12-00000.parquet     a row an object, by blocks and rank; its metadata says how it was asked

`svit.evaluation.rescue` writes them; docs/run-format.md specifies the columns. They are no part of what was
recorded: `Run.content_hash` is the same with and without them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from svit.core.statistics import Interval, resampled_images, with_ends
from svit.core.types import ImageId
from svit.runs.frames import drawn_together
from svit.runs.head import RunError, read_head
from svit.runs.shards import read_table
from svit.system.files import write_whole
from svit.system.text import blocks, counted, streaks

FACTS = b"svit-rescue"  # key of the metadata
COLUMNS = {
    "object": pa.int32(),
    "before": pa.float32(),
    "after": pa.float32(),
    "added": pa.int32(),
    "random": pa.list_(pa.float32()),
    "random_added": pa.list_(pa.int32()),
}


@dataclass(frozen=True, eq=False)
class Rescue:
    """What keeping tokens did for the objects that a run does not find.

    Attributes:
        facts: blocks (from 1), draws, seed, score, iou, kind, created (of the run).
        frame: one row an object: image_id; object (index in the image's annotations); scores of the detection
            that finds it at the IoU, NaN where none does: before (as recorded), after (its tokens kept in the
            blocks), `random` (float32 (draws,): in their place as many at random); tokens that were switched
            on, summed over blocks: added, `random_added` (int (draws,)).
    """

    facts: dict[str, Any]
    frame: pd.DataFrame

    def found(self, score: float | None = None) -> pd.DataFrame:
        """The frame with `rescued`, bool: found with at least the score; `chance`: the share of the random
        draws in which it is. Objects that are found as recorded are left out.

        Args:
            score: at most that of the facts, which is also the default.

        Raises:
            ValueError: it is higher: objects found with less were not asked about.
        """
        least = self.facts["score"] if score is None else score
        if least > self.facts["score"]:
            raise ValueError(
                f"expected a score of at most {self.facts['score']:g}, below which objects were asked about; "
                f"found {least:g}"
            )
        frame = self.frame[~(self.frame["before"] >= least)]
        draws = np.array(frame["random"].tolist()).reshape(len(frame), self.facts["draws"])
        chance = (draws >= least).mean(axis=1) if len(frame) else np.zeros(0)
        return frame.assign(rescued=frame["after"] >= least, chance=chance)

    def summary(
        self,
        images: Sequence[ImageId],
        draws: int = 1000,
        videos: Mapping[ImageId, ImageId] | None = None,
    ) -> dict[str, Interval]:
        """How many objects come back, with intervals over the images: "rescued" by their own tokens,
        "chance" by as many at random (the mean over draws), and "difference".

        Args:
            images: all that were looked at, those without a missed object too.
            videos: of each image, where all are frames (`svit.runs.frames.videos_of`): they are drawn whole.
        """
        totals = self.found().groupby("image_id")[["rescued", "chance"]].sum()
        counts = totals.reindex(list(images), fill_value=0).to_numpy(float)
        units = drawn_together(videos, images)
        own, other = (
            resampled_images(
                lambda weights, column=column: float(weights @ column),
                list(images),
                draws,
                0,
                videos=units,
            )
            for column in counts.T
        )
        sides = {"rescued": own, "chance": other, "difference": own - other}
        return {name: one.interval() for name, one in sides.items()}

    def sentence(
        self, images: Sequence[ImageId], videos: Mapping[ImageId, ImageId] | None = None
    ) -> str:
        """What came out, for people; arguments as of `summary`."""
        parts = self.summary(images, videos=videos)
        own, chance, apart = (parts[name] for name in ("rescued", "chance", "difference"))
        where = blocks([block - 1 for block in self.facts["blocks"]])
        missed = len(self.found())
        verb = "comes back when its" if missed == 1 else "come back when their"
        draws = counted(self.facts["draws"], "draws") + " each" * (missed > 1)
        unit, units = ("picture", images) if videos is None else ("video", set(videos.values()))
        alone = f" (one {unit} tells no interval)" * (len(units) == 1)
        difference = f"{with_ends(apart.value, *apart.bounds, '+.1f')} objects{alone}"
        return (
            f"{own.value:.0f} of {counted(missed, 'missed objects')} {verb} tokens are kept in {where}, "
            f"{chance.value:.1f} with as many at random ({draws}): a difference of {difference}"
        )


def rescue_path(folder: Path, numbers: Sequence[int], rank: int = 0) -> Path:
    """The file of a rank about blocks, from 1."""
    return folder / f"rescue-{spans(numbers)}-{rank:05}.parquet"


def spans(numbers: Sequence[int]) -> str:
    """Blocks for a file's name: "4-12", "4_6-7"."""
    return "_".join(streaks(numbers, "-"))


def read_rescue(folder: Path, numbers: Sequence[int] | None = None) -> Rescue | None:
    """What was asked of a run about some blocks, of all ranks together; None if nothing.

    Args:
        numbers: of blocks, from 1; None for the most blocks that were asked about.

    Raises:
        RunError: a file is damaged, or belongs to another run.
    """
    by_blocks: dict[tuple[int, ...], list[Rescue]] = {}
    for path in rescue_files(folder):
        part = read_part(path)
        by_blocks.setdefault(tuple(part.facts["blocks"]), []).append(part)
    chosen = max(by_blocks, key=len, default=None) if numbers is None else tuple(numbers)
    if chosen not in by_blocks:
        return None
    parts = by_blocks[chosen]
    frame = pd.concat([part.frame for part in parts], ignore_index=True)
    frame = frame.drop_duplicates(["image_id", "object"], ignore_index=True)
    return Rescue(parts[0].facts, frame)


def rescue_files(folder: Path) -> list[Path]:
    """All of a run, by name."""
    return sorted(folder.glob("rescue-*.parquet"))


def read_part(path: Path) -> Rescue:
    """One file.

    Raises:
        RunError: it is damaged, or of another recording than the run it lies in.
    """
    table = read_table(path)
    stored = (table.schema.metadata or {}).get(FACTS)
    if stored is None or not {"image_id", *COLUMNS} <= {*table.column_names}:
        raise RunError(f"{path} holds no rescue of missed objects: delete it, and ask anew")
    facts = json.loads(stored)
    created = read_head(path.parent)["created"]
    if facts["created"] != created:
        raise RunError(
            f"{path} is of a run recorded {facts['created']}, and this one of {created}: delete it"
        )
    return Rescue(facts, table.to_pandas())


def write_part(
    path: Path, facts: Mapping[str, Any], rows: Sequence[dict[str, Any]], texts: bool = False
) -> None:
    """Writes a file whole or not at all.

    Args:
        rows: of `Rescue.frame`.
        texts: whether images are named by texts.

    Raises:
        OSError: see `svit.system.files.replacing`.
    """
    schema = pa.schema(
        {"image_id": pa.string() if texts else pa.int64(), **COLUMNS},
        metadata={FACTS: json.dumps(dict(facts), sort_keys=True)},
    )
    table = pa.Table.from_pylist(rows, schema)
    write_whole(path, lambda file: pq.write_table(table, file, write_page_checksum=True))
