"""Grad-CAM (Selvaraju et al. 2017): which part of an image speaks for a class, by the gradient at the last feature map."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from kaggle_kit.errors import ConfigError
from kaggle_kit.images.decode import Pixels, decode_image
from kaggle_kit.images.transforms import eval_transform
from kaggle_kit.inference.inputs import to_input
from kaggle_kit.models import LoadedModel
from kaggle_kit.stacks import as_colours

_OVERLAY = 0.45
"""Share of the heat in the picture that is shown."""


def heat_of(loaded: LoadedModel, images: torch.Tensor, position: int) -> npt.NDArray[np.float32]:
    """Return (h, w) in 0..1: where the last feature map of one image (1, 3, H, W) speaks for the class at ``position``.

    Raises:
        ConfigError: the model has no feature map that a place in the image belongs to.
    """
    model = loaded.model.eval()
    if not hasattr(model, "forward_features"):  # an own model, or several in one
        raise ConfigError(f"{loaded.name} has no feature map for Grad-CAM; leave --gradcam out.")
    with torch.enable_grad():
        maps = model.forward_features(images)  # type: ignore[operator]
        features, *earlier = maps if isinstance(maps, list) else [maps]  # several where the head has joined maps
        if not isinstance(features, torch.Tensor) or features.ndim not in (3, 4):
            raise ConfigError(f"{loaded.name} has no feature map for Grad-CAM; leave --gradcam out.")
        features = features.detach().requires_grad_()
        logits = model.forward_head([features, *earlier] if earlier else features)  # type: ignore[operator]
        (gradient,) = torch.autograd.grad(logits[0, position], features)
    values, slopes = (_as_map(part.detach()[0], loaded) for part in (features, gradient))  # (C, h, w)
    heat = torch.relu((slopes.mean(dim=(1, 2), keepdim=True) * values).sum(dim=0))
    found: npt.NDArray[np.float32] = (heat / heat.max().clamp_min(1e-12)).cpu().numpy()
    return found


def _as_map(features: torch.Tensor, loaded: LoadedModel) -> torch.Tensor:
    """Return features of one image as (C, h, w): of convolutions, of windows (h, w, C), or of tokens (N, C)."""
    channels = int(loaded.model.num_features)  # type: ignore[arg-type]
    if features.ndim == 3:
        last = features.shape[2] == channels and features.shape[0] != channels
        return features.permute(2, 0, 1) if last else features
    extra = int(getattr(loaded.model, "num_prefix_tokens", 0))
    tokens = features[extra:]
    side = int(len(tokens) ** 0.5)
    if side * side != len(tokens):
        raise ConfigError(f"{loaded.name} has tokens that are no square for Grad-CAM; leave --gradcam out.")
    return tokens.T.reshape(-1, side, side)


def explain(loaded: LoadedModel, path: Path, position: int) -> tuple[Pixels, Pixels]:
    """Return the image as the model sees it, and the same under the heat of a class; (H, W, 3) uint8 both."""
    pixels = decode_image(path, channels=loaded.spec.channels)
    seen = np.ascontiguousarray(eval_transform(loaded.spec)(pixels, 0))
    batch = to_input(torch.from_numpy(seen).permute(2, 0, 1)[None], loaded.spec, torch.device("cpu"))
    heat = cv2.resize(heat_of(loaded, batch, position), (seen.shape[1], seen.shape[0]), interpolation=cv2.INTER_CUBIC)
    seen = seen if loaded.spec.channels == 3 else as_colours(seen)
    colours = cv2.cvtColor(cv2.applyColorMap((255 * heat.clip(0, 1)).astype(np.uint8), cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    return seen, ((1 - _OVERLAY) * seen + _OVERLAY * colours).round().astype(np.uint8)
