from __future__ import annotations

import pytest
import torch

from kaggle_kit.images.transforms import ImageSpec
from kaggle_kit.inference import to_input

SPEC = ImageSpec(4, 6, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))


@pytest.mark.parametrize("channels_last", [True, False])
def test_normalised_values_and_layout(channels_last):
    images = torch.randint(0, 256, (2, 3, 4, 6), dtype=torch.uint8)
    made = to_input(images, SPEC, channels_last=channels_last)
    expected = (images / 255 - torch.tensor(SPEC.mean).view(3, 1, 1)) / torch.tensor(SPEC.std).view(3, 1, 1)
    torch.testing.assert_close(made, expected, atol=1e-6, rtol=1e-6)
    assert made.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    assert images.dtype == torch.uint8


def test_the_arithmetic_is_float32_whatever_comes_out():
    images = torch.randint(0, 256, (1, 3, 4, 6), dtype=torch.uint8)
    assert torch.equal(to_input(images, SPEC, dtype=torch.float16), to_input(images, SPEC).half())


def test_floats_count_as_pixel_values():
    images = torch.randint(0, 256, (1, 3, 4, 6), dtype=torch.uint8)
    assert torch.equal(to_input(images, SPEC), to_input(images.float(), SPEC))
