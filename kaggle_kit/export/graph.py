"""The models of a run as one graph: from images to the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from kaggle_kit.errors import ConfigError
from kaggle_kit.inference.inputs import to_input
from kaggle_kit.inference.predict import by_spec, common
from kaggle_kit.inference.tta import to_probs
from kaggle_kit.models import LoadedModel, unwrap


class FusedModels(nn.Module):
    """Models of one input, side by side in one graph.

    Args:
        inside: whether images are normalised in the graph.

    Raises:
        ClassMappingError, ConfigError: the models have other classes, or want other images.
    """

    def __init__(self, models: Sequence[LoadedModel], *, inside: bool) -> None:
        super().__init__()
        _, self.task = common(models)
        if len(by_spec(models)) > 1:
            raise ConfigError("the models of the run want images of other sizes or kinds, and cannot be one graph.")
        self.spec, self.inside = models[0].spec, inside
        plain = [unwrap(loaded.model).to("cpu", memory_format=torch.contiguous_format) for loaded in models]  # type: ignore[call-overload]
        self.models = nn.ModuleList(plain)
        self.eval().requires_grad_(False)
        # It keeps mean and standard deviation from its first call, which must not be one that a tracer looks on.
        to_input(torch.zeros(1, self.spec.channels, 1, 1), self.spec, channels_last=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) uint8, or (B, C, H, W) normalised float32, to probabilities (B, classes)."""
        if self.inside:
            images = to_input(images.permute(0, 3, 1, 2), self.spec, images.device, channels_last=False)
        return torch.stack([to_probs(model(images), self.task) for model in self.models]).mean(dim=0)

    def from_loader(self, batch: torch.Tensor) -> torch.Tensor:
        """Return a loader's batch (B, C, H, W) uint8 as the graph takes it."""
        if self.inside:
            return batch.permute(0, 2, 3, 1).contiguous()
        return to_input(batch, self.spec, channels_last=False)

    def example(self) -> torch.Tensor:
        """Return a batch to trace with: of two, since with one some models would fold the batch axis away."""
        return self.from_loader(torch.zeros(2, self.spec.channels, *self.spec.size, dtype=torch.uint8))
