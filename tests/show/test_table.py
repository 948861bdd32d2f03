"""Tables fit the terminal: columns that may go are left out first, then text is wrapped between words."""

import numpy as np
import pandas as pd
import pytest
from factories import make_workspace

from kaggle_kit import show
from kaggle_kit.runs.comparison import runs_table
from kaggle_kit.show.table import cell, fit, middle, wrap
from kaggle_kit.show.terminal import console


@pytest.fixture
def narrow(monkeypatch, capsys):
    """Print at 80 columns; returns the lines."""
    monkeypatch.setenv("COLUMNS", "80")
    console.cache_clear()

    def run(frame):
        show.table(frame)
        return capsys.readouterr().out.splitlines()

    yield run
    console.cache_clear()


def test_optional_columns_go_in_order_until_the_others_fit():
    cells = {"name": ["x" * 20], "score": ["0.5"], "seconds": ["1" * 10], "state": ["finished"]}
    assert list(fit(cells, 80, optional=("seconds", "state"))) == list(cells)
    assert list(fit(cells, 46, optional=("seconds", "state"))) == ["name", "score", "state"]
    assert list(fit(cells, 32, optional=("seconds", "state"))) == ["name", "score"]


def test_text_is_broken_between_words_only():
    assert wrap("tf_efficientnet_lite0-9b83d1", 16).splitlines() == ["tf_efficientnet_", "lite0-9b83d1"]
    assert wrap("short", 3) == "short"
    assert wrap("", 3) == ""
    assert fit({"text": ["one two three"], "n": ["1"]}, 13) == {"text": 7, "n": 1}


def test_long_names_are_shortened_in_the_middle_before_a_text_is_broken():
    assert middle("tf_efficientnet_lite0-9b83d1", 11) == "tf_ef…b83d1"
    assert middle("short", 9) == "short"
    widths = fit({"run": ["x" * 30], "text": ["one two three"]}, 28, names=["run"])
    assert widths == {"run": 10, "text": 13}


def test_the_runs_of_a_workspace_fit_80_columns_with_all_that_is_wanted(narrow, tmp_path):
    frame = runs_table(make_workspace(tmp_path, n_runs=2).workspace)
    frame["run"] = ["tf_efficientnet_lite0-9b83d1", "convnext_tiny.fb_in22k-77aa00"]
    lines = narrow(frame)
    assert max(map(len, lines)) <= 80
    for heading in ("run", "model", "strategy", "image_size", "lr", "epochs", "score", "created"):
        assert any(heading.split("_")[0] in line for line in lines[:4]), heading
    assert any(line.strip().startswith("tf_e…83d1") for line in lines)
    assert any("not shown: folds, metric" in line for line in lines)


def test_a_long_frame_says_what_is_missing(narrow):
    assert narrow(pd.DataFrame({"row": range(100)}))[-1] == "… and 40 more rows"
    assert narrow(pd.DataFrame({"row": []})) == ["none yet"]


def test_a_note_stands_below_the_table(narrow):
    frame = pd.DataFrame({"row": [1]})
    frame.attrs["note"] = "rank correlation 0.9"
    assert narrow(frame)[-1] == "rank correlation 0.9"


def test_wrapped_text_is_not_wrapped_again(narrow):
    lines = narrow(pd.DataFrame({"check": ["form"], "evidence": ["several words " * 30]}))
    widths = [len(line.rstrip()) for line in lines if "several" in line]
    assert max(widths) <= 80
    assert min(widths[:-1]) > 65  # no line of one word, which a second wrapping leaves behind


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.95384, "0.9538"),
        (3e-05, "3e-05"),
        (0.0, "0.0000"),
        (np.nan, ""),
        (None, ""),
        (pd.NaT, ""),
        (pd.Timestamp("2020-03-04T05:06:07Z"), "04 Mar 2020"),
        (12, "12"),
        (790.78, "790.8"),
    ],
)
def test_cells(value, text):
    assert cell(value) == text
