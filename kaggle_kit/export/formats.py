"""Kinds of model files: how a graph is written, and how the file is loaded again without the code that it was made from."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from kaggle_kit import files
from kaggle_kit.errors import ExportError, KaggleKitError
from kaggle_kit.export.graph import FusedModels
from kaggle_kit.inference.openvino_models import convert_to_openvino, openvino_core, save_export

Array = npt.NDArray[Any]
Loaded = Callable[[Array], Array]
"""From a batch of images, as the graph takes them, to probabilities (B, classes)."""
INPUT, OUTPUT = "images", "probabilities"
_OPSET = 17
"""Of ONNX: from 2022, so that older runtimes read it, with layer normalisation as one operation."""
_LARGEST_BATCH = 65_536


@dataclass(frozen=True)
class Format:
    """A kind of model file.

    Attributes:
        suffix: of the file.
        write: ``(graph, path, facts)``; what the file can hold of the facts, texts by name, travels in it.
        read: from the file to what it computes.
    """

    suffix: str
    write: Callable[[FusedModels, Path, Mapping[str, str]], None]
    read: Callable[[Path], Loaded]


def _write_onnx(graph: FusedModels, path: Path, facts: Mapping[str, str]) -> None:
    import onnx

    axes = {INPUT: {0: "batch"}, OUTPUT: {0: "batch"}}
    names: dict[str, Any] = {"input_names": [INPUT], "output_names": [OUTPUT], "dynamic_axes": axes}
    # The tracing exporter: measured on timm's nets it is 6 to 25 times faster than the newer one, and gives smaller files.
    with torch.inference_mode():
        torch.onnx.export(graph, (graph.example(),), str(path), dynamo=False, opset_version=_OPSET, **names)
    model = onnx.load_model(path)
    onnx.helper.set_model_props(model, dict(facts))
    onnx.checker.check_model(model)
    onnx.save_model(model, path)


def _read_onnx(path: Path) -> Loaded:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run([OUTPUT], {INPUT: images})[0])


def _write_openvino(graph: FusedModels, path: Path, facts: Mapping[str, str]) -> None:
    model = convert_to_openvino(graph, graph.example())
    model.inputs[0].set_names({INPUT})
    model.outputs[0].set_names({OUTPUT})
    for name, text in facts.items():
        model.set_rt_info(text, ["kaggle_kit", name])
    save_export(model, path)


def _read_openvino(path: Path) -> Loaded:
    compiled = openvino_core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: np.array(compiled(images)[0])


def _write_torchscript(graph: FusedModels, path: Path, facts: Mapping[str, str]) -> None:
    with torch.inference_mode():
        traced = torch.jit.trace(graph, (graph.example(),), check_trace=False)
    torch.jit.save(traced, path, _extra_files={"facts.json": json.dumps(dict(facts))})


def _read_torchscript(path: Path) -> Loaded:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of PyTorch praise torch.export instead
        return _by_torch(torch.jit.load(path, map_location="cpu"))


def _write_torch_export(graph: FusedModels, path: Path, facts: Mapping[str, str]) -> None:
    batch = torch.export.Dim("batch", min=1, max=_LARGEST_BATCH)
    program = torch.export.export(graph, (graph.example(),), dynamic_shapes=({0: batch},))
    torch.export.save(program, path, extra_files={"facts.json": json.dumps(dict(facts))})


def _read_torch_export(path: Path) -> Loaded:
    return _by_torch(torch.export.load(path).module())


def _by_torch(module: Any) -> Loaded:
    def compute(images: Array) -> Array:
        with torch.inference_mode():
            return np.asarray(module(torch.from_numpy(images)).numpy())

    return compute


ONNX = Format(".onnx", _write_onnx, _read_onnx)
OPENVINO = Format(".xml", _write_openvino, _read_openvino)
TORCHSCRIPT = Format(".pt", _write_torchscript, _read_torchscript)
TORCH_EXPORT = Format(".pt2", _write_torch_export, _read_torch_export)


def write_graph(form: Format, graph: FusedModels, path: Path, facts: Mapping[str, str]) -> None:
    """Write a graph.

    Raises:
        ExportError: the format has no words for something that the models do.
        StorageError: the file cannot be written.
    """
    try:
        with warnings.catch_warnings(), files.storage_errors(path):
            warnings.simplefilter("ignore")  # tracing warns of every Python branch on a shape, and the shapes here are fixed
            form.write(graph, path, facts)
    except KaggleKitError:
        raise
    except Exception as error:  # exporters raise whatever their own code does
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ExportError(f"{path.name} cannot be written: {reason} Try another --format.") from error
