"""One row of a comparison: its training, its evaluations, and what is written down about them.

Everything can be gone on with: a training from its checkpoint, an evaluation from what it recorded.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from svit.comparison.plan import CompareError, Job, Line
from svit.core.catalogue import rescaled
from svit.core.config import Config, to_dict
from svit.core.matches import MATCHES, MatchesFile
from svit.core.statistics import Drawn
from svit.data.coco import CocoDataset, CocoFiles, find_coco
from svit.data.samples import count_shared, fingerprint, reading
from svit.detectors import build_detector
from svit.detectors.base import Detector
from svit.evaluation import provenance
from svit.evaluation.average_precision import BOUNDARY, COUNTED, KINDS, overfull
from svit.evaluation.evaluate import Scoring, evaluate
from svit.evaluation.passes import ALONE, PassOptions
from svit.evaluation.summary import SUMMARY
from svit.evaluation.summary_tables import TRAINED_HERE, overfull_told, trained_here_told
from svit.probing.calibrate import calibrate
from svit.pruning import method_class
from svit.system.claims import check_claim, claim
from svit.system.files import FileError, move, prepare_folder, read_json, write_text
from svit.system.processes import Ranks
from svit.training import training_checkpoints
from svit.training.loader import annotations_hash, check_data, training_hash
from svit.training.train import train
from svit.training.trainer import FINAL
from svit.weights import checkpoint
from svit.weights.loading import check_objects, load_detector

PLAN, ROW, FAILED = "plan.json", "row.json", "failed.txt"
CALIBRATED = "calibrated-start.safetensors"
OBJECTS = "train_objects_sha256"  # in a plan: of all annotations that are trained on
log = logging.getLogger("svit.training")


@dataclass(frozen=True)
class Setting:
    """What all rows of a comparison share beside their recipe.

    Attributes:
        out: folder of the comparison.
        dataset: folder in COCO's layout with train and val, or "coco".
        start: the dense weights every row starts from.
        images: validation images evaluated on, the first ones; None is all.
        calibration: training images that rates are fitted on.
        workers: processes that read images ahead.
        device: cpu or cuda.
        exif: as in `svit.data.reading.read_image`.
        class_map: name of a class in the data -> its name in the weights the rows start from.
        boundary: also scores masks by their boundaries (`svit.evaluation.boundary`).
        counted: detections an image and class that AP counts.
    """

    out: Path
    dataset: str
    start: Path
    images: int | None = None
    calibration: int = 100
    workers: int = 0
    device: str = "cpu"
    exif: str = "auto"
    class_map: Mapping[str, str] = field(default_factory=dict)
    boundary: bool = False
    counted: int = COUNTED

    def data(self, config: Config, *, check_files: bool = False) -> tuple[CocoDataset, CocoDataset]:
        """Training and validation images.

        Args:
            check_files: also looks for the pictures, see `CocoDataset`; once is enough for all rows.

        Raises:
            CocoError: a split is missing or its json is wrong.
            ClassError: the validation images show classes that the training images do not.
        """
        root = None if self.dataset == "coco" else Path(self.dataset)
        splits = {name: find_coco(name, root) for name in ("train", "val")}

        def opened(files: CocoFiles, **choices: Any) -> CocoDataset:
            choices |= {"exif": self.exif, "check_files": check_files}
            return CocoDataset(files.json, files.image_root, config.data, **choices)

        train_set = opened(splits["train"], train=True, class_map=self.class_map)
        return train_set, opened(splits["val"], class_names=train_set.class_names)

    def looked_at(self, val_set: CocoDataset) -> int:
        """Number of validation images that count."""
        return min(self.images or len(val_set), len(val_set))


def check(planned: Sequence[Job], setting: Setting) -> list[str]:
    """Refuses, before anything is written, what no row could use and folders of another comparison.

    Returns: what the check of the data found, for the reader.

    Raises:
        FileError: a row's folder was begun with other settings.
        ClassError, CocoError, DataMismatch, ValueError: other classes in the two splits, wrong
            annotations, too few images, no objects.
    """
    config = planned[0].config  # data and classes are those of all rows
    train_set, val_set = setting.data(config, check_files=True)
    check_data(train_set, config.detector.classes, config.train.batch, world=1)
    check_objects(val_set, setting.images)
    begun = [job for job in planned if (setting.out / job.name).exists()]
    start = checkpoint.read_foreign(setting.start).state if begun else {}
    for job in begun:
        RowMaker(job, setting, ALONE, train_set, val_set).claim(start, check_claim)
    said = [one.report.lines() for one in (train_set, val_set) if one.report.says]
    crowded = overfull(val_set.coco(range(setting.looked_at(val_set))), setting.counted)
    capped = [overfull_told(crowded, setting.counted)] if crowded else []
    looked_at = setting.looked_at(val_set)
    seen = trained_here(train_set, val_set, looked_at)
    both = [trained_here_told(seen, looked_at)] if seen else []
    return [*sum(said, []), *val_set.class_notes, *capped, *both]


@lru_cache(maxsize=1)  # of COCO's it takes seconds, and the lines of a row share them
def trained_here(train_set: CocoDataset, val_set: CocoDataset, count: int) -> int:
    """How many of the images evaluated, the first `count`, are trained (and rates fitted) on."""
    return count_shared(val_set, range(count), train_set, range(len(train_set)))


def run_row(job: Job, setting: Setting, ranks: Ranks) -> bool:
    """Trains and evaluates one row, or goes on with it. Returns: False if a signal ended it.

    Raises:
        CompareError: the folder belongs to a comparison with other settings.
        TrainError: the training cannot go on.
    """
    return RowMaker(job, setting, ranks, *setting.data(job.config)).make()


@dataclass(frozen=True)
class RowMaker:
    """The steps that make one row, each of which looks first at what is there already."""

    job: Job
    setting: Setting
    ranks: Ranks
    train_set: CocoDataset
    val_set: CocoDataset

    @property
    def folder(self) -> Path:
        """Of the row: its plan, model, evaluations and numbers."""
        return self.setting.out / self.job.name

    @property
    def training(self) -> Path:
        """Folder of the training; only its log is left when the row is finished."""
        return self.folder / "training"

    @property
    def model(self) -> Path:
        """The trained weights."""
        return weights_of(self.job, self.setting.out)

    def make(self) -> bool:
        """Trains and evaluates what is missing. Returns: False if a signal ended the training.

        Raises:
            CompareError: the folder belongs to another comparison, or cannot be written.
            TrainError: the training cannot go on.
        """
        begin, start = time.time(), checkpoint.read_foreign(self.setting.start).state
        facts = self.facts(start)
        self._on_first(lambda: self._begin(start))
        if not self.model.exists() and not self._train():
            return False
        detector = load_detector(self.model, self.job.config.framework)
        detector.to(self.ranks.device).eval()
        for line in self.job.lines:
            self._measure(line, detector)
        own = [name for name in detector.canonical_state_dict() if name not in start]
        seconds = round(time.time() - begin, 1)
        facts |= {"initialised": own, "device": provenance.device_name(detector)}
        self._on_first(lambda: self._finish({**facts, "seconds_of_this_call": seconds}))
        return True

    def facts(self, start: dict[str, torch.Tensor]) -> dict[str, Any]:
        """What the row follows from, beside the code."""
        steps = self.job.steps(len(self.train_set))
        counted = self.setting.counted
        return {
            "row": self.job.row.name,
            "seed": self.job.seed,
            "steps": steps,
            "views": steps * self.job.config.train.batch,
            "images": self.setting.looked_at(self.val_set),
            "calibration": self.setting.calibration,
            **({} if counted == COUNTED else {"counted": counted}),
            **reading(self.train_set),
            "init_sha256": checkpoint.fingerprint(start),
            "train_sha256": training_hash(self.train_set),
            OBJECTS: _objects(self.train_set),
            "val_sha256": fingerprint(self.val_set),
            "config": to_dict(self.job.config),
        }

    def claim(self, start: dict[str, torch.Tensor], by: Callable[..., None] = claim) -> None:
        """Writes down what the folder is for, or proves that it is for the same.

        Raises:
            FileError: it is not; what differs.
        """
        path, facts = self.folder / PLAN, self.facts(start)
        if path.exists() and OBJECTS not in read_json(path, "delete the folder or choose another"):
            del facts[OBJECTS]  # plans without a word about them are of before
        by(path, facts, what="comparison", harmless={FAILED})

    def _begin(self, start: dict[str, torch.Tensor]) -> None:
        prepare_folder(self.folder)
        self.claim(start)
        (self.folder / FAILED).unlink(missing_ok=True)

    def _on_first(self, action: Callable[[], object]) -> None:
        """Lets the first process act; the others wait, and end with the same words after a failure."""
        problem = ""
        if self.ranks.is_first:
            try:
                action()
            except (CompareError, FileError, OSError) as error:
                problem = str(error)
        problem = self.ranks.agree(problem)
        if problem:
            raise CompareError(problem)

    def _train(self) -> bool:
        """Finetunes; ATS starts and ends with levels that keep what the row is meant to keep."""
        init, fits = self.setting.start, method_class(self.job.row.method).fits
        leveled = fits is not None and not fits.mode  # it decides by fitted numbers at any time
        own, theirs = self.train_set.class_names, self.train_set.foreign_names
        if leveled:
            init = self.folder / CALIBRATED
            self._on_first(lambda: self._calibrated(self.setting.start, init, theirs))
        ending = train(
            self.job.config,
            self.train_set,
            self.training,
            init=init,
            teacher=self.setting.start,
            resume=True,
            workers=self.setting.workers,
            device=str(self.ranks.device),
        )
        if ending != "finished":
            return False
        trained, model = self.training / FINAL, self.model
        self._on_first(
            lambda: self._calibrated(trained, model, own) if leveled else move(trained, model)
        )
        return True

    def _calibrated(self, source: Path, target: Path, names: Sequence[str]) -> None:
        """Writes the weights with ATS's numbers of levels fitted to the keep ratios, if it must.

        Args:
            names: of the classes, in the order of the labels, as the source has them and the target will.
        """
        if target.exists():
            return
        config = self.job.config
        torch.manual_seed(config.train.seed)
        detector = build_detector(config).to(self.ranks.device).eval()
        report = checkpoint.load_weights(
            detector, source, complete=False, other_body=True, class_names=names
        )
        detector.class_names = tuple(names)
        for line in report.lines():
            log.info(line)
        calibrate(detector, self.train_set, self.setting.calibration)
        checkpoint.save(target, detector)

    def _measure(self, line: Line, detector: Detector) -> None:
        """Evaluates a line unless that is done; the learned masks are recorded on the way."""
        folder = self.folder / line.name
        if self.ranks.agree("done" if (folder / SUMMARY).exists() else ""):
            return
        if self.ranks.is_first:
            log.info("%s: %s", self.job.name, line.name)
        if line.base is not None:  # one training, many rates
            ratios = self.job.config.pruning.options["keep_ratios"]
            detector.backbone.method.set_keep_ratios(rescaled(ratios, line.base))
            calibrate(detector, self.train_set, self.setting.calibration)
        evaluate(
            detector,
            self.val_set,
            folder,
            PassOptions(
                inference=None if line.base is None else "calibrated",
                seed=self.job.seed,
                intervention=line.intervene,
                limit=self.setting.images,
                workers=self.setting.workers,
                progress=self.ranks.is_first,
            ),
            Scoring(
                record=self.folder / "run" if line == Line() else None,
                boundary=self.setting.boundary,
                counted=self.setting.counted,
            ),
            ranks=self.ranks,
            weights=f"{self.job.name}/{self.model.name}",
            row=self.job.row.name,
            line=line.name,
            trained_steps=self.job.steps(len(self.train_set)),
            **self._trained_here(),
        )

    def _trained_here(self) -> dict[str, int]:
        """An entry of a provenance where images evaluated are trained on."""
        seen = trained_here(self.train_set, self.val_set, self.setting.looked_at(self.val_set))
        return {TRAINED_HERE: seen} if seen else {}

    def _finish(self, facts: dict[str, Any]) -> None:
        """Writes the numbers and their provenance; what only a resumed training needs goes."""
        numbers = {
            line.name: _numbers(self.folder / line.name / SUMMARY) for line in self.job.lines
        }
        code = {"versions": provenance.versions(), "commit": provenance.commit()}
        about = {**code, **provenance.of_command(), **self._trained_here()}
        write_text(self.folder / ROW, json.dumps({**facts, **about, "lines": numbers}, indent=1))
        spare = (
            self.training / training_checkpoints.MARKER,
            self.training / FINAL,
            self.folder / CALIBRATED,
        )
        for path in (*training_checkpoints.paths(self.training), *spare):
            path.unlink(missing_ok=True)


@lru_cache(maxsize=1)  # of COCO's it takes seconds, and rows share one data set
def _objects(train_set: CocoDataset) -> str:
    return annotations_hash(train_set)


def _numbers(path: Path) -> dict[str, float | None]:
    summary = read_json(path, "delete it and repeat the command")
    means = {name: summary[name]["mean"] for name in ("keep_ratio", "macs_backbone", "macs")}
    known = [kind for kind in (*KINDS, BOUNDARY) if kind in summary]
    return {f"{kind}_AP": summary[kind]["AP"] for kind in known} | means


def drawn(folder: Path, line: str, kind: str) -> Drawn | None:
    """AP of a kind of a line of a row with its draws; None where it was measured before these were kept.

    Raises:
        FileError, MatchesError: the line's summary or matches are damaged.
    """
    summary = read_json(folder / line / SUMMARY, "delete it and repeat the command")
    seal = summary.get("matches_sha256")
    return None if seal is None else MatchesFile(folder / line / MATCHES, seal).drawn(kind)


def weights_of(job: Job, out: Path) -> Path:
    """The trained row; its file is named after it, so that a benchmark of several tells them apart."""
    return out / job.name / f"{job.name}.safetensors"


def state_of(job: Job, out: Path) -> str:
    """How far a row is, in words."""
    folder = out / job.name
    if (folder / ROW).exists():
        return "finished"
    if (folder / FAILED).exists():
        return f"failed, see {folder / FAILED}; it is tried again"
    if weights_of(job, out).exists():
        done = sum((folder / line.name / SUMMARY).exists() for line in job.lines)
        return f"trained, {done} of {len(job.lines)} lines evaluated"
    saved = training_checkpoints.paths(folder / "training")
    return f"trained for {int(saved[0].stem.split('_')[1]) + 1} steps" if saved else "to do"
