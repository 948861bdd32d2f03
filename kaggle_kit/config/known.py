"""Refusing what no run can be trained with, within a fraction of a second: neither PyTorch nor timm is imported.

Names that a library defines are read from its source text. They are asked for when a run is begun and not when a configuration
is read, so that the record of a run made with another version of the library can still be read.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kaggle_kit.config.run import RunConfig
from kaggle_kit.errors import ConfigError, DependencyError
from kaggle_kit.own_code import is_own, require_form
from kaggle_kit.registry import shortened, suggest, unknown

ACCELERATORS = ("auto", "cpu", "cuda", "gpu", "mps")
"""What ``hardware.accelerator`` may be; a certain GPU is cuda:1."""
FABRIC_STRATEGIES = (
    *("auto", "ddp", "ddp_spawn", "ddp_fork", "ddp_notebook", "ddp_find_unused_parameters_true", "dp"),
    *("fsdp", "fsdp_cpu_offload", "deepspeed", "deepspeed_stage_1", "deepspeed_stage_1_offload"),
    *("deepspeed_stage_2", "deepspeed_stage_2_offload", "deepspeed_stage_3", "deepspeed_stage_3_offload"),
    *("deepspeed_stage_3_offload_nvme", "single_tpu", "single_xla", "xla", "xla_fsdp"),
)
"""What ``hardware.strategy`` may be: Lightning Fabric's names, with which a test compares them."""
OWN_MODELS = (
    *("alexnet", "plantnet_convnet", "plantnet_resnet", "plant_pathology_cnn"),
    *(f"vgg{depth}{norm}_features" for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
)
"""What :mod:`kaggle_kit.models.nets` adds to timm; a test compares."""
_MODEL = re.compile(r"^@register_model\s+def (\w+)\(", re.MULTILINE)
_OLD_MODELS = re.compile(r"register_model_deprecations\(__name__, \{(.*?)\}\)", re.DOTALL)
_CLASS = re.compile(r"^class (\w+)", re.MULTILINE)
_KEY = re.compile(r"""['\"]([\w.]+)['\"]\s*:""")


def require_known(run: RunConfig, task: str) -> None:
    """Raise ConfigError for a name that no library here knows, or a loss that the task cannot have.

    Options of models, transforms and schedules are tried when the run is begun, which needs the libraries themselves.
    """
    require_model(run.model.name)
    _require_transforms(run.augment.transforms)
    hardware = run.hardware
    if hardware.accelerator.partition(":")[0] not in ACCELERATORS:
        raise unknown(hardware.accelerator, ACCELERATORS, "hardware.accelerator")
    if hardware.strategy not in FABRIC_STRATEGIES:
        raise unknown(hardware.strategy, FABRIC_STRATEGIES, "hardware.strategy")
    if task == "multilabel" and (run.loss.name == "squared_grade" or run.model.head.name in ("ordinal", "regression")):
        raise ConfigError(
            "loss squared_grade and the heads ordinal and regression are for one class a row, in the order of grades, but the "
            "task is multilabel."
        )
    _require_probe(run, task)
    if task == "multilabel" and run.loss.name == "cross_entropy":
        raise ConfigError(
            "loss cross_entropy needs exactly one label a row, but the task is multilabel; "
            "choose bce, focal, asymmetric or auto."
        )


def _require_probe(run: RunConfig, task: str) -> None:
    """Refuse what a probe cannot do, where one is fitted."""
    probe = run.probe
    if run.strategy == "probe-then-finetune" and probe.classifier in ("mlp", "knn"):
        raise ConfigError(
            f"probe.classifier={probe.classifier} is no layer of the network that could be trained further; "
            "use logistic, svm or lda, or strategy probe."
        )
    if run.strategy.startswith("probe") and probe.balance != "none":
        if task == "multilabel":
            raise ConfigError(f"probe.balance={probe.balance} needs exactly one label a row, but the task is multilabel.")
        if find_spec("imblearn") is None:
            raise DependencyError("probe.balance needs a package: pip install 'kaggle-kit[balance]'; or set it to none.")


def require_model(name: str) -> None:
    """Raise ConfigError for a model that neither timm nor this package knows."""
    if is_own(name):
        require_form(name, "model")
        return
    architecture, known = name.partition(".")[0], _models()
    if known and architecture not in known and not _is_registered(architecture):
        near = suggest(architecture, known) or " timm.list_models() lists all."
        raise ConfigError(f"model.name: timm has no model {shortened(name)}.{near}")


def _is_registered(architecture: str) -> bool:
    """Whether this very process has given timm a model of that name, by ``timm.models.register_model``."""
    timm_models = sys.modules.get("timm.models")
    return timm_models is not None and bool(timm_models.is_model(architecture))


def _require_transforms(entries: Iterable[Mapping[str, Any]]) -> None:
    known = _transforms()
    for entry in entries:
        name = entry.get("name")
        if not isinstance(name, str):
            raise ConfigError(
                f"augment.transforms: each entry needs a name, such as {{name: CLAHE, p: 0.3}}; got {shortened(dict(entry))}."
            )
        if known and name not in known:
            raise ConfigError(f"augment.transforms: albumentations has no transform {shortened(name)}.{suggest(name, known)}")
        inner = entry.get("transforms")
        _require_transforms([one for one in inner if isinstance(one, Mapping)] if isinstance(inner, list) else [])


@cache
def _models() -> frozenset[str]:
    """Return the architectures of timm, those with an old name included; empty where timm keeps them in another way."""
    texts = list(_sources("timm", "models/*.py"))
    old = [key for text in texts for table in _OLD_MODELS.findall(text) for key in _KEY.findall(table)]
    own = OWN_MODELS if texts else ()
    return frozenset(
        [*own, *(name for text in texts for name in _MODEL.findall(text)), *(key.partition(".")[0] for key in old)]
    )


@cache
def _transforms() -> frozenset[str]:
    """Return the classes of albumentations, transforms and others."""
    return frozenset(name for text in _sources("albumentations", "**/*.py") for name in _CLASS.findall(text))


def _sources(package: str, pattern: str) -> Iterable[str]:
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations if spec else None) or []:
        yield from (path.read_text(encoding="utf-8") for path in Path(folder).glob(pattern))
