"""How runs, models and results are named in figures, tables, files and lists: here and nowhere else.

Where several stand together, a name says what sets each apart.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from analysis.sources.benchmarks import Speed
from analysis.sources.evaluations import Evaluation, Facts, facts_of, masks_of, masks_told
from analysis.sources.names import told_apart
from analysis.sources.trainings import Training
from svit.core.catalogue import METHODS, ROWS
from svit.core.types import ImageId
from svit.runs.head import UNKNOWN
from svit.runs.run import Run

FACTS = (
    *("method", "inference", "intervention", "masks_from", "framework", "dtype", "seed"),
    "weights",
)
FLOAT = "float32"  # what runs without a word about it computed in
# method and variant, as results call them -> the row of a comparison that is them
_NAMES = {
    f"{row.method} {METHODS[row.method].variant(row.options)}".strip(): row.name
    for row in reversed(ROWS)
}
# told apart in the titles of two runs
_VERSUS = ("method", "inference", "intervention", "framework", "dtype", "seed")


def of_model(model: str) -> str:
    """How a model (`Facts.model`) is called wherever several stand together: as its row of a comparison,
    "svit-fixed-inherit"; by method and variant where no row is it."""
    return _NAMES.get(model, model)


def fill(run: Run) -> str:
    """The command that records images into it."""
    told = run.provenance
    theirs = f" --module {told['model']}" if "host" in told and "model" in told else ""
    return f"svit record{theirs} --out {run.path}"


def folder(run: Run) -> str:
    """The name of its folder."""
    return run.path.resolve().name


def of_facts(facts: Facts) -> str:
    """For legends: the preset, and what is special about it; nothing of what is unknown."""
    framework, inference, _ = facts.source
    words = [facts.preset, facts.variant, framework, inference, masks_told(facts)]
    return " · ".join(word for word in words if word not in ("", UNKNOWN)) or UNKNOWN


def label(run: Run, place: str = "") -> str:
    """Folder, preset and way of deciding, where anything of these is known.

    Args:
        place: what the folder is called where its name alone does not tell it from others.
    """
    told, place = of_facts(facts_of(run.provenance, len(run))), place or folder(run)
    return place if told == UNKNOWN else f"{place}: {told}"


def titled(run: Run, place: str = "") -> str:
    """For headings: the label, and of how many images the numbers are; `place` as of `label`."""
    return f"{label(run, place)}, {len(run):,} image{'s' if len(run) != 1 else ''}"


def places(runs: Iterable[Run]) -> list[str]:
    """The folders of runs that stand together, each told from the others."""
    return told_apart(run.path for run in runs)


def labelled(runs: Sequence[Run], frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The frames below each other; of several runs the first column says whose they are."""
    if len(runs) == 1:
        return frames[0]
    named = [
        frame.assign(run=label(run, place))
        for run, place, frame in zip(runs, places(runs), frames, strict=True)
    ]
    table = pd.concat(named, ignore_index=True)
    return table[["run", *table.columns.drop("run")]]


def row_names(runs: Sequence[Run]) -> list[str]:
    """Short names where runs are rows: the row of the comparison a run belongs to, or else `of_model`, and
    the seed of its masks; runs that still look alike add the seed of their training, how masks
    were decided, or their folder."""
    facts = [facts_of(run.provenance, len(run)) for run in runs]
    models = [
        folder(run) if one.model == UNKNOWN else of_model(one.model)
        for run, one in zip(runs, facts)
    ]
    plain = [str(run.provenance.get("row") or model) for run, model in zip(runs, models)]
    seeds = [f"{name}\nseed {one.seed}" if one.seed else name for name, one in zip(plain, facts)]
    trained = [f"{name}\ntrained with seed {one.training_seed}" for name, one in zip(seeds, facts)]
    modes = [[word for word in one.source[1:] if word not in ("", "learned")] for one in facts]
    sources = ["\n".join([name, *words]) for name, words in zip(seeds, modes)]
    folders = [f"{name}\n{place}" for name, place in zip(seeds, places(runs), strict=True)]
    names = seeds
    for longer in (trained, sources, folders):
        told = [long if names.count(name) > 1 else name for name, long in zip(names, longer)]
        names = told if len(set(told)) > len(set(names)) else names
    return names


def versus(first: Run, second: Run) -> str:
    """The folders of two runs, and in which facts they differ."""
    facts = fact_frame([first, second]).replace({"dtype": {"": FLOAT}})
    pairs = [facts[name].tolist() for name in _VERSUS]
    # dense runs have no inference mode, runs of other programs tell less
    told = [f"{one} − {other}" for one, other in pairs if one != other and "" not in (one, other)]
    names = " − ".join(places([first, second]))
    return f"{names} ({', '.join(told)})" if told else names


def fact_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a run: `FACTS` of its provenance as text, "" where it says nothing, and for `FLOAT`."""
    rows = []
    for run in runs:
        facts = run.provenance
        row = {name: str(facts.get(name) or "") for name in FACTS}
        row["intervention"] = masks_of(facts) if row["intervention"] else ""
        row["masks_from"] = row["masks_from"] and f"masks of {row['masks_from'][:8]}"
        row["dtype"] = row["dtype"].removeprefix(FLOAT)
        rows.append(row | {"seed": str(facts.get("seed", ""))})  # 0 is a seed
    return pd.DataFrame(rows, columns=list(FACTS))


def differing(facts: pd.DataFrame) -> list[str]:
    """Names of the `FACTS` in which the rows of `fact_frame` are not all equal."""
    return [name for name in facts.columns if facts[name].nunique() > 1]


def fact_texts(runs: Sequence[Run]) -> list[str]:
    """What sets each run apart from the others, in words: "svit, threshold". Weights are left to the
    provenance line, and masks as learned go without saying."""
    facts = fact_frame(runs)
    shown = [name for name in differing(facts) if name != "weights"]
    texts = facts[shown].replace({"intervention": {"learned": ""}} if shown else {})
    if "seed" in shown:
        texts["seed"] = [seed and f"seed {seed}" for seed in texts["seed"]]
    return [", ".join(filter(None, row)) for row in texts.to_numpy().tolist()]


def model_name(row: pd.Series, body: Sequence[str]) -> str:
    """A row of `control_gain.frame`: the comparison's row or the model, and what is special about it.

    Args:
        body: columns that are told, too: in which of size, neck and framework models differ.
    """
    name = row["row"] or of_model(row["model"])
    if body:
        name += f" ({', '.join(row[list(body)])})"
    if row["dial"]:
        name += f", dial at {row['base_ratio']:g}"
    return f"{name}, masks of {row['lender']}" if row["lender"] else name


def choices(paths: Iterable[Path]) -> dict[str, Path]:
    """A name for each run of a list: its folder's, or the whole path where two folders share a name."""
    paths = list(paths)
    names = [path.name for path in paths]
    return {path.name if names.count(path.name) == 1 else str(path): path for path in paths}


def by_its_end(name: str, most: int) -> str:
    """A name of so many letters at most: of longer ones the end, where the runs of a series differ."""
    return name if len(name) <= most else f"…{name[len(name) - most + 1 :]}"


def folder_names(runs: Sequence[Run]) -> list[str]:
    """Folders to write into, named as the runs' own and numbered where they repeat."""
    plain = [file_name(folder(run)) for run in runs]
    found: list[str] = []
    for number, name in enumerate(plain, 1):
        new = name if plain.count(name) == 1 else f"{name}-{number}"
        while new != name and new in plain:  # another run is called so
            new += f"-{number}"
        found.append(new)
    return found


def training_names(trainings: Iterable[Training]) -> list[str]:
    """Folder names, from as far up as it takes to tell them apart."""
    return told_apart(training.path for training in trainings)


def file_name(image_id: ImageId) -> str:
    """The id as a file name; ids that had to change get a checksum, so that they stay apart."""
    text = str(image_id)
    plain = re.sub(r"[^\w.-]+", "_", text)[-80:]
    return plain if plain == text else f"{plain}-{zlib.crc32(text.encode()):08x}"


def provenance(source: Run | Evaluation | Speed | Training) -> str:
    """One line on where numbers come from."""
    if isinstance(source, Run):
        states = ([] if source.finished else ["unfinished"]) + list(source.skipped)
        return " · ".join([source.describe(), *states])
    if isinstance(source, Speed):
        return f"{source.path.as_posix()}, {source.condition}"
    if isinstance(source, Training):
        return f"{source.path.as_posix()}, {len(source.lines)} lines"
    facts = source.facts
    return f"{of_facts(facts)} on {facts.data}, {source.images} images ({source.path.as_posix()})"
