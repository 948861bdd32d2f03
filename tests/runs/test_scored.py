"""Out-of-fold rows beside their truth, and the figures that results make of them."""

import numpy as np
import pytest
from factories import make_workspace

from kaggle_kit import runs
from kaggle_kit.blending.blend import blend
from kaggle_kit.errors import DataError, FoldError
from kaggle_kit.runs.scored import scored_blend, scored_run
from kaggle_kit.runs.summary import summarize


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_workspace(tmp_path_factory.mktemp("scored"), n_train=150, repeats=2)


@pytest.fixture(scope="module")
def result(made):
    return blend(made.setup, method="weights", name="one")


def summary(made, name="run0"):
    return summarize(made.workspace, made.folds, name, [fold.record for fold in runs.read_run(made.workspace, name).folds])


def test_rows_of_a_run_stand_beside_their_truth(made):
    found = scored_run(made.workspace, runs.read_run(made.workspace, "run0"))
    labels = dict(zip(made.folds.ids, made.folds.labels, strict=True))
    for row in (0, 7, 149):
        assert (found.names(row),) == labels[found.ids[row]]
    assert found.score == pytest.approx(np.mean(found.probs.argmax(1) == found.truth))
    assert sorted(found.fold_scores) == [0, 1, 2]
    assert found.counts.sum() == 150
    own = found.folds == 1
    assert found.fold_scores[1] == pytest.approx(np.mean(found.probs[own].argmax(1) == found.truth[own]))
    assert found.score == pytest.approx(summary(made).oof_score)


def test_rows_of_a_blend_are_the_cross_fitted_ones(made, result):
    found = scored_blend(made.workspace, "one")
    assert found.score == pytest.approx(result.scores.cross_fitted)
    assert result.scored().score == found.score


def test_another_fold_table_is_refused(made, tmp_path):
    other = make_workspace(tmp_path, n_train=150, seed=3)
    run = runs.read_run(made.workspace, "run0")
    with pytest.raises(FoldError, match="not the table that run run0 was trained on"):
        scored_run(other.workspace, run)


def test_results_draw_themselves(made, result):
    for one in (summary(made), result):
        for name in ("plot_confusion", "plot_calibration", "plot_classes", "plot_folds"):
            assert getattr(one, name)()._repr_png_().startswith(b"\x89PNG")
    (axes,) = result.plot_weights().axes
    assert sum(bar.get_width() for bar in axes.patches) == pytest.approx(1)


def test_what_there_is_not_is_said(made):
    with pytest.raises(DataError, match=r"holds no history\.csv"):
        summary(made).plot_curves()
    with pytest.raises(DataError, match="gives runs no weights"):
        blend(made.setup, method="stack", name="stack").plot_weights()


def test_multilabel_rows_have_no_confusion_matrix(tmp_path):
    made = make_workspace(tmp_path, form="labels", n_runs=1)
    with pytest.raises(DataError, match="several"):
        summary(made).plot_confusion()
    found = summary(made).scored()
    row = int(np.flatnonzero(found.truth.sum(axis=1) > 1)[0])
    assert found.names(row).split(", ") == found.classes.decode(np.flatnonzero(found.truth[row]))
    assert summary(made).plot_calibration()


def test_curves_are_those_of_the_history(made):
    rows = "epoch,train_loss,valid_loss,accuracy,lr,seconds,images_per_second\n0,,2.0,0.1,0.1,0,0\n1,1.5,1.0,0.6,0.1,1,9\n"
    path = made.workspace.fold_dir("run1", 2) / runs.HISTORY
    path.write_text(rows)  # as 0.1.0 wrote it
    losses, scores = summary(made, "run1").plot_curves().axes
    assert [list(line.get_ydata())[-1] for line in losses.get_lines()] == [1.5, 1.0]
    assert list(scores.get_lines()[0].get_ydata()) == [0.1, 0.6]
