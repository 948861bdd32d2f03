"""Heads: how a backbone's feature map is pooled, and what turns the features into logits.

timm's own pooling and linear layer are the default and stay as timm makes them. Any other head takes their places inside the
timm model, so that freezing, layer decay, gradient checkpointing, engines and files know it by the same names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import SelectAdaptivePool2d, create_act_layer
from torch import Tensor, nn

from kaggle_kit.choices import HEADS, POOLS
from kaggle_kit.config import HeadConfig
from kaggle_kit.errors import ConfigError

HEAD_STD = 0.01
"""Standard deviation of a new classifier's weights on a pretrained backbone."""


_DOUBT = 0.1
"""Votes that every class has beside those of the neighbours."""


class AvgMax(nn.Module):
    """Mean and maximum of each channel, side by side: (B, C, H, W) to (B, 2C, 1, 1)."""

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([features.mean((2, 3), keepdim=True), features.amax((2, 3), keepdim=True)], dim=1)


class GeM(nn.Module):
    """Generalised mean of each channel with a learnt exponent (Radenović et al. 2018): 1 is the mean, large is the maximum.

    (B, C, H, W) to (B, C, 1, 1). Values below ``smallest`` count as that, since they have no root.
    """

    def __init__(self, exponent: float = 3.0, smallest: float = 1e-6) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor([exponent]))
        self.smallest = smallest

    def forward(self, features: Tensor) -> Tensor:
        exponent = self.exponent.float()
        powers = features.float().clamp(min=self.smallest) ** exponent  # cubes of half-precision numbers overflow
        return (powers.mean((2, 3), keepdim=True) ** (1 / exponent)).to(features.dtype)


def average(_config: HeadConfig) -> nn.Module:
    return nn.AdaptiveAvgPool2d(1)


def maximum(_config: HeadConfig) -> nn.Module:
    return nn.AdaptiveMaxPool2d(1)


def average_and_maximum(_config: HeadConfig) -> nn.Module:
    return AvgMax()


def generalised_mean(_config: HeadConfig) -> nn.Module:
    return GeM()


def grid_maximum(config: HeadConfig) -> nn.Module:
    return nn.AdaptiveMaxPool2d(config.grid)


class Pool(nn.Module):
    """A pooling in the place of timm's.

    Args:
        pooling: (B, C, H, W) to (B, C', h, w).
        flatten: whether the result is (B, C' * h * w), as the layers that follow expect.
        channels_last: whether the model gives (B, H, W, C).
    """

    def __init__(self, pooling: nn.Module, *, flatten: bool, channels_last: bool) -> None:
        super().__init__()
        self.pooling = pooling
        self.flatten = flatten
        self.channels_last = channels_last

    def forward(self, features: Tensor) -> Tensor:
        if self.channels_last:
            features = features.permute(0, 3, 1, 2)
        pooled: Tensor = self.pooling(features)
        if self.flatten:
            return pooled.flatten(1)
        return pooled.permute(0, 2, 3, 1) if self.channels_last else pooled


class JoinedPool(nn.Module):
    """Pools several feature maps, coarse or fine, and joins their features: each (B, C, H, W) to (B, the sum of all C)."""

    def __init__(self, pooling: nn.Module) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return torch.cat([self.pooling(features) for features in maps], dim=1)


class _Joining:
    """What is laid over the class of a timm model: its features are those of the last map and of earlier ones."""

    joined: list[int]

    def forward_features(self: Any, images: Tensor) -> list[Tensor]:
        last, maps = self.forward_intermediates(images, indices=self.joined)
        order = (0, 2, 3, 1) if getattr(self, "output_fmt", "NCHW") == "NHWC" else (0, 1, 2, 3)
        return [last, *(features.permute(order) for features in maps)]


class RowNorm(nn.BatchNorm1d):
    """Batch norm of features that takes its running statistics for a batch of one row, which has no variance."""

    def forward(self, features: Tensor) -> Tensor:
        if self.training and len(features) == 1:
            return F.batch_norm(features, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(features)


class Cosine(nn.Module):
    """Cosines between features and the centres of each class, times ``scale``: (B, F) to (B, C).

    Of several centres of a class the nearest counts (sub-centres: Deng et al. 2020). The margin of ArcFace is part of the loss,
    where labels are known; see :class:`~kaggle_kit.training.losses.HeadLoss`.
    """

    def __init__(self, features: int, n_classes: int, *, centres: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_classes * centres, features))
        self.centres = centres
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):  # a cosine in bfloat16 is off by up to 0.004, times scale
            cosines = F.linear(F.normalize(features.float()), F.normalize(self.weight.float()))  # (B, C * K)
        nearest: Tensor = cosines.unflatten(1, (-1, self.centres)).amax(dim=2)  # (B, C)
        return self.scale * nearest


class Ordinal(nn.Module):
    """A cumulative link model (McCullagh 1980): one number s, and rising cuts c between the classes in their order.

    The probability that the class is k or below is sigmoid(c_k - s). Gives log probabilities, (B, F) to (B, C), whose softmax
    are the probabilities.
    """

    def __init__(self, features: int, n_classes: int) -> None:
        super().__init__()
        self.score = nn.Linear(features, 1)
        nn.init.trunc_normal_(self.score.weight, std=HEAD_STD)
        nn.init.zeros_(self.score.bias)
        # As if the classes were equally frequent: logits of 1/C, 2/C …
        shares = torch.arange(1, n_classes) / n_classes
        cuts = torch.logit(shares)
        self.first = nn.Parameter(cuts[:1].clone())
        self.steps = nn.Parameter(torch.log(torch.expm1(cuts.diff().clamp(min=1e-4))))  # cuts rise by softplus of these

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):  # differences of close numbers
            score = self.score(features.float())  # (B, 1)
            gaps = F.softplus(self.steps.float()) + 1e-6  # (C - 2,)
            cuts = torch.cat([self.first, gaps]).cumsum(0)
            above = cuts - score  # (B, C - 1): log odds of each class or below
            # log(sigmoid(a) - sigmoid(b)) = log sigmoid(a) + log sigmoid(-b) + log(1 - exp(b - a)), which cannot underflow
            between = F.logsigmoid(above[:, 1:]) + F.logsigmoid(-above[:, :-1])
            between = between + torch.log(1 - torch.exp(-gaps))
            return torch.cat([F.logsigmoid(above[:, :1]), between, F.logsigmoid(-above[:, -1:])], dim=1)


class Regression(nn.Module):
    """One number s, read as a grade: logits (B, C) that fall with the squared distance of each class's position from s.

    Of such logits the mean grade is s itself to within 0.03, so that the loss squared_grade is that of a regression.
    """

    sharpness = 2.0

    def __init__(self, features: int, n_classes: int) -> None:
        super().__init__()
        self.score = nn.Linear(features, 1)
        nn.init.trunc_normal_(self.score.weight, std=HEAD_STD)
        nn.init.constant_(self.score.bias, (n_classes - 1) / 2)
        self.register_buffer("positions", torch.arange(n_classes, dtype=torch.float32), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            score = self.score(features.float())  # (B, 1)
            logits: Tensor = -self.sharpness * (score - self.positions).square()
            return logits


class Neighbours(nn.Module):
    """Votes of the nearest of N kept rows, by the cosine of centred features: (B, F) to (B, C).

    Each of ``count`` neighbours weighs exp(scale * cosine). Single-label logits are log shares of the votes, so that softmax
    gives the shares; multi-label ones (``several``) are logits of the shares.
    """

    rows: Tensor
    centre: Tensor
    votes: Tensor
    several: Tensor

    def __init__(self, features: int, n_classes: int, *, rows: int, count: int, scale: float) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("rows", torch.zeros(rows, features))  # of length 1
        self.register_buffer("votes", torch.zeros(rows, n_classes))
        self.register_buffer("several", torch.zeros((), dtype=torch.bool))
        self.count, self.scale = count, scale

    @classmethod
    def of(cls, features: Tensor, votes: Tensor, *, several: bool) -> Neighbours:
        """Keep ``features`` (N, F) with what they vote for, (N, C) of 0 and 1."""
        made = cls(features.shape[1], votes.shape[1], rows=0, count=1, scale=1.0).to(features.device)
        made.centre, made.votes = features.mean(dim=0), votes.to(features.dtype)
        made.rows = F.normalize(features - made.centre)
        made.several = torch.tensor(several, device=features.device)
        return made

    def forward(self, features: Tensor) -> Tensor:
        cosines = F.normalize(features.float() - self.centre) @ self.rows.T  # (B, N)
        nearest, which = cosines.topk(self.count, dim=1)  # (B, K)
        weights = torch.exp(self.scale * (nearest - nearest[:, :1]))
        found = (weights[:, :, None] * self.votes[which]).sum(dim=1)  # (B, C)
        outcomes = torch.where(self.several, 2, found.shape[1])
        shares = (found + _DOUBT) / (weights.sum(dim=1, keepdim=True) + _DOUBT * outcomes)
        return shares.log() - torch.where(self.several, torch.log1p(-shares), torch.zeros_like(shares))


def neighbours(features: int, n_classes: int, config: HeadConfig) -> nn.Module:
    return Neighbours(features, n_classes, rows=config.rows, count=config.neighbours, scale=config.scale)


def linear(features: int, n_classes: int, _config: HeadConfig) -> nn.Module:
    """Return a linear layer that starts undecided."""
    layer = nn.Linear(features, n_classes)
    nn.init.trunc_normal_(layer.weight, std=HEAD_STD)
    nn.init.zeros_(layer.bias)
    return layer


def cosine(features: int, n_classes: int, config: HeadConfig) -> nn.Module:
    return Cosine(features, n_classes, centres=config.centres, scale=config.scale)


def ordinal(features: int, n_classes: int, _config: HeadConfig) -> nn.Module:
    return Ordinal(features, n_classes)


def regression(features: int, n_classes: int, _config: HeadConfig) -> nn.Module:
    return Regression(features, n_classes)


class Head(nn.Module):
    """Batch norm, dropout and hidden layers before a last layer.

    With ``config.samples`` S above 1 training gives (S * B, C): the logits of all rows under one dropout mask, then under the
    next, whose losses are averaged (multi-sample dropout: Inoue 2019). Evaluation always gives (B, C).

    Args:
        features: F, what the backbone gives.
        drop_rate: dropout of the features; that of hidden layers is ``config.dropout``.
    """

    def __init__(self, features: int, n_classes: int, config: HeadConfig, *, drop_rate: float) -> None:
        super().__init__()
        self.in_features = features
        layers: list[nn.Module] = [] if config.batch_norm == "none" else [RowNorm(features)]
        rate = drop_rate
        for width in config.hidden:
            layers += [nn.Dropout(rate), nn.Linear(features, width)]
            layers += [RowNorm(width)] if config.batch_norm == "all" else []
            layers.append(create_act_layer(config.activation))
            features, rate = width, config.dropout
        self.body = nn.Sequential(*layers)
        self.drop = nn.Dropout(rate)
        self.samples = config.samples
        self.last: nn.Module = HEADS.lookup(config.name)(features, n_classes, config)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.body(features)
        samples = self.samples if self.training else 1
        return torch.cat([self.last(self.drop(hidden)) for _ in range(samples)])


def is_plain(config: HeadConfig) -> bool:
    """Return whether the classifier is a bare linear layer, as timm makes it, whatever the pooling."""
    return config.name == "linear" and config.batch_norm == "none" and config.samples == 1


def install_head(
    model: nn.Module,
    config: HeadConfig,
    n_classes: int,
    *,
    drop_rate: float = 0.0,
    shape: tuple[int, int, int] = (3, 224, 224),
    features: int | None = None,
) -> int:
    """Put pooling and head of ``config`` into a timm model; return the number of features that the head takes.

    Args:
        drop_rate: dropout of the features, unless the head is plain; then timm's own does it.
        shape: channels, height and width of an image to try the model with, where ``features`` is not known.

    Raises:
        ConfigError: the model has no such feature map, no pooling that could be exchanged, or does not end with one layer on
            pooled features.
    """
    if config.layer != -1:
        _cut_after(model, config.layer, n_classes)
    path = _classifier_path(model)
    if config.pool != "auto":
        _install_pool(model, config)
    if config.joined:
        _join(model, sorted(config.joined))
    if features is None:
        features = _measured(model, path, shape)
    head = linear(features, n_classes, config) if is_plain(config) else Head(features, n_classes, config, drop_rate=drop_rate)
    _set(model, path, head)
    return features


def head_names(model: nn.Module) -> list[str]:
    """Return the dotted names of the modules that make up the head: the classifier, two of a distilled model, and a pooling of
    ours, which may learn."""
    stated = (getattr(model, "pretrained_cfg", None) or {}).get("classifier") or ()
    names = [stated] if isinstance(stated, str) else list(stated)
    if not names:
        found: Any = getattr(model, "get_classifier", tuple)()
        parts = found if isinstance(found, tuple | list) else (found,)
        names = [name for name, module in model.named_modules() if any(module is part for part in parts)]
    return [*names, *(name for name, module in model.named_modules() if isinstance(module, Pool))]


def head_tensors(model: nn.Module) -> list[str]:
    """Return the names in the state dict that belong to the head."""
    prefixes = tuple(f"{name}." for name in head_names(model))
    return [key for key in model.state_dict() if key.startswith(prefixes)] if prefixes else []


def _classifier_path(model: nn.Module) -> str:
    names = [name for name in head_names(model) if name]
    if len(names) != 1 or not hasattr(model, "get_classifier"):
        raise ConfigError(
            f"model.head: {type(model).__name__} has no single classifier that a head could replace; leave it out."
        )
    return names[0]


def _set(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


def _cut_after(model: nn.Module, layer: int, n_classes: int) -> None:
    """Let the model end with its feature map ``layer``, -1 being the last, whose mean is classified."""
    prune: Any = getattr(model, "prune_intermediate_layers", None)
    if prune is None:
        raise ConfigError(f"model.head.layer: {type(model).__name__} has no feature maps that timm could name; leave it at -1.")
    try:
        prune([layer], prune_norm=True, prune_head=False)
        model.reset_classifier(n_classes, "avg")  # type: ignore[operator]
    except (AssertionError, IndexError) as error:
        raise ConfigError(f"model.head.layer: {type(model).__name__} has no feature map {layer} ({error}).") from error


def _install_pool(model: nn.Module, config: HeadConfig) -> None:
    path, old = _pool_of(model, "pool", SelectAdaptivePool2d)
    pooling = POOLS.lookup(config.pool)(config)
    flatten = isinstance(old.flatten, nn.Flatten) or getattr(old.pool, "flatten", False) is True
    _set(model, path, Pool(pooling, flatten=flatten, channels_last=getattr(model, "output_fmt", "NCHW") == "NHWC"))


def _join(model: nn.Module, joined: list[int]) -> None:
    """Let the model pool its feature maps ``joined`` beside the last one."""
    kind: Any = type(model)
    if not hasattr(model, "forward_intermediates"):
        raise ConfigError(f"model.head.joined: {kind.__name__} has no feature maps that timm could name; leave it empty.")
    if -joined[0] > (known := len(model.feature_info)):  # type: ignore[arg-type]
        raise ConfigError(f"model.head.joined: {kind.__name__} has {known} feature maps, -1 the last, and none at {joined[0]}.")
    path, pooling = _pool_of(model, "joined", SelectAdaptivePool2d | Pool)
    model.__class__ = type(kind.__name__, (_Joining, kind), {"joined": joined})
    _set(model, path, JoinedPool(pooling))


def _pool_of(model: nn.Module, key: str, kinds: Any) -> tuple[str, Any]:
    """Return name and module of the one pooling of feature maps."""
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, kinds)]
    if len(found) != 1:
        raise ConfigError(
            f"model.head.{key}: {type(model).__name__} has no pooling of feature maps; leave it out, or see the argument "
            "global_pool of timm for model.options."
        )
    return found[0]


class _Seen(nn.Module):
    """Takes the place of a classifier and remembers what came."""

    def __init__(self) -> None:
        super().__init__()
        self.shape: tuple[int, ...] = ()

    def forward(self, features: Any) -> Any:
        self.shape = tuple(getattr(features, "shape", ()))
        return features


def _measured(model: nn.Module, path: str, shape: tuple[int, int, int]) -> int:
    """Return how many features the model gives to its classifier for images of ``shape``."""
    seen, training = _Seen(), model.training
    _set(model, path, seen)
    model.eval()
    try:
        with torch.no_grad():
            model(torch.zeros(2, *shape))
    except (RuntimeError, TypeError) as error:
        raise ConfigError(
            f"model.head: the layers of {type(model).__name__} after its pooling want as many features as its last map has "
            f"channels ({str(error).splitlines()[0]}); use avg, max, gem or grid, layer -1, and nothing joined."
        ) from error
    finally:
        model.train(training)
    if len(seen.shape) != 2:
        raise ConfigError(f"model.head: {type(model).__name__} does not end with one layer on pooled features; leave it out.")
    return seen.shape[1]


def put_head(model: nn.Module, head: nn.Module) -> None:
    """Put a head that was fitted to the model's pooled features in the place of its classifier."""
    _set(model, _classifier_path(model), head)
