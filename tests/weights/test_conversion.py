"""Other projects' names: every table, there and back, and what the report says of it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from support import official
from support.golden import needs_golden, official_state
from torch import Tensor

from svit.core.presets import PRESETS
from svit.models import build_backbone
from svit.models.vit import Block
from svit.weights.conversion import CheckpointError, convert_state
from svit.weights.name_tables import TABLES, VIT

KINDS = {
    "dense": official.dense,
    "dense-revised": lambda: {official.revised(k): v for k, v in official.dense().items()},
    "dense-layer-scale": official.layer_scale,
    "sparse": official.sparse,
    "inherit": lambda: official.sparse(gates=3),
    "evo": official.evo,
    "deit": official.deit,
    "canonical": lambda: official.canonical("svit-adapter-nano"),
}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_every_table_has_a_case_here() -> None:
    assert {table.kind for table in TABLES} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_recognised(kind: str) -> None:
    assert convert_state(KINDS[kind]()).report.kind.startswith(f"{kind} (")


@pytest.mark.parametrize("kind", KINDS)
def test_converting_twice_changes_nothing(kind: str) -> None:
    once = convert_state(KINDS[kind]()).state
    again = convert_state(once)
    assert same(once, again.state)
    assert again.report.added == again.report.dropped == {}


def test_dense_names_become_canonical() -> None:
    assert same(convert_state(official.dense()).state, official.canonical("vit-adapter-nano"))


def test_the_detour_over_sparse_names_gives_the_same_as_the_direct_way() -> None:
    detour = convert_state(KINDS["dense-revised"]())
    assert same(detour.state, convert_state(official.dense()).state)
    assert detour.config.pruning.method == "dense"


def test_sparse_names_become_canonical_and_thresholds_start_at_zero() -> None:
    converted = convert_state(official.sparse())
    thresholds = converted.state.pop(f"{VIT}method.thresholds")
    assert thresholds.tolist() == [0.0] * 9
    assert same(converted.state, official.canonical("svit-adapter-nano"))
    assert list(converted.report.added) == [f"{VIT}method.thresholds"]
    assert len(converted.report.used) == len(official.sparse())


def test_three_gates_mean_inherited_masks() -> None:
    config = convert_state(official.sparse(gates=3)).config
    model = build_backbone(config.backbone, config.pruning)
    assert model.method.inherit and model.method.locations == [3, 6, 9]


def test_another_number_of_gates_is_noted() -> None:
    notes = convert_state(official.sparse(gates=6)).report.notes
    assert any("6 gates and the guess 9 keep ratios" in note for note in notes)


def test_folded_layer_scale_equals_the_scaled_block() -> None:
    state = official.layer_scale()
    folded = convert_state(state).state
    block = Block(official.small("vit-adapter-nano").backbone, 0.0).double().eval()
    plain = {name: state[f"backbone.blocks.4.{name}"] for name in block.state_dict()}
    gamma = [state[f"backbone.blocks.4.gamma{index}"].double() for index in (1, 2)]
    x = torch.randn(2, 9, official.WIDTH, dtype=torch.float64)

    block.load_state_dict(plain)
    attended = x + gamma[0] * block.attn(block.norm1(x))
    expected = attended + gamma[1] * block.mlp(block.norm2(attended))
    block.load_state_dict({name: folded[f"{VIT}blocks.4.{name}"] for name in plain})
    # the folded weights were rounded to float32
    torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-5)


def test_layer_scale_without_its_layer_is_an_error() -> None:
    state = official.layer_scale()
    del state["backbone.blocks.2.attn.proj.bias"]
    with pytest.raises(CheckpointError, match="blocks.2.gamma1 scales .*attn.proj.bias"):
        convert_state(state)


def test_evo_attention_is_joined_in_the_order_q_k_v() -> None:
    converted = convert_state(official.evo())
    token = converted.state.pop(f"{VIT}method.class_token")
    assert token.shape == (1, 1, official.WIDTH)
    assert same(converted.state, official.canonical("vit-adapter-nano"))
    assert converted.config.pruning.method == "evovit"
    assert any("keep ratios" in note and "guess" in note for note in converted.report.notes)


def test_evo_without_values_names_the_missing_partner() -> None:
    state = official.evo()
    del state["backbone.vs.3.v.weight"]
    with pytest.raises(CheckpointError, match=r"blocks.3.attn.v.weight"):
        convert_state(state)


def test_deit_drops_its_classifier_on_purpose_and_says_so() -> None:
    report = convert_state(official.deit(), "deit.pth").report
    assert set(report.dropped) == {"head.weight", "head.bias"}
    assert "dropped     2  head.weight, head.bias: ImageNet classifier" in str(report)


@pytest.mark.parametrize(("rows", "grid"), [(10, 3), (197, 14), (577, 24)])
def test_square_grids_of_positions_are_accepted(rows: int, grid: int) -> None:
    assert convert_state(official.deit(rows)).config.backbone.pretrain_grid == grid


@pytest.mark.parametrize("rows", [1, 8, 198])
def test_other_numbers_of_positions_are_refused(rows: int) -> None:
    with pytest.raises(CheckpointError, match="side x side.*plain vision transformer"):
        convert_state(official.deit(rows))


def test_timm_names_are_deit_names() -> None:
    from timm.models.vision_transformer import VisionTransformer

    timm = VisionTransformer(img_size=48, embed_dim=24, depth=12, num_heads=3, num_classes=2)
    report = convert_state(timm.state_dict()).report
    assert report.kind.startswith("deit") and len(report.dropped) == 2


def test_detectron2_leftovers_are_dropped() -> None:
    state = official.canonical("vit-adapter-nano")
    state["pixel_mean"] = state["pixel_std"] = torch.zeros(3, 1, 1)
    assert set(convert_state(state).report.dropped) == {"pixel_mean", "pixel_std"}


def test_colours_of_the_file_that_are_other_than_the_settings_are_told() -> None:
    state = official.canonical("vit-adapter-nano")
    for mean, told in (([123.675, 116.28, 103.53], False), ([103.53, 116.28, 123.675], True)):
        state["pixel_mean"] = torch.tensor(mean).view(3, 1, 1)
        notes = convert_state(state).report.notes
        assert any("order of colours" in note for note in notes) == told


def test_unknown_keys_are_named_ten_at_most_and_counted() -> None:
    strange = {f"backbone.novelty.{i}": torch.zeros(1) for i in range(13)}
    with pytest.raises(CheckpointError) as caught:
        convert_state({**official.dense(), **strange}, "mine.pth")
    message = str(caught.value)
    assert message.startswith("mine.pth: 13 keys") and "and 3 more" in message
    assert "novelty.9," not in message and "novelty.9 and" in message


def test_names_of_no_kind_are_refused() -> None:
    with pytest.raises(CheckpointError, match="of no known kind"):
        convert_state({"layer1.0.conv1.weight": torch.zeros(1)})


def test_the_guess_has_every_setting_that_shapes_show() -> None:
    config = convert_state(official.sparse()).config
    wanted = official.small("svit-adapter-nano").backbone
    ours = replace(config.backbone, drop_path=0.0, prior_dropout=wanted.prior_dropout)
    # norm_eps and heads leave no trace in shapes: those come from the nearest preset
    assert replace(ours, norm_eps=wanted.norm_eps, heads=wanted.heads) == wanted
    detector = config.detector
    assert (detector.classes, detector.fpn_dim, detector.mask_head_convs) == (
        official.CLASSES,
        8,
        2,
    )
    assert any(
        "no preset is 24 wide" in note for note in convert_state(official.sparse()).report.notes
    )


@pytest.mark.parametrize("width, heads", [(192, 3), (768, 12), (1024, 16), (1280, 16), (1664, 16)])
def test_wide_vision_transformers_have_the_heads_of_their_authors(width: int, heads: int) -> None:
    """ViT-H has 16 heads of 80 channels, not 20 of 64."""
    state = {
        "pos_embed": torch.zeros(1, 5, width),
        "patch_embed.proj.weight": torch.zeros(width, 3, 16, 16),
        "patch_embed.proj.bias": torch.zeros(width),
        "blocks.0.attn.qkv.weight": torch.zeros(3 * width, width),
    }
    assert convert_state(state).config.backbone.heads == heads


@needs_golden
@pytest.mark.parametrize("size", ["t", "s"])
@pytest.mark.parametrize("family", ["vit-adapter", "svit-adapter"])
def test_official_files_are_recognised_as_their_presets(family: str, size: str) -> None:
    name = f"{family}-{size}"
    assert convert_state(official_state(name)).config == PRESETS[name]


@needs_golden
@pytest.mark.parametrize("name", ["vit-adapter-t", "svit-adapter-t", "svit-adapter-s"])
def test_official_weights_fill_the_backbone_exactly(name: str) -> None:
    state, config, report = convert_state(official_state(name))
    model = build_backbone(config.backbone, config.pruning)
    below = {key.removeprefix(VIT): value for key, value in state.items() if key.startswith(VIT)}
    model.load_state_dict(below, strict=True)
    assert not report.dropped and not report.missing


@needs_golden
@pytest.mark.parametrize("size", ["t", "s"])
def test_counts_of_the_official_rename(size: str) -> None:
    dense, sparse = official_state(f"vit-adapter-{size}"), official_state(f"svit-adapter-{size}")
    renamed = {official.revised(key): value for key, value in dense.items()}
    assert len(renamed.keys() - dense.keys()) == 144
    gates = sparse.keys() - renamed.keys()
    assert len(gates) == 54 and all("selective_modules" in key for key in gates)
    assert not renamed.keys() - sparse.keys()
    assert same(convert_state(renamed).state, convert_state(dense).state)
    lost = convert_state(sparse).state.keys() - convert_state(dense).state.keys()
    assert len(lost) == 55 and all(
        re.match(rf"{VIT}method\.(gates|thresholds)", key) for key in lost
    )


def _timm(name: str, **changes) -> dict[str, Tensor]:
    import timm

    small = {"depth": 4, "embed_dim": 24, "num_heads": 3, "num_classes": 2, **changes}
    return timm.create_model(name, pretrained=False, **small).state_dict()


@pytest.mark.parametrize(
    ("name", "grid"), [("vit_small_patch14_dinov2", 37), ("deit3_small_patch16_224", 14)]
)
def test_layer_scale_under_timms_names_is_folded(name: str, grid: int) -> None:
    state = {key: torch.randn_like(value) for key, value in _timm(name).items()}
    converted = convert_state(state)
    assert converted.config.backbone.pretrain_grid == grid
    for factor, layer in (("ls1", "attn.proj"), ("ls2", "mlp.fc2")):
        scale = state[f"blocks.3.{factor}.gamma"]
        for part in ("weight", "bias"):
            plain = state[f"blocks.3.{layer}.{part}"]
            folded = converted.state[f"{VIT}blocks.3.{layer}.{part}"]
            torch.testing.assert_close(
                folded, (plain.mT * scale).mT if plain.ndim == 2 else plain * scale
            )
    assert not [key for key in converted.state if "ls1" in key or "gamma" in key]


def test_timms_layer_scale_below_an_adapter_is_folded_as_czczups() -> None:
    state = official.layer_scale()
    timm = {re.sub(r"gamma(\d)$", r"ls\1.gamma", key): value for key, value in state.items()}
    assert same(convert_state(timm).state, convert_state(state).state)


def test_positions_without_a_row_for_the_class_token_get_zeros() -> None:
    state = official.deit(rows=9)
    converted = convert_state(state)
    positions = converted.state[f"{VIT}pos_embed"]
    assert torch.equal(positions[:, 1:], state["pos_embed"]) and not positions[:, 0].any()
    assert any("class token has no position" in note for note in converted.report.notes)


def test_a_distilled_deit_loses_its_token_its_row_and_its_head() -> None:
    state = _timm("deit_tiny_distilled_patch16_224")
    converted = convert_state(state)
    kept = torch.cat([state["pos_embed"][:, :1], state["pos_embed"][:, 2:]], dim=1)
    assert torch.equal(converted.state[f"{VIT}pos_embed"], kept)
    assert {"dist_token", "head_dist.weight"} <= converted.report.dropped.keys()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vit_small_patch14_reg4_dinov2", "has register tokens"),
        ("vit_base_patch16_clip_224", "has a norm before the first block"),
        ("vit_giant_patch14_dinov2", "has gated MLPs"),
        ("eva02_tiny_patch14_224", "has (gated MLPs|biases of queries)"),
    ],
)
def test_parts_that_no_model_here_has_are_named_in_words(name: str, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        convert_state(_timm(name))


def test_patches_of_another_size_are_told_with_the_remedy() -> None:
    notes = convert_state(_timm("vit_small_patch14_dinov2")).report.notes
    assert any("14 pixels" in note and "resamples them" in note for note in notes)
