"""A recorded picture goes through the rooms of the house once, not to and fro."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from PIL import Image

import svit
from svit.core.presets import load_config
from svit.data.folder import ImageFiles
from svit.detectors import build_detector
from svit.evaluation.passes import PassOptions
from svit.evaluation.record import record_run
from svit.models.backbone import Backbone

HOUSE = str(Path(svit.__file__).parent)
HOPS = 120


class Walk:
    """The module of every call and return inside of svit, in order.

    What a backbone does from its call to its return is one stay: how often a method goes to its gates,
    probes and blocks is a matter of its equations.
    """

    def __init__(self) -> None:
        self.modules: list[str] = []
        self._forward: FrameType | None = None

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        path = frame.f_code.co_filename
        if event not in ("call", "return") or not path.startswith(HOUSE):
            return
        if self._forward is None:
            self.modules.append(path)
            if frame.f_code.co_name == "forward" and isinstance(
                frame.f_locals.get("self"), Backbone
            ):
                self._forward = frame
        elif event == "return" and frame is self._forward:
            self._forward = None

    @property
    def hops(self) -> int:
        return sum(before != after for before, after in pairwise(self.modules))


def test_a_recorded_picture_takes_few_hops_between_modules(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    torch.manual_seed(0)
    model = build_detector(load_config("svit-plain-nano", ["framework=torchvision"])).eval()
    images, walk, before = ImageFiles([tmp_path], model.config.data), Walk(), sys.getprofile()
    sys.setprofile(walk)
    try:
        record_run(model, images, tmp_path / "run", PassOptions(progress=False))
    finally:
        sys.setprofile(before)
    assert 50 < walk.hops <= HOPS
