"""The page of plots: complete, self-contained, and there from the first trial on."""

import re


def test_the_page_holds_every_plot_and_needs_no_network(search, training):
    space = search.write_space(
        "lr: {log: [1e-4, 1.0]}\n"
        "data.image_size: {categorical: [null, 32, [24, 32]]}\n"
        "optimizer.momentum: {float: [0.5, 0.9], when: {data.image_size: 32}}\n"
    )
    page = search.tune(space=space, trials=8).page.read_text()
    for heading in ("History", "Importances", "Parallel coordinates", "Slices", "Scores while training", "Trials"):
        assert f'>{heading} <a class="anchor"' in page
    assert page.count('role="img"') == 5
    assert "bjective" not in page  # the metric has a name
    assert "mathdefault" not in page  # numbers on logarithmic axes are no formulas
    parts = dict(re.findall(r"<h2[^>]*>(.+?) <a .*?</h2>(.*?)</section>", page, flags=re.S))
    for heading in ("History", "Parallel coordinates", "Slices", "Scores while training"):
        assert ">accuracy</text>" in parts[heading], heading
    assert re.search(r'<pre class="copy">kk train --fold all --config \S+best\.yaml\nkk train --fold all .*lr=', page)
    assert "<script" not in page
    assert "<link" not in page
    assert "://" not in re.sub(r'xmlns(:\w+)?="[^"]*"|<metadata>.*?</metadata>|<!DOCTYPE svg[^>]*>', "", page, flags=re.S)


def test_the_page_says_what_cannot_be_drawn_yet(search, training):
    page = search.tune(trials=1).page.read_text()
    assert "Needs 4 complete trials, there are 1." in page


def test_the_page_lists_trials_and_why_they_failed(search, training):
    def fail(run, fold, epoch):
        if run == "trial-0001":
            raise RuntimeError("out of <memory>")

    training.before_epoch = fail
    page = search.tune(trials=3).page.read_text()
    assert "RuntimeError: out of &lt;memory&gt;" in page
    assert "<h1>study tune</h1>" in page


def test_the_page_is_written_where_all_trials_are_alike(search, training):
    training.score = lambda run, fold: 0.5
    assert 'role="img"' in search.tune(trials=5, promote=0.5).page.read_text()
