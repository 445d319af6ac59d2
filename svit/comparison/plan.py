"""What a comparison consists of: which rows, from which settings, measured by which lines.

All rows of a comparison have one recipe (that of SViT's preset on the same body, with the same
overrides), one start and one budget; only the method differs. The dense control is the dense model
trained exactly as long. No row is tuned by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from svit.core.catalogue import ROWS, SWEEP, Row, near, sweep
from svit.core.config import Config
from svit.core.presets import load_config
from svit.pruning import method_class
from svit.training.optimise import total_steps

ALL_ROWS = (*ROWS, *sweep())
NAMES = tuple(row.name for row in ALL_ROWS)
CHANGED = ("random", "shuffle", "oracle", "centre", "off")  # interventions beside the learned masks
TWICE = CHANGED[:-1]  # those that first look how many tokens the learned masks keep


class CompareError(ValueError):
    """A comparison cannot be made as asked, or its folder belongs to another one."""


@dataclass(frozen=True)
class Line:
    """One evaluation of a trained row.

    Attributes:
        intervene: of `svit.probing.interventions.INTERVENTIONS`.
        base: base keep ratio the gates are calibrated to, without training; None leaves them as trained.
    """

    intervene: str = "learned"
    base: float | None = None

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.intervene if self.base is None else f"calibrated-{self.base}"


@dataclass(frozen=True)
class Job:
    """One row of a comparison with one seed: a training and the lines that measure it."""

    row: Row
    config: Config

    @property
    def seed(self) -> int:
        """Of the training, of sampled masks and of what starts anew."""
        return self.config.train.seed

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.row.name}-seed{self.seed}"

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """Learned masks first. A dense model has no masks to move; the dial of rates is SViT's."""
        if self.row.traits.selection == "none":
            return (Line(), Line("off"))
        own = () if self.own_base is None else (self.own_base,)
        bases = {*own, *SWEEP} if self.row.name == "svit" else own
        return (*map(Line, ("learned", *CHANGED)), *(Line(base=base) for base in sorted(bases)))

    @property
    def own_base(self) -> float | None:
        """The first keep ratio below 1 of a row whose gates can be calibrated to it; None of others."""
        fits = method_class(self.row.method).fits
        if fits is None or not fits.mode:
            return None
        ratios = self.config.pruning.options["keep_ratios"]
        return next((float(ratio) for ratio in ratios if ratio < 1), None)

    @property
    def equal(self) -> Line:
        """The line that compares rows at equal tokens: with gates calibrated to their own ratios. A method
        with a count, and ATS with its fitted levels, meets them as it is."""
        return Line(base=self.own_base)

    def steps(self, images: int) -> int:
        """Optimiser steps on a data set of so many training images."""
        return total_steps(self.config.train, images)

    def training_views(self, images: int) -> int:
        """Images trained on, each time one is seen, of a data set of so many."""
        return self.steps(images) * self.config.train.batch

    def evaluation_views(self, images: int) -> int:
        """Forwards of all lines over so many images: two where the learned masks must be known first."""
        return images * sum(2 if line.intervene in TWICE else 1 for line in self.lines)


def chosen(names: Sequence[str]) -> list[Row]:
    """The named rows, what matters most first; without a name all but those of videos, which on pictures
    alone are the dense model.

    Raises:
        CompareError: an unknown row; near names and the choices are listed.
    """
    for name in names:
        if name not in NAMES:
            raise CompareError(f"unknown row {name!r}; {near(name, NAMES)}")
    return [row for row in ALL_ROWS if row.name in names or not (names or row.traits.streams)]


def jobs(
    rows: Sequence[Row],
    seeds: Sequence[int],
    neck: str,
    size: str,
    overrides: Sequence[str] = (),
    steps: int | None = None,
) -> list[Job]:
    """All rows with the first seed, then all with the next.

    Args:
        overrides: `section.key=value`, of every row alike.
        steps: length of each training; None leaves the recipe's.

    Raises:
        ConfigError: unknown keys, or values that cannot be.
        CompareError: a seed among the overrides, which every row would have in place of its own.
    """
    if any(one.partition("=")[0].strip() == "train.seed" for one in overrides):
        raise CompareError("train.seed is that of each row here: name seeds by --seeds, as 0,1")
    length = [] if steps is None else [f"train.iterations={steps}"]
    everywhere = [*overrides, *length]
    recipe = load_config(ROWS[0].preset(neck, size), everywhere).train
    found = []
    for seed in seeds:
        for row in rows:
            config = _config(row, neck, size, everywhere)
            found.append(Job(row, replace(config, train=replace(recipe, seed=seed))))
    return found


def _config(row: Row, neck: str, size: str, overrides: Sequence[str]) -> Config:
    if row in ROWS:
        return load_config(row.preset(neck, size), overrides)
    ratios = ",".join(map(str, row.options["keep_ratios"]))
    swept = f"pruning.options.keep_ratios=[{ratios}]"
    return load_config(ROWS[0].preset(neck, size), [*overrides, swept])


def plan_text(
    planned: Sequence[Job], states: Sequence[str], train_images: int, val_images: int
) -> str:
    """The plan as a table: rows in order, views of each, and what is done already.

    A view is one image through the model, forward and backward in training, forward in evaluation.
    """
    lines = [
        "row                     seed   steps  trained on  evaluated on  in the paper        state"
    ]
    trained = evaluated = 0
    for job, state in zip(planned, states, strict=True):
        steps = job.steps(train_images)
        views, looks = job.training_views(train_images), job.evaluation_views(val_images)
        trained, evaluated = trained + views, evaluated + looks
        lines.append(
            f"{job.row.name:22}  {job.seed:4}  {steps:6}  {views:10}  {looks:12}  "
            f"{job.row.shown:18}  {state}"
        )
    lines.append(f"{len(planned)} rows: {trained} training views, {evaluated} evaluation views")
    return "\n".join(lines)
