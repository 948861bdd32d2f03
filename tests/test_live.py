"""The live screen: what it draws in a terminal, in a file, and in the cell of a real notebook."""

import io
import logging
import re
import sys

import pytest
from rich.console import Console
from test_events import EVENTS, drive, progress

from kaggle_kit.errors import ConfigError
from kaggle_kit.events import FoldEnded, Phase, RunStarted, Warned
from kaggle_kit.live import Cell, Screen, make_reporter
from kaggle_kit.show.terminal import set_up_logging


@pytest.mark.parametrize("terminal", [True, False])
def test_lines_stay_and_take_names_as_they_are(terminal):
    out = io.StringIO()
    drive(Screen(Console(file=out, force_terminal=terminal, width=100)))
    assert "accuracy 0.8750*" in out.getvalue()
    assert "[accuracy] 0.875" in out.getvalue()  # no markup


def bars(screen):
    return {task.description: (task.completed, task.total) for task in screen._bars.tasks}


def test_several_folds_have_a_bar_each_and_the_run_has_one():
    screen = Screen(Console(file=io.StringIO(), force_terminal=True, width=100))
    screen(RunStarted("run", (0, 1), 5))
    for fold in (0, 1):
        screen(progress(fold, 1, 5, done=100 + fold))
    first, second = "fold 0 (1 of 2)  epoch 1/5", "fold 1 (2 of 2)  epoch 1/5"
    found = bars(screen)
    assert [name for name in found if name.startswith((first, second))] == list(found)[1:]
    assert list(found.values()) == [(pytest.approx(201 / 2000), 1.0), (100, 200), (101, 200)]
    screen(Phase(0, "validating", 3, 9))
    assert bars(screen)["fold 0 (1 of 2)  validating  3/9"] == (3, 9)
    screen(Phase(0, "compiling the model"))
    assert bars(screen)["fold 0 (1 of 2)  compiling the model"] == (0, None)
    screen(FoldEnded(1, "failed", "why"))
    assert len(bars(screen)) == 2
    assert any(name.startswith("run  55 %") for name in bars(screen))
    screen(FoldEnded(0, "finished", "well"))
    assert screen._bars is None


def test_log_lines_come_above_the_bars():
    log, out = logging.getLogger("kaggle_kit"), io.StringIO()
    before = log.handlers[:], log.level, log.propagate
    screen = Screen(Console(file=out, force_terminal=True, width=100))
    try:
        set_up_logging()
        screen(Phase(0, "compiling the model"))
        log.info("compiled in 3 s")
        screen(FoldEnded(0, "finished", "well"))
    finally:
        log.handlers[:], log.level, log.propagate = before
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert "compiled in 3 s" in re.split(r"[\r\n]+", shown)  # on a line of its own


def test_without_a_terminal_there_are_log_lines(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    make_reporter()(EVENTS[1])
    assert "fold 2  resnet: 10 images" in caplog.text


def test_a_cell_shows_what_it_is_told_as_text():
    cell = Cell()
    cell._draw = lambda: None
    cell(RunStarted("run", (0, 1), 5))
    cell(progress(0, 1, 5, done=100))
    cell(Phase(1, "compiling <b>"))
    cell(Warned(1, "<script>"))
    page = cell.page()
    assert '<progress value="0.05" max="1"></progress> run  5 %' in page
    assert '<progress value="100" max="200"></progress> fold 0 (1 of 2)  epoch 1/5' in page
    assert "<progress></progress> fold 1 (2 of 2)  compiling &lt;b&gt;" in page
    assert "&lt;script&gt;" in page


CELL = """
import time
from test_events import EVENTS, drive
from kaggle_kit.live import Cell, make_reporter
reporter = make_reporter()
assert isinstance(reporter, Cell)
for event in EVENTS[:-1]:
    reporter(event)
    time.sleep(0.3)
reporter(EVENTS[-1])
"""


def test_a_notebook_shows_bars_and_lines(tmp_path, monkeypatch):
    nbformat, client = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    seen = []
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])

    class Watching(client.NotebookClient):
        def process_message(self, msg, cell, cell_index):
            seen.append(str(msg["content"]))
            return super().process_message(msg, cell, cell_index)

    Watching(notebook, timeout=120, kernel_name="python3").execute()
    shown = str(notebook.cells[0].outputs)
    assert "accuracy 0.8750*" in shown
    assert "[accuracy] 0.875" in shown
    assert any("<progress" in message and "epoch 1/5  loss" in message and "run  " in message for message in seen)
    assert "<progress" not in shown  # the bars are gone at the end
    assert len(notebook.cells[0].outputs) == 1


def test_kinds_of_events_are_looked_up():
    with pytest.raises(ConfigError, match="unknown kind of events 'jsn'"):
        make_reporter("jsn")
