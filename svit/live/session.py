"""A loaded model and its jobs: forwards with counterfactual masks, what they cost, keeping them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from svit.core import macs as compute
from svit.core.attribution import Explanation, Thing
from svit.core.catalogue import METHODS
from svit.core.config import Config, ConfigError, from_dict
from svit.core.types import Detections, Target, TokenTrace
from svit.data.classes import ClassError, match_classes
from svit.data.images import prepare, resize_hw
from svit.data.samples import Sample, hash_of, to_device
from svit.detectors.base import Detector
from svit.evaluation import provenance
from svit.evaluation.passes import inference_mode
from svit.live import originals
from svit.live.pictures import Picture
from svit.probing.apply_edits import applied
from svit.probing.attribution.explain import explain
from svit.probing.attribution.options import Options
from svit.probing.attribution.trials import Tell
from svit.probing.edits import Edit
from svit.probing.recorder import record
from svit.probing.transplants import Transplant
from svit.runs.run import RunError, RunWriter
from svit.system import timing
from svit.system.files import write_whole
from svit.system.text import counted
from svit.weights import checkpoint
from svit.weights.loading import class_names, load_detector, other_settings

BEFORE, AFTER = "before", "after"
NAMED = 10  # classes that a sentence lists


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a model did with one picture.

    Attributes:
        trace: masks as used, with the scores after edits.
        detections: in pixels of the picture.
        macs: module -> multiply-accumulates (`compute.ledger`); None for a method without a formula.
        edits: what was changed.
    """

    trace: TokenTrace
    detections: Detections
    macs: pd.Series | None
    edits: tuple[Edit, ...] = ()

    @property
    def sentences(self) -> list[str]:
        """What each edit does, in their order."""
        return [one.sentence for one in self.edits]


@dataclass(frozen=True)
class Latency:
    """Times of one picture before and after, measured in turn (`timing.interleave`).

    Attributes:
        times: one row a call: variant (before, after), round, wall_s.
        machine: device and threads.
    """

    times: pd.DataFrame
    machine: str

    @property
    def rounds(self) -> int:
        """How often each side was timed."""
        return int(self.times["round"].nunique())

    def seconds(self, variant: str) -> tuple[float, float, float]:
        """First quartile, median and third quartile of a call, in seconds."""
        wall = self.times.loc[self.times["variant"] == variant, "wall_s"]
        return tuple(wall.quantile([0.25, 0.5, 0.75]).tolist())

    @property
    def speedup(self) -> tuple[float, float, float]:
        """Median of before / after in the same round, between the ends of its 95 % interval."""
        table = self.times.pivot(index="round", columns="variant", values="wall_s")
        ratios = table[BEFORE] / table[AFTER]
        low, high = median_interval(ratios.tolist())
        return low, float(ratios.median()), high

    @property
    def verdict(self) -> str:
        """Whether the difference is larger than the noise."""
        low, middle, high = self.speedup
        told = f"95 % interval over {self.rounds} rounds {low:.2f}x to {high:.2f}x"
        if low <= 1 <= high:
            return f"No difference beyond the noise: {told}."
        return f"{middle:.2f}x as fast: {told}."


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """An interval that holds the true median with at least 95 %, whatever the distribution.

    The k-th smallest and k-th largest value, k the largest with 2 P(Binomial(n, 1/2) < k) <= 5 %.

    Raises:
        ValueError: fewer than six values allow no such interval.
    """
    count, chance, place = len(values), 0.0, 0
    while 2 * (chance + math.comb(count, place) / 2**count) <= 0.05:
        chance += math.comb(count, place) / 2**count
        place += 1
    if not place:
        raise ValueError(f"expected at least 6 values, found {count}")
    ranked = sorted(values)
    return ranked[place - 1], ranked[-place]


class Session:
    """A detector in evaluation mode; jobs on it run one after another.

    Args:
        detector: is put into evaluation mode for each job; its own mode comes back.
        weights: what to call the weights in provenance.
        class_names: of the model's labels.
        seed: of random masks, in the inference mode `sample`.
    """

    def __init__(
        self,
        detector: Detector,
        weights: str = "",
        class_names: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        self.detector, self.weights, self.seed = detector, weights, seed
        self.class_names = tuple(class_names)
        self._turn = threading.Lock()

    @classmethod
    def load(cls, path: Path, device: str = "cpu", config: Config | None = None) -> Session:
        """Of a checkpoint.

        Args:
            config: other settings than those in the file.

        Raises:
            CheckpointError: the file cannot be read, or does not fit the settings.
        """
        detector = load_detector(path, config=config).to(device).eval()
        return cls(detector, path.name, class_names(detector))

    @property
    def about(self) -> str:
        """One line: what is loaded."""
        config, method = self.detector.config, self.detector.backbone.method
        parameters = sum(value.numel() for value in self.detector.parameters()) / 1e6
        mode = method.inference
        same = Path(self.weights).stem in ("", config.name)
        parts = [config.name if same else f"{self.weights} ({config.name})"]
        parts += [f"{config.pruning.method}{f', mode {mode}' if mode else ''}"]
        parts += [f"{method.depth} blocks", f"{parameters:.1f} M parameters", self._machine()]
        guessed = ["settings guessed, as the weights hold none"] * bool(self.detector.guesses)
        return " · ".join([*parts, self.detector.framework, *guessed])

    def sees(self, picture: Picture) -> str:
        """Two sentences: what the model was trained to find, at what size it sees the picture."""
        data, found = self.detector.config.data, self.detector.config.detector.classes
        names = ", ".join(self.class_names[:NAMED]) + ", …" * (len(self.class_names) > NAMED)
        known = f": {names}" if names else ", which its checkpoint does not name"
        height, width = resize_hw(picture.pixels.shape[:2], data.short_side, data.long_side)
        return f"Trained to find {counted(found, 'classes')}{known}. Processed at {width} x {height} pixels."

    def names(self, picture: Picture) -> tuple[str, ...]:
        """Names of the model's labels; those of the picture's ground truth where they may be meant."""
        return self.class_names or (picture.class_names if self._same_number(picture) else ())

    def truth(self, picture: Picture) -> Target | None:
        """The picture's ground truth with the model's labels, found by name; None where they are others."""
        if picture.target is None or not self.class_names:
            return picture.target if self._same_number(picture) else None
        objects = np.bincount(picture.target.labels, minlength=len(picture.class_names))
        try:
            match = match_classes(picture.class_names, self.class_names, objects=objects.tolist())
        except ClassError:
            return None
        labels = [match.labels[label] for label in picture.target.labels]
        return replace(picture.target, labels=np.array(labels, np.int64))

    def other_settings(self, picture: Picture) -> list[str]:
        """By which settings the run of a picture was recorded that this model has otherwise; one a line."""
        there = picture.record.settings if picture.record is not None else None
        if there is None:
            return []
        try:
            return list(other_settings(from_dict(dict(there)), self.detector.config).values())
        except ConfigError as error:
            return [f"settings that are none here ({error})"]

    def _same_number(self, picture: Picture) -> bool:
        return len(picture.class_names) == self.detector.config.detector.classes

    @cached_property
    def weights_sha256(self) -> str:
        """Of the weights, as runs name them."""
        return checkpoint.fingerprint(self.detector.canonical_state_dict())

    @property
    def targets(self) -> list[float]:
        """Target keep ratio of each block."""
        return self.detector.backbone.method.target_ratios()

    @property
    def shifts(self) -> bool:
        """Whether moving its scores prunes more or less, as moved thresholds would."""
        return self.detector.backbone.method.compares_scores

    def run(
        self, picture: Picture, edits: Iterable[Edit] = (), timeout_s: float = math.inf
    ) -> Outcome:
        """One forward with the edits; without any it is the plain forward, bit for bit.

        Raises:
            EditError: an edit does not fit the model or the picture.
            TimeoutError: it took longer; the model is as before.
        """
        edits, deadline = tuple(edits), time.monotonic() + timeout_s
        sample = self._sample(picture)
        with (
            self._turn,
            inference_mode(self.detector, seed=self.seed),
            applied(self.detector, [sample], edits, deadline=deadline),
            record(self.detector) as tape,
        ):
            found = self.detector.predict([sample])[0]
            trace = tape.traces([sample])[0]
        return Outcome(trace, found, self._macs(trace, len(found)), edits)

    def explain(
        self,
        picture: Picture,
        things: Sequence[Thing],
        options: Options,
        tell: Tell = lambda forwards: None,
    ) -> list[Explanation]:
        """What objects of a picture need (`svit.probing.attribution.explain.explain`)."""
        sample = self._sample(picture)
        with self._turn, inference_mode(self.detector, seed=self.seed):
            return explain(self.detector, sample, things, options, tell)

    def pace(self, picture: Picture, options: Options) -> float:
        """Seconds that one of the forwards of `explain` takes here and now, from one batch of them."""
        sample = self._sample(picture)
        with self._turn, inference_mode(self.detector, seed=self.seed):
            start = time.perf_counter()
            with applied(self.detector, [sample] * options.batch, ()):
                self.detector.predict([sample] * options.batch)
        return (time.perf_counter() - start) / options.batch

    def race(
        self, picture: Picture, outcome: Outcome, rounds: int = 10, timeout_s: float = math.inf
    ) -> Latency:
        """Times the whole detector without edits and with the masks of an outcome, in turn.

        Both sides get their masks ready-made, so that making an edit costs no time.

        Raises:
            TimeoutError: it took longer.
        """
        deadline, sample = time.monotonic() + timeout_s, self._sample(picture)
        plain = self.run(picture, timeout_s=timeout_s).trace
        sides = {
            BEFORE: (Transplant(plain, BEFORE),),
            AFTER: (
                Transplant(outcome.trace, AFTER),
                *(one for one in outcome.edits if one.removes),
            ),
        }

        def work(edits: tuple[Edit, ...]) -> None:
            with applied(self.detector, [sample], edits, deadline=deadline):
                self.detector.predict([sample])

        works = {name: lambda edits=edits: work(edits) for name, edits in sides.items()}
        with self._turn, inference_mode(self.detector, seed=self.seed):
            times = timing.interleave(works, rounds, self._device, warmup=1)
        return Latency(times, self._machine())

    def keep(self, outcome: Outcome, picture: Picture, path: Path, file_name: str = "") -> Path:
        """Writes an outcome as a run of one image, its pixels beside it; its provenance names the edits.

        Raises:
            RunError: the folder exists, or cannot be written.
        """
        if path.exists():
            raise RunError(f"{path} is there already; choose another name")
        sentences = outcome.sentences
        with self._turn, inference_mode(self.detector, seed=self.seed):
            source = provenance.of_run(
                self.detector,
                hash_of([picture.image_id], [file_name]),
                self.names(picture),
                intervention=f"edited: {'; '.join(sentences)}" if sentences else "learned",
                edits=sentences,
                weights=self.weights,
                picture=picture.origin,
            )
        with RunWriter(path, source) as writer:
            truth = self.truth(picture)
            writer.add(outcome.trace, outcome.detections, truth, picture.pixels, file_name)
        write_whole(path / originals.KEPT, lambda file: file.write(originals.kept(picture.pixels)))
        return path

    def _sample(self, picture: Picture) -> Sample:
        config = self.detector.config.data
        return to_device(prepare(picture.pixels, config, picture.image_id), self._device)

    @property
    def _device(self) -> torch.device:
        return next(self.detector.parameters()).device

    def _machine(self) -> str:
        name = provenance.device_name(self.detector)
        return f"{name}, {counted(torch.get_num_threads(), 'threads')}" if name == "cpu" else name

    def _macs(self, trace: TokenTrace, found: int) -> pd.Series | None:
        """With as many proposals as configured, like `svit evaluate`."""
        config = self.detector.config
        if config.pruning.method not in METHODS:
            return None
        kept = trace.keep.sum(axis=(1, 2))
        sides = (config.backbone, config.detector, config.pruning, trace.grid.grid_hw, kept)
        return compute.ledger(*sides, detections=found)
