"""Fitting how much a method keeps, on training images: masks that stay deterministic and dynamic.

A gate is trained towards a mean keep ratio, not towards a threshold. For the inference mode
`calibrated` one threshold a gate is fitted such that the mean share of kept tokens meets the gate's
target; counts still vary from image to image (methods.md 6.2 c). The numbers of levels of ATS are
fitted likewise. Blocks are fitted from the first to the last, because each one sees what those
before it left.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from svit.data.samples import Images, pad_batch, to_device
from svit.detectors.base import Detector
from svit.probing.recorder import Tape, record
from svit.pruning.base import Method

BISECTIONS = 10  # resolve a thousandth of the largest number of levels
# in a checkpoint: `svit.data.samples.marks_of` the images it was fitted on
CALIBRATED_FILES = "calibrated_files"
MOST_LEVELS = 16.0  # a token; where even these keep too few, no number would do


def calibrate(
    detector: Detector, dataset: Images, images: int = 200, *, valid_only: bool = True
) -> pd.DataFrame:
    """Fits what the method declares in `fits` (thresholds of SViT, levels of ATS) in place.

    Args:
        dataset: training images, read without augmentation.
        images: how many of them, evenly spaced over the data set.
        valid_only: ratios over tokens that show image pixels; False counts padding as Eq. 2 does.

    Returns:
        One row a deciding block: layer, target, fitted (log-odds or levels a token), keep_ratio (mean
        over these images).

    Raises:
        ValueError: the method has nothing to fit, or there are no images.
    """
    method = detector.backbone.method
    if method.fits is None:
        raise ValueError(f"method {detector.config.pruning.method!r} has nothing to calibrate")
    if not len(dataset) or images < 1:
        raise ValueError("calibration needs at least one image, found none")
    views = _Views(detector, dataset, fitted_places(dataset, images), valid_only)
    fit = _fit_threshold if method.fits.compares else _fit_number
    with _calibrating(detector):
        rows = [fit(views, stage) for stage in range(len(method.locations))]
    return pd.DataFrame(rows)


def fitted_places(dataset: Images, images: int = 200) -> list[int]:
    """Indices of the images that `calibrate` looks at."""
    places = np.linspace(0, len(dataset) - 1, min(images, len(dataset)))
    return places.round().astype(int).tolist()


def decides_by_fitted(method: Method, inference: str | None = None) -> bool:
    """Whether a method decides by what was fitted, in this inference mode or its own."""
    fits = method.fits
    return fits is not None and fits.mode in ("", inference or method.inference)


@contextmanager
def _calibrating(detector: Detector) -> Iterator[None]:
    """Evaluation, in the mode that the fitted numbers decide in. Mode and training state come back; after
    an exception what was fitted so far is taken back too."""
    method, training = detector.backbone.method, detector.training
    mode, before = method.inference, method.fitted.clone()
    detector.eval()
    if method.fits.mode:
        method.set_inference(method.fits.mode)
    try:
        yield
    except BaseException:
        method.fitted.copy_(before)
        raise
    finally:
        detector.train(training)
        if method.fits.mode:
            method.set_inference(mode)


@dataclass(frozen=True)
class _Views:
    """The images of a calibration as the backbone sees them."""

    detector: Detector
    dataset: Images
    places: list[int]
    valid_only: bool

    @torch.no_grad()
    def __iter__(self) -> Iterator[tuple[Tape, np.ndarray]]:
        """Of each image: what the probes showed, and the tokens that count, bool (N,)."""
        device = next(self.detector.parameters()).device
        for place in self.places:
            sample = to_device(self.dataset.sample(place), device)
            images = pad_batch([sample], self.detector.config.data.pad_multiple)
            with record(self.detector) as tape:
                self.detector.backbone(images)
            grid = sample.grid(images.shape[2:], self.detector.config.backbone.patch)
            counted = grid.valid_mask().ravel()
            yield tape, counted if self.valid_only else np.ones_like(counted)


def _fit_threshold(views: _Views, gate: int) -> dict[str, float]:
    """Opens the gate, collects the scores of the tokens that may pass, and closes it to its target."""
    method = views.detector.backbone.method
    layer, target = method.locations[gate], method.keep_ratios[gate]
    method.fitted[gate] = -torch.inf
    scores, weights = [], []
    for tape, counted in views:
        chosen = tape.masks[layer][0].cpu().numpy() & counted
        scores.append(tape.scores[layer][0].float().cpu().numpy()[chosen])
        weights.append(np.full(int(chosen.sum()), 1 / counted.sum() / len(views.places)))
    threshold, ratio = threshold_for(np.concatenate(scores), np.concatenate(weights), target)
    method.fitted[gate] = threshold
    return {"layer": layer, "target": target, "fitted": threshold, "keep_ratio": ratio}


def threshold_for(scores: np.ndarray, weights: np.ndarray, target: float) -> tuple[float, float]:
    """The float32 threshold for which the weights of `scores > threshold` sum closest to `target`.

    It lies half way between two neighbouring scores, so that rounding elsewhere does not flip tokens.

    Args:
        scores: float32 (n,), at least one.
        weights: float64 (n,).

    Returns: threshold and sum.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, total = scores[order].astype(np.float64), np.cumsum(weights[order])
    last = np.flatnonzero(np.append(ranked[:-1] > ranked[1:], True))  # equal scores pass together
    lower = np.append(ranked[1:], ranked[-1] - 2)[last]
    best = int(np.abs(total[last] - target).argmin())
    threshold = np.float32((ranked[last[best]] + lower[best]) / 2)
    return float(threshold), float(weights[scores > threshold].sum())


def _fit_number(views: _Views, stage: int) -> dict[str, float]:
    """Bisects the number of levels a token; more levels hit more tokens."""
    method = views.detector.backbone.method
    layer, target = method.locations[stage], method.keep_ratios[stage]

    def kept(levels: float) -> float:
        method.fitted[stage] = levels
        shares = [tape.masks[layer][0].cpu().numpy()[counted].mean() for tape, counted in views]
        return float(np.mean(shares))

    low, high = 0.0, 1.0
    while high < MOST_LEVELS and kept(high) < target:
        low, high = high, 2 * high
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if kept(middle) < target else (low, middle)
    return {"layer": layer, "target": target, "fitted": high, "keep_ratio": kept(high)}
