"""Are the images those that the runs were trained on, and those that were predicted?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from kaggle_kit import runs
from kaggle_kit.check.case import Case, Unavailable
from kaggle_kit.check.report import FAILED, INCONCLUSIVE, PASSED, Check
from kaggle_kit.competition.contents import Contents, contents_of, describe_change, training_contents
from kaggle_kit.errors import KaggleKitError
from kaggle_kit.fold_names import fold_text
from kaggle_kit.runs import FoldRun
from kaggle_kit.tables import read_prediction_meta

NOT_RECORDED = "made by a version of kaggle_kit that did not record what the images held"


def check_contents(case: Case) -> Iterator[Check]:
    """The contents of test and training images now, against those that predictions and folds were made from."""
    parts = {"contents: test images": _test, "contents: training images": _train}
    for name, look in parts.items():
        try:
            yield look(case, name)
        except Unavailable as error:
            yield Check(name, INCONCLUSIVE, str(error))
        except KaggleKitError as error:
            yield Check(name, FAILED, str(error), "Mend what is named, then check again.")


def _test(case: Case, name: str) -> Check:
    """Test images now, against those in the record of each test prediction."""
    now = contents_of(case.competition.test, case.workspace.cache_dir)
    stated = [
        (f"{run.name} {fold_text(fold.fold)}", run.path, _predicted_from(case, fold))
        for run in case.runs
        for fold in runs.predicted_models(run)
    ]
    return _compare(name, now, stated, what="test images", remedy="Run `kk predict` and `kk blend` again.")


def _predicted_from(case: Case, fold: FoldRun) -> object:
    path = fold.path / runs.TEST
    if not path.is_file():
        raise Unavailable(f"{case.relative(path)} is not here")
    return read_prediction_meta(case.note(path)).get("contents")


def _train(case: Case, name: str) -> Check:
    """Training images now, against those in the record of each fold."""
    if not case.competition.train:  # as in a kernel, which predicts without them
        raise Unavailable("no labelled images are here")
    now = training_contents(case.competition, case.folds, case.workspace.cache_dir)
    stated = [
        (f"{run.name} {fold_text(fold.fold)}", run.path, fold.record.contents)
        for run in case.runs
        for fold in run.finished_models()
    ]
    remedy = "Put the old images back, or train again under another name, then predict and blend."
    return _compare(name, now, stated, what="training images", remedy=remedy)


def _compare(name: str, now: Contents, stated: Sequence[tuple[str, Path, object]], *, what: str, remedy: str) -> Check:
    for made, folder, before in stated:
        change = describe_change(now, folder, before, what=what)
        if change:
            return Check(name, FAILED, f"since {made} was made, {change}", remedy)
    silent = [made for made, _, before in stated if before is None]
    if silent:
        return Check(name, INCONCLUSIVE, f"{silent[0]} was {NOT_RECORDED}")
    return Check(name, PASSED, f"{len(now.hashes):,} {what} hold what they held for {len(stated)} folds")
