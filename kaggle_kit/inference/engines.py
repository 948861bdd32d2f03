"""What computes logits: PyTorch on any device, or OpenVINO on a CPU.

Engines agree: for the same batch their probabilities differ by less than 1e-4, and the most probable class is the same but for
ties. That is why OpenVINO is told to compute in float32; left to itself it takes bfloat16 where the CPU has it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import shutil
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from kaggle_kit.choices import ENGINE_CHOICES, ENGINES
from kaggle_kit.errors import ConfigError, DependencyError
from kaggle_kit.images.transforms import ImageSpec
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
    """

    device: torch.device = torch.device("cpu")  # noqa: RUF009 - immutable
    precision: str = "auto"
    cache_dir: Path | None = None


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

    name = "openvino"

    def __init__(self, queue: Any) -> None:
        self._queue = queue

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
    openvino = import_openvino()
    if options.device.type != "cpu":
        raise ConfigError(f"engine openvino computes on the CPU, the device is {options.device}; use engine=torch.")
    name = f"{fingerprint[:24]}-{spec.height}x{spec.width}-{openvino.__version__.partition('-')[0]}"
    folder = options.cache_dir / "openvino" / name if options.cache_dir and fingerprint else None
    core = openvino_core()
    if folder is not None and (folder / "model.xml").is_file():
        exported = core.read_model(folder / "model.xml")
    else:
        # A batch of two: tracing with one would let some models fold the batch axis away.
        exported = convert_to_openvino(model, torch.zeros(2, spec.channels, *spec.size))
        if folder is not None:
            _keep_export(exported, folder)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT"}
    return OpenVinoEngine(openvino.AsyncInferQueue(core.compile_model(exported, "CPU", settings)))


def import_openvino() -> Any:
    """OpenVINO without its usage statistics, which it would send over the network at import and at each export.

    Its converter falls back to a silent stand-in when it finds no package ``openvino_telemetry``.
    """
    hidden = "openvino_telemetry" not in sys.modules
    if hidden:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        import openvino
    except ImportError as error:
        raise DependencyError("engine openvino needs a package: pip install 'kaggle-kit[cpu]'; or use engine=torch.") from error
    finally:
        if hidden:
            del sys.modules["openvino_telemetry"]
    return openvino


@cache
def openvino_core() -> Any:
    """Return the one ``openvino.Core`` of this process; raises DependencyError.

    Each further one would load the CPU plugin again, which gives its thread a signal stack and puts back the one before when it
    goes. Of two that end in the order in which they began, the second puts back freed memory, and the next Ctrl-C is a crash.
    """
    return import_openvino().Core()


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


def convert_to_openvino(model: nn.Module, example: torch.Tensor) -> Any:
    """Trace ``model`` with a batch for batches of any length."""
    openvino = import_openvino()
    plain = model.to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    with torch.inference_mode(), _quiet():
        return openvino.convert_model(plain, example_input=example, input=[-1, *example.shape[1:]])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Tracing warns of every Python branch on a shape; the shapes here are fixed."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _keep_export(exported: Any, folder: Path) -> None:
    """Store an export (two files) under its final name in one step; not being able to is no reason to stop."""
    openvino = import_openvino()
    temporary = folder.with_name(f".{uuid.uuid4().hex[:12]}.tmp")
    try:
        temporary.mkdir(parents=True)
        openvino.save_model(exported, temporary / "model.xml", compress_to_fp16=False)
        temporary.rename(folder)
    except (OSError, RuntimeError) as error:
        _LOG.info("the exported model is not kept in %s: %s", folder, error)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
