"""A general model and specialists of groups of classes, as one model.

Of a group the general model says how probable it is, its specialist how that is shared out within the group. What comes out are
logits of all classes, so that the whole is predicted with, exported and shipped as any other model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEAST = 1e-7
"""Probabilities nearer to 0 or 1 have no logit in float32."""


class SpecialistModel(nn.Module):
    """Recombines probabilities: mass of the group, by ``general``, times share within the group, by its specialist.

    Args:
        general, specialists: from images (B, 3, H, W) to logits (B, C); of a specialist only those of its group count.
        groups: for each specialist the positions of its classes; no class stands in two groups.
        multilabel: whether a row may have several labels. Then the mass of a group is the probability that any of its classes
            is there, taken as independent, and a share that of the class where any is.
    """

    def __init__(
        self, general: nn.Module, specialists: Sequence[nn.Module], groups: Sequence[Sequence[int]], *, multilabel: bool
    ) -> None:
        super().__init__()
        self.general = general
        self.specialists = nn.ModuleList(specialists)
        self.groups = tuple(tuple(group) for group in groups)
        self.multilabel = multilabel

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to logits (B, C) in float32; without several labels they are logarithms of probabilities."""
        logits = self.general(images).float()
        logits = logits if self.multilabel else F.log_softmax(logits, dim=1)
        columns = list(logits.unbind(dim=1))
        for group, specialist in zip(self.groups, self.specialists, strict=True):
            own = torch.stack([columns[position] for position in group], dim=1)  # (B, G)
            special = specialist(images).float()
            share = torch.stack([special[:, position] for position in group], dim=1)
            shared = _shared_among_labels(own, share) if self.multilabel else _shared(own, share)
            for position, column in zip(group, shared.unbind(dim=1), strict=True):
                columns[position] = column
        return torch.stack(columns, dim=1)


def _shared(own: Tensor, special: Tensor) -> Tensor:
    """Logarithms of probabilities (B, G) of a group: its mass, and the specialist's logits (B, G) as shares of it."""
    return own.logsumexp(dim=1, keepdim=True) + F.log_softmax(special, dim=1)


def _shared_among_labels(own: Tensor, special: Tensor) -> Tensor:
    """Logits (B, G): that any class of the group is there, times the specialist's probability of the class where one is."""
    anyone = 1 - torch.sigmoid(-own).prod(dim=1, keepdim=True)
    return torch.logit((anyone * torch.sigmoid(special)).clamp(_LEAST, 1 - _LEAST))
