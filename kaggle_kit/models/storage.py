"""Trained models as files: tensors in safetensors, and in its header all that is needed to use them.

The header holds ``arch.tag`` and options, the ordered classes with their fingerprint, the image specification, the task, what
the model was made from and the versions. There is no pickle, and a file is written whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from kaggle_kit import files
from kaggle_kit.config import HeadConfig
from kaggle_kit.errors import ClassMappingError, DataError, WeightsError
from kaggle_kit.images.transforms import ImageSpec
from kaggle_kit.models.build import ModelRecord, rebuild_model, record_of, unwrap
from kaggle_kit.models.own import workspace_of
from kaggle_kit.runs.model_header import KEY, read_model_record
from kaggle_kit.tables import Classes

_FORMAT = 1
_OWN = (
    *("format", "arch", "num_classes", "options", "channels_last", "classes", "classes_fingerprint"),
    *("spec", "task", "head", "code", "specialists"),
)


@dataclass(frozen=True)
class LoadedModel:
    """A trained model with everything that travels with it.

    Attributes:
        model: in evaluation mode, float32.
        classes: what its outputs stand for, in order.
        spec: how images must look.
        task: binary, multiclass or multilabel.
        meta: competition, run, fold, seed, fingerprints, versions; JSON values only.
        path: the file it came from.
        fingerprint: sha256 of that file.
    """

    model: nn.Module
    classes: Classes
    spec: ImageSpec
    task: str
    meta: Mapping[str, Any]
    path: Path
    fingerprint: str

    @property
    def name(self) -> str:
        """``architecture.tag``."""
        return record_of(self.model).name


def save_model(
    path: Path,
    model: nn.Module,
    *,
    classes: Classes,
    spec: ImageSpec,
    task: str,
    meta: Mapping[str, Any],
    half: bool = False,
) -> str:
    """Write ``model`` (wrapped or not) to ``path`` atomically and return the file's sha256.

    Args:
        meta: what it was made from: competition, run, fold, seed, config, fingerprints; JSON values only. The keys stand
            beside this function's own in the header; see :func:`read_header`.
        half: store floating-point tensors in 16 bits; the file is half as long.

    Raises:
        ClassMappingError: the model has another number of outputs than there are classes.
        StorageError: the file cannot be written.
    """
    record = record_of(model)
    if record.n_classes != len(classes):
        raise ClassMappingError(f"{path}: the model has {record.n_classes} outputs for {len(classes)} classes.")
    header = {
        **meta,
        "format": _FORMAT,
        "arch": record.name,
        "num_classes": record.n_classes,
        "options": dict(record.options),
        "channels_last": record.channels_last,
        "classes": list(classes.names),
        "classes_fingerprint": classes.fingerprint,
        "spec": spec.to_dict(),
        "task": task,
        "versions": files.versions(),
    }
    if record.code:
        header["code"] = record.code
    if record.groups:
        header["specialists"] = [classes.decode(group) for group in record.groups]
    if record.features:
        header["head"] = {**record.head.model_dump(mode="json"), "features": record.features}
    tensors = {name: _plain(value, half=half) for name, value in unwrap(model).state_dict().items()}
    data = safetensors.torch.save(tensors, metadata={KEY: json.dumps(header, ensure_ascii=False)})
    files.write_bytes(Path(path), data)
    return files.file_fingerprint(Path(path))


def load_model(path: Path, *, device: torch.device | str = "cpu", root: Path | None = None) -> LoadedModel:
    """Read a file that :func:`save_model` wrote.

    Args:
        root: the workspace with the file of an own model; by default the one that ``path`` lies in.

    Raises:
        ConfigError: the file of an own model is not there.
        MissingFileError, DataError: there is no such file, or it is damaged or of another kind.
        ClassMappingError: its classes are not those it was written with.
        WeightsError: its tensors do not fit the architecture as this version of timm builds it, or that file has changed.
    """
    path = Path(path)
    header = read_header(path)
    try:
        spec = ImageSpec.from_dict(header["spec"])
        classes, task = Classes(tuple(header["classes"])), str(header["task"])
        record = _record(header, classes, task)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} lacks what a model of kaggle_kit needs ({error!r}). Train it again.") from error
    if classes.fingerprint != header.get("classes_fingerprint") or len(classes) != record.n_classes:
        raise ClassMappingError(f"{path}: its class list was changed after it was written. Train the model again.")
    meta = {key: value for key, value in header.items() if key not in _OWN}
    model = rebuild_model(record, root or workspace_of(path))
    try:
        model.load_state_dict(safetensors.torch.load_file(path), strict=True)
    except (RuntimeError, SafetensorError) as error:
        written = meta.get("versions", {}).get("timm", "?")
        raise WeightsError(
            f"{path} (written with timm {written}) does not fit {record.name} as this version builds it: "
            f"{str(error).splitlines()[0]} Install timm {written}."
        ) from error
    return LoadedModel(model.to(device), classes, spec, task, meta, path, files.file_fingerprint(path))


def _record(header: Mapping[str, Any], classes: Classes, task: str) -> ModelRecord:
    """Return the record in a header; raises KeyError, TypeError, ValueError or ClassMappingError where it is damaged."""
    groups = tuple(tuple(classes.encode(group).tolist()) for group in header.get("specialists") or ())
    head = dict(header.get("head") or {})
    features = int(head.pop("features", 0))
    return ModelRecord(
        name=header["arch"],
        n_classes=int(header["num_classes"]),
        options=dict(header["options"]),
        channels_last=bool(header["channels_last"]),
        head=HeadConfig(**head),
        features=features,
        code=str(header.get("code", "")),
        groups=groups,
        multilabel=bool(groups) and task == "multilabel",
    )


def read_header(path: Path) -> dict[str, Any]:
    """The header of a model file, without reading its tensors.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is damaged, or it is not a model of this package.
    """
    header = read_model_record(path)
    if header.get("format") != _FORMAT:
        raise DataError(f"{path} has another format than this version of kaggle_kit reads ({_FORMAT}). Train the model again.")
    return header


def _plain(value: torch.Tensor, *, half: bool) -> torch.Tensor:
    """A tensor of its own memory, on the CPU, in standard layout, as safetensors wants it."""
    value = value.detach().to("cpu", copy=True).contiguous()
    return value.half() if half and value.dtype in (torch.float32, torch.bfloat16) else value
