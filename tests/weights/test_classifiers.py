"""Classifiers of the supplement: official names, DeiT's names, and the class token beside the map."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from svit.core.config import BackboneConfig
from svit.models.classifier import ViTClassifier
from svit.probing.recorder import edit, record
from svit.pruning import build_method
from svit.weights.classifiers import load_classifier
from svit.weights.safe_read import CheckpointError

CONFIG = BackboneConfig(
    embed_dim=64, heads=1, depth=12, pretrain_grid=4, drop_path=0.0, norm_eps=1e-5
)
IMAGES = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def classifier(method: str, class_gated: bool = False, **options) -> ViTClassifier:
    torch.manual_seed(0)
    built = build_method(method, CONFIG.embed_dim, CONFIG.depth, CONFIG.heads, options)
    model = ViTClassifier(CONFIG, built, 7, class_gated=class_gated)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and "gates" not in name:
            nn.init.normal_(parameter, std=0.15)
    return model.eval()


def official(model: ViTClassifier) -> dict[str, Tensor]:
    """The model's tensors under the names of the authors' `classification/` (its `svit_s` has them all)."""
    found = {}
    changes = {
        "attn.qkv.weight": "self_attn.in_proj_weight",
        "attn.qkv.bias": "self_attn.in_proj_bias",
        "attn.proj": "self_attn.out_proj",
        "mlp.fc1": "linear1",
        "mlp.fc2": "linear2",
    }
    for name, tensor in model.state_dict().items():
        if name.startswith("blocks."):
            _, number, rest = name.split(".", 2)
            for old, new in changes.items():
                rest = rest.replace(old, new)
            name = f"blocks.{number}.TransformerEncoderLayer.{rest}"
        if name.startswith("method.gates."):
            _, _, number, rest = name.split(".", 3)
            name = f"selective_modules.{number}.{rest.replace('fc', 'mlp.fc')}"
        if name != "method.thresholds":
            found[name] = tensor
    return found


def by_hand(model: ViTClassifier, masks: dict[int, Tensor], class_mask: Tensor) -> Tensor:
    """The release's arithmetic, image by image: all rows are computed, keys are hidden, outputs blended."""
    logits = []
    for index in range(len(IMAGES)):
        x = model.embed(IMAGES[index, None], (4, 4))
        x = torch.cat([model.cls_token + model.pos_embed[:, :1], x], dim=1)
        for layer, block in enumerate(model.blocks):
            own = class_mask[index] if layer == 11 else torch.ones(1, dtype=torch.bool)
            keep = torch.cat([own, masks[layer][index]])[None]
            x = torch.where(keep[..., None], block(x, key_mask=keep), x)
        logits.append(model.head(model.norm(x)[:, 0]))
    return torch.cat(logits)


@torch.no_grad()
def test_official_names_load_and_compute_what_the_release_computes(tmp_path: Path) -> None:
    """The authors' `selective_vit.py` itself, on random weights, gave equal masks, and logits to 2e-6."""
    source = classifier("svit", class_gated=True)
    torch.save({"model": official(source)}, tmp_path / "svit.pth")
    model = load_classifier(tmp_path / "svit.pth")
    assert model.class_gated and model.method.inference == "sample"
    assert model.config == CONFIG and model.method.keep_ratios[-1] == 0.343
    model.method.set_inference("threshold")
    with record(model) as tape:
        logits = model(IMAGES)
    end = {}
    model.blocks[11].register_forward_pre_hook(lambda _, given: end.update(rows=given[0][:, :1]))
    model(IMAGES)
    scores = model.method.gates[8](end["rows"])[:, 0]
    expected = by_hand(model, tape.masks, (scores[:, 0] > scores[:, 1])[:, None])
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)
    assert 0 < sum(int(mask.sum()) for mask in tape.masks.values()) < 12 * 3 * 16


@pytest.mark.parametrize("method", ["dense", "evit", "idlevit", "random", "avit"])
@torch.no_grad()
def test_deit_loads_under_any_method_and_is_itself_where_nothing_is_pruned(
    method: str, tmp_path: Path
) -> None:
    dense = classifier("dense")
    torch.save({"model": dense.state_dict()}, tmp_path / "deit.pth")
    model = load_classifier(tmp_path / "deit.pth", method)
    model.blocks.load_state_dict(dense.blocks.state_dict())
    with edit(model, masks=lambda layer, keep: torch.ones_like(keep)):
        logits = model(IMAGES)
    with_eps = ViTClassifier(
        replace(CONFIG, norm_eps=1e-6), build_method("dense", 64, 12, 1, {}), 7
    )
    with_eps.load_state_dict(dense.state_dict())
    torch.testing.assert_close(logits, with_eps.eval()(IMAGES), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("method", ["svit", "spvit", "cropr", "evovit", "dynamicvit", "magnitude"])
@torch.no_grad()
def test_a_batch_classifies_as_its_images_one_by_one(method: str) -> None:
    model = classifier(method, class_gated=True)
    together = model(IMAGES)
    alone = torch.cat([model(IMAGES[index, None]) for index in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("method", ["svit", "magnitude"])
@torch.no_grad()
def test_an_image_of_which_nothing_is_kept_has_its_class_token_alone(method: str) -> None:
    """In a batch beside others, in training and alone: the class token attends to itself."""
    model = classifier(method)

    def nothing_in_the_first(layer: int, keep: Tensor) -> Tensor:
        return keep & (torch.arange(len(keep)) > 0)[:, None]

    def nothing(layer: int, keep: Tensor) -> Tensor:
        return torch.zeros_like(keep)

    front = model.cls_token + model.pos_embed[:, :1]
    for block in model.blocks:
        front = block(front)
    expected = model.head(model.norm(front)[:, 0])
    with edit(model, masks=nothing_in_the_first):
        torch.testing.assert_close(model(IMAGES)[:1], expected, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(model.train()(IMAGES)[:1], expected, atol=1e-4, rtol=1e-3)
    with edit(model.eval(), masks=nothing):
        torch.testing.assert_close(model(IMAGES[:1]), expected, atol=1e-4, rtol=1e-3)


def test_gates_and_class_token_learn_from_the_label() -> None:
    model = classifier("svit", class_gated=True).train()
    torch.nn.functional.cross_entropy(model(IMAGES), torch.tensor([0, 1, 2])).backward()
    assert model.cls_token.grad.abs().sum() > 0
    assert all(gate.fc2.weight.grad.abs().sum() > 0 for gate in model.method.gates)
    assert set(model.take_losses()) == {"ratio_loss"}


def test_files_that_are_no_classifier_are_refused_in_words(tmp_path: Path) -> None:
    state = classifier("dense").state_dict()
    torch.save({name: one for name, one in state.items() if "head" not in name}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="is no classifier known here"):
        load_classifier(tmp_path / "a.pth")
    torch.save({**state, "pos_embed": torch.zeros(1, 18, 64)}, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match="distilled DeiT"):
        load_classifier(tmp_path / "b.pth")
    torch.save({"model": official(classifier("svit"))}, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match="its method is known"):
        load_classifier(tmp_path / "c.pth", "evit")
    with pytest.raises(ValueError, match="merges tokens"):
        classifier("tome")
