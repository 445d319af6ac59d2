"""The backbone against numbers of the official implementation (environment variable SVIT_GOLDEN).

Inference: maps, masks and gate scores of dense T and SViT T. Training: one interaction with forced masks and
its gradients, ratio losses, and the whole backbone with batch statistics. Tolerances: reference.md 4.

The file's `train.after.*` running statistics equal the initial weights bit for bit (they were stored before
the training forward), so they say nothing about an update and are not compared.
"""

from __future__ import annotations

import torch
from support.golden import MAPS, golden, golden_backbone, needs_golden, randn

from svit.models.adapter import geometry
from svit.probing.recorder import edit, record
from svit.pruning.base import run_masked
from svit.pruning.losses import dynamic_ratio_loss, fixed_ratio_loss

pytestmark = needs_golden


def close(ours: torch.Tensor, official: torch.Tensor, relative: float = 1e-4) -> None:
    """Largest difference relative to the largest value: the bound every golden tensor must meet."""
    difference = (ours - official).abs().max() / official.abs().max()
    assert difference <= relative, f"relative difference {difference:.2e}"


def check_maps(name: str) -> dict[str, torch.Tensor]:
    numbers, model = golden(name), golden_backbone(name).eval()
    with torch.no_grad(), record(model) as tape:
        maps = model(numbers["image"])
    for ours, official in MAPS.items():
        close(maps[ours], numbers[official])
    return {"keep": torch.tensor(tape.keep()[0]), **tape.scores}


def test_dense_tiny_maps_equal_the_official_ones() -> None:
    recorded = check_maps("vit-adapter-t")
    assert recorded["keep"].all()


def test_svit_tiny_maps_masks_and_scores_equal_the_official_ones() -> None:
    recorded, numbers = check_maps("svit-adapter-t"), golden("svit-adapter-t")
    assert torch.equal(recorded["keep"], numbers["keep_masks"].bool())
    for gate, logits in enumerate(numbers["selector_logits"]):
        close(recorded[gate + 3][0], logits[:, 0] - logits[:, 1])


def test_a_training_interaction_and_its_gradients_equal_the_official_ones() -> None:
    numbers = golden("train_svit-adapter-t")
    model = golden_backbone("svit-adapter-t").train()
    gates = [mask.float().requires_grad_() for mask in numbers["forced_masks"]]
    tokens, prior = numbers["in.x"].clone().requires_grad_(), numbers["in.c"]
    where, interaction = geometry((10, 12), tokens.device), model.interactions[1]
    for part in model.modules():
        if hasattr(part, "drop_prob"):
            part.drop_prob = 0.0  # the golden numbers were made without drop path
    x = interaction.injector(tokens, prior, where)
    for block, gate in zip(model.blocks[3:6], gates):
        x = run_masked(block, x, gate.detach().bool(), gate)
    c = interaction.extractor(prior, x, where)
    close(x, numbers["out.x"])
    close(c, numbers["out.c"])
    ((x * randn("probe.x", x.shape)).sum() + (c * randn("probe.c", c.shape)).sum()).backward()
    close(tokens.grad, numbers["grad.x"])
    for index, gate in enumerate(gates):
        close(gate.grad, numbers[f"grad.selector.{index}"])


def test_ratio_losses_and_their_gradients_equal_the_official_ones() -> None:
    numbers = golden("train_svit-adapter-t")
    targets = [0.7, 0.7, 0.7]  # keep_ratio[0:3]; the official number is a sum over three layers
    for kind, loss in (("batch", dynamic_ratio_loss), ("per_sample", fixed_ratio_loss)):
        gates = [mask.float().requires_grad_() for mask in numbers["forced_masks"]]
        total = 3 * loss(gates, targets)
        total.backward()
        close(total, numbers[f"ratio_loss_sum_3layers.{kind}"])
        gradient = torch.stack([gate.grad[:, 0] for gate in gates])
        close(gradient, numbers[f"ratio_loss_grad.{kind}"])


def test_the_whole_backbone_in_training_equals_the_official_one() -> None:
    numbers = golden("train_svit-adapter-t")
    model = golden_backbone("svit-adapter-t").train()
    for part in model.modules():
        if hasattr(part, "drop_prob"):
            part.drop_prob = 0.0
    forced = numbers["forced_masks9"].bool()
    with edit(model, masks=lambda layer, keep: forced[layer - 3] if layer >= 3 else keep):
        maps = model(numbers["images"])
    close(maps["c2"][:, ::8], numbers["train.f1.cs8"])
    close(maps["c3"][:, ::4], numbers["train.f2.cs4"])
    close(maps["c4"], numbers["train.f3"])
    close(maps["c5"], numbers["train.f4"])
    official = numbers["backbone.ratio_loss.batch"]
    close(model.take_losses()["ratio_loss"] / model.method.ratio_weight, official)
