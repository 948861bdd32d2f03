"""What turns a batch into logits: one model, or several that share a backbone, which then runs once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from kaggle_kit.choices import INT8
from kaggle_kit.images.transforms import ImageSpec
from kaggle_kit.inference.engines import Engine, EngineOptions, make_engine
from kaggle_kit.models import LoadedModel, Parts, backbone_fingerprint, heads_of, split_model


@dataclass(frozen=True)
class ModelGroup:
    """Models that are computed together.

    Attributes:
        members: positions among the caller's models.
        models: those M models, which want the same input.
        parts: of the first model, when all share its backbone; None for a model of its own, or several times the same.
        fingerprint: of the backbone, or of the model's file.
    """

    members: tuple[int, ...]
    models: tuple[LoadedModel, ...]
    parts: Parts | None
    fingerprint: str

    @property
    def spec(self) -> ImageSpec:
        """What the models want to see."""
        return self.models[0].spec

    @property
    def network(self) -> tuple[nn.Module, str]:
        """What an engine computes, backbone or whole model, and the fingerprint that an export of it is kept under."""
        if self.parts is None:
            return self.models[0].model, self.fingerprint
        return self.parts.backbone, backbone_key(self.fingerprint)

    def heads(self, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
        """A function from features (B, F) to the logits (M, B, C) of all members."""
        return heads_of([loaded.model for loaded in self.models], device)


@dataclass(frozen=True)
class GroupEngine:
    """An engine, and the heads that turn its features (B, F) into logits (M, B, C); without them it gives logits itself, the
    same for M equal models."""

    engine: Engine
    heads: Callable[[torch.Tensor], torch.Tensor] | None = None
    members: int = 1

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) normalised float32 to (M, B, C) float32."""
        output = self.engine.logits(images)
        return output.expand(self.members, *output.shape) if self.heads is None else self.heads(output)


def make_group_engine(group: ModelGroup, name: str, options: EngineOptions) -> GroupEngine:
    """Make a group ready to compute, with an engine for its backbone or, when it has none, for its model.

    Raises:
        ConfigError, DependencyError: see :func:`~kaggle_kit.inference.engines.make_engine`.
    """
    model, fingerprint = group.network
    engine = make_engine(name, model, group.spec, fingerprint=fingerprint, options=options)
    return (
        GroupEngine(engine, members=len(group.members))
        if group.parts is None
        else GroupEngine(engine, group.heads(options.device))
    )


def group_models(
    models: Sequence[LoadedModel],
    members: Sequence[int],
    *,
    known: Callable[[str, ImageSpec], bool] | None = None,
    engine: str = "auto",
) -> list[ModelGroup]:
    """Put models that want the same input together where their backbones are the same.

    Args:
        members: positions of the models to look at.
        known: whether features of a backbone (fingerprint, spec) are kept, so that even one model is worth taking apart.
        engine: that will compute them. For int8 a model is taken apart even where it is alone, so that it is computed as it is
            among others: a backbone is rounded to other integers than the whole model.
    """
    apart = engine == INT8
    if len(members) == 1 and known is None and not apart:
        return _each(models, members)
    alike: dict[str, list[int]] = {}
    for member in members:
        alike.setdefault(backbone_fingerprint(models[member].model), []).append(member)
    groups: list[ModelGroup] = []
    for fingerprint, some in alike.items():
        first = models[some[0]]
        kept = known is not None and known(fingerprint, first.spec)
        parts = split_model(first.model, first.spec.size) if kept or apart or len(some) > 1 else None
        if parts is None:
            groups += _each(models, some)
        else:
            groups.append(ModelGroup(tuple(some), tuple(models[member] for member in some), parts, fingerprint))
    return groups


def _each(models: Sequence[LoadedModel], members: Sequence[int]) -> list[ModelGroup]:
    """A group for each model, and for those of one file."""
    same: dict[str, list[int]] = {}
    for member in members:
        same.setdefault(models[member].fingerprint, []).append(member)
    return [
        ModelGroup(tuple(some), tuple(models[member] for member in some), None, fingerprint)
        for fingerprint, some in same.items()
    ]


def backbone_engine(parts: Parts, fingerprint: str, spec: ImageSpec, name: str, options: EngineOptions) -> Engine:
    """An engine whose ``logits`` are features (B, F); an export is kept under the backbone's fingerprint."""
    return make_engine(name, parts.backbone, spec, fingerprint=backbone_key(fingerprint), options=options)


def backbone_key(fingerprint: str) -> str:
    """Return what a backbone's export is kept under: its fingerprint and a file's are of other things."""
    return f"f{fingerprint}"
