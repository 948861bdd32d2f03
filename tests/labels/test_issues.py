"""Which labels are suspected, and what a review changes in the scores."""

import math
from dataclasses import replace

import numpy as np
import pytest
from factories import make_workspace

from kaggle_kit import Project
from kaggle_kit.competition import Setup
from kaggle_kit.labels import find_issues, review_effect
from kaggle_kit.reviews import Review, Reviewed, write_review
from kaggle_kit.runs import read_oof, read_run
from kaggle_kit.tables import read_predictions

pytest.importorskip("cleanlab", reason="pip install 'cleanlab>=2.9'")


def wrong_labels(root, **options):
    """A workspace whose predictions are nearly right, and in whose fold table some labels are wrong."""
    made = make_workspace(root, n_train=90, n_test=6, n_runs=1, accuracy=0.93, **options)
    for path in made.workspace.run_dir("run0").glob("fold*/oof.parquet"):
        part = read_predictions(path)
        if not made.competition.multilabel:  # as sure of themselves as trained models are
            sure = part.probs.astype(np.float64) ** 6
            part = replace(part, probs=(sure / sure.sum(axis=1, keepdims=True)).astype(np.float32))
        part.write(path)
    return made, Setup(made.workspace, made.config, made.competition)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    return wrong_labels(tmp_path_factory.mktemp("single"), n_classes=4)


def test_rows_whose_label_disagrees_come_first(single):
    made, setup = single
    oof, folds = read_oof(read_run(made.workspace, "run0")), made.folds
    found = find_issues(setup)
    truth = dict(zip(folds.ids, folds.labels, strict=True))
    predicted = dict(zip(oof.ids, oof.classes.decode(oof.probs.argmax(axis=1)), strict=True))
    wrong = {row_id for row_id in truth if truth[row_id] != (predicted[row_id],)}
    assert found.runs == ("run0",)
    assert 0 < len(wrong) < 20
    assert len(found.suspects) == 90
    issues = [one.id for one in found.suspects if one.issue]
    assert len(issues) == found.n_issues
    assert issues
    assert set(issues) <= wrong
    assert [one.id for one in found.suspects[: found.n_issues]] == issues
    rest = [one.quality for one in found.suspects[found.n_issues :]]
    assert rest == sorted(rest)
    first = found.suspects[0]
    assert first.labels == truth[first.id]
    assert first.suggestions[0][0] == predicted[first.id]


def test_labels_are_listed_with_what_was_decided(single):
    _, setup = single
    first = find_issues(setup).suspects[0]
    other = first.suggestions[0][0]
    review = Review().with_entry(Reviewed(first.id, "wrong", (other,), first.labels))
    listed = find_issues(setup, ["run0"], review)
    assert listed.table().iloc[0]["decision"] == f"wrong: {other}"
    assert "reviewed: 1 wrong" in listed.describe()
    values = listed.to_dict()
    assert values["reviewed"]["wrong"] == 1
    assert len(values["rows"]) == 90


def test_several_labels_a_row_are_judged_too(tmp_path):
    _, setup = wrong_labels(tmp_path, form="labels", n_classes=3)
    found = find_issues(setup)
    assert len(found.suspects) == 90
    assert {len(one.labels) for one in found.suspects} > {1}
    assert all(0 <= one.quality <= 1 for one in found.suspects)


def test_the_effect_is_said_on_given_reviewed_and_unreviewed_rows(single):
    made, setup = single
    suspects = find_issues(setup).suspects
    review = Review()
    for one in suspects[:2]:
        review = review.with_entry(Reviewed(one.id, "wrong", (one.suggestions[0][0],), one.labels))
    review = review.with_entry(Reviewed(suspects[2].id, "drop", suspects[2].labels, suspects[2].labels))
    effect = review_effect(setup, review)
    (scores,) = effect.scores
    oof = read_oof(read_run(made.workspace, "run0"))
    labels = dict(zip(made.folds.ids, made.folds.labels, strict=True))
    predicted = oof.classes.decode(oof.probs.argmax(axis=1))
    right = {row_id: labels[row_id] == (name,) for row_id, name in zip(oof.ids, predicted, strict=True)}
    assert scores.given == pytest.approx(sum(right.values()) / 90)
    reviewed = [one.id for one in suspects[:3]]
    assert scores.unreviewed == pytest.approx(np.mean([good for row_id, good in right.items() if row_id not in reviewed]))
    assert scores.reviewed > scores.given
    assert (effect.n_reviewed, effect.n_unreviewed) == (3, 87)
    assert scores.trained_on == "given"
    assert "flatters" in effect.describe()


def test_nothing_unreviewed_has_no_score(single):
    _, setup = single
    review = Review({one.id: Reviewed(one.id, "right", one.labels, one.labels) for one in find_issues(setup).suspects})
    assert math.isnan(review_effect(setup, review).scores[0].unreviewed)


def test_the_command_lists_without_serving(single, monkeypatch, capsys):
    from kaggle_kit.cli import main

    made, _ = single
    monkeypatch.chdir(made.workspace.root)
    for option in ("--table", "--json"):
        with pytest.raises(SystemExit) as ended:
            main(["labels", option])
        assert ended.value.code == 0
    assert '"n_issues"' in capsys.readouterr().out


def test_the_effect_is_a_command(single):
    made, _ = single
    write_review(made.workspace.labels_path("review"), Review())
    assert len(Project.open(made.workspace.root).review_effect().table()) == 1
