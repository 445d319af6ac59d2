"""What any torch module does to the tokens of a set of images, in a run folder.

    record_module(model, images, Path("runs/mine"))

The model's trunk is run on pictures that are resized, normalised and padded right and below, as those of
our own models are; `svit.probing.attach` watches it. What the model does not tell is "unknown" in run.json.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from svit.core.config import DataConfig
from svit.core.types import ImageId, Target
from svit.data.images import normalise, prepare, resize_image
from svit.data.samples import Images, Sample, fingerprint, reading, to_device
from svit.evaluation import provenance
from svit.evaluation.passes import (
    ALONE,
    ImageResult,
    PassOptions,
    Read,
    Reader,
    Unreadable,
    batches_of,
    computing,
    run_batches,
)
from svit.evaluation.record import check_resumed, enter
from svit.probing.adapters.find import host_of, patch_embedding
from svit.probing.adapters.host import Host, HostError
from svit.probing.attach import attach
from svit.probing.planting import Grid
from svit.runs.run import RunWriter
from svit.system.processes import Ranks
from svit.system.text import counted

COUNTER = "torch.utils.flop_counter.FlopCounterMode of the trunk, FLOPs / 2"


@dataclass(frozen=True)
class Watching:
    """What is recorded of a module; `svit.probing.attach.attach` has the words.

    Attributes:
        blocks: a pattern of names, or "auto".
        prefix: tokens before those of the picture, or "auto".
        grid: rows and columns of tokens, or pixels of a token's side, or "auto".
        attention: whether attention received is recorded: None, where the model shows it.
        class_attention: whether that of the class token is.
        count: whether torch counts multiply-adds, in a forward of its own.
    """

    blocks: str = "auto"
    prefix: int | str = "auto"
    grid: tuple[int, int] | int | str = "auto"
    attention: bool | None = None
    class_attention: bool = False
    count: bool = False

    @property
    def cut(self) -> str | Grid | Callable[[Tensor], Grid]:
        """The grid as `attach` takes it."""
        side = self.grid
        if not isinstance(side, int):
            return side
        return lambda pictures: (pictures.shape[-2] // side, pictures.shape[-1] // side)


def picture_config(host: Host, config: DataConfig) -> DataConfig:
    """How pictures reach a model: as the configuration says, but for what the host itself tells.

    A model that takes one size gets pictures that fit into it, whichever way they lie.
    """
    told = {name: getattr(host, name) for name in ("mean_rgb", "std_rgb")}
    told = {name: value for name, value in told.items() if value is not None}
    if host.input_hw is not None:
        told |= {"short_side": min(host.input_hw), "long_side": max(host.input_hw)}
    return replace(config, **told)


@dataclass(frozen=True)
class _Fit:
    """Pictures that fit into the one size a model takes; one that is portrait is not turned."""

    input_hw: tuple[int, int]

    def __call__(
        self, image: np.ndarray, config: DataConfig, image_id: ImageId, target: Target | None = None
    ) -> Sample:
        image_hw = (int(image.shape[0]), int(image.shape[1]))
        scale = min(most / side for most, side in zip(self.input_hw, image_hw))
        height, width = (
            max(1, min(most, int(side * scale + 0.5)))
            for most, side in zip(self.input_hw, image_hw)
        )
        pixels = normalise(resize_image(image, (height, width)), config)
        return Sample(image_id, pixels, image_hw, target)


def record_module(
    module: nn.Module,
    images: Images,
    path: Path,
    watching: Watching = Watching(),
    options: PassOptions = PassOptions(),
    *,
    picture_side: int = 640,
    ranks: Ranks = ALONE,
    **facts: Any,
) -> int:
    """Records images into a run folder, or goes on with it. Returns: how many could not be read; the
    run's error table names them.

    Args:
        module: in evaluation mode, on its device; its trunk takes pictures (B, 3, height, width).
        images: read as `picture_config` says.
        options: `batch`, `limit`, `workers`, `dtype` and `progress` of them.
        picture_side: longer side of the stored pictures in pixels; 0 stores none.
        ranks: this process among those that record together.
        facts: more provenance, such as where the model comes from.

    Raises:
        RunError: the folder holds another run or cannot be written, or its pictures were changed since.
        HostError: see `attach`; or masks were to be changed.
    """
    host = host_of(module, watching.blocks)
    if not options.learned or options.inference is not None:
        raise HostError("masks of a model that is not ours can be recorded, not chosen")
    runner = _Runner(module, host, watching, options, images.config)
    fit = prepare if host.input_hw is None else _Fit(host.input_hw)
    measures = runner.tried(Reader(images, False, fit=fit), options.limit)
    source = _provenance(module, host, images, watching, options, measures, **facts)
    batches = batches_of(len(images), options.batch, ranks, options.limit)
    writer = RunWriter(path, source, rank=ranks.rank, world=ranks.world, picture_side=picture_side)
    reader, failed = Reader(images, picture_side > 0, fit=fit), 0
    predict, size_of = runner.predict, runner.size_of
    with writer, torch.no_grad():
        check_resumed(path, images, batches, writer.done)
        for one in run_batches(reader, predict, size_of, batches, options, done=writer.done):
            enter(writer, images, one)
            failed += isinstance(one, Unreadable)
    return failed


class _Runner:
    """Runs the trunk of a module on pictures of one size."""

    def __init__(
        self,
        module: nn.Module,
        host: Host,
        watching: Watching,
        options: PassOptions,
        config: DataConfig,
    ) -> None:
        self._module, self._host, self._watching = module, host, watching
        self._trunk, self._dtype = module.get_submodule(host.trunk), options.dtype
        self._device = next(module.parameters()).device
        self._multiple = _multiple(module, host, config, watching.grid)
        self._found: dict[str, Any] = {"prefix": watching.prefix}
        self._measures: set[str] = set()  # that the first picture showed, which run.json promises

    def size_of(self, sample: Sample) -> tuple[int, int]:
        """Height and width of a picture once it is padded."""
        return self._host.input_hw or sample.padded_hw(self._multiple)

    @torch.no_grad()
    def tried(self, reader: Reader, limit: int | None) -> list[str]:
        """What the first picture that can be read shows, before a folder is made: names of measures."""
        watching = self._watching
        for index in range(len(reader.images))[:limit]:
            if not isinstance(one := reader[index], Unreadable):
                (result,) = self.predict([one])
                self._measures = {*result.trace.measures}
                return list(result.trace.measures)
        asked = (watching.attention, watching.class_attention)
        found = zip(("attention", "class_attention"), asked)
        return ["update", "norm", *(name for name, want in found if want is not False)]

    def predict(self, read: Sequence[Read]) -> Iterator[ImageResult]:
        """Traces of pictures of one size."""
        samples = [to_device(item.sample, self._device) for item in read]
        pictures = samples[0].image.new_zeros(len(samples), 3, *self.size_of(samples[0]))
        for row, sample in zip(pictures, samples):
            row[:, : sample.image.shape[1], : sample.image.shape[2]] = sample.image
        watching = self._watching
        how = {name: getattr(watching, name) for name in ("attention", "class_attention")}
        with (
            computing(self._device, self._dtype),
            attach(self._module, watching.blocks, watching.cut, **self._found, **how) as tape,
        ):
            begin = time.perf_counter()
            self._trunk(pictures)
            seconds = (time.perf_counter() - begin) / len(samples)
        if lost := self._measures - {*tape.measures}:
            raise HostError(
                f"{', '.join(sorted(lost))} of {counted(len(samples), 'pictures')} together cannot be read, "
                "and of one alone it could: record with --batch 1, or with --no-attention"
            )
        if not self._host.known:  # patches were planted before the first batch
            self._found = {"prefix": tape.prefix, "tokens": "raster"}
        macs = self._counted(pictures) / len(samples) if watching.count else None
        for item, trace in zip(read, tape.traces(samples), strict=True):
            yield ImageResult(item.index, trace, None, item.image, seconds, macs)

    def _counted(self, pictures: Tensor) -> float:
        """Multiply-adds of one forward as torch counts them."""
        with computing(self._device, self._dtype), FlopCounterMode(display=False) as counter:
            self._trunk(pictures)
        return counter.get_total_flops() / 2


def _multiple(module: nn.Module, host: Host, config: DataConfig, grid: Any) -> int:
    """What sides of padded pictures are divisible by: the patch, and of an unknown model more than that
    where it suits."""
    try:
        patch = grid if isinstance(grid, int) else int(patch_embedding(module, host).stride[0])
    except HostError:
        return config.pad_multiple
    return patch if host.known or config.pad_multiple % patch else config.pad_multiple


def _provenance(
    module: nn.Module,
    host: Host,
    images: Images,
    watching: Watching,
    options: PassOptions,
    measures: Sequence[str],
    **facts: Any,
) -> dict[str, Any]:
    config = images.config
    about = {
        "kind": host.kind,
        "trunk": host.trunk,
        "blocks": list(host.blocks),
        "prefix": host.prefix if watching.prefix == "auto" else watching.prefix,
        "class_token": host.class_token,
        "windows": list(host.windows),
    }
    if watching.grid != "auto":
        about["grid"] = list(watching.grid) if isinstance(watching.grid, tuple) else watching.grid
    about = {name: "unknown" if value is None else value for name, value in about.items()}
    if not host.known:
        about["prefix"] = "found by planting patches"
    told = config.normalisation == (host.mean_rgb, host.std_rgb)
    pictures = {
        "input_hw": list(host.input_hw or ()) or "any",
        "short_side": config.short_side,
        "long_side": config.long_side,
        "mean_rgb": list(config.mean_rgb),
        "std_rgb": list(config.std_rgb),
        "normalisation": "told by the model"
        if told
        else "chosen otherwise than the model tells"
        if host.mean_rgb
        else "chosen, the model does not tell",
    }
    choices = {"batch": options.batch, "dtype": options.dtype, "host": about, "data": pictures}
    order = ("update", "norm", "attention", "class_attention")
    choices["measures"] = [name for name in order if name in measures]
    if watching.attention is not False and "attention" not in measures:
        about["attention"] = "unknown"
    if watching.count:
        choices["cost"] = COUNTER
    choices |= reading(images)
    return provenance.of_module(module, fingerprint(images), images.class_names, **choices, **facts)
