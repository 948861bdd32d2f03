"""What each figure says, read back from its axes."""

import numpy as np
import pandas as pd
import pytest

from kaggle_kit import figures
from kaggle_kit.diagnosis import calibrate, class_table
from kaggle_kit.tables import Classes

NAMES = ("plain", "$x$ & <script>", "c" * 60)
COUNTS = np.array([[8, 2, 0], [1, 9, 0], [0, 4, 6]])
HISTORY = pd.DataFrame(
    {
        "epoch": [0, 1, 2],
        "train_loss": [np.nan, 1.0, 0.5],
        "valid_loss": [2.0, 1.1, 0.9],
        "accuracy": [0.1, 0.6, 0.7],
        "lr": [1e-3, 1e-3, 5e-4],
        "train_accuracy": [np.nan, 0.5, 0.8],
    }
)


def lines(axes):
    return [(line.get_label(), *map(list, line.get_data())) for line in axes.get_lines()]


def test_curves_show_both_losses_and_both_scores():
    losses, scores = figures.plot_curves({1: HISTORY, 0: HISTORY}, "accuracy").axes
    assert [line.get_linestyle() for line in losses.get_lines()] == ["--", "-", "--", "-"]
    assert list(losses.get_lines()[1].get_ydata()) == [2.0, 1.1, 0.9]
    assert [text.get_text() for text in losses.get_legend().get_texts()] == ["fold 0", "fold 1"]
    assert list(scores.get_lines()[0].get_ydata()) == [0.1, 0.6, 0.7]
    assert list(scores.get_lines()[1].get_ydata())[1:] == [0.5, 0.8]


def test_curves_of_a_history_without_training_accuracy():
    axes = figures.plot_curves({0: HISTORY.drop(columns="train_accuracy")}, "accuracy").axes[1]
    assert len(axes.get_lines()) == 1


def test_the_schedule_is_that_of_trained_epochs():
    (axes,) = figures.plot_schedule({0: HISTORY}).axes
    assert lines(axes) == [("fold 0", [1, 2], [1e-3, 5e-4])]


def test_confusion_names_classes_and_numbers_as_they_are():
    (axes,) = figures.plot_confusion(COUNTS, NAMES).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["plain", "$x$ & <script>", "c" * 23 + "…"]
    cells = {tuple(text.get_position()): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "8", (1, 0): "2", (0, 1): "1", (1, 1): "9", (1, 2): "4", (2, 2): "6"}


def test_of_many_classes_the_most_confused_are_shown():
    counts = np.diag(np.full(153, 5))
    counts[7, 90] = 3
    figure = figures.plot_confusion(counts, [f"class {number}" for number in range(153)])
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["class 7", "class 90"]
    assert figure.axes[0].get_title() == "the 2 most confused of 153 classes"


def test_a_confusion_without_confusion_can_be_drawn():
    assert figures.plot_confusion(np.diag(np.arange(30)), [str(number) for number in range(30)])._repr_png_()[:4] == b"\x89PNG"
    assert figures.plot_confusion(np.zeros((2, 2), dtype=int), ("a", "b"))._repr_png_()


def test_the_whole_matrix_shows_shares_of_each_class():
    image = figures.plot_confusion_whole(COUNTS).axes[0].images[0].get_array()
    np.testing.assert_allclose(np.square(image), COUNTS / COUNTS.sum(axis=1, keepdims=True))


def test_calibration_draws_what_was_counted():
    rng = np.random.default_rng(0)
    found = calibrate(rng.integers(0, 3, 100), rng.dirichlet(np.ones(3), 100))
    curve, sizes = figures.plot_calibration(found).axes
    drawn = curve.get_lines()[1]
    known = found.counts > 0
    np.testing.assert_allclose(drawn.get_ydata(), found.accuracy[known])
    np.testing.assert_allclose(drawn.get_xdata(), found.confidence[known])
    assert sum(bar.get_height() for bar in sizes.patches) == 100


def test_classes_are_drawn_worst_on_top():
    truth, labels = np.repeat(np.arange(3), 10), np.repeat(np.arange(3), 10)
    labels[10:16] = 0
    table = class_table(truth, labels, Classes(NAMES))
    (axes,) = figures.plot_classes(table, most=2).axes
    assert [label.get_text() for label in axes.get_yticklabels()][-1].startswith("$x$")
    assert len(axes.get_yticklabels()) == 2


def test_maps_show_every_point_twice():
    points = np.random.default_rng(0).normal(size=(40, 2))
    groups, right = np.arange(40) % 3 - 1, np.arange(40) % 5 > 0
    by_group, by_error = figures.plot_map(points, groups, NAMES[:2], right).axes
    assert sum(len(one.get_offsets()) for one in by_group.collections) == 40
    assert [len(one.get_offsets()) for one in by_error.collections] == [32, 8]


def test_filters_are_laid_out_in_rows():
    figure = figures.plot_filters(np.random.default_rng(0).normal(size=(20, 3, 5, 5)))
    assert figure.axes[0].images[0].get_array().shape == (11, 95, 4)


def test_scores_weights_and_public_scores():
    (axes,) = figures.plot_scores({"a": {0: 0.5, 1: 0.7, 2: float("nan")}, "b": {}}, "accuracy").axes
    assert list(axes.get_lines()[1].get_xdata()) == pytest.approx([0.6, 0.6])
    (bars,) = figures.plot_weights(["a", "b"], [0.25, 0.75]).axes
    assert [bar.get_width() for bar in bars.patches] == [0.25, 0.75]
    table = pd.DataFrame({"submission": ["x", "y"], "cross_fitted": [0.8, 0.9], "public_score": [0.7, 0.85]})
    (axes,) = figures.plot_public(table, marked="y").axes
    assert [list(line.get_xdata()) for line in axes.get_lines()][:2] == [[0.8], [0.9]]


def test_a_range_test_marks_its_suggestion_and_leaves_divergence_outside():
    rates, smoothed = np.geomspace(1e-5, 1, 8), [2.0, 2.0, 1.9, 1.5, 1.2, 1.1, 4.0, 90.0]
    (axes,) = figures.plot_lr_test(rates, smoothed, smoothed, suggestion=1e-3).axes
    assert axes.get_xscale() == "log"
    assert not [tick for tick in axes.get_xticklabels() if "$" in tick.get_text()]  # no text of a figure is a formula
    assert [text.get_text() for text in axes.get_legend().get_texts()][-1] == "suggested: 0.001"
    low, high = axes.get_ylim()
    assert low < 1.1
    assert 2.0 < high < 4.0
    (axes,) = figures.plot_lr_test(rates, smoothed, smoothed, suggestion=None).axes
    assert len(axes.get_lines()) == 2
    assert figures.plot_lr_test([], [], [], suggestion=None).axes


def test_numbers_of_rare_confusions_are_not_white_on_white():
    counts = np.diag([100, 100, 100])
    counts[0, 1], counts[2, 0] = 1, 30
    colours = {text.get_text(): text.get_color() for text in figures.plot_confusion(counts, "abc").axes[0].texts}
    assert (colours["1"], colours["30"]) == ("#7f0000", "white")
    counts[2, 0] = 2  # the largest share, though small
    assert "white" not in {text.get_color() for text in figures.plot_confusion(counts, "abc").axes[0].texts}


def test_latency_is_a_line_for_each_model_and_engine_and_a_dot_for_each_score():
    kinds = [(run, score, engine, batch) for run, score in (("", None), ("a", 0.9)) for engine in "to" for batch in (1, 8)]
    rows = pd.DataFrame(kinds, columns=["run", "score", "engine", "batch"])
    rows = rows.assign(model="m", size="32x32", ms=2.0 * rows["batch"], **{"img/s": 500.0})
    speed, scores = figures.plot_latency(rows).axes
    assert [line[0] for line in lines(speed)] == [f"{name} 32x32 {engine}" for name in "ma" for engine in "to"]
    assert lines(speed)[0][1:] == ([1, 8], [500.0, 500.0])
    assert [list(line.get_data()[0]) + list(line.get_data()[1]) for line in scores.get_lines()] == [[2.0, 0.9], [2.0, 0.9]]
    assert len(figures.plot_latency(rows[rows["score"].isna()]).axes) == 1
