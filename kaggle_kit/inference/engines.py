"""What computes logits: PyTorch on any device, or OpenVINO on a CPU.

Engines agree: for the same batch their probabilities differ by less than 1e-4, and the most probable class is the same but for
ties. That is why OpenVINO is told to compute in float32; left to itself it takes bfloat16 where the CPU has it. The exception
is int8, quicker still: its probabilities differ by hundredths, now and then by much, so that what it says is compared with its
own alone.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from kaggle_kit.choices import ENGINE_CHOICES, ENGINES, INT8
from kaggle_kit.errors import ConfigError
from kaggle_kit.files import fingerprint as fingerprint_of
from kaggle_kit.images.loaders import eval_batches
from kaggle_kit.images.transforms import ImageSpec
from kaggle_kit.inference.inputs import to_input
from kaggle_kit.inference.openvino_models import (
    convert_to_openvino,
    import_openvino,
    keep_export,
    openvino_core,
    quantize,
)
from kaggle_kit.machine.device import half_dtype, memory_errors

_LOG = logging.getLogger(__name__)

EXPORT_PAYS_FROM = 512 * 224 * 224
"""Pixels to predict from which an export to OpenVINO is worth its 1 to 4 s: below, it costs more than it saves."""
_PIECE = 8
"""Images that OpenVINO computes at once on one core."""


@dataclass(frozen=True)
class EngineOptions:
    """Where and how to compute.

    Attributes:
        precision: auto, bf16, fp16 or fp32; GPUs only, a CPU computes in float32.
        cache_dir: where exported models are kept; None exports each time.
        calibration: id and file of images like those that will come, for engine int8.
        graphs: :func:`graph_name` -> file of a model in 8-bit integers, which then needs no calibration.
    """

    device: torch.device = torch.device("cpu")  # noqa: RUF009 - immutable
    precision: str = "auto"
    cache_dir: Path | None = None
    calibration: Sequence[tuple[str, Path]] = ()
    graphs: Mapping[str, Path] = field(default_factory=dict)


class Engine(Protocol):
    """A model that is ready to predict."""

    name: str

    def logits(self, batch: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) normalised float32 on the device of the engine to (B, C) float32 logits."""


class TorchEngine:
    """Eager PyTorch, with autocast on a GPU."""

    name = "torch"

    def __init__(self, model: nn.Module, options: EngineOptions) -> None:
        self._model = model.to(options.device).eval()
        self._device = options.device
        self._dtype = half_dtype(options.device, options.precision)

    def logits(self, batch: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(), self._autocast(), memory_errors():
            output: torch.Tensor = self._model(batch)
        return output.float()

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self._dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, dtype=self._dtype)


class OpenVinoEngine:
    """OpenVINO on the CPU. Batches may be of any length; height and width are fixed.

    A batch is cut in pieces, of which each core computes one at a time: measured on two cores, that is a tenth less work than
    all cores on one batch, layer by layer, and a busy neighbour on one core does not stop the other.
    """

    def __init__(self, queue: Any, name: str = "openvino") -> None:
        self._queue, self.name = queue, name

    def logits(self, batch: torch.Tensor) -> torch.Tensor:
        pieces = batch.contiguous().split(_PIECE)
        results: list[torch.Tensor | None] = [None] * len(pieces)

        def keep(request: Any, number: int) -> None:
            # A copy: the next request reuses OpenVINO's memory.
            results[number] = torch.from_numpy(request.get_output_tensor(0).data.copy()).float()

        self._queue.set_callback(keep)
        for number, piece in enumerate(pieces):
            self._queue.start_async({0: piece.numpy()}, number)
        self._queue.wait_all()
        return torch.cat([result for result in results if result is not None])


def torch_engine(model: nn.Module, _spec: ImageSpec, _fingerprint: str, options: EngineOptions) -> Engine:
    return TorchEngine(model, options)


def openvino_engine(model: nn.Module, spec: ImageSpec, fingerprint: str, options: EngineOptions) -> Engine:
    _require_cpu("openvino", options.device)
    return OpenVinoEngine(_queue(_exported(model, spec, fingerprint, options)))


def int8_engine(model: nn.Module, spec: ImageSpec, fingerprint: str, options: EngineOptions) -> Engine:
    _require_cpu(INT8, options.device)
    return OpenVinoEngine(_queue(in_eight_bits(model, spec, fingerprint, options)), INT8)


def in_eight_bits(model: nn.Module, spec: ImageSpec, fingerprint: str, options: EngineOptions) -> Any:
    """Return OpenVINO's model in 8-bit integers: as it was given, as it is kept, or calibrated now.

    Raises:
        ConfigError: there are no images to calibrate it on.
        DependencyError: a package is not installed.
    """
    if (given := options.graphs.get(graph_name(spec, fingerprint))) is not None:
        return openvino_core().read_model(given)
    if not options.calibration:
        raise ConfigError(
            "engine int8 is calibrated on training images of the workspace, and there are none here; use engine=openvino."
        )
    rows = fingerprint_of([row_id for row_id, _ in options.calibration])[:12]
    folder = _folder(spec, fingerprint, options, f"int8-{rows}")
    if (kept := _read(folder)) is None:
        _LOG.info("calibrating %s on %d training images, once for each model", INT8, len(options.calibration))
        batches = eval_batches(options.calibration, spec, batch_size=1, workers=0)
        images = [to_input(batch.images, spec, options.device, channels_last=False) for batch in batches]
        attention = any("Attention" in type(module).__name__ for module in model.modules())
        kept = quantize(_exported(model, spec, fingerprint, options), images, attention=attention)
        keep_export(kept, folder)
    return kept


def graph_name(spec: ImageSpec, fingerprint: str) -> str:
    """Return what a converted model is called: by its weights, and by the size of the images that it is for."""
    return f"{fingerprint[:24]}-{spec.height}x{spec.width}"


def _require_cpu(engine: str, device: torch.device) -> None:
    if device.type != "cpu":
        raise ConfigError(f"engine {engine} computes on the CPU, the device is {device}; use engine=torch.")


def _exported(model: nn.Module, spec: ImageSpec, fingerprint: str, options: EngineOptions) -> Any:
    """Convert a model, or take what was kept of it."""
    folder = _folder(spec, fingerprint, options)
    if (kept := _read(folder)) is not None:
        return kept
    # A batch of two: tracing with one would let some models fold the batch axis away.
    exported = convert_to_openvino(model, torch.zeros(2, spec.channels, *spec.size))
    keep_export(exported, folder)
    return exported


def _folder(spec: ImageSpec, fingerprint: str, options: EngineOptions, *how: str) -> Path | None:
    """Return where a converted model is kept; None where none is."""
    if options.cache_dir is None or not fingerprint:
        return None
    version = import_openvino().__version__.partition("-")[0]
    return options.cache_dir / "openvino" / "-".join([graph_name(spec, fingerprint), version, *how])


def _read(folder: Path | None) -> Any:
    """Return the converted model of a folder; None where there is none."""
    if folder is None or not (folder / "model.xml").is_file():
        return None
    return openvino_core().read_model(folder / "model.xml")


def _queue(exported: Any) -> Any:
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT"}
    return import_openvino().AsyncInferQueue(openvino_core().compile_model(exported, "CPU", settings))


def choose_engine(name: str, device: torch.device, pixels: int) -> str:
    """Resolve "auto": OpenVINO on a CPU where it is installed and the work pays for the export, else PyTorch.

    Args:
        pixels: images x views x height x width of the whole pass.

    Raises:
        ConfigError: there is no such engine.
    """
    if name != "auto":
        return ENGINE_CHOICES.require(name)
    return usable_engines(device)[-1] if pixels >= EXPORT_PAYS_FROM else "torch"


def usable_engines(device: torch.device) -> list[str]:
    """Return the engines that are installed and can use ``device``, the quickest last."""
    with_openvino = device.type == "cpu" and importlib.util.find_spec("openvino") is not None
    return ["torch", *(["openvino"] if with_openvino else [])]


def make_engine(
    name: str, model: nn.Module, spec: ImageSpec, *, fingerprint: str = "", options: EngineOptions | None = None
) -> Engine:
    """Make an entry of ``ENGINES`` ready.

    Args:
        fingerprint: sha256 of the model's file; an export is kept under it. Empty for a model that still changes.

    Raises:
        ConfigError: there is no such engine, or it cannot use the device.
        DependencyError: its package is not installed.
    """
    make = ENGINES.lookup(name)
    engine: Engine = make(model, spec, fingerprint, options or EngineOptions())
    return engine
