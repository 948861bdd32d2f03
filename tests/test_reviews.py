"""Reviews of labels: what they hold, what they change, and what is refused."""

from dataclasses import replace

import pytest
from factories import make_workspace

from kaggle_kit.errors import DataError, MissingFileError
from kaggle_kit.reviews import Review, Reviewed, read_review, review_for, taught_by, write_review


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_workspace(tmp_path_factory.mktemp("reviews"), class_names=["a,b", '["x"]', "NA"], n_train=30, n_runs=0)


def entry(folds, row, decision, *labels):
    was = folds.labels[row]
    return Reviewed(folds.ids[row], decision, labels or was, was, "2026-01-01T00:00:00+00:00")


def other(folds, row):
    return next(name for name in folds.classes if (name,) != folds.labels[row])


def test_a_review_comes_back_as_it_was_written(made, tmp_path):
    folds = made.folds
    review = Review()
    for one in (entry(folds, 3, "wrong", other(folds, 3)), entry(folds, 1, "drop"), entry(folds, 2, "unsure")):
        review = review.with_entry(one)
    write_review(tmp_path / "review.csv", review)
    again = read_review(tmp_path / "review.csv", folds.classes)
    assert list(again.entries.items()) == list(review.entries.items())
    assert again.counts == {"right": 0, "wrong": 1, "unsure": 1, "drop": 1}


def test_training_rows_get_other_labels_or_are_left_out(made):
    folds = made.folds
    new = other(folds, 3)
    review = Review().with_entry(entry(folds, 3, "wrong", new)).with_entry(entry(folds, 5, "drop"))
    taught, wanted = taught_by(review, folds)
    assert taught.labels[3] == (new,)
    assert [row for row in range(30) if taught.labels[row] != folds.labels[row]] == [3]
    assert [row for row in range(30) if not wanted[row]] == [5]
    assert taught_by(None, folds)[0] is folds


def test_the_fingerprint_is_of_what_changes_training(made):
    folds = made.folds
    wrong = Review().with_entry(entry(folds, 3, "wrong", other(folds, 3)))
    assert wrong.with_entry(entry(folds, 4, "right")).fingerprint == wrong.fingerprint
    assert wrong.with_entry(entry(folds, 4, "drop")).fingerprint != wrong.fingerprint
    assert wrong.without(folds.ids[3]).fingerprint == Review().fingerprint


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train_00003.png,wrong,nowhere,{was},", "no class 'nowhere'"),
        ("train_00003.png,perhaps,{was},{was},", "a decision is one of right, wrong, unsure, drop"),
        ("train_00003.png,wrong,{was},{was},", "the new ones are the same"),
        ("nobody.png,drop,NA,NA,", "not in the data: nobody.png"),
        ('train_00003.png,drop,"[1]",NA,', "expected a list of class names"),
    ],
)
def test_what_no_review_can_say_is_refused(made, line, message):
    path = made.workspace.labels_path("bad")
    path.parent.mkdir(exist_ok=True)
    was = made.folds.labels[3][0]
    cell = '"[""' + was.replace('"', '\\""') + '""]"'
    path.write_text("id,decision,labels,was,time\n" + line.format(was=cell) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=message.replace("[", r"\[")):
        review_for(made.workspace, "bad", made.folds)


def test_labels_that_changed_since_are_named(made):
    folds = made.folds
    write_review(made.workspace.labels_path("old"), Review().with_entry(entry(folds, 3, "drop")))
    assert len(review_for(made.workspace, "old", folds)) == 1
    labels = list(folds.labels)
    labels[3] = (other(folds, 3),)
    with pytest.raises(DataError, match=r"labels of 1 rows are not those that were reviewed: train_00003.png"):
        review_for(made.workspace, "old", replace(folds, labels=tuple(labels)))


def test_a_review_that_is_not_there_is_asked_for(made):
    assert review_for(made.workspace, None, made.folds) is None
    with pytest.raises(MissingFileError, match="Run `kk labels` first"):
        review_for(made.workspace, "missing", made.folds)
    with pytest.raises(MissingFileError, match=r"there is no review .*missing.csv. Run `kk labels` first"):
        read_review(made.workspace.labels_path("missing"), made.folds.classes)
