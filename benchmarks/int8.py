"""AP and processor time of shipped models with their linears in int8, image by image in turn with float32.

    svit dataset shapes --out shapes --train 0 --val 300 --seed 0
    python -m benchmarks.int8 shapes demo/svit-plain-nano.safetensors demo/vit-plain-nano-long.safetensors

Dynamic quantisation as `torch.ao.quantization.quantize_dynamic` does it, by the same kernel: weights in
int8 with a scale for each output, rounded once, and activations in 8 bits with one scale a call. Gates
stay in float32. It is here to be measured, not offered: docs/speed.md says why.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from benchmarks import ROOT
from svit.data.coco import CocoDataset, find_coco, prepare
from svit.detectors.base import Detector
from svit.evaluation.evaluate import model_of
from svit.evaluation.passes import inference_mode
from svit.evaluation.summary import Outcome, Summary, outcome_of, summarise
from svit.probing.recorder import record
from svit.system import files, products
from svit.system.text import table
from svit.system.timing import cpu_name
from svit.weights.loading import load_coco, load_detector

PRECISIONS = ("float32", "int8")


class Int8(TorchFunctionMode):
    """Runs `F.linear` with int8 weights while it is entered; other functions and `spared` weights as ever."""

    def __init__(self, spared: nn.Module) -> None:
        super().__init__()
        self._spared = {weight.data_ptr() for weight in spared.parameters()}
        self._packed: dict[tuple[int, torch.Size], Any] = {}

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is not F.linear or args[1].data_ptr() in self._spared:
            return func(*args, **kwargs or {})
        values, weight, bias = args
        key = (weight.data_ptr(), weight.shape)  # slices of one weight are other products
        if key not in self._packed:
            self._packed[key] = packed(weight, bias)
        return torch.ops.quantized.linear_dynamic(values, self._packed[key], False)


def packed(weight: Tensor, bias: Tensor | None) -> Any:
    """A linear for torch's int8 kernel; every output's largest weight becomes 127."""
    scale = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 127
    zero = torch.zeros(len(weight), dtype=torch.long)
    whole = torch.quantize_per_channel(weight, scale, zero, 0, torch.qint8)
    return torch.ops.quantized.linear_prepack(whole, bias)


def measured(
    detector: Detector, dataset: CocoDataset, limit: int
) -> tuple[dict[str, Summary], dict[str, float]]:
    """Summary and processor seconds in each precision."""
    modes = {"float32": nullcontext(), "int8": Int8(detector.backbone.method)}
    outcomes: dict[str, list[Outcome]] = {name: [] for name in PRECISIONS}
    seconds = dict.fromkeys(PRECISIONS, 0.0)
    with inference_mode(detector):
        for index in range(min(limit, len(dataset))):
            image = dataset.image(index)
            sample = prepare(image, dataset.config, dataset.image_ids[index], None)
            for name, mode in modes.items():
                with record(detector, scores=False) as tape, mode:
                    begin = time.process_time()
                    found = detector.predict([sample])
                    seconds[name] += time.process_time() - begin
                trace = tape.traces([sample])[0]
                outcomes[name].append(outcome_of(trace, found[0], dataset.category_ids))
    truth, model = dataset.coco(range(len(dataset))[:limit]), model_of(detector)
    return {name: summarise(model, truth, found, {}) for name, found in outcomes.items()}, seconds


def rows(path: Path, data: Path, split: str, limit: int) -> list[list[str]]:
    """One row of box and one of mask AP."""
    detector = load_detector(path, "torchvision").eval()
    dataset = load_coco(find_coco(split, data), detector, tell=False)
    found, seconds = measured(detector, dataset, limit)
    gain = seconds["float32"] / seconds["int8"]
    images = len(found["int8"].images)
    made = []
    for kind, drawn in found["int8"].drawn.items():
        before = found["float32"].drawn[kind]
        aps = [str(one.interval()) for one in (before, drawn)]
        made.append([path.stem, str(images), kind, *aps, (drawn - before).signed, f"{gain:.2f}"])
    return made


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="folder in COCO's layout")
    parser.add_argument("models", nargs="+", type=Path, help="checkpoints")
    parser.add_argument("--split", default="val2017")
    parser.add_argument("--limit", type=int, default=300, help="only the first images (300)")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "shapes" / "int8.md")
    options = parser.parse_args(words)
    os.environ[products.VARIABLE] = "mkl"  # so that every linear is an `F.linear`
    torch.set_num_threads(1)
    head = ["model", "images", "AP of", *PRECISIONS, "int8 minus float32", "times as fast"]
    made = [
        row
        for path in options.models
        for row in rows(path, options.data, options.split, options.limit)
    ]
    told = table(head, made)
    models = " ".join(f"demo/{path.name}" for path in options.models)
    command = f"python -m benchmarks.int8 {options.data.name} {models} --limit {options.limit}"
    about = (
        f"`{command}`: {cpu_name()}, torch {torch.__version__}, one thread. In brackets 95 % percentile "
        "intervals over images, of differences paired. The time is the processor's, of the whole network, "
        "float32 in MKL."
    )
    files.write_text(options.out, f"# AP with linears in int8\n\n{about}\n\n{told}\n")
    print(told)


if __name__ == "__main__":
    main()
