"""What turns a batch into logits: one model, or several that share a backbone, which then runs once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from kaggle_kit.images.transforms import ImageSpec
from kaggle_kit.inference.engines import Engine, EngineOptions, make_engine
from kaggle_kit.models import LoadedModel, Parts, backbone_fingerprint, linear_of, split_model


@dataclass(frozen=True)
class Unit:
    """Models that are computed together.

    Attributes:
        members: positions among the caller's models.
        models: those M models, which want the same input.
        parts: of the first model, when all share its backbone; None for a model of its own.
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

    def heads(self, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
        """A function from features (B, F) to the logits (M, B, C) of all members."""
        states = [linear_of(loaded.model) for loaded in self.models]
        weight = torch.cat([weight for weight, _ in states]).to(device)  # (M * C, F)
        bias = torch.cat([bias for _, bias in states]).to(device)
        members = len(states)

        def apply(features: torch.Tensor) -> torch.Tensor:
            logits = nn.functional.linear(features, weight, bias)  # (B, M * C)
            return logits.view(len(features), members, -1).transpose(0, 1)

        return apply


@dataclass(frozen=True)
class Runner:
    """An engine, and the heads that turn its features (B, F) into logits (M, B, C); without them it gives logits itself."""

    engine: Engine
    heads: Callable[[torch.Tensor], torch.Tensor] | None = None

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) normalised float32 to (M, B, C) float32."""
        output = self.engine.logits(images)
        return output[None] if self.heads is None else self.heads(output)


def make_runner(unit: Unit, name: str, options: EngineOptions) -> Runner:
    """Make a unit ready to compute, with an engine for its backbone or, when it has none, for its model.

    Raises:
        ConfigError, DependencyError: see :func:`~kaggle_kit.inference.engines.make_engine`.
    """
    if unit.parts is None:
        model = unit.models[0].model
        return Runner(make_engine(name, model, unit.spec, fingerprint=unit.fingerprint, options=options))
    return Runner(backbone_engine(unit.parts, unit.fingerprint, unit.spec, name, options), unit.heads(options.device))


def make_units(
    models: Sequence[LoadedModel], members: Sequence[int], *, known: Callable[[str, ImageSpec], bool] | None = None
) -> list[Unit]:
    """Put models that want the same input together where their backbones are the same.

    Args:
        members: positions of the models to look at.
        known: whether features of a backbone (fingerprint, spec) are kept, so that even one model is worth taking apart.
    """
    if len(members) == 1 and known is None:
        return [_alone(models, members[0])]
    groups: dict[str, list[int]] = {}
    for member in members:
        groups.setdefault(backbone_fingerprint(models[member].model), []).append(member)
    units: list[Unit] = []
    for fingerprint, group in groups.items():
        first = models[group[0]]
        kept = known is not None and known(fingerprint, first.spec)
        parts = split_model(first.model, first.spec.size) if kept or len(group) > 1 else None
        if parts is None:
            units += [_alone(models, member) for member in group]
        else:
            units.append(Unit(tuple(group), tuple(models[member] for member in group), parts, fingerprint))
    return units


def _alone(models: Sequence[LoadedModel], member: int) -> Unit:
    return Unit((member,), (models[member],), None, models[member].fingerprint)


def backbone_engine(parts: Parts, fingerprint: str, spec: ImageSpec, name: str, options: EngineOptions) -> Engine:
    """An engine whose ``logits`` are features (B, F); an export is kept under the backbone's fingerprint."""
    key = f"f{fingerprint}"  # a backbone's fingerprint and a file's are of other things; keep their names apart as well
    return make_engine(name, parts.backbone, spec, fingerprint=key, options=options)
