"""What methods with state over frames keep of the dense model's AP on moving shapes, and random tokens
beside them.

    svit dataset shapes --out moving --train 0 --val 16 --frames 16 --seed 0
    python -m benchmarks.moving moving --work runs/moving --out results/shapes/moving.md

Every row is an evaluation in a folder of its own below `--work`; a call that was interrupted passes over
those that are there. Ratios hold in all blocks, so a row's share of recomputed tokens is (1 + 15 r) / 16:
the first frame of each video is computed whole. Both
controls compute as many tokens of each block and frame as the change gate and reuse as it does: "moved" are
its own masks with one permutation of the positions a frame, the same for all blocks; "at random" are drawn
anew in every block.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from svit.core.matches import MATCHES, MatchesFile
from svit.core.presets import load_config
from svit.core.statistics import Drawn, probability
from svit.core.types import ImageId
from svit.data.coco import CocoDataset, find_coco
from svit.detectors import build_detector
from svit.detectors.base import Detector
from svit.evaluation.evaluate import Scoring, evaluate
from svit.evaluation.passes import PassOptions
from svit.evaluation.summary import PER_IMAGE, SUMMARY
from svit.system.files import read_json, write_text
from svit.system.text import table
from svit.weights import checkpoint

WEIGHTS = Path("demo/vit-plain-nano-long.safetensors")
RATIOS = (0.1, 0.2, 0.4)
HEAD = ("tokens computed", "at", "share recomputed", "GMACs backbone", "box AP", "mask AP")
KINDS = ("box", "mask")


@dataclass(frozen=True)
class Line:
    """One evaluation.

    Attributes:
        words: of the table.
        preset: the model.
        ratio: of every block; None leaves the dense model.
        masks: an intervention.
    """

    words: str
    preset: str
    ratio: float | None = None
    masks: str = "learned"

    @property
    def at(self) -> str:
        """Its ratio in words."""
        return "–" if self.ratio is None else f"{self.ratio:g} a block"

    @property
    def name(self) -> str:
        """Of its folder."""
        ratio = "" if self.ratio is None else f"-{self.ratio:g}"
        return f"{self.preset}{ratio}-{self.masks}"

    def detector(self, weights: Path) -> Detector:
        """The dense weights under its method."""
        config = load_config(self.preset)
        if self.ratio is not None:
            ratios = ",".join([str(self.ratio)] * config.backbone.depth)
            config = load_config(self.preset, [f"pruning.options.keep_ratios=[{ratios}]"])
        detector = build_detector(config)
        checkpoint.load_weights(detector, weights)
        return detector.eval()


def lines(ratios: Sequence[float]) -> list[Line]:
    """The dense model, then all lines of a ratio before those of the next."""
    found = [Line("all", "vit-plain-nano")]
    for ratio in ratios:
        found += [
            Line("that changed most", "change-gate-plain-nano", ratio),
            Line("near what was found before", "previous-frame-plain-nano", ratio),
            Line("as many, moved", "change-gate-plain-nano", ratio, "shuffle"),
            Line("as many, at random", "change-gate-plain-nano", ratio, "random"),
        ]
    return found


def measure(line: Line, data: Path, weights: Path, folder: Path) -> None:
    """Evaluates a line into its folder, unless that is done."""
    if (folder / SUMMARY).exists():
        return
    detector, files = line.detector(weights), find_coco("val2017", data)
    dataset = CocoDataset(files.json, files.image_root, detector.config.data)
    options = PassOptions(intervention=line.masks)
    evaluate(detector, dataset, folder, options, Scoring(), weights=weights.name)


@dataclass(frozen=True)
class Measured:
    """A line's numbers.

    Attributes:
        drawn: AP by kind, on the videos and on draws of them.
        share: of the tokens of all blocks and frames that were computed.
        macs: of the backbone, mean over frames.
        facts: provenance.
    """

    line: Line
    drawn: dict[str, Drawn]
    share: float
    macs: float
    facts: dict[str, Any]


def read(line: Line, folder: Path, videos: Mapping[ImageId, ImageId]) -> Measured:
    """What `measure` left, drawn by videos (image id -> video)."""
    summary = read_json(folder / SUMMARY, "delete the folder and measure again")
    file = MatchesFile(folder / MATCHES, summary["matches_sha256"])
    draws = len(file.drawn("box").draws)
    return Measured(
        line,
        {kind: file.matches(kind).drawn(draws, videos=videos) for kind in KINDS},
        float(np.mean([layer["keep"] for layer in summary["layers"]])),
        float(pd.read_csv(folder / PER_IMAGE)["macs_backbone"].mean()),
        summary["provenance"],
    )


def report(found: Sequence[Measured], videos: int, frames: int) -> str:
    """The results as Markdown."""
    facts = found[0].facts
    written = (
        f"svit dataset shapes --out moving --train 0 --val {videos} --frames {frames} --seed 0"
    )
    command = "python -m benchmarks.moving moving --work runs/moving --out results/shapes/moving.md"
    parts = [
        "# Moving shapes: what may be reused from frame to frame",
        f"Dense weights ({facts['weights']}) as they are, {videos} videos of {frames} frames of validation "
        "scenes. In brackets: 95 % percentile intervals over videos (1,000 draws), because the frames of a "
        "video are no separate scenes. Written by",
        f"```bash\n{written}\n{command}\n```",
        f"Device {facts['device']}, torch {facts['versions']['torch']}, float32, commit "
        f"{facts['commit'][:7]}. Shares are of all tokens in all blocks and frames; first frames, which are "
        "computed whole, count.",
        table(HEAD, map(_cells, found)),
        "Differences in AP points over the same draws of the videos; P is the share of draws on which the "
        "first is better:",
        table(("tokens computed", "minus", "at", "box AP", "mask AP"), differences(found)),
    ]
    return "\n\n".join(parts) + "\n"


def _cells(one: Measured) -> list[str]:
    intervals = [str(one.drawn[kind].interval()) for kind in KINDS]
    return [one.line.words, one.line.at, f"{one.share:.3f}", f"{one.macs / 1e9:.3f}", *intervals]


def differences(found: Sequence[Measured]) -> list[list[str]]:
    """At each ratio: each method minus the other, minus random tokens and minus the dense model."""
    dense, rows = found[0], []
    for place, one in enumerate(found):
        same = [other for other in found[place + 1 :] if other.line.ratio == one.line.ratio]
        for other in [*same, dense] if one.line.ratio is not None else []:
            apart = [one.drawn[kind] - other.drawn[kind] for kind in KINDS]
            told = [
                f"{drawn.signed}, P {probability(drawn.above, len(drawn.draws))}" for drawn in apart
            ]
            rows.append([one.line.words, other.line.words, one.line.at, *told])
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures what is missing and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="videos in COCO's layout, with a val2017")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="of a dense nano model")
    parser.add_argument("--work", type=Path, required=True, help="folder for the evaluations")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the results, .md")
    parser.add_argument("--ratios", type=float, nargs="+", default=RATIOS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    planned = lines(options.ratios)
    for line in planned:
        measure(line, options.data, options.weights, options.work / line.name)
    images = json.loads(find_coco("val2017", options.data).json.read_text())["images"]
    videos = {image["id"]: image["video_id"] for image in images}
    found = [read(line, options.work / line.name, videos) for line in planned]
    count = len({*videos.values()})
    write_text(options.out, report(found, count, len(images) // count))
    print(options.out)


if __name__ == "__main__":
    main()
