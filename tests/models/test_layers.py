"""The transposed convolution by matrix product against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from svit.detectors.torchvision_rcnn import MaskPredictor
from svit.models.layers import Doubling


@pytest.mark.parametrize("images", [0, 1, 3])
def test_doubling_equals_the_general_transposed_convolution_and_its_gradients(images: int) -> None:
    torch.manual_seed(0)
    general, ours = nn.ConvTranspose2d(5, 7, 2, stride=2), Doubling(5, 7)
    ours.load_state_dict(general.state_dict())
    values = torch.randn(images, 5, 3, 4)
    outputs = [layer(values) for layer in (general, ours)]
    assert outputs[1].shape == outputs[0].shape == (images, 7, 6, 8)
    assert torch.allclose(*outputs, atol=1e-6)
    direction = torch.randn_like(outputs[0])
    for output in outputs:
        output.backward(direction)
    for wanted, found in zip(general.parameters(), ours.parameters(), strict=True):
        assert torch.allclose(wanted.grad, found.grad, atol=1e-5)


@pytest.mark.parametrize("labels", [[], [2], [0, 1, 1, 2]])
def test_masks_of_one_class_a_box_equal_those_picked_from_all_classes(labels: list[int]) -> None:
    torch.manual_seed(0)
    predictor = MaskPredictor(4, 6, 3)
    features, classes = torch.randn(len(labels), 4, 14, 14), torch.tensor(labels, dtype=torch.long)
    picked = predictor(features)[torch.arange(len(labels)), classes]
    own = predictor.of_classes(features, classes)
    assert own.shape == picked.shape == (len(labels), 28, 28)
    assert torch.allclose(own, picked, atol=1e-5)
