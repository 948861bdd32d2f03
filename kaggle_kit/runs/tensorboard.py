"""Texts for TensorBoard, written without PyTorch: what the check said of the submissions that rest on a run."""

from __future__ import annotations

import logging
import struct
import time
from pathlib import Path

from kaggle_kit import files
from kaggle_kit.errors import StorageError

logger = logging.getLogger(__name__)


def write_text(folder: Path, tag: str, text: str) -> None:
    """Write ``text``, Markdown, as the one event of a file of ``tag`` in ``folder``; an earlier one is replaced.

    ``tensorboard --logdir`` shows it under the folder's name. A text that cannot be written is logged and stops nothing.
    """
    name = f"events.out.tfevents.0000000000.{tag.replace('/', '-')}"
    try:
        files.write_bytes(folder / name, _records(tag, text))
    except (ImportError, StorageError) as error:
        logger.warning("TensorBoard does not get %s: %s", tag, error)


def _records(tag: str, text: str) -> bytes:
    """Return an event file: what begins each, and the text.

    A record is its length, a checksum of that, the event, and a checksum of it: tensorflow/core/lib/io/record_writer.h.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
    from tensorboard.plugins.text.metadata import create_summary_metadata

    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype="DT_STRING", string_val=[text.encode()], tensor_shape=shape)
    value = Summary.Value(tag=tag, metadata=create_summary_metadata(tag, ""), tensor=tensor)
    now, data = time.time(), b""
    for event in (Event(wall_time=now, file_version="brain.Event:2"), Event(wall_time=now, summary=Summary(value=[value]))):
        body = event.SerializeToString()
        length = struct.pack("<Q", len(body))
        data += length + struct.pack("<I", masked_crc32c(length)) + body + struct.pack("<I", masked_crc32c(body))
    return data
