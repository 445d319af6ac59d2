"""The time that arithmetic and memory traffic cannot go below, by hand and against torch's flop counter."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from svit.core.presets import load_config
from svit.detectors import build_detector
from svit.speed.roofline import Roofline

INFINITE = 1e30


def least(work, gflops: float = INFINITE, gbs: float = INFINITE) -> float:
    with Roofline(lambda: "all", gflops, gbs) as roofline, torch.no_grad():
        work()
    return roofline.seconds["all"]


def test_a_product_takes_two_operations_a_multiply_add_at_the_matmul_rate():
    a, b = torch.randn(10, 20), torch.randn(20, 30)
    assert least(lambda: a @ b, gflops=1e-9) == pytest.approx(2 * 10 * 20 * 30)


def test_a_sum_takes_its_operands_and_its_result_at_the_copy_rate():
    a, b = torch.randn(100), torch.randn(100)
    assert least(lambda: a + b, gbs=1e-9) == pytest.approx(3 * 400)
    assert least(lambda: a.add_(b), gbs=1e-9) == pytest.approx(3 * 400)


def test_views_and_reserved_memory_move_nothing_and_repeated_values_count_once():
    a = torch.randn(8, 4)
    assert least(lambda: a.view(4, 8).t()[1:], gbs=1e-9) == 0
    assert least(lambda: torch.empty(1000), gbs=1e-9) == 0
    one = torch.randn(1)
    assert least(lambda: one.expand(100).clone(), gbs=1e-9) == pytest.approx(4 + 400)


def test_an_operator_takes_the_longer_of_both():
    a, b = torch.randn(10, 20), torch.randn(20, 30)
    traffic = 4 * (200 + 600 + 300)
    assert least(lambda: a @ b, gflops=1e-9, gbs=1e-9) == pytest.approx(max(12000, traffic))
    assert least(lambda: a @ b, gflops=1, gbs=1e-9) == pytest.approx(traffic)


def test_operators_count_for_the_stage_that_is_open():
    stage = ["first"]
    with Roofline(lambda: stage[0], INFINITE, 1e-9) as roofline:
        torch.ones(5).neg()
        stage[0] = "second"
        torch.ones(7).neg()
    assert roofline.seconds["second"] / roofline.seconds["first"] == pytest.approx(7 / 5)


@pytest.mark.parametrize("name", ["svit-plain-nano", "svit-adapter-nano"])
def test_its_operations_are_those_of_torchs_flop_counter(name):
    backbone = build_detector(load_config(name)).eval().backbone
    images = torch.randn(1, 3, 128, 128)
    # written out: torch's counter knows no fused attention of CPUs
    written_out = sdpa_kernel(SDPBackend.MATH)
    with FlopCounterMode(display=False) as counter, written_out, torch.no_grad():
        backbone(images)
    assert least(lambda: backbone(images), gflops=1e-9) == pytest.approx(counter.get_total_flops())
