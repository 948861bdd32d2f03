"""Which pretrained backbones are on this machine, without building any of them."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import torch
from timm.models import get_pretrained_cfg, is_model, split_model_name_tag

from kaggle_kit.config import HeadConfig, ModelConfig
from kaggle_kit.errors import ConfigError
from kaggle_kit.models.build import build_model, stages
from kaggle_kit.models.weights import PACKAGES, SUFFIXES, Weights, find_local_weights, find_weights, weights_folder
from kaggle_kit.tables import shown

WORTH_FETCHING = (
    *("convnext_nano.in12k_ft_in1k", "convnext_tiny.in12k_ft_in1k", "tf_efficientnetv2_s.in21k_ft_in1k"),
    *("resnet50.a1_in1k", "mobilenetv4_conv_medium.e500_r256_in1k"),
)
"""Backbones that are worth a download where there is a network: accurate on ImageNet for their size, and of different kinds."""


@dataclass(frozen=True)
class LocalBackbone:
    """A backbone whose weights are here, or one that begins from random weights.

    Attributes:
        name: as timm calls it.
        side: of the images that it was trained on, pixels.
        n_bytes: of its weights.
        text: where the weights are, in words.
        path: the file.
        pretrained: whether there are weights to begin from.
    """

    name: str
    side: int
    n_bytes: int
    text: str = ""
    path: Path = Path()
    pretrained: bool = True


def local_backbones(patterns: Sequence[str] = (), pretrained: bool | str = True) -> list[LocalBackbone]:
    """Return the backbones with weights in an installed package or in the hub's cache, the smallest first.

    Args:
        patterns: shell patterns of names, such as ``tf_efficientnet_lite*``; none: all.
        pretrained: as ``model.pretrained``: False for none, or a folder that ``kk weights fetch`` filled, to look in instead.
    """
    if pretrained is False:
        return []
    found, folder = [], weights_folder(pretrained)
    for name in dict.fromkeys(_in_folder(folder) if folder is not None else [*PACKAGES, *_in_hub_cache()]):
        if not chosen_by(patterns, name):
            continue
        weights: Weights | None = find_local_weights(name) if folder is None else find_weights(name, str(folder))
        cfg = get_pretrained_cfg(name)
        if weights is not None and weights.path is not None and cfg is not None:
            where = weights.text.removeprefix("pretrained weights: ")
            found.append(LocalBackbone(name, int(cfg.input_size[-1]), weights.path.stat().st_size, where, weights.path))
    return sorted(found, key=lambda one: (one.n_bytes, one.name))


@functools.cache
def can_join(name: str, maps: tuple[int, ...]) -> bool:
    """Return whether a head of a backbone can have features of earlier maps as well (``model.head.joined``)."""
    return _in_outline(name, HeadConfig(joined=list(maps))) is not None


@functools.cache
def n_stages(name: str) -> int:
    """Return how many stages ``model.freeze`` counts in a backbone; 0 where timm does not know them."""
    model = _in_outline(name, HeadConfig())
    return 0 if model is None else len(stages(model))


def _in_outline(name: str, head: HeadConfig) -> torch.nn.Module | None:
    """Return the shapes alone of a backbone with a head; None where it cannot be built."""
    try:
        with torch.device("meta"):
            return build_model(ModelConfig(name=name, pretrained=False, head=head), 2)
    except (ConfigError, NotImplementedError, RuntimeError):  # the latter two of what meta tensors cannot do
        return None


def chosen_by(patterns: Sequence[str], name: str) -> bool:
    """Return whether one of the shell patterns, or none at all, is of ``name``, or of its network alone: ``resnet50`` is of
    ``resnet50.a1_in1k``, as files of weights are called, too."""
    names = name, split_model_name_tag(name)[0]
    return not patterns or any(fnmatch(one, pattern) for one in names for pattern in patterns)


def require_some(patterns: Sequence[str], pretrained: bool | str = True) -> None:
    """Refuse patterns that choose none of the backbones whose weights are here, where there are any.

    Raises:
        ConfigError: names what is here.
    """
    here = local_backbones((), pretrained)
    if here and not any(chosen_by(patterns, one.name) for one in here):
        asked = ",".join(patterns)
        raise ConfigError(
            f"--only {asked} chooses none of the backbones whose weights are here: {shown(o.name for o in here)}."
        )


def _in_folder(folder: Path) -> Iterator[str]:
    """Yield the names of timm's models whose weights lie in a folder."""
    for path in sorted(folder.iterdir()):
        if path.suffix in SUFFIXES and is_model(split_model_name_tag(path.stem)[0]):
            yield path.stem


def _in_hub_cache() -> Iterator[str]:
    """Yield the names of timm's models that a download left in the hub's cache."""
    from huggingface_hub import constants

    prefix = "models--timm--"
    for folder in sorted(Path(constants.HF_HUB_CACHE).glob(f"{prefix}*")):
        name = folder.name.removeprefix(prefix)
        if is_model(split_model_name_tag(name)[0]) and get_pretrained_cfg(name) is not None:
            yield name
