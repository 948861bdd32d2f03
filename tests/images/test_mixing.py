"""Mixed images and the soft targets that belong to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kaggle_kit.config import AugmentConfig
from kaggle_kit.images.mixing import Mixer, make_mixer


def flat_batch(size: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Image i is of value i everywhere and of class i, so pixels tell how much of which class is in them."""
    return torch.arange(size).float().view(-1, 1, 1, 1).expand(size, 3, 20, 30).clone(), torch.arange(size)


def draw(mixer: Mixer, seed: int, **options: object) -> tuple[torch.Tensor, torch.Tensor]:
    images, targets = flat_batch()
    return mixer(images, targets, n_classes=6, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("mixer", [Mixer(mixup=0.4), Mixer(cutmix=1.0), Mixer(0.4, 1.0)])
def test_targets_say_what_the_pixels_are(mixer: Mixer) -> None:
    changed = 0
    for seed in range(25):
        images, soft = draw(mixer, seed)
        assert soft.dtype == torch.float32
        torch.testing.assert_close(soft.sum(1), torch.ones(6))
        torch.testing.assert_close(images.mean(dim=(1, 2, 3)), soft @ torch.arange(6).float(), atol=1e-4, rtol=1e-4)
        changed += int(not torch.equal(images, flat_batch()[0]))
    assert changed > 12


def test_the_generator_decides() -> None:
    mixer = Mixer(0.4, 1.0)
    for seed in range(5):
        np.random.seed(seed)
        torch.manual_seed(seed)
        first, second = draw(mixer, 7), draw(mixer, 7)
        assert torch.equal(first[0], second[0])
        assert torch.equal(first[1], second[1])
    assert not torch.equal(draw(mixer, 7)[1], draw(mixer, 8)[1])


def test_several_labels() -> None:
    targets = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    images = torch.zeros(2, 3, 8, 8)
    _, soft = Mixer(mixup=1.0)(images, targets, n_classes=3, rng=np.random.default_rng(0))
    assert soft[0, 1] == pytest.approx(1.0)
    assert 0 < soft[0, 0] < 1
    assert float(soft[0, 0] + soft[1, 0]) == pytest.approx(1.0)


def test_uint8_stays_uint8_and_the_input_unchanged() -> None:
    images, targets = flat_batch()
    whole = (images * 50).to(torch.uint8)
    for mixer in (Mixer(mixup=1.0), Mixer(cutmix=1.0)):
        before = whole.clone()
        mixed, _ = mixer(whole, targets, n_classes=6, rng=np.random.default_rng(1))
        assert mixed.dtype == torch.uint8
        assert torch.equal(whole, before)


def test_probability() -> None:
    images, targets = flat_batch()
    same, soft = Mixer(mixup=1.0, prob=0.0)(images, targets, n_classes=7, rng=np.random.default_rng(1))
    assert same is images
    assert torch.equal(soft, torch.eye(6, 7))
    unmixed = sum(torch.equal(draw(Mixer(mixup=1.0, prob=0.5), seed)[0], images) for seed in range(40))
    assert 8 < unmixed < 32


def test_make_mixer_knows_the_last_epochs() -> None:
    augment = AugmentConfig(mixup=0.2, mix_off_epochs=2, mix_prob=0.7)
    assert make_mixer(augment, epoch=7, epochs=10) == Mixer(0.2, 0.0, 0.7)
    assert make_mixer(augment, epoch=8, epochs=10) is None
    assert make_mixer(AugmentConfig(), epoch=0, epochs=10) is None
