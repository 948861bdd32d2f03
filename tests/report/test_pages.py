import base64
import hashlib
import json
import math
import re

import jinja2
import pandas as pd
import pytest

from kaggle_kit.report import BESIDE_PAGE, Picture, island, render_page, write_page

TRIALS = pd.DataFrame({"trial": [0, 1], "score": [0.5, math.nan], "why": ["<script>alert(1)</script>", None]})


def page(tmp_path, **changes):
    values = {"title": "a <b>", "lines": ["one & two"], "to_copy": "lr=1 <b>", "plots": [], "sections": [], "trials": TRIALS}
    values |= changes
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
        write_page(tmp_path / "page.html", "tune.html", title="", lines=[], to_copy="", sections=[], trials=TRIALS)
    assert list(tmp_path.iterdir()) == []


def policy_of(text):
    entries = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1].replace("&#39;", "'").split("; ")
    return dict(entry.split(" ", 1) for entry in entries)


def test_the_policy_of_a_page_allows_its_own_style_sheet_and_nothing_else(tmp_path):
    text = page(tmp_path)
    policy = policy_of(text)
    style = text[text.index("<style>") + len("<style>") : text.index("</style>")]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy["style-src"] == f"'sha256-{digest}'"
    assert policy["default-src"] == policy["script-src"] == "'none'"
    assert policy["img-src"] == "data:"
    assert "unsafe-inline" not in {name: value for name, value in policy.items() if name != "style-src-attr"}.values()


def test_images_beside_a_page_are_allowed_only_where_it_has_some():
    values = {"title": "", "lines": [], "to_copy": "", "plots": [], "sections": [], "trials": TRIALS}
    assert "'self'" in policy_of(render_page("tune.html", allowed=BESIDE_PAGE, **values))["img-src"]
    assert "'self'" not in policy_of(render_page("tune.html", **values))["img-src"]


def test_json_on_a_page_ends_no_script_and_comes_back_as_it_was():
    value = {"</script><script>alert(1)</script>": ["<!--", "a & b", "\u2028", 1.5, None]}
    text = island(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == value


def test_a_picture_says_what_is_known_of_it_escaped():
    from kaggle_kit.report.pages import _environment

    source = '{% from "parts.html" import gallery %}{{ gallery(pictures) }}'
    pictures = [
        Picture('"><script>', "data:image/webp;base64,AA", 10, 20, label="<b>", predicted="c", probability=0.514, mark="wrong"),
        Picture("gone", note="there is no such file"),
    ]
    text = _environment().from_string(source).render(pictures=pictures)
    assert "<script>" not in text
    assert 'alt="image &#34;&gt;&lt;script&gt; of class &lt;b&gt;"' in text
    assert '<span class="label">&lt;b&gt;</span>' in text
    assert "→ c (0.51)" in text
    assert 'class="picture wrong"' in text
    assert "no image" in text
    assert "there is no such file" in text
