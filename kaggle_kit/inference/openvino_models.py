"""Models as OpenVINO reads them: converted, in 8-bit integers, and kept in the workspace's cache."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kaggle_kit.errors import DependencyError

_LOG = logging.getLogger(__name__)
_AT_MAKERS = "NNCF_CI"


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


def quantize(exported: Any, images: Sequence[torch.Tensor], *, attention: bool) -> Any:
    """Return a converted model with 8-bit integers where they pay; ``exported`` may be changed.

    Args:
        images: (1, 3, H, W) each, normalised: whose activations set the ranges that the integers cover.
        attention: whether the network attends, which asks for other places to be kept in floating point.

    Raises:
        DependencyError: NNCF is not installed.
    """
    nncf = import_nncf()
    kind = nncf.ModelType.TRANSFORMER if attention else None
    data = nncf.Dataset([image.numpy() for image in images])
    with contextlib.redirect_stdout(io.StringIO()):  # bars of its own
        return nncf.quantize(exported, data, subset_size=len(images), model_type=kind)


def import_nncf() -> Any:
    """NNCF without its usage statistics, which it leaves out where it is told to be at its makers', and without its lines."""
    kind, before = logging.getLoggerClass(), os.environ.get(_AT_MAKERS)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns of a GPU that nobody asked for
    os.environ[_AT_MAKERS] = "1"
    try:
        import nncf
    except ImportError as error:
        raise DependencyError(
            "engine int8 needs two packages: pip install 'kaggle-kit[cpu,int8]'; or use engine=openvino."
        ) from error
    finally:
        logging.setLoggerClass(kind)  # which it changes for everybody
        del os.environ[_AT_MAKERS]
        if before is not None:
            os.environ[_AT_MAKERS] = before
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf


def save_export(exported: Any, path: Path) -> None:
    """Write ``path``, which ends in .xml, and its numbers beside it in a file that ends in .bin."""
    import_openvino().save_model(exported, path, compress_to_fp16=False)


def keep_export(exported: Any, folder: Path | None) -> None:
    """Store an export (two files) under its final name in one step; not being able to is no reason to stop."""
    if folder is None:
        return
    temporary = folder.with_name(f".{uuid.uuid4().hex[:12]}.tmp")
    try:
        temporary.mkdir(parents=True)
        save_export(exported, temporary / "model.xml")
        temporary.rename(folder)
    except (OSError, RuntimeError) as error:
        _LOG.info("the exported model is not kept in %s: %s", folder, error)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
