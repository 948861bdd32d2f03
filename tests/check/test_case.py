"""What the checks share: prediction files that are read once, as long as there is room for them."""

from pathlib import Path

import numpy as np
import pytest
from factories import make_workspace

from kaggle_kit import runs
from kaggle_kit.blending.blend import blend
from kaggle_kit.check import case as cases
from kaggle_kit.check.case import Case


@pytest.mark.parametrize(("room", "reads"), [(10**9, 1), (0, 3)])
def test_a_file_is_read_once_where_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, reads: int
) -> None:
    made = make_workspace(tmp_path / "work", n_train=60, n_runs=1)
    asked, read = [], cases.read_predictions
    monkeypatch.setattr(cases, "read_predictions", lambda path: asked.append(path) or read(path))
    case = Case(made.workspace.submission_path("blend"), made.workspace, made.config, room=room)
    (fold, *_) = runs.choose_runs(made.workspace)[0].folds
    first, second = case.predictions(fold, runs.OOF), case.predictions(fold, runs.OOF)
    raw = case.table(fold.path / runs.OOF)
    assert len(asked) == reads
    assert np.array_equal(first.probs, second.probs)
    assert raw.ids == first.ids
    assert case.read == {fold.path / runs.OOF}


def test_labels_of_rows_are_those_of_the_fold_table(tmp_path: Path) -> None:
    made = make_workspace(tmp_path / "work", n_train=60, n_runs=1)
    case = Case(blend(made.setup).path, made.workspace, made.config)
    ids = case.folds.ids[::-7]
    hot = case.hot(ids)
    named = [case.classes.names[row.argmax()] for row in hot]
    labels = dict(zip(case.folds.ids, case.folds.labels, strict=True))
    assert [(name,) for name in named] == [labels[row_id] for row_id in ids]
    assert (hot.sum(axis=1) == 1).all()
