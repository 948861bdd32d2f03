import math

import jinja2
import pandas as pd
import pytest

from kaggle_kit.report import write_page

TRIALS = pd.DataFrame({"trial": [0, 1], "score": [0.5, math.nan], "why": ["<script>alert(1)</script>", None]})


def page(tmp_path, **changes):
    values = {"title": "a <b>", "lines": ["one & two"], "plots": [], "trials": TRIALS, **changes}
    path = tmp_path / "folder" / "page.html"
    path.parent.mkdir()
    write_page(path, "tune.html", **values)
    return path.read_text(encoding="utf-8")


def test_whatever_is_filled_in_is_escaped(tmp_path):
    text = page(tmp_path)
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<title>a &lt;b&gt;</title>" in text
    assert "<p>one &amp; two</p>" in text


def test_tables_leave_out_what_is_missing(tmp_path):
    cells = [line.strip() for line in page(tmp_path).splitlines() if "<td" in line]
    assert 'class="number">0</td>' in "".join(cells)
    assert 'class="number">0.5000</td>' in "".join(cells)
    assert "".join(cells).count("<td></td>") == 2
    assert "nan" not in "".join(cells)


def test_there_is_one_style_for_light_and_dark(tmp_path):
    text = page(tmp_path)
    assert "prefers-color-scheme: dark" in text
    assert text.count("<style>") == 1
    assert "&#" not in text[text.index("<style>") : text.index("</style>")]


def test_what_a_template_names_must_be_given(tmp_path):
    with pytest.raises(jinja2.UndefinedError, match="plots"):
        write_page(tmp_path / "page.html", "tune.html", title="", lines=[], trials=TRIALS)
    assert list(tmp_path.iterdir()) == []
