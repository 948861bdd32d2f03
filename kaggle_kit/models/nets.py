"""Networks that timm does not have, under names that timm then knows: importing this module registers them.

``alexnet`` and ``vgg*_features`` take ImageNet weights; the others are small and begin with random values. They are written
from descriptions of what their authors trained: a ConvNet and a ResNet for 153 plants, and a small CNN for diseases of leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import ClassifierHead, SelectAdaptivePool2d
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vgg import VGG, cfgs
from torch import Tensor, nn

UNTRAINED = ("plantnet_convnet", "plantnet_resnet", "plant_pathology_cnn")
"""Networks of which there are no pretrained weights anywhere."""
_VGGS = ("vgg11", "vgg13", "vgg16", "vgg19")


def _cfg(classifier: str, first: str, **more: Any) -> dict[str, Any]:
    """What timm wants to know of a network and its weights."""
    return {
        "input_size": (3, 224, 224),
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "interpolation": "bilinear",
        "crop_pct": 0.875,
        "num_classes": 1000,
        "classifier": classifier,
        "first_conv": first,
        **more,
    }


default_cfgs = generate_default_cfgs(
    {
        "alexnet.tv_in1k": _cfg(
            "classifier.6", "features.0", url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
        ),
        **{
            f"{name}{norm}_features.tv_in1k": _cfg("head.fc", "features.0", hf_hub_id=f"timm/{name}{norm}.tv_in1k")
            for name in _VGGS
            for norm in ("", "_bn")
        },
        **{f"{name}.untrained": _cfg("fc", "body.0.0") for name in UNTRAINED},
    }
)
"""Under this name timm looks for what it registers."""


class Net(nn.Module):
    """A body that makes feature maps, pooling, dropout and a linear layer, with the methods that timm's models have.

    Args:
        body: (B, 3, H, W) to (B, F, h, w), a sequence of stages.
        features: F.
        global_pool: as timm names it: avg, max, avgmax or catavgmax.
    """

    def __init__(
        self,
        body: nn.Sequential,
        features: int,
        *,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.body = body
        self.global_pool = SelectAdaptivePool2d(pool_type=global_pool, flatten=True)
        self.head_drop = nn.Dropout(drop_rate)
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = features * self.global_pool.feat_mult()
        self.fc: nn.Module = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward_features(self, images: Tensor) -> Tensor:
        maps: Tensor = self.body(images)
        return maps

    def forward_head(self, maps: Tensor, pre_logits: bool = False) -> Tensor:
        features = self.head_drop(self.global_pool(maps))
        logits: Tensor = features if pre_logits else self.fc(features)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))

    def get_classifier(self) -> nn.Module:
        return self.fc

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:  # noqa: ARG002  # timm's signature; stages are coarse
        return {"stem": r"^body\.0", "blocks": r"^body\.(\d+)"}


def _convolved(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    """A convolution of 3 x 3 with batch norm and ReLU."""
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """Two convolutions whose result is added to the input (He et al. 2016), resized by a 1 x 1 convolution if need be."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.first = _convolved(inputs, outputs, stride=stride)
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))
        self.skip: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.skip = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(self.second(self.first(maps)) + self.skip(maps))


class PlantConvNet(Net):
    """Five stages of convolution and max pooling, 32 to 512 maps: the plain ConvNet tried on Pl@ntNet before any other.

    Its author gives no sizes; these are ours, and so are those of :class:`PlantResNet`.
    """

    def __init__(self, *, in_chans: int = 3, **options: Any) -> None:
        widths = (in_chans, 32, 64, 128, 256, 512)
        stages = [nn.Sequential(*_convolved(inputs, outputs), nn.MaxPool2d(2)) for inputs, outputs in pairwise(widths)]
        super().__init__(nn.Sequential(*stages), widths[-1], **options)


class PlantResNet(Net):
    """A convolution and eight residual blocks, 32 to 256 maps: the ResNet trained on Pl@ntNet from random values."""

    def __init__(self, *, in_chans: int = 3, **options: Any) -> None:
        widths = (32, 32, 64, 128, 256)
        stages = [nn.Sequential(*_convolved(in_chans, widths[0], stride=2))]
        for inputs, outputs in pairwise(widths):
            stages.append(nn.Sequential(Residual(inputs, outputs, stride=2), Residual(outputs, outputs, stride=1)))
        super().__init__(nn.Sequential(*stages), widths[-1], **options)


class PlantPathologyCNN(Net):
    """Three convolutions with max pooling, 32 to 128 maps: the small CNN tried on apple leaves.

    For its author's head set ``model.head`` to mlp with batch_norm features, hidden [64, 32] and dropout 0.3.
    """

    def __init__(self, *, in_chans: int = 3, **options: Any) -> None:
        widths = (in_chans, 32, 64, 128)
        stages = [
            nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2))
            for inputs, outputs in pairwise(widths)
        ]
        super().__init__(nn.Sequential(*stages), widths[-1], **options)


class AlexNet(nn.Module):
    """AlexNet (Krizhevsky 2014, the one-column version) with torchvision's names, so that its ImageNet weights fit.

    Its features are those of its second hidden layer, (B, 4096).
    """

    def __init__(self, *, num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.5) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(in_chans, 64, 11, stride=4, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2)),
            *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2)),
            *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2)),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            *(nn.Dropout(drop_rate), nn.Linear(256 * 6 * 6, 4096), nn.ReLU(inplace=True)),
            *(nn.Dropout(drop_rate), nn.Linear(4096, 4096), nn.ReLU(inplace=True)),
            nn.Linear(4096, num_classes) if num_classes else nn.Identity(),
        )
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = 4096

    def forward_features(self, images: Tensor) -> Tensor:
        maps: Tensor = self.features(images)
        return maps

    def forward_head(self, maps: Tensor, pre_logits: bool = False) -> Tensor:
        features = self.avgpool(maps).flatten(1)
        logits: Tensor = self.classifier[:-1](features) if pre_logits else self.classifier(features)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))

    def get_classifier(self) -> nn.Module:
        return self.classifier[-1]

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:  # noqa: ARG002
        return {"stem": r"^features\.0", "blocks": [(r"^features\.(\d+)", None), (r"^classifier\.([14])", (99,))]}


class VGGFeatures(VGG):
    """VGG without fc6 and fc7: its last 512 maps are pooled and classified, 20 million parameters instead of 139.6 million."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        drop_rate = options.pop("drop_rate", 0.0)
        super().__init__(*arguments, mlp_ratio=1 / 4096, drop_rate=drop_rate, **options)  # fc6 and fc7 are made narrow, and go
        self.pre_logits = nn.Identity()
        self.head = ClassifierHead(self.num_features, self.num_classes, options.get("global_pool", "avg"), drop_rate=drop_rate)
        self.head_hidden_size = self.head.num_features


def checkpoint_filter_fn(tensors: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Leave out of VGG's weights what :class:`VGGFeatures` has not; timm calls functions of this name."""
    dropped = ("pre_logits.", "head.fc.") if isinstance(model, VGGFeatures) else ()
    return {key: value for key, value in tensors.items() if not key.startswith(dropped)} if dropped else dict(tensors)


def _register(kind: type[nn.Module], name: str, **made: Any) -> None:
    """Let timm build ``kind`` under ``name`` as it builds its own networks."""

    def build(pretrained: bool = False, **options: Any) -> nn.Module:
        model: nn.Module = build_model_with_cfg(kind, name, pretrained, **made, **options)
        return model

    build.__name__ = name
    register_model(build)


_register(AlexNet, "alexnet")
_register(PlantConvNet, "plantnet_convnet")
_register(PlantResNet, "plantnet_resnet")
_register(PlantPathologyCNN, "plant_pathology_cnn")
for _name in _VGGS:
    _register(VGGFeatures, f"{_name}_features", model_cfg=cfgs[_name])
    _register(VGGFeatures, f"{_name}_bn_features", model_cfg=cfgs[_name], norm_layer=nn.BatchNorm2d)
