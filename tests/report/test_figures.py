import re

import pytest

from kaggle_kit.report import INK, svg_of


@pytest.fixture
def figure():
    from matplotlib.figure import Figure

    made = Figure()
    axes = made.subplots()
    axes.plot([0, 1], [2, 1], label="a <b> & c")
    axes.set_xticks([0.0, 0.5, 1.0])
    axes.set_xlabel("epoch <1>")
    axes.set_ylabel("score")
    axes.legend(title="runs")
    return made


def test_a_figure_is_one_svg_in_the_colour_of_the_page(figure):
    text = svg_of(figure)
    assert text.startswith("<svg")
    assert text.rstrip().endswith("</svg>")
    assert INK not in text
    words = dict.fromkeys(("epoch &lt;1&gt;", "score", "a &lt;b&gt; &amp; c", "runs", "0.5"))
    for line in text.splitlines():
        for word in words:
            if f">{word}</text>" in line:
                words[word] = "fill: currentColor" in line
    assert words == dict.fromkeys(words, True)
    assert "#ffffff" not in text  # no background


def test_the_same_figure_is_drawn_alike_and_others_have_other_ids(figure):
    first, second = svg_of(figure), svg_of(figure)
    assert first == second
    figure.axes[0].set_ylabel("erocs")  # as large, so that all is in the same place
    ids = [set(re.findall(r'<clipPath id="(\w+)"', text)) for text in (first, svg_of(figure))]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_a_figure_says_what_it_is_and_brings_nothing_that_a_page_forbids(figure):
    text = svg_of(figure, 'scores of "<b>" by epoch')
    assert text[: text.index(">")].endswith('role="img" aria-label="scores of &#34;&lt;b&gt;&#34; by epoch"')
    assert "<style" not in text
    assert "<metadata" not in text
    assert 'aria-label="score' in svg_of(figure)


def test_names_are_text_in_a_figure_whatever_they_hold(figure):
    axes = figure.axes[0]
    names = ["<script>alert(1)</script>", "$x$", "$", "a\\b"]
    axes.set_xticks(range(len(names)), names)
    text = svg_of(figure)
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert ">$x$</text>" in text
