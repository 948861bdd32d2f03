"""Mixup and CutMix of whole batches, with soft targets.

timm's version draws from numpy's global generator, so a resumed run would differ from an uninterrupted one; the formulas here
are the same, the generator is passed in.

References: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization"; Yun et al. 2019, "CutMix".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from kaggle_kit.config import AugmentConfig


@dataclass(frozen=True, slots=True)
class Mixer:
    """Mixes each image of a batch with that at the mirrored position.

    Attributes:
        mixup, cutmix: alpha of the beta distribution that the share is drawn from; 0: off. With both, each is used half the
            time.
        prob: the probability that a batch is mixed at all.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    prob: float = 1.0

    def __call__(self, images: Tensor, targets: Tensor, *, n_classes: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Mix one batch.

        Args:
            images: (B, C, H, W), normalised or not, float or uint8; left unchanged.
            targets: (B,) int64 or (B, n_classes) float.

        Returns:
            images of the same kind, and (B, n_classes) float32 targets: one-hot also where nothing was mixed. Label smoothing
            is left to the loss.
        """
        soft = targets.float() if targets.ndim == 2 else functional.one_hot(targets, n_classes).float()
        if rng.random() >= self.prob or not (self.mixup or self.cutmix):
            return images, soft
        use_cutmix = bool(self.cutmix) and (not self.mixup or rng.random() < 0.5)
        alpha = self.cutmix if use_cutmix else self.mixup
        share = float(rng.beta(alpha, alpha))
        if use_cutmix:
            images, share = _cutmix(images, share, rng)
        else:
            images = _mixup(images, share)
        return images, soft * share + soft.flip(0) * (1.0 - share)


def make_mixer(augment: AugmentConfig, *, epoch: int, epochs: int) -> Mixer | None:
    """The mixer for one epoch (counted from 0) of ``epochs``; None when mixing is off in it."""
    if not (augment.mixup or augment.cutmix) or epoch >= epochs - augment.mix_off_epochs:
        return None
    return Mixer(augment.mixup, augment.cutmix, augment.mix_prob)


def _mixup(images: Tensor, share: float) -> Tensor:
    mixed = torch.lerp(images.flip(0).float(), images.float(), share)
    return mixed.to(images.dtype) if images.is_floating_point() else mixed.round().to(images.dtype)


def _cutmix(images: Tensor, share: float, rng: np.random.Generator) -> tuple[Tensor, float]:
    """Paste a box of area 1 - share, centred anywhere; returns the share that is really kept, as the box may be cut off."""
    height, width = images.shape[-2:]
    side = (1.0 - share) ** 0.5
    box_h, box_w = int(height * side), int(width * side)
    centre_y, centre_x = int(rng.integers(height)), int(rng.integers(width))
    top, bottom = (min(max(centre_y + half, 0), height) for half in (-(box_h // 2), box_h // 2))
    left, right = (min(max(centre_x + half, 0), width) for half in (-(box_w // 2), box_w // 2))
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images.flip(0)[:, :, top:bottom, left:right]
    return mixed, 1.0 - (bottom - top) * (right - left) / (height * width)
