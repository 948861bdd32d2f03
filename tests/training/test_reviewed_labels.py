"""A run that is trained with a review: what it learns from, what it is scored on, and when it must not go on."""

import numpy as np
import pytest
from tiny_competition import make_tiny

from kaggle_kit.competition import Setup
from kaggle_kit.errors import ConfigError, MissingFileError
from kaggle_kit.reviews import Review, Reviewed, read_review, write_review
from kaggle_kit.runs.record import read_run_record
from kaggle_kit.training.prepare import prepare_run


@pytest.fixture
def tiny(tmp_path):
    return make_tiny(tmp_path)


def setup_of(tiny, *overrides):
    return Setup(tiny.workspace, tiny.whole(*overrides), tiny.competition)


def review(tiny, *entries):
    rows = {row.id: row.labels for row in tiny.competition.train}
    made = Review()
    for row_id, decision, labels in entries:
        made = made.with_entry(Reviewed(row_id, decision, labels or rows[row_id], rows[row_id]))
    write_review(tiny.workspace.labels_path("review"), made)
    return made


def test_training_takes_the_review_and_validation_the_labels_as_given(tiny):
    review(tiny, ("000.png", "wrong", ("blue",)), ("001.png", "drop", ()))
    plain = prepare_run(setup_of(tiny), tiny.folds, run="plain", fold_list=[0, 1])
    jobs = prepare_run(setup_of(tiny, "labels=review"), tiny.folds, run="run", fold_list=[0, 1])
    # Fold 0 validates on both rows, fold 1 trains on both.
    assert jobs[0].valid.ids == plain[0].valid.ids
    np.testing.assert_array_equal(jobs[0].valid.truth, plain[0].valid.truth)
    assert set(plain[1].train.ids) - set(jobs[1].train.ids) == {"001.png"}
    learnt = dict(zip(jobs[1].train.ids, tiny.competition.classes.decode(jobs[1].train.truth), strict=True))
    given = dict(zip(plain[1].train.ids, tiny.competition.classes.decode(plain[1].train.truth), strict=True))
    assert {row_id for row_id in learnt if learnt[row_id] != given[row_id]} == {"000.png"}
    assert learnt["000.png"] == "blue"
    assert jobs[1].inputs != plain[1].inputs


def test_a_run_keeps_the_review_it_was_trained_with(tiny):
    made = review(tiny, ("000.png", "drop", ()))
    prepare_run(setup_of(tiny, "labels=review"), tiny.folds, run="run", fold_list=[0])
    folder = tiny.workspace.run_dir("run")
    assert read_run_record(folder).review == made.fingerprint
    assert read_review(folder / "labels.csv", tiny.competition.classes).fingerprint == made.fingerprint


def test_a_run_does_not_go_on_with_another_review(tiny):
    review(tiny, ("000.png", "drop", ()))
    setup = setup_of(tiny, "labels=review")
    prepare_run(setup, tiny.folds, run="run", fold_list=[0])
    review(tiny, ("000.png", "drop", ()), ("003.png", "right", ()))
    prepare_run(setup, tiny.folds, run="run", fold_list=[0])  # nothing that changes training
    review(tiny, ("003.png", "drop", ()))
    with pytest.raises(ConfigError, match=r"another review of labels.*--run NAME"):
        prepare_run(setup, tiny.folds, run="run", fold_list=[0])
    prepare_run(setup, tiny.folds, run="run", fold_list=[0], restart=True)


def test_without_a_review_fingerprints_are_those_of_before(tiny):
    config = tiny.config()
    assert "labels" not in config.shaping()["data"]
    assert tiny.config("labels=review").fingerprint != config.fingerprint


def test_a_review_that_is_not_there_stops_the_run_before_it_begins(tiny):
    with pytest.raises(MissingFileError, match="Run `kk labels` first"):
        prepare_run(setup_of(tiny, "labels=review"), tiny.folds, run="run", fold_list=[0])
    assert not tiny.workspace.run_dir("run").exists()
