"""Texts for TensorBoard: read back by TensorBoard itself."""

import logging
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kaggle_kit.runs.tensorboard import write_text


def text_of(folder, tag):
    log = EventAccumulator(str(folder))
    log.Reload()
    (event,) = log.Tensors(f"{tag}")
    assert log.SummaryMetadata(tag).plugin_data.plugin_name == "text"
    return event.tensor_proto.string_val[0].decode()


def test_tensorboard_reads_what_was_written_last(tmp_path):
    write_text(tmp_path, "verdict/blend", "**FAILED**")
    write_text(tmp_path, "verdict/blend", "**PASSED** – ≥ 3 rows")
    assert text_of(tmp_path, "verdict/blend") == "**PASSED** – ≥ 3 rows"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_cannot_be_written_is_said_and_stops_nothing(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        write_text(tmp_path / "file", "verdict/a", "text")
        monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
        write_text(tmp_path, "verdict/b", "text")
    assert caplog.text.count("TensorBoard does not get verdict/") == 2
