"""One pass of a detector over images: what recording and evaluation share.

Batches are cut from the whole data set beforehand, random masks depend on the seed and the image's
id alone, and a batch is split by padded size, so a pass may be interrupted, gone on with, cut into
larger batches or shared out among processes without a change in what it sees.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from svit.core.ranges import COUNT, COUNT_OR_NONE
from svit.core.types import Detections, FrameId, ImageId, TokenTrace
from svit.data.coco import ImageError, prepare
from svit.data.samples import Images, Sample, to_device
from svit.detectors.base import Detector
from svit.evaluation.frames import frame_batches, led_up_to
from svit.probing.apply_edits import check_lender
from svit.probing.edits import EditError
from svit.probing.interventions import intervene, intervention
from svit.probing.recorder import record
from svit.pruning.base import Method
from svit.pruning.streams import forget
from svit.system.processes import Ranks
from svit.system.signals import follow_parent

ALONE = Ranks(0, 1, torch.device("cpu"))
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

log = logging.getLogger(__name__)


_ALLOWED = {"batch": COUNT, "limit": COUNT, "workers": COUNT_OR_NONE}


@dataclass(frozen=True)
class PassOptions:
    """How a detector is run over images.

    Attributes:
        inference: mode of the gates, see `svit.pruning.methods.svit`; None leaves the method's own.
        seed: of sampled, random and shuffled masks.
        intervention: one of `svit.probing.interventions.INTERVENTIONS`.
        layers: zero-based blocks it changes; None is the gated ones.
        masks_from: another model that decides the masks it starts from.
        batch: images a forward at most. Only those that pad to the same size go together: every pixel
            of padding is a token that others look at, so another size decides otherwise.
        limit: only the first images.
        workers: processes that read ahead; 0 reads in between.
        dtype: number type of the backbone, one of `DTYPES`; gates stay in float32, and heads follow into
            bfloat16 alone (`svit.detectors.base`).
        scores: whether traces carry the gates' scores.
        progress: shows a bar on standard error.
    """

    inference: str | None = None
    seed: int = 0
    intervention: str = "learned"
    layers: tuple[int, ...] | None = None
    masks_from: Detector | None = None
    batch: int = 1
    limit: int | None = None
    workers: int = 0
    dtype: str = "float32"
    scores: bool = True
    progress: bool = True

    def __post_init__(self) -> None:
        for name, allowed in _ALLOWED.items():
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise ValueError(f"{name}: expected {allowed}, found {value!r}")

    @property
    def learned(self) -> bool:
        """Whether the model's own masks stay as it decides them."""
        return self.intervention == "learned" and self.masks_from is None


@dataclass(frozen=True)
class ImageResult:
    """What the model did with one image.

    Attributes:
        index: place in the data set.
        trace: its token masks.
        detections: in source pixels; None of a model that is no detector of ours.
        image: the source picture, uint8 (height, width, 3), if it was asked for.
        seconds: time of the model, shared out over the batch; without reading.
        macs: multiply-adds that torch counted, where it was asked to.
    """

    index: int
    trace: TokenTrace
    detections: Detections | None
    image: np.ndarray | None
    seconds: float
    macs: float | None = None


@dataclass(frozen=True)
class Unreadable:
    """An image that could not be read, and why."""

    index: int
    message: str


def check_masks(detector: Detector, options: PassOptions) -> None:
    """Refuses masks that cannot be, and blocks in which nothing changes them, before any image is read.

    Raises:
        EditError: it says which blocks decide, or what the model that lends its masks sees otherwise.
        ValueError: the model that lends its masks was never calibrated, and decides by its thresholds.
    """
    if options.masks_from is not None:
        lender = options.masks_from
        check_lender(detector, lender)
        _check_mode(lender.backbone.method, lender.config.name, None)
    if not options.learned:
        intervention(options.intervention, options.masks_from or detector, options.layers)
    elif options.layers is not None:
        raise EditError(
            "blocks are of an intervention or of masks from another model, found neither"
        )


def planned(
    detector: Detector, images: Images, options: PassOptions, ranks: Ranks = ALONE
) -> list[list[int]]:
    """The batches of this rank: `batches_of`, or whole videos for a method that follows their frames.

    Raises:
        FramesError: such a method and images that are no videos, or not in order.
        ValueError: such a method and a batch of several.
    """
    if _with_streams(detector, options):
        return frame_batches(images, ranks.rank, ranks.world, options.batch, options.limit)
    return batches_of(len(images), options.batch, ranks, options.limit)


def _with_streams(detector: Detector, options: PassOptions) -> list[Method]:
    """The methods of the pass that carry state from frame to frame."""
    models = (detector, options.masks_from)
    methods = [model.backbone.method for model in models if model is not None]
    return [method for method in methods if method.traits.streams]


def computing(device: torch.device, dtype: str) -> torch.autocast:
    """Autocast of the backbone to one of `DTYPES`; nothing for float32."""
    return torch.autocast(device.type, DTYPES[dtype], enabled=dtype != "float32")


def batches_of(
    count: int, batch: int, ranks: Ranks = ALONE, limit: int | None = None
) -> list[list[int]]:
    """Indices of the batches of this rank: always the same cuts, dealt out in turn.

    Args:
        limit: batches that hold none of the first so many images are left out. The last one stays
            whole, because kernels round otherwise in smaller batches; see `run_detector`.
    """
    if batch < 1:
        raise ValueError(f"expected a batch of at least one image, found {batch}")
    end = count if limit is None else min(limit, count)
    cuts = [list(range(start, min(start + batch, count))) for start in range(0, end, batch)]
    return cuts[ranks.rank :: ranks.world]


def run_detector(
    detector: Detector,
    images: Images,
    batches: Sequence[list[int]],
    options: PassOptions,
    *,
    done: Collection[ImageId] = (),
    pictures: bool = False,
) -> Iterator[ImageResult | Unreadable]:
    """Runs the detector over batches of indices, image by image; says at once which cannot be read.

    The caller has set the detector's mode and seed; see `inference_mode`. What a method carries from frame to
    frame begins anew here.

    Args:
        done: ids that are not handed out, as those beyond the limit; a batch of such alone is not run.
        pictures: whether the source pictures come along.
    """
    reader = Reader(images, pictures, options.intervention == "oracle")
    multiple = detector.config.data.pad_multiple
    methods = _with_streams(detector, options) if images.frames else []
    for method in methods:
        forget(method)
    yield from run_batches(
        reader,
        lambda read: _predict(detector, read, options),
        lambda sample: sample.padded_hw(multiple),
        batches,
        options,
        done=done,
        frames=images.frames if methods else (),
    )


def run_batches(
    reader: Reader,
    predict: Predict,
    size_of: Callable[[Sample], tuple[int, int]],
    batches: Sequence[list[int]],
    options: PassOptions,
    *,
    done: Collection[ImageId] = (),
    frames: Sequence[FrameId | None] = (),
) -> Iterator[ImageResult | Unreadable]:
    """`run_detector` of whatever predicts.

    Args:
        predict: results of pictures that are of one size, in their order.
        size_of: that size.
        frames: of all images, where what predicts follows them: of a video that goes on somewhere, earlier
            frames run again and are not handed out.
    """
    images = reader.images
    known = images.image_ids[: options.limit]
    places = itertools.chain(*batches)
    wanted = {place for place in places if place < len(known) and known[place] not in done}
    needed = led_up_to(frames, wanted) if frames else wanted
    chosen = [batch for batch in batches if not needed.isdisjoint(batch)]
    loader = DataLoader(
        reader,
        batch_sampler=chosen,
        num_workers=options.workers,
        collate_fn=list,
        worker_init_fn=follow_parent,
        generator=torch.Generator(),  # the global one must not move when a loader starts
    )
    total = sum(map(len, batches))
    ready = total - sum(map(len, chosen))
    with tqdm(total=total, initial=ready, unit="image", disable=not options.progress) as bar:
        for items in loader:
            for result in _results(items, predict, size_of):
                if result.index in wanted:
                    if isinstance(result, Unreadable):
                        log.warning(result.message)
                    yield result
            bar.update(len(items))


def _results(
    items: Sequence[Read | Unreadable],
    predict: Predict,
    size_of: Callable[[Sample], tuple[int, int]],
) -> list[ImageResult | Unreadable]:
    """What became of a batch, in its order, after one forward for every padded size in it."""
    done: dict[int, ImageResult | Unreadable] = {}
    together: dict[tuple[int, int], list[Read]] = {}
    for item in items:
        if isinstance(item, Unreadable):
            done[item.index] = item
        else:
            together.setdefault(size_of(item.sample), []).append(item)
    for read in together.values():
        done |= {result.index: result for result in predict(read)}
    return [done[item.index] for item in items]


@dataclass(frozen=True)
class Read:
    """A picture that was read: its place in the data set, prepared, and as it was if it was asked for."""

    index: int
    sample: Sample
    image: np.ndarray | None


Predict = Callable[[Sequence[Read]], Iterable[ImageResult]]


class Reader(Dataset["Read | Unreadable"]):
    """Pictures as a model takes them; one that cannot be read is an item, too.

    Args:
        pictures: whether each comes along as it was.
        targets: whether ground truth does.
        fit: (picture, configuration, id, ground truth) -> a model's input.
    """

    def __init__(
        self,
        images: Images,
        pictures: bool,
        targets: bool = False,
        fit: Callable[..., Sample] = prepare,
    ) -> None:
        self.images, self._pictures, self._targets, self._fit = images, pictures, targets, fit

    def __getitem__(self, index: int) -> Read | Unreadable:
        try:
            image = self.images.image(index)
        except ImageError as error:
            return Unreadable(index, str(error))
        target = self.images.target(index) if self._targets else None
        sample = self._fit(image, self.images.config, self.images.image_ids[index], target)
        if self.images.frames:
            sample = replace(sample, frame=self.images.frames[index])
        return Read(index, sample, image if self._pictures else None)


def _predict(
    detector: Detector, read: Sequence[Read], options: PassOptions
) -> Iterator[ImageResult]:
    device = next(detector.parameters()).device
    samples = [to_device(item.sample, device) for item in read]
    changed, cast = nullcontext(), computing(device, options.dtype)
    if not options.learned:
        name, lender = options.intervention, options.masks_from
        changed = intervene(detector, name, samples, layers=options.layers, source=lender)
    # other masks are made of those that the model decides in the same numbers
    with cast, changed, record(detector, scores=options.scores) as tape:
        begin = time.perf_counter()
        found = detector.predict(samples)
        seconds = (time.perf_counter() - begin) / len(samples)
    for item, trace, detections in zip(read, tape.traces(samples), found, strict=True):
        yield ImageResult(item.index, trace, detections, item.image, seconds)


@contextmanager
def inference_mode(
    detector: Detector, inference: str | None = None, seed: int = 0
) -> Iterator[None]:
    """Evaluation with an inference mode and seed; what was set before comes back.

    Raises:
        ValueError: the method has no such mode, or was never calibrated for `calibrated`.
    """
    method, before = detector.backbone.method, (detector.training, detector.seed)
    mode = method.inference
    _check_mode(method, detector.config.name, inference)
    if inference is not None:
        method.set_inference(inference)
    detector.eval()
    detector.seed = seed
    try:
        yield
    finally:
        detector.train(before[0])
        detector.seed = before[1]
        if inference is not None:
            method.set_inference(mode)


def _check_mode(method: Method, name: str, inference: str | None) -> None:
    if inference is not None and not method.modes:
        raise ValueError(f"{name!r} decides in one way only; leave the inference mode out")
    mode = inference or method.inference  # settings may name one, too
    if mode and method.fits and mode == method.fits.mode and not method.fitted.any():
        raise ValueError(
            f"{name!r} was never calibrated: fit its thresholds on training images with "
            "`svit calibrate`"
        )
