"""A nano classifier on pictures of one shape each: dense, SViT, and SViT's masks at other places.

    python -m benchmarks.nano_classifier --work runs/classifier --out results/classification

The body starts from the shipped dense detector (`vit-plain-nano`), the class token and the head anew. A dense
classifier is trained first; from it SViT, and dense once more for as many steps as a control. All is seeded.
Each line has a folder METHOD-MASKS-seedK with `accuracy.json`, which the claim ledger and `tables` read.
Pictures are scenes of `svit.data.shapes` with a single object, on 14 x 14 tokens as in the supplement.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.datasets import ImageFolder

from svit.cli.demo import weights_of
from svit.core.catalogue import PAPER_KEEP_RATIOS
from svit.core.presets import PRESETS
from svit.data.shapes.outlines import CLASSES
from svit.data.shapes.scenes import scene
from svit.evaluation.classify import class_folder, classify, write_accuracy
from svit.models.classifier import ViTClassifier
from svit.pruning import build_method
from svit.weights import checkpoint

PARTS = {"train": (2400, 0), "val": (400, 10**7)}  # pictures, first seed
SIDE, BATCH, RATE, GATES = 112, 16, 5e-4, 15.0
SVIT = {"keep_ratios": list(PAPER_KEEP_RATIOS), "bias": 2.0}
BELOW = "backbone.bottom_up."


def write_pictures(folder: Path) -> None:
    """Scenes with one object, in a subfolder a class; what is there already is left."""
    for part, (count, seed) in PARTS.items():
        for label in CLASSES:
            (folder / part / label).mkdir(parents=True, exist_ok=True)
        if len(list((folder / part).glob("*/*.png"))) == count:
            continue
        while count:
            drawn, seed = scene(seed, SIDE), seed + 1
            if len(drawn.labels) == 1:
                path = folder / part / CLASSES[drawn.labels[0]] / f"{seed:08d}.png"
                count -= 1
                if not path.exists():
                    Image.fromarray(drawn.image).save(path)


def classifier(seed: int, method: str, **options: object) -> ViTClassifier:
    """With its initial weights, the same ones for a seed every time."""
    torch.manual_seed(seed)
    body = PRESETS["vit-plain-nano"].backbone
    built = build_method(method, body.embed_dim, body.depth, body.heads, options)
    return ViTClassifier(replace(body, drop_path=0.0), built, len(CLASSES))


def take(model: ViTClassifier, state: dict[str, Tensor]) -> None:
    """Copies the tensors that the model has, too."""
    own = model.state_dict()
    same = {
        name: one for name, one in state.items() if name in own and own[name].shape == one.shape
    }
    model.load_state_dict({**own, **same})


def batches(pictures: ImageFolder, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """In random orders without end, half of the pictures mirrored."""
    while True:
        order = torch.randperm(len(pictures), generator=generator).tolist()
        for start in range(0, len(order) - BATCH + 1, BATCH):
            items = [pictures[place] for place in order[start : start + BATCH]]
            images = torch.stack([image for image, _ in items])
            flip = torch.rand(BATCH, generator=generator) < 0.5
            images = torch.where(flip[:, None, None, None], images.flip(3), images)
            yield images, torch.tensor([label for _, label in items])


def train(model: ViTClassifier, pictures: ImageFolder, steps: int, seed: int = 0) -> ViTClassifier:
    """AdamW and a cosine; as in the nano detectors gates have 15 times the rate, and their noise halves."""
    torch.manual_seed(seed)
    own = list(model.method.parameters())
    rest = [one for name, one in model.named_parameters() if not name.startswith("method.")]
    groups = [{"params": rest, "lr": RATE}]
    groups += [{"params": own, "lr": GATES * RATE, "weight_decay": 0.0}] if own else []
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.05)
    shape = lambda step: min(1, (step + 1) / 10) * 0.5 * (1 + math.cos(math.pi * step / steps))  # noqa: E731
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, shape)
    model.train()
    for step, (images, labels) in zip(
        range(steps), batches(pictures, torch.Generator().manual_seed(seed))
    ):
        if model.method.noise_scale is not None:
            model.method.noise_scale = 1 - 0.5 * step / steps
        loss = F.cross_entropy(model(images), labels)
        total = loss + sum(model.take_losses().values())
        optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 20 == 19:
            print(f"step {step + 1}/{steps}, loss {float(loss.detach()):.3f}", flush=True)
    return model.eval()


def main() -> None:
    """Trains, measures, and writes a json for each line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="pictures and recorded masks")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--steps",
        type=int,
        nargs=2,
        default=(2000, 1000),
        help="dense first; each of both after it",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the trainings")
    given = parser.parse_args()
    seed = given.seed
    write_pictures(given.work / "pictures")
    shown, held_out = (class_folder(given.work / "pictures" / part) for part in PARTS)
    start = classifier(seed, "dense")
    body = checkpoint.read(weights_of("vit-plain-nano")).state
    take(start, {name.removeprefix(BELOW): one for name, one in body.items()})
    train(start, shown, given.steps[0], seed)
    trained = {"seed": seed, "steps": list(given.steps), "batch": BATCH}
    for method, options, lines in (
        ("svit", SVIT, ("learned", "shuffle", "random")),
        ("dense", {}, ("learned",)),
    ):
        model = classifier(seed, method, **options)
        take(model, start.state_dict())
        train(model, shown, given.steps[1], seed)
        for masks in lines:
            name = f"{method}-{masks}-seed{seed}"
            found = classify(model, held_out, masks=masks, run=given.work / name)
            print(f"{name}: top-1 {found.top1:.1f}, keep {sum(found.keep[3:]) / 9:.3f}", flush=True)
            write_accuracy(given.out / name, found, trained=trained)


if __name__ == "__main__":
    main()
