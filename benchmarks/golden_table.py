"""How far our numbers are from the official implementation's, tensor by tensor, in both frameworks.

    python -m benchmarks.golden_table --golden FOLDER

FOLDER holds `weights.py`, the manifests and the golden tensors of reference.md 1. The whole model
runs from the golden image, and from the file of a photograph (`photo.*`). "absolute" is the largest
difference, "relative" that over the largest official value; of masks, labels and levels "absolute"
counts the entries that differ. Detections are compared rank by rank, proposals and detections of the
photograph each with the nearest: some of their scores differ by 3e-7 and 1.3e-6 only.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
import torchvision
from torch import Tensor

from benchmarks.golden_tensors import (
    FIRST_GATE,
    Reference,
    inference_tensors,
    padded_tensors,
    photo_tensors,
    training_tensors,
)
from svit.detectors import HAS_DETECTRON2

MODELS = ("vit-adapter-t", "svit-adapter-t")
FRAMEWORKS = ("torchvision", "detectron2") if HAS_DETECTRON2 else ("torchvision",)
STAGES = ("backbone", "keep", "selector", "fpn", "rpn", "rois8", "det", "pad", "photo")


def expected_tensors(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The official tensors that are results, with boxes, scores and gate scores apart."""
    results = {name: values for name, values in official.items() if not _is_input(name)}
    for case in ("det", "pad", "photo"):
        if f"{case}.boxes_scores" in results:
            both = results.pop(f"{case}.boxes_scores")
            results[f"{case}.boxes"], results[f"{case}.scores"] = both[:, :4], both[:, 4]
            results[f"{case}.proposals"] = results[f"{case}.proposals"][:, :4]
    for gate, logits in enumerate(results.pop("selector_logits", ())):
        results[f"selector.{gate + FIRST_GATE}"] = logits[:, 0] - logits[:, 1]
    return dict(sorted(results.items(), key=lambda item: (_stage(item[0]), item[0])))


def _stage(name: str) -> int:
    """Place of a tensor in the forward."""
    return next((at for at, stage in enumerate(STAGES) if name.startswith(stage)), len(STAGES))


def _is_input(name: str) -> bool:
    """Inputs; and `train.after.*`, stored before the forward: they equal the initial weights."""
    return name.startswith(("image", "forced_masks", "in.", "train.after.")) or name == "rois8"


def compare(expected: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> pd.DataFrame:
    """One row a tensor. Names that end in .csN hold the channels ::N, those in .sub* less of every side.

    Returns: frame indexed by name, columns `absolute` and `relative` (NaN where entries count).

    Raises:
        KeyError: a tensor is missing from ours.
    """
    rows = {}
    for name, values in expected.items():
        difference = _unordered if name.endswith("proposals") else _difference
        rows[name] = difference(values, _picked(name, ours, values.shape))
    return pd.DataFrame.from_dict(rows, orient="index", columns=["absolute", "relative"])


def _picked(name: str, ours: Mapping[str, Tensor], shape: Sequence[int]) -> Tensor:
    whole, _, step = name.partition(".cs")
    if step:
        return ours[whole][:, :: int(step)]
    whole, thinned, _ = name.partition(".sub")
    strides = [slice(None, None, old // new) for old, new in zip(ours[whole].shape, shape)]
    return ours[whole][tuple(strides)] if thinned else ours[whole]


def _difference(expected: Tensor, ours: Tensor) -> tuple[float, float]:
    if expected.shape != ours.shape:
        raise ValueError(f"expected shape {tuple(expected.shape)}, found {tuple(ours.shape)}")
    if not expected.is_floating_point():
        return float((expected.long() != ours.long()).sum()), float("nan")
    absolute = (expected - ours.detach()).abs().nan_to_num(float("inf")).max()
    return float(absolute), float(absolute / expected.abs().max())


def _unordered(expected: Tensor, ours: Tensor) -> tuple[float, float]:
    """Largest coordinate difference of every box of either set to the nearest of the other."""
    if expected.shape != ours.shape:
        raise ValueError(f"expected shape {tuple(expected.shape)}, found {tuple(ours.shape)}")
    apart = torch.cdist(expected, ours, p=float("inf")).nan_to_num(float("inf"))
    absolute = torch.maximum(apart.amin(dim=0), apart.amin(dim=1)).max()
    return float(absolute), float(absolute / expected.abs().max())


def inference_frame(reference: Reference, model: str, framework: str) -> pd.DataFrame:
    """The differences of one model in one framework, from the image on and from a photograph."""
    official, detector = reference.tensors(model), reference.detector(model, framework)
    ours = {**inference_tensors(detector, official), **padded_tensors(detector, official)}
    crop = compare(expected_tensors(official), ours)
    return pd.concat([crop, photo_frame(reference, model, framework)])


def photo_frame(reference: Reference, model: str, framework: str) -> pd.DataFrame:
    """The differences of one model in one framework, from the file of a photograph on."""
    photo, official = reference.photo(model)
    expected = expected_tensors(official)
    ours = photo_tensors(reference.detector(model, framework), photo)
    apart = torch.cdist(expected["photo.boxes"], ours["photo.boxes"], p=float("inf"))
    nearest = apart.argmin(dim=1)
    for name in ("photo.boxes", "photo.scores", "photo.labels", "photo.masks"):
        ours[name] = ours[name][nearest]
    return compare(expected, {**ours, "photo.masks_first20": ours["photo.masks"][:20]})


def training_frame(reference: Reference, model: str = "svit-adapter-t") -> pd.DataFrame:
    """The differences of the training file."""
    official = reference.tensors(f"train_{model}")
    backbone = reference.detector(model, "torchvision").backbone
    ours = training_tensors(backbone, official, reference.generator().randn)
    return compare(expected_tensors(official), ours)


def table(reference: Reference, models: Sequence[str] = MODELS) -> pd.DataFrame:
    """All differences; columns (framework, absolute | relative), rows (model, tensor)."""
    frames = {
        model: pd.concat(
            {name: inference_frame(reference, model, name) for name in FRAMEWORKS}, axis=1
        )
        for model in models
    }
    frames["training"] = pd.concat({"both": training_frame(reference)}, axis=1)
    return pd.concat(frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--golden", type=Path, required=True, help="folder of official numbers")
    frame = table(Reference(parser.parse_args().golden))
    print(frame.to_string(float_format=lambda number: f"{number:.2e}", na_rep="-"))
    relative = frame.xs("relative", axis=1, level=1).max().max()
    print(f"\nlargest relative difference of {len(frame)} tensors: {relative:.2e}")
    print(f"float32 on a CPU, torch {torch.__version__}, torchvision {torchvision.__version__}")


if __name__ == "__main__":
    main()
