"""Building timm models: names, pretrained weights, freezing, and the image specification a model wants."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import resolve_data_config
from timm.layers import BlurPool2d
from timm.models import adapt_input_conv, group_parameters
from torch import nn

from kaggle_kit.config import ChannelsConfig, DataConfig, HeadConfig, ImageSize, ModelConfig
from kaggle_kit.errors import ConfigError, WeightsError
from kaggle_kit.images.transforms import ImageSpec
from kaggle_kit.models.heads import HEAD_STD, head_names, head_tensors, install_head, is_plain
from kaggle_kit.models.own import code_fingerprint, create_own, require_logits, require_same_code
from kaggle_kit.models.specialists import SpecialistModel
from kaggle_kit.models.weights import Tensors, Weights, read_tensors, resolve_name
from kaggle_kit.own_code import is_own
from kaggle_kit.tables import shown

_LOG = logging.getLogger(__name__)
_RECORD, _FROZEN = "_kaggle_kit_record", "_kaggle_kit_frozen"
_UNEXPECTED = re.compile(r"unexpected keyword argument(?:\(s\):)? \[?'(\w+)'")
_OPTIONAL = ("drop_path_rate", "drop_rate")


IN_CHANS = "in_chans"
"""timm's option for the channels of an image."""
AA_LAYERS: dict[str, type[nn.Module]] = {
    **dict.fromkeys(("blur", "blurpool"), BlurPool2d),
    **dict.fromkeys(("avg", "avgpool"), nn.AvgPool2d),
}
"""timm's names of anti-aliasing layers."""


@dataclass(frozen=True)
class ModelRecord:
    """What it takes to build the same architecture again: ``arch.tag``, number of outputs, timm's arguments, layout, head.

    Attributes:
        features: what a head other than timm's takes; 0 with timm's.
        code: sha256 of the file of an own model; "" of others.
        groups: positions of the classes of each specialist beside a general model, all of this architecture; none: one model.
        multilabel: of those, whether a row may have several labels.
    """

    name: str
    n_classes: int
    options: Mapping[str, Any]
    channels_last: bool
    head: HeadConfig = field(default_factory=HeadConfig)
    features: int = 0
    code: str = ""
    groups: tuple[tuple[int, ...], ...] = ()
    multilabel: bool = False


def build_model(
    config: ModelConfig,
    n_classes: int,
    *,
    weights: Weights | None = None,
    image_size: ImageSize | None = None,
    root: Path | None = None,
    channels: ChannelsConfig | None = None,
) -> nn.Module:
    """Build a timm model, or an own one, with ``n_classes`` outputs, in training mode on the CPU.

    Args:
        weights: from :func:`kaggle_kit.models.find_weights`; None starts from random values. The classifier is always new
            unless the weights' own has the same number of classes and fits.
        image_size: ``data.image_size``; architectures that are built for one size (most transformers) are built for it.
        root: the workspace, where the file of an own model lies.
        channels: of images that are no colours: the option ``in_chans``, to which pretrained weights are adapted.

    Raises:
        ConfigError: there is no such model, or it does not take an option.
        WeightsError: the weights lack tensors of this model, or (for a file given) hold others.
    """
    name = resolve_name(config.name)
    options = {**config.options, **_size_option(name, image_size, config.options)}
    if channels is not None:
        options[IN_CHANS] = len(channels.names)
    # A head of ours does the dropout before it itself.
    drops = {"drop_rate": config.drop_rate if is_plain(config.head) else 0.0, "drop_path_rate": config.drop_path_rate}
    taken = {**options, **{key: rate for key, rate in drops.items() if rate}}
    model = create_own(name, n_classes, taken, root) if is_own(name) else _create(name, n_classes, taken)
    features = 0
    if config.head != HeadConfig():
        shape = (options.get(IN_CHANS, 3), *_input_size(model, image_size))
        features = install_head(model, config.head, n_classes, drop_rate=config.drop_rate, shape=shape)
    if is_own(name):
        require_logits(model, name, n_classes, (options.get(IN_CHANS, 3), *_input_size(model, image_size)))
    code = code_fingerprint(name, root)
    attach_record(model, ModelRecord(name, n_classes, options, config.channels_last, config.head, features, code))
    if weights is not None and weights.path is not None:
        load_pretrained(model, weights)
    if config.grad_checkpointing:
        _checkpoint_gradients(model, name)
    return to_layout(model, config.channels_last)


def rebuild_model(record: ModelRecord, root: Path | None = None) -> nn.Module:
    """Build the architecture of ``record`` with random values, in evaluation mode; an own one from the workspace ``root``.

    A tag that this version of timm does not know is no obstacle, since weights and image specification are stored: then
    the bare architecture is built.

    Raises:
        ConfigError: this version of timm has no such architecture, or the workspace no such file.
        WeightsError: the file of an own model has changed.
    """
    if record.groups:
        alone = replace(record, groups=(), multilabel=False)
        general, *others = (rebuild_model(alone, root) for _ in range(1 + len(record.groups)))
        return combine_models(general, others, record.groups, multilabel=record.multilabel)
    if is_own(record.name):
        require_same_code(record.name, record.code, root)
        return _finished(create_own(record.name, record.n_classes, record.options, root), record)
    try:
        name = resolve_name(record.name)
    except ConfigError:
        name = resolve_name(record.name.partition(".")[0])
        _LOG.info("timm %s does not know %s; %s has the same layers", timm.__version__, record.name, name)
    return _finished(_create(name, record.n_classes, dict(record.options)), record)


def _finished(model: nn.Module, record: ModelRecord) -> nn.Module:
    """Return a model that was created for ``record`` with its head and layout, in evaluation mode."""
    if record.features:
        install_head(model, record.head, record.n_classes, features=record.features)
    attach_record(model, record)
    return to_layout(model, record.channels_last).eval()


def combine_models(
    general: nn.Module, specialists: Sequence[nn.Module], groups: Sequence[Sequence[int]], *, multilabel: bool
) -> nn.Module:
    """Return a general model and its specialists as one model; see :class:`~kaggle_kit.models.specialists.SpecialistModel`."""
    model = SpecialistModel(unwrap(general), [unwrap(one) for one in specialists], groups, multilabel=multilabel)
    attach_record(model, replace(record_of(general), groups=model.groups, multilabel=multilabel))
    return model.train(general.training)


def model_name(model: nn.Module) -> str:
    """``architecture.tag`` of a model that :func:`build_model` made."""
    return record_of(model).name


def unwrap(model: nn.Module) -> nn.Module:
    """The timm model inside what torch.compile, Fabric, DDP or an averaging wrapper put around it."""
    while _RECORD not in vars(model):
        inner = next(
            (child for name, child in model.named_children() if name in ("_orig_mod", "module", "_forward_module")), None
        )
        if inner is None:
            return model
        model = inner
    return model


def attach_record(model: nn.Module, record: ModelRecord) -> None:
    """Remember on ``model`` how it was built; a deep copy carries it along."""
    vars(model)[_RECORD] = record


def record_of(model: nn.Module) -> ModelRecord:
    """The record that :func:`attach_record` left.

    Raises:
        ConfigError: the model was not built by this package.
    """
    record = vars(unwrap(model)).get(_RECORD)
    if not isinstance(record, ModelRecord):
        raise ConfigError(f"expected a model from kaggle_kit.models.build_model, got {type(model).__name__}.")
    return record


def to_layout(model: nn.Module, channels_last: bool) -> nn.Module:
    """Move 4-D weights to channels-last memory, which convolutions run faster with, or leave them."""
    return model.to(memory_format=torch.channels_last) if channels_last else model  # type: ignore[call-overload, no-any-return]


def _create(name: str, n_classes: int, options: dict[str, Any]) -> nn.Module:
    try:
        model = timm.create_model(name, pretrained=False, num_classes=n_classes, **_with_classes(options))
    except TypeError as error:
        match = _UNEXPECTED.search(str(error))
        refused = match[1] if match else ""
        if refused in _OPTIONAL and refused in options:
            _LOG.warning("%s has no %s; it is ignored", name, refused)
            return _create(name, n_classes, {key: value for key, value in options.items() if key != refused})
        raise ConfigError(f"model.options: {name} does not take {refused or options!r} ({error}).") from error
    except (AssertionError, ValueError, RuntimeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{name} cannot be built with {options!r}: {str(error) or type(error).__name__}.") from error
    if not isinstance(model, nn.Module):
        raise ConfigError(f"{name} is not a model that can be trained.")
    return model


def _with_classes(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return timm's arguments with layers as classes: only some architectures take an ``aa_layer`` by its name."""
    layer = options.get("aa_layer")
    return {**options, "aa_layer": AA_LAYERS[layer]} if isinstance(layer, str) and layer in AA_LAYERS else dict(options)


def _size_option(name: str, image_size: ImageSize | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """``img_size`` for the architectures whose layers depend on it."""
    cfg = None if is_own(name) else timm.models.get_pretrained_cfg(name)
    if image_size is None or "img_size" in options or cfg is None or not cfg.fixed_input_size:
        return {}
    return {"img_size": height_width(image_size)}


def _input_size(model: nn.Module, image_size: ImageSize | None) -> tuple[int, int]:
    """The height and width of images for a model that has no record yet."""
    cfg = getattr(model, "pretrained_cfg", None) or {}
    return height_width(image_size) if image_size is not None else tuple(cfg.get("input_size", (3, 224, 224)))[1:]


def height_width(image_size: ImageSize) -> tuple[int, int]:
    """A side, or height and width, as height and width."""
    return (image_size, image_size) if isinstance(image_size, int) else (image_size[0], image_size[1])


def load_pretrained(model: nn.Module, weights: Weights) -> None:
    """Fill ``model`` from ``weights``; every tensor but the classifier's must be there and fit.

    Raises:
        WeightsError: names the tensors that are missing, of another shape, or (for a file given) not part of the model.
    """
    if weights.path is None:
        return
    whole = _uncut(model)
    tensors = _with_channels(model, _adapt(whole, _with_channels(model, read_tensors(weights.path))))
    own = model.state_dict()
    cut = whole.state_dict().keys() - own.keys()
    tensors = {key: value for key, value in tensors.items() if key not in cut}
    head = set(head_tensors(model))
    if weights.head_fits is False or any(key in tensors and tensors[key].shape != own[key].shape for key in head):
        tensors = {key: value for key, value in tensors.items() if key not in head}
    if not head & tensors.keys() and record_of(model).features == 0:  # a head of ours begins as it should
        _quiet_head(model, head)
    problems = {
        "missing": [key for key in own if key not in tensors and key not in head and not key.endswith("num_batches_tracked")],
        "of another shape": [key for key, value in tensors.items() if key in own and value.shape != own[key].shape],
    }
    unknown = [key for key in tensors if key not in own]
    if weights.kind in ("file", "run"):
        problems["not in the model"] = _beyond_head(unknown, head_names(model))
    elif unknown:
        _LOG.warning("%s: not used: %s", weights.path.name, shown(unknown))
    stated = "; ".join(f"{what}: {shown(keys)}" for what, keys in problems.items() if keys)
    if stated:
        raise WeightsError(f"{weights.path} does not fit {model_name(model)}. Tensors {stated}. Give another file or model.")
    model.load_state_dict({key: value for key, value in tensors.items() if key in own}, strict=False)


def _uncut(model: nn.Module) -> nn.Module:
    """Return the architecture with the layers that ``head.layer`` has cut off, which weights have; mostly the model itself."""
    record = record_of(model)
    if record.head.layer == -1:
        return model
    whole = _create(record.name, record.n_classes, dict(record.options))
    attach_record(whole, replace(record, head=HeadConfig(), features=0))
    return whole


def _quiet_head(model: nn.Module, head: Iterable[str]) -> None:
    """Let a new classifier start undecided: some architectures draw it so wide that on pretrained features the first losses
    are several times ln C, and the first updates of the backbone are spent on undoing that."""
    for name in head:
        parameter = model.get_parameter(name)
        if parameter.ndim > 1:
            nn.init.trunc_normal_(parameter.detach(), std=HEAD_STD)
        elif name.endswith(".bias"):
            nn.init.zeros_(parameter.detach())


def _beyond_head(unknown: Iterable[str], names: Iterable[str]) -> list[str]:
    """Tensors that a file holds beyond the model's, without those of a head that was cut, exchanged or named otherwise."""
    modules = {*names, "fc", "head", "head.fc", "classifier"}
    inside = tuple(f"{name}." for name in names)
    return [
        key
        for key in unknown
        if key.rpartition(".")[0] not in modules and not key.startswith(inside) and ".pooling." not in key  # a pooling of ours
    ]


def _adapt(model: nn.Module, tensors: Tensors) -> Tensors:
    """Bring foreign names and position embeddings of another size to this model's form."""
    own = model.state_dict()
    if "_conv_stem.weight" in tensors and "conv_stem.weight" in own:
        return _rename_in_order(tensors, own, head_tensors(model))
    fits = all(key in tensors and tensors[key].shape == value.shape for key, value in own.items())
    # By timm's convention the module of an architecture holds the function that reads its original checkpoints.
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if fits or convert is None:
        return tensors
    try:
        return dict(convert(tensors, model))
    except (KeyError, RuntimeError, ValueError, AttributeError, TypeError) as error:
        raise WeightsError(f"these weights do not fit {model_name(model)}: {error!r}. Give another file or model.") from error


def _with_channels(model: nn.Module, tensors: Tensors) -> Tensors:
    """Bring the first convolution's weights of three colours to the model's channels: repeated, and scaled to the same sum."""
    channels = record_of(model).options.get(IN_CHANS, 3)
    stated = (getattr(model, "pretrained_cfg", None) or {}).get("first_conv") or ()
    names = (stated,) if isinstance(stated, str) else tuple(stated)
    keys = [key for key in (*(f"{name}.weight" for name in names), "_conv_stem.weight") if key in tensors]
    if channels == 3:
        return tensors
    of_colours = [key for key in keys if tensors[key].ndim == 4 and tensors[key].shape[1] == 3]
    return {**tensors, **{key: adapt_input_conv(channels, tensors[key]) for key in of_colours}}


def _rename_in_order(tensors: Tensors, own: Mapping[str, torch.Tensor], head: Sequence[str]) -> Tensors:
    """EfficientNet weights under the names of the other well-known PyTorch port: the same layers in the same order.

    The classifier's weight and bias come last; where the model has a ``head`` of other tensors they are left out.
    """
    *body, weight, bias = tensors.items()
    ours = [(name, value) for name, value in own.items() if name not in head]
    same = len(body) == len(ours) and all(
        theirs.rpartition(".")[2] == mine.rpartition(".")[2] and value.shape == wanted.shape
        for (theirs, value), (mine, wanted) in zip(body, ours, strict=True)
    )
    if not same:
        raise WeightsError(f"EfficientNet weights of another size: {len(body)} tensors for a model of {len(ours)}.")
    renamed = {mine: value for (_, value), (mine, _) in zip(body, ours, strict=True)}
    plain = [name.rpartition(".")[2] for name in head] == ["weight", "bias"]
    return renamed | (dict(zip(head, (weight[1], bias[1]), strict=True)) if plain else {})


def freeze(model: nn.Module, config: ModelConfig) -> list[str]:
    """Stop the training of ``config.freeze`` leading stages (timm's coarse parameter groups: stem, then stages).

    With -1 everything but the classifier is frozen. What an earlier call has frozen and this one does not is trained again.
    Returns the names of the frozen parameters.

    Raises:
        ConfigError: the architecture has fewer stages, or timm does not know its groups.
    """
    inner = unwrap(model)
    before, head = vars(inner).pop(_FROZEN, set()), set(head_tensors(inner))
    if config.freeze == -1:
        names = [name for name, _ in inner.named_parameters() if name not in head]
    else:
        names = _leading_stages(inner, config.freeze) if config.freeze else []
    frozen = set(names)
    for name, parameter in inner.named_parameters():
        if name in before | frozen:
            parameter.requires_grad_(name not in frozen)
    vars(inner)[_FROZEN] = frozen
    return names


def stages(model: nn.Module) -> list[list[str]]:
    """Return the names of the parameters of each stage that ``model.freeze`` counts; none where timm does not know them."""
    matcher = getattr(model, "group_matcher", None)
    if matcher is None:
        return []
    head = set(head_tensors(model))
    groups = [names for _, names in sorted(group_parameters(model, matcher(coarse=True)).items())]
    return [names for names in groups if not head & set(names)]


def _leading_stages(model: nn.Module, count: int) -> list[str]:
    found = stages(model)
    if not found:
        raise ConfigError(f"model.freeze: timm knows no stages of {model_name(model)}; use 0 or -1 (all but the classifier).")
    if count > len(found):
        raise ConfigError(f"model.freeze: {model_name(model)} has {len(found)} stages, got {count}; -1 freezes all of them.")
    return [name for names in found[:count] for name in names]


def set_train_mode(model: nn.Module, config: ModelConfig) -> None:
    """``model.train()``, but batch norm keeps its statistics where it is frozen or ``config.freeze_bn`` is set.

    That of a new head has none to keep.
    """
    model.train()
    inner = unwrap(model)
    head = tuple(f"{name}." for name in head_names(inner))
    for name, module in inner.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            parameters = list(module.parameters())
            frozen = bool(parameters) and not any(parameter.requires_grad for parameter in parameters)
            if frozen or (config.freeze_bn and not name.startswith(head)):
                module.eval()


def _checkpoint_gradients(model: nn.Module, name: str) -> None:
    refusal = f"model.grad_checkpointing: {name} does not support it; set it to false."
    switch = getattr(model, "set_grad_checkpointing", None)
    if switch is None:
        raise ConfigError(refusal)
    try:
        switch(True)
    except (AssertionError, NotImplementedError) as error:
        raise ConfigError(refusal) from error


def image_spec(model: nn.Module, data: DataConfig, channels: ChannelsConfig | None = None) -> ImageSpec:
    """How images must look for this model: size, mean, std, interpolation and crop, from timm and ``data``.

    Args:
        channels: of images that are no colours, with their own mean and std.

    Raises:
        ConfigError: the model was built for another size than ``data.image_size``.
    """
    inner = unwrap(model)
    cfg = dict(getattr(inner, "pretrained_cfg", None) or {})
    built = record_of(inner).options.get("img_size")
    size = height_width(data.image_size) if data.image_size is not None else None
    if built is not None:
        built = height_width(built)
        if size is not None and size != built and not record_of(inner).options.get("dynamic_img_size"):
            raise ConfigError(
                f"data.image_size is {size}, but {model_name(inner)} was built for {built}. Some models take any size with "
                "model.options={dynamic_img_size: true}."
            )
        size = size or built
    test_size = tuple(cfg.get("test_input_size") or cfg.get("input_size") or (3, 0, 0))[1:]
    # timm tests many models at a larger size than it trained them at, with a wider crop; that crop belongs to that size.
    large = size is not None and min(size) >= min(test_size)
    # An own model may say nothing; timm's defaults are those of ImageNet.
    resolved = resolve_data_config({}, pretrained_cfg=cfg or {"input_size": (3, 224, 224)}, use_test_size=large)
    height, width = size or resolved["input_size"][1:]
    return ImageSpec(
        height=height,
        width=width,
        mean=tuple(resolved["mean"] if channels is None else channels.mean),
        std=tuple(resolved["std"] if channels is None else channels.std),
        interpolation=resolved["interpolation"],
        crop_pct=data.crop_pct or resolved["crop_pct"],
        fit=data.fit,
    )
