"""Runs that learn from earlier runs: that nothing leaks, what is trained on, and that they are runs like any other."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tiny_competition import make_tiny

from kaggle_kit import runs
from kaggle_kit.competition import ImageRow
from kaggle_kit.folds import pairs_of
from kaggle_kit.inference import Compute, PredictOptions
from kaggle_kit.inference.job import make_job
from kaggle_kit.inference.run import predict_jobs
from kaggle_kit.runs.provenance import require_unseen, seen_by_fold
from kaggle_kit.tables import read_predictions
from kaggle_kit.teachers import lesson_for
from kaggle_kit.training import TrainOptions, prepare_run, train_run

PROBE = ("strategy=probe", "model=resnet10t", "hardware.engine=torch", "augment=none", "data.eval_batch_size=8")
COMPUTE = Compute(batch_size=8, workers=0, device="cpu", engine="torch")


def world(root, *, wrong=(), multilabel=False):
    """A tiny competition with half of its images as test images, in which the labels of the rows ``wrong`` are other ones."""
    root.mkdir(exist_ok=True)
    tiny = make_tiny(root, multilabel=multilabel, metric="f1_macro" if multilabel else "accuracy")
    names = tiny.competition.classes.names
    rows = []
    for number, row in enumerate(tiny.competition.train):
        labels = tuple(names[(names.index(one) + 1) % 3] for one in row.labels) if number in wrong else row.labels
        rows.append(dataclasses.replace(row, labels=labels))
    test = tuple(ImageRow(f"t{row.id}", row.path, (), None, False, None) for row in rows[::2])
    competition = dataclasses.replace(tiny.competition, train=tuple(rows), test=test)
    folds = dataclasses.replace(tiny.folds, labels=tuple(row.labels for row in rows), meta={"competition": "tiny"})
    folds.write(tiny.workspace.folds_path("folds"))
    pairs_of(folds, "folds").write(tiny.workspace.folds_path("pairs"))
    return dataclasses.replace(tiny, competition=competition, folds=folds)


def train(tiny, name, *overrides, fold="all", folds=None, **options):
    setup = tiny.setup(*PROBE, *overrides)
    return train_run(setup, TrainOptions(name, fold), folds=folds or tiny.folds, **options)


def teacher_on_pairs(tiny):
    """Train a teacher on pairs of folds and let it predict the test images."""
    table = pairs_of(tiny.folds, "folds")
    train(tiny, "teacher", "folds=pairs", folds=table)
    run = runs.read_run(tiny.workspace, "teacher")
    predict_jobs([make_job(tiny.workspace, tiny.competition, run, table, PredictOptions(), compute=COMPUTE)])


def jobs_of(tiny, name, *overrides, fold_list=(0, 1, 2)):
    return prepare_run(tiny.setup(*PROBE, *overrides), tiny.folds, run=name, fold_list=list(fold_list))


MIX = ("teacher.runs=teacher", "teacher.mix=0.3", "teacher.pseudo=soft", "teacher.pseudo_confidence=0.4")


@pytest.mark.parametrize("multilabel", [False, True])
def test_labels_that_only_the_validated_fold_knows_do_not_reach_its_student(tmp_path, multilabel):
    """Two worlds in which nothing differs but the labels of fold 0: what fold 0 learns must be the same, byte for byte."""
    planted = [number for number in range(36) if number // 3 % 3 == 0]
    said = []
    for name, wrong in (("a", ()), ("b", planted)):
        tiny = world(tmp_path / name, wrong=wrong, multilabel=multilabel)
        teacher_on_pairs(tiny)
        train(tiny, "ordinary")
        setup = tiny.setup(*PROBE, *MIX, "teacher.noise=drop", "teacher.noise_share=0.2")
        lessons = [lesson_for(setup, tiny.folds, fold=fold) for fold in range(3)]
        (job,) = jobs_of(tiny, "student", *MIX, "teacher.noise=drop", "teacher.noise_share=0.2", fold_list=[0])
        said.append((lessons, job.train, runs.read_oof(runs.read_run(tiny.workspace, "ordinary"))))
    (lessons_a, rows_a, ordinary_a), (lessons_b, rows_b, ordinary_b) = said
    assert lessons_a[0].fingerprint == lessons_b[0].fingerprint
    assert rows_a.images[:3] != rows_b.images[:3]  # of two workspaces
    assert rows_a.ids == rows_b.ids
    np.testing.assert_array_equal(rows_a.targets, rows_b.targets)
    # The test can fail: folds 1 and 2 may know those labels, and an ordinary out-of-fold table would have told them to fold 0.
    assert lessons_a[1].fingerprint != lessons_b[1].fingerprint
    others = [row_id for row_id in ordinary_a.ids if int(row_id[:3]) not in planted]
    assert not np.array_equal(ordinary_a.take(others).probs, ordinary_b.take(others).probs)


def test_a_student_is_trained_on_mixed_targets_and_scored_on_the_labels(tmp_path):
    tiny = world(tmp_path)
    teacher_on_pairs(tiny)
    summary = train(tiny, "student", *MIX)
    assert summary.n_oof == 36
    assert summary.mean > 0.9
    job, *_ = jobs_of(tiny, "student", *MIX)
    plain, *_ = jobs_of(tiny, "plain")
    n_test = len(job.train) - len(plain.train)
    assert n_test > 0
    assert job.train.ids[:24] == plain.train.ids
    np.testing.assert_array_equal(job.train.truth[:24], plain.train.truth)
    labelled = job.train.targets[np.arange(24), plain.train.truth]
    assert np.all((labelled >= 0.7) & (labelled < 1))
    assert job.inputs != plain.inputs
    run = runs.read_run(tiny.workspace, "student")
    for fold in run.finished_folds():
        seen = seen_by_fold(run, fold, tiny.workspace)
        assert {(one.run, one.fold) for one in seen} >= {("student", fold.fold)}
        assert sum(one.run == "teacher" for one in seen) == 2
        require_unseen(seen, tiny.workspace, "tiny", tiny.folds, fold=fold.fold)


def test_fine_tuning_learns_from_soft_targets_and_goes_on_after_a_stop(tmp_path):
    from kaggle_kit.events import EpochEnded

    tiny = world(tmp_path)
    teacher_on_pairs(tiny)
    how = ("strategy=finetune", "mixup=0.2", *MIX)
    train(tiny, "whole", *how, fold="1")

    class Killed(Exception):
        pass

    def kill(event):
        if isinstance(event, EpochEnded) and event.row.epoch == 1:
            raise Killed

    with pytest.raises(Killed):
        train(tiny, "parts", *how, fold="1", reporter=kill)
    train(tiny, "parts", *how, fold="1")
    one, two = (read_predictions(tiny.workspace.fold_dir(run, 1) / runs.OOF).probs for run in ("whole", "parts"))
    np.testing.assert_array_equal(one, two)


def test_in_sample_predictions_of_the_same_fold_are_made_once_and_mixed(tmp_path, caplog):
    caplog.set_level("INFO")
    tiny = world(tmp_path)
    train(tiny, "teacher")
    how = ("teacher.runs=teacher", "teacher.mix=0.5", "teacher.predictions=in-sample")
    jobs = jobs_of(tiny, "student", *how)
    for job in jobs:
        said = read_predictions(tiny.workspace.fold_dir("teacher", job.fold) / runs.IN_SAMPLE)
        assert set(said.ids) == set(job.train.ids)
        expected = 0.5 * np.eye(3)[job.train.truth] + 0.5 * said.take(job.train.ids).probs
        np.testing.assert_allclose(job.train.targets, expected, atol=1e-6)
    assert caplog.text.count("predicting the 24 images") == 3
    jobs_of(tiny, "student", *how)
    assert caplog.text.count("predicting the 24 images") == 3


def test_another_teacher_makes_another_fold(tmp_path):
    tiny = world(tmp_path)
    teacher_on_pairs(tiny)
    before = [job.inputs for job in jobs_of(tiny, "one", *MIX)]
    path = tiny.workspace.fold_dir("teacher", 0) / runs.OOF  # of the pair (0, 1), which folds 0 and 1 learn from
    said = read_predictions(path)
    dataclasses.replace(said, probs=said.probs[::-1].copy()).write(path)
    after = [job.inputs for job in jobs_of(tiny, "two", *MIX)]
    assert [one != two for one, two in zip(before, after, strict=True)] == [True, True, False]


def test_external_rows_keep_their_labels(tmp_path):
    tiny = world(tmp_path)
    assignments = tiny.folds.assignments.copy()
    assignments[:, :4] = -1
    folds = dataclasses.replace(tiny.folds, assignments=assignments)
    folds.write(tiny.workspace.folds_path("folds"))
    pairs_of(folds, "folds").write(tiny.workspace.folds_path("pairs"))
    tiny = dataclasses.replace(tiny, folds=folds)
    teacher_on_pairs(tiny)
    for job in jobs_of(tiny, "student", "teacher.runs=teacher", "teacher.mix=0.3"):
        external = np.flatnonzero(~job.train.validated)
        assert len(external) == 4
        np.testing.assert_array_equal(job.train.targets[external], np.eye(3)[job.train.truth[external]])
        assert (job.train.targets.max(axis=1) < 1).sum() == len(job.train) - 4


def test_a_student_of_several_labels_trains(tmp_path):
    tiny = world(tmp_path, multilabel=True)
    teacher_on_pairs(tiny)
    summary = train(tiny, "student", *MIX)
    assert summary.mean > 0.6
