"""Products in oneDNN equal torch's own, forward and backward; the faster is taken, and once measured kept."""

from __future__ import annotations

import json

import pytest
import torch
from support import tiny_detectors
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from svit.detectors import build_detector
from svit.system import products
from svit.system.products import FEWEST_ROWS, OneDnnLinear, OneDnnPointwise, route

pytestmark = pytest.mark.skipif(not products.available(), reason="this torch has no oneDNN")


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Lets the libraries have rates; counts how often they are measured."""
    found = {"times": 0, "mkl": 100.0, "onednn": 230.0}

    def measure() -> dict[str, float]:
        found["times"] += 1
        return {name: found[name] for name in products.LIBRARIES}

    monkeypatch.setattr(products, "measure", measure)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(products.VARIABLE, raising=False)
    products.rates.cache_clear()
    yield found
    products.rates.cache_clear()


@pytest.mark.parametrize("shape", [(FEWEST_ROWS, 24), (2, 70, 24), (2, 5, 9, 24), (3, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_and_its_gradients_are_the_same_in_either_library(shape, bias) -> None:
    values = torch.randn(shape, requires_grad=True)
    layer = OneDnnLinear(24, 40, bias)
    operands = [values, *layer.parameters()]
    direction = torch.randn(*shape[:-1], 40)
    wanted = F.linear(values, layer.weight, layer.bias)
    found = layer(values)
    torch.testing.assert_close(found, wanted, atol=2e-6, rtol=2e-6)
    gradients = torch.autograd.grad(found, operands, direction)
    expected = torch.autograd.grad(wanted, operands, direction)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=2e-6)


@pytest.mark.parametrize("rows", [FEWEST_ROWS, 3])
def test_a_product_of_matrices_is_the_same_and_a_plain_one_to_a_tracer(monkeypatch, rows) -> None:
    monkeypatch.setenv(products.VARIABLE, "onednn")
    pair = torch.randn(rows, 24, requires_grad=True), torch.randn(24, 40, requires_grad=True)
    found, wanted = products.matmul(*pair), pair[0] @ pair[1]
    torch.testing.assert_close(found, wanted, atol=2e-6, rtol=2e-6)
    both = (torch.autograd.grad(one.square().sum(), pair) for one in (found, wanted))
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)
    traced = str(torch.jit.trace(products.matmul, pair, check_trace=False).graph)
    assert "aten::matmul" in traced and "linear" not in traced


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_pointwise_convolution_and_its_gradients_are_the_same(layout) -> None:
    layer = nn.Conv2d(24, 40, 1)
    values = torch.randn(2, 24, 9, 8).to(memory_format=layout).requires_grad_()
    wanted = layer(values)
    operands, direction = [values, *layer.parameters()], torch.randn(2, 40, 9, 8)
    expected = torch.autograd.grad(wanted, operands, direction)
    layer.__class__ = OneDnnPointwise
    found = layer(values)
    torch.testing.assert_close(found, wanted, atol=2e-6, rtol=2e-6)
    gradients = torch.autograd.grad(found, operands, direction)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=2e-6)


def test_convolutions_that_are_no_product_stay_as_they_are(monkeypatch) -> None:
    monkeypatch.setenv(products.VARIABLE, "onednn")
    others = [{"kernel_size": 3}, {"kernel_size": 1, "stride": 2}, {"kernel_size": 1, "groups": 2}]
    others.append({"kernel_size": 1, "padding": 1})
    model = nn.Sequential(*(nn.Conv2d(4, 4, **one) for one in others), nn.Conv2d(4, 4, 1))
    route(model)
    assert [type(part) for part in model] == [nn.Conv2d] * 4 + [OneDnnPointwise]


def test_operands_that_lie_apart_in_memory_are_read_right(monkeypatch) -> None:
    monkeypatch.setenv(products.VARIABLE, "onednn")
    image, weight, bias = torch.randn(2, 24, 9, 8), torch.randn(80, 48), torch.randn(80)
    operands = image.permute(0, 2, 3, 1), weight[::2, 1::2], bias[1::2]
    found = products.linear(*operands)
    torch.testing.assert_close(found, F.linear(*operands), atol=2e-5, rtol=2e-6)
    transposed = (operands[0], torch.randn(24, 40).t(), None)
    torch.testing.assert_close(
        products.linear(*transposed), F.linear(*transposed), atol=2e-5, rtol=2e-6
    )


def test_half_precision_is_torchs_own(monkeypatch) -> None:
    monkeypatch.setattr(products, "product", None)  # would fail if it were called
    layer = OneDnnLinear(24, 40)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(100, 24)).dtype == torch.bfloat16
    assert layer.bfloat16()(torch.randn(100, 24).bfloat16()).dtype == torch.bfloat16


def test_a_routed_detector_computes_the_same_under_the_same_names(monkeypatch) -> None:
    monkeypatch.setenv(products.VARIABLE, "mkl")
    plain = tiny_detectors.build("torchvision")
    monkeypatch.setenv(products.VARIABLE, "onednn")
    torch.manual_seed(0)
    routed = build_detector(plain.config)
    routed.load_state_dict(plain.state_dict())
    kinds = [type(part) for part in routed.modules() if isinstance(part, nn.Linear)]
    assert set(kinds) == {OneDnnLinear}
    assert OneDnnLinear not in map(type, plain.modules())
    maps = []
    for detector in (plain, routed):
        with torch.no_grad():
            maps.append(detector.eval().backbone(torch.ones(1, 3, 128, 128)))
    for name, values in maps[0].items():
        error = (maps[1][name] - values).abs().max() / values.abs().max()
        assert error < 2e-6, name
    losses = []
    for detector in (plain, routed):
        torch.manual_seed(1)
        loss = sum(detector.train().losses(tiny_detectors.samples((128, 128, 2))).values())
        loss.backward()
        losses.append((loss, detector.backbone.blocks[0].mlp.fc1.weight.grad))
    torch.testing.assert_close(losses[0], losses[1], atol=1e-4, rtol=1e-4)


def test_the_faster_library_is_taken_and_measured_once(measured, tmp_path) -> None:
    assert products.library() == products.library() == "onednn" and measured["times"] == 1
    products.rates.cache_clear()  # another process
    assert products.library() == "onednn" and measured["times"] == 1
    (kept,) = json.loads((tmp_path / "svit" / "linear.json").read_text()).items()
    assert torch.__version__ in kept[0] and kept[1] == {"mkl": 100, "onednn": 230}
    assert "100 in MKL and 230 in oneDNN; linears run in oneDNN" in products.told()


def test_where_onednn_is_hardly_faster_nothing_changes(measured) -> None:
    measured["onednn"] = 110.0
    assert products.library() == "mkl"
    model = nn.Sequential(nn.Linear(2, 3))
    route(model)
    assert type(model[0]) is nn.Linear


def test_a_damaged_file_of_rates_is_measured_again(measured, tmp_path) -> None:
    (tmp_path / "svit").mkdir()
    (tmp_path / "svit" / "linear.json").write_text('{"x": 3}')
    assert products.library() == "onednn" and measured["times"] == 1


def test_the_variable_decides_and_other_words_are_refused(measured, monkeypatch) -> None:
    monkeypatch.setenv(products.VARIABLE, "mkl")
    assert products.library() == "mkl" and measured["times"] == 0
    monkeypatch.setenv(products.VARIABLE, "blas")
    with pytest.raises(ValueError, match="SVIT_LINEAR: expected mkl or onednn, found 'blas'"):
        products.library()


def test_both_rates_are_really_measured() -> None:
    found = products.measure(rounds=1)
    assert set(found) == set(products.LIBRARIES) and min(found.values()) > 0


@pytest.mark.parametrize(("queries", "keys"), [(64, 64), (200, 333), (7, 90)])
def test_attention_is_the_same_in_either_library(monkeypatch, queries, keys) -> None:
    monkeypatch.setattr(products, "LOGITS_AT_ONCE", 70 * keys)  # several blocks, the last a part
    projected = torch.randn(2, keys, 3, 4, 16).permute(2, 0, 3, 1, 4)  # as `Attention.project`
    query, key, value = projected[0, :, :, :1].expand(2, 4, queries, 16), *projected[1:]
    query = query + torch.randn(2, 4, queries, 16)
    with torch.no_grad():
        found = products.attention(query, key, value)
    wanted = F.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(found, wanted, atol=2e-6, rtol=2e-6)


def test_attention_with_a_mask_or_gradients_is_torchs_own(monkeypatch) -> None:
    monkeypatch.setattr(products, "product", None)  # would fail if it were called
    query, key, value = torch.randn(3, 1, 2, 80, 16)
    mask = torch.rand(1, 1, 1, 80) < 0.5
    found = products.attention(query, key, value, attn_mask=mask)
    assert torch.equal(found, F.scaled_dot_product_attention(query, key, value, attn_mask=mask))
    query.requires_grad_()
    assert products.attention(query, key, value).requires_grad
    with torch.autocast("cpu", torch.bfloat16):
        assert (
            products.attention(*(one.bfloat16() for one in (query, key, value))).dtype
            == torch.bfloat16
        )


def test_whoever_watches_operators_sees_torchs_own() -> None:
    seen: set[str] = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
            seen.add(operator.overloadpacket.__name__)
            return operator(*args, **(kwargs or {}))

    query, key, value = torch.randn(3, 1, 2, 80, 16)
    layer = OneDnnLinear(16, 8)
    with torch.no_grad(), Watch():
        products.attention(query, key, value)
        layer(query)
    assert "addmm" in seen and any("scaled_dot_product" in name for name in seen)
    assert "_linear_pointwise" not in seen
