"""What a fold learns from earlier runs: softened targets, labels dropped or flipped, and test images with labels of their own.

A fold is scored on rows that nothing which it learnt from has seen. An ordinary out-of-fold table breaks that: what it says of
the rows of fold j comes from a model that was trained on fold k, so that a model taught by it has heard of the labels of fold
k, although it never saw them. A fold therefore asks only those models of a run that were trained without the rows that it is
validated on, and without their twins. Of an ordinary run that is the model of the same fold. Of a run on pairs of folds, see
:mod:`kaggle_kit.folds.pairs`, there is for each other fold one that has not seen the rows of that fold either. No torch here.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_kit import files, runs
from kaggle_kit.competition import Competition, Setup
from kaggle_kit.config import RunConfig, TeacherConfig, as_overrides, derive
from kaggle_kit.errors import ConfigError, DataError
from kaggle_kit.label_quality import label_quality, require_cleanlab
from kaggle_kit.runs import FoldRun, Run
from kaggle_kit.runs.provenance import Seen, leaked_to, seen_by_fold
from kaggle_kit.scores import one_hot
from kaggle_kit.sparse import require_room
from kaggle_kit.tables import Classes, FoldTable, Predictions, shown
from kaggle_kit.workspace import Workspace

logger = logging.getLogger(__name__)

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Teachers:
    """Models that a fold may learn from.

    Attributes:
        fold: that learns.
        models: run -> its finished folds whose models have not seen what ``fold`` is validated on.
        seen: what those models have seen, with all before them.
    """

    fold: int
    models: tuple[tuple[Run, tuple[FoldRun, ...]], ...]
    seen: tuple[Seen, ...]

    @property
    def names(self) -> str:
        """The runs, for messages."""
        return shown(run.name for run, _ in self.models)

    def say(self, file_name: str) -> Predictions:
        """Return the mean of what the runs say, each the mean of its models, in the prediction files of that name.

        Raises:
            MissingFileError, DataError: a file is missing or damaged.
            ClassMappingError: its classes are not the run's.
        """
        means = []
        for run, folds in self.models:
            parts = [runs.read_predictions_of(run, fold, file_name) for fold in folds]
            means.append(runs.average_by_id(parts, run.classes))
        return runs.average_by_id(means, means[0].classes)


def student_of(run: Run, entries: Sequence[str] = ()) -> RunConfig:
    """Return the configuration of a run that is to do in one model what the models of ``run`` do: it learns from them.

    Fold k learns from what the model of fold k says of the images that it was trained on, the model of all data from all of
    them; half of each target is the label (Hinton, Vinyals, Dean 2015, arXiv 1503.02531).

    Args:
        entries: ``key=value``, such as another backbone.

    Raises:
        ConfigError: an entry is wrong, or what the run was trained with cannot learn from others.
    """
    given = {"runs": [run.name], "predictions": "in-sample", "mix": 0.5}
    alone: dict[str, Any] = {"teacher": given, "init_from": None, "snapshots": 0, "specialists": {}}
    if run.record.config.strategy == "specialists":
        alone["strategy"] = "finetune"
    return derive(run.record.config, [*as_overrides(alone), *entries])


def find_teachers(
    names: Sequence[str], workspace: Workspace, competition: Competition, folds: FoldTable, *, fold: int
) -> Teachers:
    """Return the models of the runs ``names`` that ``fold`` of ``folds`` may learn from.

    Raises:
        MissingFileError: there is no such run.
        DataError: a run has no finished fold, or none that has not seen what ``fold`` is validated on.
        ClassMappingError: a run has other classes.
    """
    workspace = Workspace(workspace.root)  # a trial of kk tune keeps its own runs elsewhere
    found: list[tuple[Run, tuple[FoldRun, ...]]] = []
    seen: list[Seen] = []
    for name in names:
        run = runs.read_run(workspace, name)
        competition.classes.require_same(run.classes, here=f"competition {competition.name}", there=f"run {name}")
        models = []
        for one in run.finished_folds():
            known = seen_by_fold(run, one, workspace)
            if not any(leaked_to(entry, workspace, competition.name, folds, fold=fold) for entry in known):
                models.append(one)
                seen += known
        if not models:
            raise DataError(
                f"every finished model of run {name} has seen images that fold {fold} is validated on, so fold {fold} cannot "
                f"learn from it. Train fold {fold} of run {name} too, or a run on pairs of folds (`kk folds --pairs-of`)."
            )
        found.append((run, tuple(models)))
    return Teachers(fold, tuple(found), tuple(dict.fromkeys(seen)))


@dataclass(frozen=True)
class Lesson:
    """What a fold learns from its teachers.

    Attributes:
        said: of training rows, by id; None where nothing is learnt from that.
        test: of test rows that are trained on; None for none.
        seen: by the models that say so.
    """

    settings: TeacherConfig
    said: Predictions | None
    test: Predictions | None
    seen: tuple[Seen, ...]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of all that is said, whatever the order of rows."""
        parts = (self.said, self.test)
        return files.fingerprint([None if part is None else runs.rows_fingerprint(part.ids, part.probs) for part in parts])


def lesson_for(setup: Setup, folds: FoldTable, *, fold: int) -> Lesson | None:
    """Return what ``fold`` learns from the runs of ``run.teacher``; None where it names none.

    Raises:
        MissingFileError, DataError, ClassMappingError: see :func:`find_teachers`; or predictions are missing; says how to make
            them.
    """
    settings, competition = setup.config.run.teacher, setup.competition
    if not settings.runs:
        return None
    teachers = find_teachers(settings.runs, setup.workspace, competition, folds, fold=fold)
    said = None
    if settings.mix or settings.noise != "keep":
        said = _of_training_rows(teachers, settings, folds)
    test = _of_test_rows(teachers, settings, competition) if settings.pseudo != "none" else None
    return Lesson(settings, said, test, teachers.seen)


def require_teachable(setup: Setup, folds: FoldTable, fold_list: Sequence[int]) -> None:
    """Raise what would keep a fold from learning as ``run.teacher`` says, before anything is computed or written."""
    settings = setup.config.run.teacher
    if settings.noise != "keep":
        require_cleanlab()
    for fold in fold_list if settings.runs else ():
        if settings.predictions == "out-of-fold":
            lesson_for(setup, folds, fold=fold)
        else:  # what training makes itself need not be there yet
            teachers = find_teachers(settings.runs, setup.workspace, setup.competition, folds, fold=fold)
            if settings.pseudo != "none":
                _of_test_rows(teachers, settings, setup.competition)


def unseen_rows(teachers: Teachers, folds: FoldTable) -> Predictions:
    """Return what the teachers say of rows that the learning fold trains on and that they were not trained on.

    Raises:
        DataError: there are none, as with an ordinary run, whose models have seen all but their own fold.
    """
    said = teachers.say(runs.OOF)
    train, _ = folds.split(teachers.fold)
    trained = {folds.ids[row] for row in train.tolist()}
    ids = [row_id for row_id in said.ids if row_id in trained]
    if not ids:
        raise DataError(
            f"what run {teachers.names} says out of fold of the images that fold {teachers.fold} trains on comes from models "
            f"that have seen what fold {teachers.fold} is validated on, so its score would mean nothing. Make a run on pairs "
            "of folds, which leaves both out: `kk folds --pairs-of folds --name pairs`, then `kk train --run NAME folds=pairs`."
        )
    return said.take(ids)


def _of_training_rows(teachers: Teachers, settings: TeacherConfig, folds: FoldTable) -> Predictions:
    if settings.predictions == "in-sample":
        return teachers.say(runs.IN_SAMPLE)
    try:
        return unseen_rows(teachers, folds)
    except DataError as error:
        instead = " For mix alone, teacher.predictions=in-sample takes what the model says of its own training images."
        raise DataError(f"{error}{instead if settings.noise == 'keep' else ''}") from error


def _of_test_rows(teachers: Teachers, settings: TeacherConfig, competition: Competition) -> Predictions:
    """Return what the teachers say of the test rows that they are sure enough of."""
    if not competition.test:
        raise ConfigError("teacher.pseudo needs test images, and kk.yaml (competition.test) names none.")
    said = teachers.say(runs.TEST)
    ids = {row.id for row in competition.test}
    if set(said.ids) != ids:
        raise DataError(
            f"the predictions of run {teachers.names} are of other test images than those that are here. "
            f"Run `kk predict` again for each of these runs."
        )
    sure = np.maximum(said.probs, 1 - said.probs).min(axis=1) if competition.multilabel else said.probs.max(axis=1)
    return said.take([said.ids[row] for row in np.flatnonzero(sure >= settings.pseudo_confidence).tolist()])


@dataclass(frozen=True)
class Taught:
    """The rows that a fold trains on, as its lesson changes them.

    Attributes:
        kept: (N,) which of the rows given are trained on.
        truth: labels of the M rows that are, then of P test images; (M + P,) class positions or (M + P, C) of 0 and 1.
        targets: (M + P, C) float32, what the loss is taken of; None where that is ``truth``.
        test: ids of those test images.
    """

    kept: Mask
    truth: npt.NDArray[Any]
    targets: npt.NDArray[np.float32] | None
    test: tuple[str, ...] = ()


def teach(
    lesson: Lesson, ids: Sequence[str], truth: npt.NDArray[Any], classes: Classes, *, decided: Collection[str] = ()
) -> Taught:
    """Return the rows of a fold as its lesson changes them.

    Args:
        ids, truth: of the N rows to train on, (N,) class positions or (N, C) of 0 and 1.
        decided: ids whose labels a person has reviewed; they are neither dropped nor flipped.
    """
    settings, n_classes = lesson.settings, len(classes)
    probs, known = _aligned(lesson.said, ids, n_classes)
    labels, kept = truth.copy(), np.ones(len(ids), dtype=bool)
    suspect = _suspect(probs, truth, known, settings, ids, decided)
    if settings.noise == "drop":
        kept = ~suspect
    elif settings.noise == "flip":
        labels[suspect] = _hard(probs[suspect], classes, like=labels)
    if suspect.any():
        done = {"drop": "left out", "flip": "given the labels that the teacher predicts"}[settings.noise]
        capped = int(suspect.sum()) == int(settings.noise_share * len(ids))
        most = f" (teacher.noise_share={settings.noise_share:g} allows no more)" if capped else ""
        logger.info("labels that are likely to be wrong and %s: %d of %d%s", done, suspect.sum(), len(ids), most)
    targets = one_hot(labels, n_classes).astype(np.float32)
    share = np.where(known, settings.mix, 0.0)[:, None]
    targets = ((1 - share) * targets + share * probs).astype(np.float32)
    test = lesson.test
    if test is not None:
        logger.info("test images that are trained on, with the labels that the teacher predicts: %d", len(test))
        pseudo = _hard(test.probs, classes, like=labels)
        labels = np.concatenate([labels[kept], pseudo])
        soft = test.probs if settings.pseudo == "soft" else one_hot(pseudo, n_classes)
        targets = np.concatenate([targets[kept], soft])
    else:
        labels, targets = labels[kept], targets[kept]
    is_soft = bool(settings.mix) or settings.pseudo == "soft"
    return Taught(kept, labels, targets if is_soft else None, test.ids if test is not None else ())


def _aligned(said: Predictions | None, ids: Sequence[str], n_classes: int) -> tuple[npt.NDArray[np.float32], Mask]:
    """Return what is said of each of ``ids`` (N, C), zeros where nothing is, and (N,) of which something is."""
    require_room(len(ids), n_classes)
    probs, known = np.zeros((len(ids), n_classes), dtype=np.float32), np.zeros(len(ids), dtype=bool)
    if said is not None:
        where = {row_id: row for row, row_id in enumerate(said.ids)}
        known = np.array([row_id in where for row_id in ids], dtype=bool)
        probs[known] = said.probs[[where[row_id] for row_id in ids if row_id in where]]
    return probs, known


def _suspect(
    probs: npt.NDArray[np.float32],
    truth: npt.NDArray[Any],
    known: Mask,
    settings: TeacherConfig,
    ids: Sequence[str],
    decided: Collection[str],
) -> Mask:
    """Return (N,) the rows whose labels cleanlab takes for wrong: the worst of them, at most ``noise_share`` of all."""
    suspect = np.zeros(len(ids), dtype=bool)
    if settings.noise == "keep":
        return suspect
    rows = np.flatnonzero(known)
    quality, issue = label_quality(truth[rows], probs[rows])
    free = np.array([ids[row] not in decided for row in rows.tolist()], dtype=bool)
    order = np.argsort(quality, kind="stable")
    worst = order[(issue & free)[order]][: int(settings.noise_share * len(ids))]
    suspect[rows[worst]] = True
    return suspect


def _hard(probs: npt.NDArray[np.float32], classes: Classes, *, like: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return labels of the form of ``like``: class positions (N,) of the most probable classes, or (N, C) what reaches 0.5."""
    found = classes.encode(classes.top(probs)) if like.ndim == 1 else probs >= 0.5
    return found.astype(like.dtype)
