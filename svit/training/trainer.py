"""The state and the loop of one training; `svit.training.train` is the way in.

Everything random in a step follows from (seed, step, rank), every augmentation from (seed, epoch, image).
So a checkpoint needs no generator states, and a resumed run repeats the unbroken one bit for bit.
Sources: paper 4 and methods.md 4 (recipe); training.md (small models).
"""

from __future__ import annotations

import logging
import math
import random
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from svit.core.config import Config, to_dict
from svit.data.coco import CocoDataset
from svit.data.samples import Sample, to_device
from svit.detectors import build_detector
from svit.detectors.base import Detector
from svit.probing.recorder import Tape, record
from svit.system.claims import differences
from svit.system.files import FileError, Lock, write_text
from svit.system.processes import Ranks
from svit.training import training_checkpoints
from svit.training.distillation import teacher_of
from svit.training.loader import (
    annotations_hash,
    check_data,
    derived_seed,
    feed,
    told,
    training_hash,
)
from svit.training.optimise import (
    Precision,
    averaged,
    build_optimizer,
    noise_scale,
    rate_factor,
    ratio_share,
    set_noise_scale,
    set_rate,
    total_steps,
)
from svit.training.training_log import Journal, logged
from svit.weights import checkpoint

FINAL = "model_final.safetensors"

Evaluate = Callable[[Detector, int], dict[str, float]]
log = logging.getLogger("svit.training")


class TrainError(RuntimeError):
    """A training cannot start or go on; what it had reached is on disk."""


class Trainer:
    """The state of one training: model, optimiser, finished steps; `teacher` as of `train`."""

    def __init__(
        self,
        config: Config,
        train_set: CocoDataset,
        output: Path,
        ranks: Ranks,
        teacher: Path | None = None,
    ) -> None:
        self.data, self.output, self.ranks = train_set, output, ranks
        check_data(train_set, config.detector.classes, config.train.batch, ranks.world)
        torch.manual_seed(config.train.seed)
        self.detector = build_detector(config).to(ranks.device).train()
        self.config = self.detector.config  # with the framework resolved
        self.settings = self.config.train
        self.total = total_steps(self.settings, len(train_set))
        self.step = 0
        self.journal: Journal | None = None
        self.teacher = teacher_of(self.detector, teacher)
        self.facts = {
            "dataset": training_hash(train_set),
            "annotations": annotations_hash(train_set),
            **({"teacher": self.teacher.sha256} if self.teacher else {}),
        }
        self._begun: dict[str, Any] = {}  # the line of the journal that a resumed run was in

    def claim_output(self, stack: ExitStack, resume: bool) -> None:
        """Proves the folder writable and takes it until the stack closes.

        Raises:
            TrainError: it cannot be written, is in use, or holds a training not to be resumed.
        """
        parameters = sum(parameter.numel() for parameter in self.detector.parameters())
        size = training_checkpoints.expected_bytes(parameters, self.settings.average > 0)

        def claim() -> None:
            training_checkpoints.prepare_folder(self.output, size)
            stack.enter_context(Lock(self.output / ".lock"))
            stack.enter_context(logged(self.output))
            held = [*training_checkpoints.paths(self.output), *self.output.glob(FINAL)]
            if held and not resume:
                self._finished()  # names what differs
                raise TrainError(
                    f"{self.output} already holds a training ({held[0].name}); add --resume to go on "
                    "with it, or choose another --out folder"
                )

        self._on_first(claim)

    def start(self, init: Path | None, resume: bool) -> None:
        """Weights and optimiser: of the newest good checkpoint, of `init`, or fresh ones."""
        found = training_checkpoints.newest(self.output) if resume else None
        finished = self._finished() if resume else None
        if found is not None:
            path, snapshot = found
            self._check_same(path, snapshot["config"], snapshot)
            self.detector.load_canonical(snapshot.get("unaveraged", snapshot["model"]))
        elif finished is not None:
            self.detector.load_canonical(finished.state)
            self.step = self.total
        elif init is not None:
            names = self.data.foreign_names
            report = checkpoint.load_weights(
                self.detector, init, complete=False, other_body=True, class_names=names
            )
            for line in report.lines():
                self._say(line)
        for line in told(self.data):
            self._say(line)
        self.detector.class_names = tuple(self.data.class_names)
        self._prepare_model()
        if found is None:
            if finished is None:
                self._say(f"starting from {init or 'random weights'}: {self.total} steps")
            return
        if self.average is not None:
            self.average.module.load_canonical(snapshot["model"])
            self.average.n_averaged.fill_(snapshot["iteration"] + 1)
        self.optimizer.load_state_dict(snapshot["optimizer"])
        self.precision.scaler.load_state_dict(snapshot["scaler"])
        self.step, self._begun = snapshot["iteration"] + 1, snapshot.get("journal", {})
        if snapshot["world"] != self.ranks.world:
            self._say(
                f"{path} comes from {snapshot['world']} processes, these are {self.ranks.world}: "
                "the training goes on, but not bit for bit"
            )
        unread = f" ({init} is not read)" if init else ""
        self._say(f"resuming from {path}{unread}: {self.step} of {self.total} steps are done")

    def check_common_start(self) -> None:
        """Refuses to go on when machines see different checkpoints.

        Raises:
            TrainError: the output folder is not shared.
        """
        steps = torch.tensor(float(self.step), device=self.ranks.device)
        if self.ranks.mean(steps.clone()) != steps:
            raise TrainError(
                f"{self.output} differs between the machines; it must be a shared folder"
            )

    def _prepare_model(self) -> None:
        """Optimiser, precision and the model as it is called, once the weights are in place."""
        if self.ranks.world > 1 and self.ranks.device.type == "cuda":
            # on CPU torch has no synchronised batch norm: each process then uses its own images
            self.detector = nn.SyncBatchNorm.convert_sync_batchnorm(self.detector)
        if self.settings.channels_last:
            self.detector.to(memory_format=torch.channels_last)
        self.average = averaged(self.detector, self.settings.average)
        self.optimizer = build_optimizer(self.detector, self.settings)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.precision = Precision(self.settings.precision, self.ranks.device)
        if self.teacher:  # once the average, which takes hooks along, is made
            self.teacher.watch(self.detector)
        self.model: nn.Module = self.detector
        if self.ranks.world > 1:
            self.model = DistributedDataParallel(self.detector)

    def open_journal(self, stack: ExitStack) -> None:
        """Opens `metrics.json` at the right step and writes `config.yaml`."""

        def begin() -> None:
            settings = OmegaConf.to_yaml(OmegaConf.create(to_dict(self.config)))
            write_text(self.output / "config.yaml", settings)
            batch, period = self.settings.batch, self.settings.checkpoint_period
            begun = self._begun
            self.journal = Journal(self.output, self.step, self.total, batch, period, begun)
            stack.callback(self.journal.close)

        self._on_first(begin)

    def _finished(self) -> checkpoint.Checkpoint | None:
        """The result of this training, where an earlier run has reached it."""
        path = self.output / FINAL
        if not path.exists():
            return None
        final = checkpoint.read(path)
        self._check_same(path, to_dict(final.config), final.extra)
        return final

    def _check_same(self, path: Path, config: dict[str, Any], there: Mapping[str, Any]) -> None:
        """Refuses to go on in a folder, and to replace a result, that other facts have led to."""
        lines = differences(config, to_dict(self.config))
        lines += training_checkpoints.other_facts(there, self.facts)
        if lines:
            listed = "\n  ".join(lines)
            raise TrainError(
                f"{path} was written with other settings:\n  {listed}\n"
                f"resume with the same, or start a new training with --init {path} in another --out"
            )

    def _on_first(self, action: Callable[[], object]) -> None:
        """Lets the first process act; a failure there ends all of them with the same words."""
        failure: Exception | None = None
        if self.ranks.is_first:
            try:
                action()
            except (OSError, TrainError, FileError, checkpoint.CheckpointError) as error:
                failure = error
        problem = self.ranks.agree(str(failure) if failure else "")
        if problem:
            raise TrainError(problem) from failure

    def _say(self, text: str) -> None:
        if self.ranks.is_first:
            log.info(text)

    def run(
        self,
        workers: int,
        max_steps: int | None,
        evaluate: Evaluate | None,
        stop: Sequence[int],
    ) -> str:
        """Steps until the schedule, `max_steps` or a signal ends them. Returns: which one did."""
        if self.journal is not None and self._at_checkpoint and not self.journal.noted(self.step):
            self._evaluate(evaluate)  # a signal or a kill came in between
        last = self.total if max_steps is None else min(self.total, self.step + max_steps)
        asked = False
        with record(self.detector, scores=False) as tape, warnings.catch_warnings():
            # the kernels of depth-wise convolutions have two equally right layouts; nothing is lost
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view")
            samples = self._feed(workers)
            while self.step < last and not asked:
                asked = self._advance(samples, tape, stop)
                if asked or self.step == last or self._at_checkpoint:
                    self._save()
                    self._evaluate(None if asked else evaluate)
        if self.step == self.total:
            self._export()
            return "finished"
        self._say(
            f"{self.step} of {self.total} steps are done and saved; --resume goes on with them"
        )
        return "interrupted" if asked else "paused"

    @property
    def _at_checkpoint(self) -> bool:
        """Whether the schedule has one here, after any step at all."""
        period = self.settings.checkpoint_period
        return self.step > 0 and (self.step == self.total or self.step % period == 0)

    def _feed(self, workers: int) -> Iterator[list[Sample]]:
        return feed(
            self.data,
            batch=self.settings.batch,
            seed=self.settings.seed,
            start_step=self.step,
            rank=self.ranks.rank,
            world=self.ranks.world,
            workers=workers,
        )

    def _advance(self, feed: Iterator[list[Sample]], tape: Tape, stop: Sequence[int]) -> bool:
        """One step. Returns: whether any process was asked to stop, the same answer in all."""
        begin = time.perf_counter()
        samples = [to_device(sample, self.ranks.device) for sample in next(feed)]
        loaded = time.perf_counter()
        state = self._begin_step()
        losses = self.precision.losses(self.model, samples)
        if "ratio_loss" in losses:
            share = ratio_share(self.settings, self.step, self.total)
            losses["ratio_loss"] = share * losses["ratio_loss"]
        losses |= self.teacher.take_losses() if self.teacher else {}
        total = torch.stack([losses[name] for name in sorted(losses)]).sum()
        norm = self.precision.backward(
            total, self.optimizer, self.parameters, self.settings.clip_norm
        )
        means, asked = self._share({"total_loss": total.detach(), **losses}, norm, tape, bool(stop))
        self._check_finite(means)
        self.precision.update(self.optimizer)
        if self.average is not None:
            self.average.update_parameters(self.detector)
        self.step += 1
        seconds = {"data_seconds": loaded - begin, "compute_seconds": time.perf_counter() - loaded}
        if self.journal is not None:
            self.journal.add(self.step, {**means, **seconds}, state)
        return asked

    def _begin_step(self) -> dict[str, float]:
        """Sets random numbers, rate and gate noise of the step: functions of its number alone."""
        seed = derived_seed(self.settings.seed, self.step, self.ranks.rank)
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        rate = self.settings.rate * rate_factor(self.settings, self.step, self.total)
        noise = noise_scale(self.settings, self.step, self.total)
        set_rate(self.optimizer, rate)
        noisy = set_noise_scale(self.detector.backbone, noise)
        return {"rate": rate, **({"noise_scale": noise} if noisy else {})}

    def _share(
        self, losses: dict[str, Tensor], norm: Tensor, tape: Tape, stop: bool
    ) -> tuple[dict[str, Any], bool]:
        """Losses and keep ratios as means over the processes, and whether any was asked to stop."""
        keep = [tape.masks[layer].float().mean() for layer in sorted(tape.masks)]
        numbers = [loss.detach() for loss in losses.values()]
        flag = numbers[0].new_tensor(float(stop))
        # one transfer: the norm is the same in all processes, so its mean is itself
        shared = self.ranks.mean(torch.stack([*numbers, *keep, norm, flag])).tolist()
        means: dict[str, Any] = dict(zip(losses, shared, strict=False))
        means["keep_ratio"] = np.array(shared[len(losses) : -2])
        means["gradient_norm"] = shared[-2]
        return means, shared[-1] > 0

    def _check_finite(self, means: dict[str, Any]) -> None:
        """Stops before the update when a number is not finite; a float16 overflow is only noted.

        Raises:
            TrainError: names the number and the last checkpoint; parameters are as before the step.
        """
        overflow = not math.isfinite(means["gradient_norm"]) and self.precision.forgives_overflow
        means["skipped_steps"] = float(overflow)
        if overflow:
            del means["gradient_norm"]
        bad = [name for name, value in means.items() if not np.all(np.isfinite(value))]
        if bad:
            saved = training_checkpoints.paths(self.output)
            path = saved[0] if saved else "none yet"
            raise TrainError(
                f"step {self.step + 1}: {', '.join(bad)} not finite, stopped before the update. "
                f"Last good checkpoint: {path}. Start again from it with --init, another --out "
                "folder, and a lower train.rate or train.clip_norm=1"
            )

    def _save(self) -> None:
        """Writes a checkpoint from the first process; a failure ends them all."""
        if self.journal is not None:
            self.journal.sync()
        self._on_first(lambda: training_checkpoints.write(self.output, self._snapshot()))

    @property
    def _result(self) -> Detector:
        """What the training is for: the averaged weights where they are kept."""
        return self.detector if self.average is None else self.average.module

    def _snapshot(self) -> training_checkpoints.Snapshot:
        averaging = self.average is not None
        return {
            "iteration": self.step - 1,
            "model": self._result.canonical_state_dict(),
            **({"unaveraged": self.detector.canonical_state_dict()} if averaging else {}),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "config": to_dict(self.config),
            **self.facts,
            "class_names": list(self.data.class_names),
            "journal": self.journal.begun if self.journal else {},
            "world": self.ranks.world,
        }

    def _evaluate(self, evaluate: Evaluate | None) -> None:
        """Lets the caller measure; the other processes wait at their next step."""
        if evaluate is None or self.journal is None:
            return
        self._result.eval()
        with torch.no_grad():
            numbers = evaluate(self._result, self.step)
        self._result.train()
        if numbers:
            self.journal.note({"step": self.step, **numbers})

    def _export(self) -> None:
        """Writes the final model, unless an earlier run of the same facts has."""
        path = self.output / FINAL
        extra = {"steps": self.step, **self.facts}
        self._on_first(lambda: path.exists() or checkpoint.save(path, self._result, extra))
        self._say(f"finished: {path}")
