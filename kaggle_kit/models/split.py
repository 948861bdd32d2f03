"""A model as a backbone, which turns images into features, and a classifier on top.

Folds whose backbones are the same need to run it once only; a probe trains nothing but the classifier.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from kaggle_kit.errors import ConfigError
from kaggle_kit.models.build import IN_CHANS, record_of, unwrap
from kaggle_kit.models.heads import Head

_CLOSE = 1e-3


class Backbone(nn.Module):
    """A timm model without its classifier: images (B, 3, H, W) to pooled features (B, F)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        inner = self.model
        features: torch.Tensor = inner.forward_head(inner.forward_features(images), pre_logits=True)  # type: ignore[operator]
        return features


@dataclass(frozen=True)
class Parts:
    """``head(backbone(images))`` is what the model computes in evaluation mode; both share its parameters."""

    backbone: Backbone
    head: nn.Linear | Head


def classifier_of(model: nn.Module) -> nn.Linear | Head | None:
    """The linear layer, or a head of ours, that a model ends with; None where it ends with something else."""
    getter = getattr(unwrap(model), "get_classifier", None)
    head = getter() if getter is not None else None
    return head if isinstance(head, nn.Linear | Head) else None


def heads_of(models: Sequence[nn.Module], device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function from features (B, F) to the logits (M, B, C) of M models' classifiers, copied to ``device``.

    Raises:
        ConfigError: one of them does not end with a linear layer or a head of ours.
    """
    heads = [_copied(model, device) for model in models]
    if any(isinstance(head, Head) for head in heads):
        return lambda features: torch.stack([head(features) for head in heads])
    linear = [head for head in heads if isinstance(head, nn.Linear)]
    weight = torch.cat([head.weight for head in linear])  # (M * C, F)
    bias = torch.cat([torch.zeros_like(head.weight[:, 0]) if head.bias is None else head.bias for head in linear])

    def apply(features: torch.Tensor) -> torch.Tensor:
        logits = nn.functional.linear(features, weight, bias)  # (B, M * C)
        return logits.view(len(features), len(linear), -1).transpose(0, 1)

    return apply


def _copied(model: nn.Module, device: torch.device) -> nn.Linear | Head:
    head = classifier_of(model)
    if head is None:
        raise ConfigError(f"{record_of(model).name} does not end with a linear layer.")
    return copy.deepcopy(head).to(device).requires_grad_(False).eval()


def split_model(model: nn.Module, size: tuple[int, int]) -> Parts | None:
    """The parts of ``model``, or None where it cannot be taken apart.

    That the parts do what the whole does is tried with two random images of ``size`` (height, width). The model is left in
    evaluation mode.
    """
    inner = unwrap(model).eval()
    head = classifier_of(inner)
    if head is None:
        return None
    parts = Parts(Backbone(inner).eval(), head)
    generator = torch.Generator().manual_seed(0)
    channels = record_of(inner).options.get(IN_CHANS, 3)
    images = torch.randn(2, channels, *size, generator=generator).to(next(inner.parameters()).device)
    if isinstance(head, Head):
        with torch.no_grad():
            return parts if _agree(parts, inner, images) else None
    weight = head.weight.detach().clone()
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=generator))  # a new one may be all zeros, and prove nothing
        try:
            return parts if _agree(parts, inner, images) else None
        finally:
            head.weight.copy_(weight)


def _agree(parts: Parts, model: nn.Module, images: torch.Tensor) -> bool:
    expected = model(images)
    try:
        features = parts.backbone(images)
    except (AttributeError, TypeError):  # no such methods, or a head that cannot stop before the classifier
        return False
    if not (isinstance(features, torch.Tensor) and isinstance(expected, torch.Tensor)):
        return False
    if features.shape != (len(images), parts.head.in_features):
        return False
    return torch.allclose(parts.head(features), expected, rtol=_CLOSE, atol=_CLOSE * float(expected.abs().max()))


def backbone_fingerprint(model: nn.Module) -> str:
    """sha256 of the architecture, its options and all weights but the classifier's; equal only for the same features."""
    inner = unwrap(model)
    record, head = record_of(inner), classifier_of(inner)
    own = {id(tensor) for tensor in (*head.parameters(), *head.buffers())} if head is not None else set()
    left_out = {name for name, tensor in (*inner.named_parameters(), *inner.named_buffers()) if id(tensor) in own}
    pooled = record.features and record.head.pool != "auto"
    built = [record.name, dict(record.options), *([record.head.pool, record.head.grid] if pooled else [])]
    built += [record.code] if record.code else []
    built += [record.head.layer] if record.head.layer != -1 else []
    built += [sorted(record.head.joined)] if record.head.joined else []
    digest = hashlib.sha256(json.dumps(built, sort_keys=True).encode())
    for name, value in sorted(inner.state_dict().items()):
        if name in left_out or name.endswith("num_batches_tracked"):  # counts batches, changes nothing
            continue
        plain = value.detach().to("cpu").contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
